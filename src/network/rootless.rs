//! The way out of an ordinary user's container: a program that speaks for it with sockets of the user's own.
//!
//! `pasta` gives the container the host's addresses and keeps those of clients; `slirp4netns` is what older systems have.

use crate::network::forward::Forwarder;
use crate::network::helper::Helper;
use crate::network::port::{Protocol, Published};
use crate::network::published::Listener;
use crate::network::{Namespace, subnet};
use crate::sys::clone::{Clone, end_child, fork};
use crate::sys::kernel::{close_descriptors_on_exec, execute, reset_signals};
use crate::sys::limit::restore_descriptors;
use crate::sys::lookup;
use anyhow::{Context, Result, bail};
use fs_err as fs;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Access, CWD, FileType, Mode, OFlags};
use rustix::io::retry_on_intr;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::ffi::CString;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// What the way out is called in the container.
const LINK: &str = "eth0";

/// What an ordinary user's containers can be connected by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Program {
    Pasta(PathBuf),
    Slirp(PathBuf),
}

/// The processes that connect a container; they end with this.
pub(crate) struct Link {
    _program: Helper,
    _forwarder: Option<Forwarder>,
    /// The container's own address.
    pub(crate) address: Option<Ipv4Addr>,
}

/// Tells whether this user can make links that end in a program.
pub(crate) fn has_tun() -> bool {
    rustix::fs::access("/dev/net/tun", Access::READ_OK | Access::WRITE_OK).is_ok()
}

impl Program {
    /// Finds the better one in `PATH`.
    pub(crate) fn find() -> Option<Self> {
        let pasta = lookup::in_path("pasta").map(Self::Pasta);
        pasta.or_else(|| lookup::in_path("slirp4netns").map(Self::Slirp))
    }

    /// Tells whether it takes the ports itself: then nobody may hold them, nor a process cloned from who did.
    pub(crate) fn takes_ports(&self) -> bool {
        matches!(self, Self::Pasta(_))
    }

    /// Connects the process `pid`, whose namespace this is, and publishes `ports`, which `listeners` hold unless the program takes them itself.
    ///
    /// What the program says goes to a file in `directory`. Needs a process with one thread.
    pub(crate) fn connect(
        &self,
        pid: u32,
        namespace: &Namespace,
        listeners: &[Listener],
        ports: &[Published],
        directory: &Path,
    ) -> Result<Link> {
        let ready = directory.join("network.ready");
        let log = directory.join("network.log");
        let inside = directory.join("network.namespace");
        // The programs give up the rights that it takes to look into another process.
        fs::File::create(&inside)?;
        let held = namespace.as_fd().as_raw_fd();
        mount_bind(format!("/proc/self/fd/{held}"), &inside)
            .context("making the container's network namespace a file")?;
        let (program, words) = match self {
            Self::Pasta(program) => (program, pasta_words(&inside, ports, &ready)),
            Self::Slirp(program) => (program, slirp_words(&inside)),
        };
        let forwarder = if listeners.is_empty() {
            None
        } else {
            Some(Forwarder::start_inside(listeners, namespace)?)
        };
        let is_slirp = matches!(self, Self::Slirp(_));
        let name = program.display();
        let started = start(program, &words, is_slirp, &ready, &log);
        // Whoever is to have it has opened it.
        unmount(&inside, UnmountFlags::DETACH)?;
        let program = started.with_context(|| format!("connecting the container by `{name}`"))?;
        let table = fs::read_to_string(format!("/proc/{pid}/net/fib_trie"))?;
        Ok(Link {
            _program: program,
            _forwarder: forwarder,
            address: subnet::own_address(&table),
        })
    }
}

fn pasta_words(inside: &Path, ports: &[Published], ready: &Path) -> Vec<String> {
    let specs = |protocol| {
        let ports = ports.iter().filter(|it| it.container.protocol == protocol);
        let specs = ports.map(|it| {
            let (host, container) = (it.host, it.container.number);
            if host.ip().is_unspecified() {
                // Every address of both families: said once.
                return format!("{}:{container}", host.port());
            }
            format!("{}/{}:{container}", host.ip(), host.port())
        });
        let mut specs: Vec<String> = specs.collect();
        specs.dedup();
        if specs.is_empty() {
            vec!["none".to_owned()]
        } else {
            specs
        }
    };
    let mut words = [
        "-f",
        "-q",
        "--config-net",
        "--no-map-gw",
        "-T",
        "none",
        "-U",
        "none",
        // As root's containers have it, and slirp4netns.
        "-I",
        LINK,
    ]
    .map(str::to_owned)
    .to_vec();
    for (flag, protocol) in [("-t", Protocol::Tcp), ("-u", Protocol::Udp)] {
        for spec in specs(protocol) {
            words.extend([flag.to_owned(), spec]);
        }
    }
    words.extend(["-P".to_owned(), ready.display().to_string()]);
    words.extend(["--netns".to_owned(), inside.display().to_string()]);
    words
}

fn slirp_words(inside: &Path) -> Vec<String> {
    let words = [
        "--configure",
        "--mtu=65520",
        "--disable-host-loopback",
        "--ready-fd=1",
    ];
    let mut words = words.map(str::to_owned).to_vec();
    // By its path: by its PID the user namespace would be entered too, in which this process is.
    words.push("--netns-type=path".to_owned());
    words.extend([inside.display().to_string(), LINK.to_owned()]);
    words
}

/// Starts the program, and returns when it says that it is ready: to its standard output, or to the file `ready`.
fn start(
    program: &Path,
    words: &[String],
    says_on_stdout: bool,
    ready: &Path,
    log: &Path,
) -> Result<Helper> {
    rustix::fs::mknodat(CWD, ready, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        .with_context(|| format!("making `{}`", ready.display()))?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let told = rustix::fs::open(ready, flags, Mode::empty()).context("opening what it says")?;
    let child = match fork()? {
        Clone::Parent(child) => child,
        Clone::Child => {
            let failed = become_program(program, words, says_on_stdout.then_some(ready), log);
            end_child(u8::from(failed.is_err()))
        }
    };
    let mut ends = [
        PollFd::new(&told, PollFlags::IN),
        PollFd::new(&child.pidfd, PollFlags::IN),
    ];
    retry_on_intr(|| poll(&mut ends, None)).context("waiting for it")?;
    let is_ready = ends[0].revents().contains(PollFlags::IN);
    let helper = Helper(child);
    fs::remove_file(ready)?;
    if is_ready {
        return Ok(helper);
    }
    drop(helper);
    let said = fs::read_to_string(log).unwrap_or_default();
    let reason = said.lines().rfind(|line| !line.contains("syslog"));
    bail!("it ended: {}", reason.unwrap_or("it does not say why"))
}

/// Replaces this process by the program; returns only if that failed.
fn become_program(
    program: &Path,
    words: &[String],
    stdout: Option<&Path>,
    log: &Path,
) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let null = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    let log = fs::OpenOptions::new().create(true).append(true).open(log)?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stderr(&log)?;
    match stdout {
        Some(ready) => {
            let ready = fs::OpenOptions::new().write(true).open(ready)?;
            rustix::stdio::dup2_stdout(&ready)?;
        }
        None => rustix::stdio::dup2_stdout(&null)?,
    }
    // Some versions of pasta take a SIGPIPE that is ignored already for an error.
    reset_signals()?;
    restore_descriptors().ok();
    close_descriptors_on_exec()?;
    let program = CString::new(program.as_os_str().as_bytes())?;
    let words = words.iter().map(|word| CString::new(word.as_str()));
    let mut arguments = vec![program.clone()];
    arguments.extend(words.collect::<Result<Vec<_>, _>>()?);
    Err(execute(&program, &arguments, &[]).into())
}
