//! What is told of a start and an end, step by step, from whichever process takes the step.
//!
//! One start is the work of three processes: the command line, the monitor, and the container's first. Each of them
//! has the same end of one channel, so the steps arrive in the order in which they were taken. Nobody listens unless
//! `--explain` was given; then a step costs one look at an atomic, and its words are not even made.

use crate::sys::message::Channel;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;
use std::time::Duration;

/// Where steps are told, once somebody listens; forked processes inherit it, exec'ed ones do not.
static LISTENER: OnceLock<Channel> = OnceLock::new();

/// Something that was done, with the facts of it; the words are the listener's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub(crate) enum Step {
    /// The image was found in the store.
    Image {
        name: String,
        id: String,
        layers: usize,
    },
    /// A directory of the host is there instead of an image.
    Rootfs {
        directory: String,
    },
    /// The container's directory was made in the store.
    Container {
        id: String,
        directory: String,
    },
    /// The layers were merged under a directory for changes; nothing is mounted anywhere yet.
    Root {
        layers: usize,
    },
    /// What is to run was written down.
    Bundle {
        config: String,
    },
    /// The process that looks after the container was forked.
    Monitor {
        pid: u32,
    },
    /// A cgroup was made; its files say these values when read back.
    Cgroup {
        directories: Vec<String>,
        values: Vec<(String, String)>,
    },
    /// The first process lives in new namespaces; `pid` is what the host calls it.
    Clone {
        pid: String,
        namespaces: Vec<String>,
        /// With the host.
        shared: Vec<String>,
        /// Of other containers, by their paths.
        joined: Vec<String>,
    },
    /// The first process is in its cgroup, which its cgroup namespace shows as the root.
    EnterCgroup,
    /// It has a session of its own.
    Session,
    /// The host's mounts went, the container's root is `/`.
    Pivot,
    Mount {
        target: String,
        kind: String,
        source: String,
        options: String,
    },
    Devices {
        nodes: Vec<String>,
    },
    Terminal {
        rows: u16,
        columns: u16,
    },
    Hostname {
        name: String,
    },
    /// The loopback interface of the new network namespace is up.
    Loopback,
    /// The container is connected to a network by a link of its own.
    Network {
        network: String,
        link: String,
        addresses: Vec<String>,
        /// None if this is not the way out.
        gateway: Option<String>,
    },
    /// A process of ours answers in the container for names.
    Responder {
        pid: u32,
        address: String,
    },
    Sysctl {
        name: String,
        value: String,
    },
    Hide {
        masked: Vec<String>,
        read_only: Vec<String>,
    },
    ReadOnlyRoot,
    Directory {
        path: String,
    },
    /// A session keyring of its own, and the capabilities that any program in it may ever have.
    Capabilities {
        kept: Vec<String>,
    },
    User {
        uid: u32,
        gid: u32,
        groups: Vec<u32>,
    },
    /// So many of the caller's descriptors, from 3 on, stay open for the command.
    Descriptors {
        count: usize,
    },
    /// AppArmor confines the next program by this profile.
    Profile {
        name: String,
    },
    /// System calls go through a filter from here on.
    Filter {
        instructions: usize,
    },
    /// The next thing that the first process does.
    Exec {
        arguments: Vec<String>,
    },
    /// The command is gone; `usage` is what its cgroup counted.
    End {
        status: String,
        out_of_memory: bool,
        usage: Vec<(String, String)>,
    },
    /// What the container left was removed.
    CleanUp {
        removed: bool,
    },
}

/// A step, and when it was done, as [`now`] tells it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) step: Step,
    pub(crate) at: Duration,
}

/// Returns the time on the clock that all processes share (`clock_gettime(2)`, `CLOCK_MONOTONIC`).
pub(crate) fn now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::try_from(now).expect("the monotonic clock is never negative")
}

/// Returns what this process tells through, if anybody listens.
pub(crate) fn way_out() -> Option<BorrowedFd<'static>> {
    LISTENER.get().map(AsFd::as_fd)
}

/// Tells `step`, if anybody listens.
pub(crate) fn tell(step: impl FnOnce() -> Step) {
    let Some(listener) = LISTENER.get() else {
        return;
    };
    let told = Told {
        at: now(),
        step: step(),
    };
    // Who listened may be gone; the container is worth more than its story.
    listener.send(&told, None).ok();
}

/// The end where all steps arrive, and who makes words of them.
pub(crate) struct Narration {
    steps: Channel,
    say: Box<dyn Fn(&Told)>,
}

impl Narration {
    /// Begins to listen to this process and to those that it forks from now on; once a process.
    pub(crate) fn listen(say: impl Fn(&Told) + 'static) -> Result<Self> {
        let context = "making a channel for `--explain`";
        let (steps, theirs) = Channel::pair().context(context)?;
        steps.set_nonblocking().context(context)?;
        let first = LISTENER.set(theirs).is_ok();
        ensure!(first, "somebody listens already");
        let say = Box::new(say);
        Ok(Self { steps, say })
    }

    /// Says every step that has arrived.
    pub(crate) fn pass_on(&self) -> Result<()> {
        loop {
            match self.steps.receive() {
                Ok(Some((told, _))) => (self.say)(&told),
                Ok(None) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("hearing a step"),
            }
        }
    }
}

impl AsFd for Narration {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.steps.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    #[test]
    fn steps_arrive_in_order_with_their_times() {
        tell(|| panic!("nobody listens yet"));
        let heard = Rc::new(RefCell::new(Vec::new()));
        let ears = Rc::clone(&heard);
        let narration = Narration::listen(move |told| ears.borrow_mut().push(told.clone()));
        let narration = narration.unwrap();
        tell(|| Step::Session);
        tell(|| Step::Loopback);
        narration.pass_on().unwrap();
        let heard = heard.borrow();
        assert_eq!(
            [&heard[0].step, &heard[1].step],
            [&Step::Session, &Step::Loopback]
        );
        assert!(heard[0].at <= heard[1].at && heard[1].at <= now());
    }
}
