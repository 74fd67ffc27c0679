//! The way out of an ordinary user's container: a program that speaks for it with sockets of the user's own.
//!
//! `pasta` gives the container the host's addresses and keeps those of clients; `slirp4netns` is what older systems have.

use crate::network::forward::Forwarder;
use crate::network::helper::{Helper, end_with};
use crate::network::port::{Protocol, Published};
use crate::network::published::Listener;
use crate::network::servant::{Servant, log};
use crate::network::{Namespace, subnet};
use crate::sys::clone::{Clone, end_child, fork};
use crate::sys::kernel::{close_descriptors_on_exec, execute, reset_signals};
use crate::sys::limit::restore_descriptors;
use crate::sys::lookup;
use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, CWD, FileType, Mode, OFlags};
use rustix::io::retry_on_intr;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::process::getpid;
use std::ffi::CString;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// What the way out is called in the container.
const LINK: &str = "eth0";

/// How long a program may take to be ready: usually some hundredths of a second, and who waits does nothing else.
const PATIENCE: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// What an ordinary user's containers can be connected by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Program {
    Pasta(PathBuf),
    Slirp(PathBuf),
}

/// The processes that connect a container; they end with this.
pub(crate) struct Link {
    program: Servant,
    forwarder: Option<Forwarder>,
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
        let forwarder = if listeners.is_empty() {
            None
        } else {
            Some(Forwarder::start_inside(listeners, namespace)?)
        };
        let program = self.start(namespace, ports, directory)?;
        let table = fs::read_to_string(format!("/proc/{pid}/net/fib_trie"))?;
        Ok(Link {
            program: Servant::new(self.name(), program),
            forwarder,
            address: subnet::own_address(&table),
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Pasta(_) => "pasta, the way out,",
            Self::Slirp(_) => "slirp4netns, the way out,",
        }
    }

    /// Starts the program, and returns when the way is open.
    fn start(
        &self,
        namespace: &Namespace,
        ports: &[Published],
        directory: &Path,
    ) -> Result<Helper> {
        let ready = directory.join("network.ready");
        let log = log(directory);
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
        let is_slirp = matches!(self, Self::Slirp(_));
        let name = program.display();
        let started = start(program, &words, is_slirp, &ready, &log);
        // Whoever is to have it has opened it.
        unmount(&inside, UnmountFlags::DETACH)?;
        started.with_context(|| format!("connecting the container by `{name}`"))
    }
}

impl Link {
    /// Starts again what has died of it, if it is time; returns what there is to say of that. All else is as it was when
    /// the container was connected.
    pub(crate) fn look_after(
        &mut self,
        program: &Program,
        namespace: &Namespace,
        listeners: &[Listener],
        ports: &[Published],
        directory: &Path,
    ) -> Vec<String> {
        let forwarder = self.forwarder.as_mut();
        let forwarder = forwarder.and_then(|it| it.look_after_inside(listeners, namespace));
        let start = || program.start(namespace, ports, directory);
        forwarder
            .into_iter()
            .chain(self.program.look_after(start))
            .collect()
    }

    pub(crate) fn servants(&self) -> impl Iterator<Item = &Servant> {
        let forwarder = self.forwarder.as_ref().map(Forwarder::servant);
        [&self.program].into_iter().chain(forwarder)
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
    // Of one who died while he waited.
    fs::remove_file(ready).ok();
    rustix::fs::mknodat(CWD, ready, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        .with_context(|| format!("making `{}`", ready.display()))?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let told = rustix::fs::open(ready, flags, Mode::empty()).context("opening what it says")?;
    let parent = getpid();
    let helper = match fork()? {
        Clone::Parent(child) => Helper::from(child),
        Clone::Child => {
            let stdout = says_on_stdout.then_some(ready);
            let failed =
                end_with(parent).and_then(|()| become_program(program, words, stdout, log));
            end_child(u8::from(failed.is_err()))
        }
    };
    let mut ends = [
        PollFd::new(&told, PollFlags::IN),
        PollFd::new(&helper, PollFlags::IN),
    ];
    let heard = retry_on_intr(|| poll(&mut ends, Some(&PATIENCE))).context("waiting for it")?;
    let is_ready = ends[0].revents().contains(PollFlags::IN);
    fs::remove_file(ready)?;
    if is_ready {
        return Ok(helper);
    }
    drop(helper);
    ensure!(heard > 0, "it was not ready within {} s", PATIENCE.tv_sec);
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
