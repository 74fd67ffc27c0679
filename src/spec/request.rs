//! What the user asked a container to be: the flags of `run`, as typed and not yet interpreted.

use crate::spec::namespaces::Namespaces;
use std::path::PathBuf;

/// The flags of `run` that shape the container. `spec::build` checks and interprets them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    /// The container's ID: 64 lower-case hex digits.
    pub(crate) id: String,
    /// The container's directory in the store: where `hostname`, `hosts` and `resolv.conf` will lie.
    pub(crate) directory: PathBuf,
    /// What follows the image on the command line.
    pub(crate) command: Vec<String>,
    /// `--entrypoint`: a program or a JSON array; an empty string resets the image's.
    pub(crate) entrypoint: Option<String>,
    /// `-e`, in order: `K=V`, or `K` for the caller's own value.
    pub(crate) environment: Vec<String>,
    /// `--env-file`, in order.
    pub(crate) environment_files: Vec<PathBuf>,
    pub(crate) default_environment: DefaultEnvironment,
    /// `-w`
    pub(crate) working_directory: Option<String>,
    /// `-u`: `NAME|UID[:GROUP|GID]`
    pub(crate) user: Option<String>,
    /// `--group-add`, in order: names or numbers.
    pub(crate) groups: Vec<String>,
    /// `--umask`
    pub(crate) umask: Option<u32>,
    /// `--tz`: a zone of the host's zoneinfo(5), or `local`.
    pub(crate) time_zone: Option<String>,
    /// `-h`; the ID's first 12 digits otherwise.
    pub(crate) hostname: Option<String>,
    /// `--domainname`
    pub(crate) domain_name: Option<String>,
    /// `-t`
    pub(crate) terminal: bool,
    /// `--dry-run`: nothing is changed on the host, so missing sources of `-v` are not made.
    pub(crate) dry_run: bool,
    pub(crate) files: Files,
    pub(crate) namespaces: Namespaces,
    pub(crate) limits: Limits,
    pub(crate) security: Security,
}

/// What becomes of the variables that the user did not name.
#[derive(Debug, Clone, Default)]
pub(crate) struct DefaultEnvironment {
    /// `--env-host`
    pub(crate) with_callers: bool,
    /// `--unsetenv`
    pub(crate) unset: Vec<String>,
    /// `--unsetenv-all`
    pub(crate) unset_all: bool,
    /// `--env-merge`, in order: `NAME=TEXT`, in which `${NAME}` is the default.
    pub(crate) merged: Vec<String>,
}

/// What the container sees of files besides its image.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files {
    /// `--read-only`
    pub(crate) read_only: bool,
    /// `-v`, in order: `SOURCE:TARGET[:OPTIONS]`
    pub(crate) volumes: Vec<String>,
    /// `--tmpfs`, in order: `TARGET[:OPTIONS]`
    pub(crate) tmpfs: Vec<String>,
}

/// How much of the machine the container may use.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits {
    /// `--memory`, in bytes.
    pub(crate) memory: Option<u64>,
    /// `--cpus`, in billionths of a processor.
    pub(crate) nano_cpus: Option<u64>,
    /// `--pids-limit`; 0 and -1 are no limit.
    pub(crate) pids: Option<i64>,
}

/// What the container may do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Security {
    /// `--privileged`
    pub(crate) privileged: bool,
    /// `--cap-add`, in order.
    pub(crate) capabilities_added: Vec<String>,
    /// `--cap-drop`, in order.
    pub(crate) capabilities_dropped: Vec<String>,
}

/// What the image's config says about running it, as far as a spec takes it over; empty where the config is silent.
///
/// Labels and the rest of a config are data: nothing of them is ever interpreted.
#[derive(Debug, Clone, Default)]
pub(crate) struct ImageDefaults {
    pub(crate) user: String,
    pub(crate) environment: Vec<String>,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) command: Vec<String>,
    pub(crate) working_directory: String,
}
