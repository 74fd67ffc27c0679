//! Integration tests: the real binary, real registries, the real kernel; one module per promise.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "in a test a panic is the report"
)]

mod architecture;
mod archives;
mod auth;
mod bad_input;
mod bare_images;
mod budget;
mod caller;
mod cannot_start;
mod chaos;
mod choose;
mod command_line;
mod costs;
mod detached;
mod differential;
mod docker_named;
mod ends;
mod exec;
mod explain;
mod faults;
mod harness;
mod honest_view;
mod host_settings;
mod hostile;
mod hostile_layers;
mod hostile_tars;
mod hub;
mod identity;
mod idmap;
mod images;
mod init;
mod interrupt;
mod isolation;
mod layers;
mod lifecycle;
mod limits;
mod listing;
mod locks;
mod monitor;
mod mounts;
mod named_volumes;
mod namespaces;
mod network;
mod network_many;
mod network_names;
mod network_nginx;
mod network_ports;
mod network_rootless;
mod network_servants;
mod networks;
mod networks_change;
mod networks_change_rootless;
mod networks_rootless;
mod networks_safety;
mod own_program;
mod preserve_fds;
mod process;
mod progress;
mod pull;
mod records;
mod refused_flags;
mod resume;
mod rootfs;
mod rootless;
mod rootless_flags;
mod rootless_store;
mod run;
mod seccomp;
mod security;
mod servers;
mod store;
mod streams;
mod surroundings;
mod system;
mod transport;
mod tty;
mod unpack;
mod usage;
mod vm;
mod vm_network;
mod volumes;
