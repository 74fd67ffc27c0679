//! A network namespace other than this process's: sockets of it, and the way inside.

use crate::network::helper::Helper;
use crate::sys::clone::{Clone, end_child, fork};
use crate::sys::message::Channel;
use anyhow::{Context, Result, bail};
use fs_err as fs;
use nix::sched::{CloneFlags, setns, unshare};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The network namespace that this thread is in.
const OWN: &str = "/proc/thread-self/ns/net";

pub(crate) struct Namespace(OwnedFd);

impl Namespace {
    /// Makes one, which belongs to the user namespace of this process and has nothing in it but what `settle` does
    /// inside. Needs a process with one thread.
    pub(super) fn new(settle: impl FnOnce() -> Result<()>) -> Result<Self> {
        let [made] = in_child(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
            settle()?;
            Ok([open(OWN)?])
        })?;
        Ok(Self(made))
    }

    /// Goes inside, for good.
    pub(super) fn enter(&self) -> Result<()> {
        setns(&self.0, CloneFlags::CLONE_NEWNET)
            .context("entering the container's network namespace")
    }

    /// Opens sockets inside, where they stay. Needs a process with one thread.
    pub(super) fn sockets<const COUNT: usize>(
        &self,
        open_all: impl FnOnce() -> Result<[OwnedFd; COUNT]>,
    ) -> Result<[OwnedFd; COUNT]> {
        let own = open(OWN)?;
        // Only root of the machine may come back from there (setns(2)): who may go where he is already.
        if setns(&own, CloneFlags::CLONE_NEWNET).is_err() {
            return in_child(|| self.enter().and_then(|()| open_all()));
        }
        self.enter()?;
        let opened = open_all();
        setns(&own, CloneFlags::CLONE_NEWNET)
            .context("coming back from the container's network namespace")?;
        opened
    }
}

impl From<OwnedFd> for Namespace {
    fn from(file: OwnedFd) -> Self {
        Self(file)
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn open(path: &str) -> Result<OwnedFd> {
    Ok(fs::File::open(path)?.into_file().into())
}

/// Has a process of its own open something, and hands it over.
fn in_child<const COUNT: usize>(
    open_all: impl FnOnce() -> Result<[OwnedFd; COUNT]>,
) -> Result<[OwnedFd; COUNT]> {
    let (here, there) = Channel::pair().context("making a channel to a child")?;
    let child = match fork()? {
        Clone::Parent(child) => Helper::from(child),
        Clone::Child => {
            drop(here);
            let told = match open_all() {
                Ok(opened) => opened
                    .iter()
                    .try_for_each(|it| there.send(&None::<String>, Some(it.as_fd()))),
                Err(error) => there.send(&Some(format!("{error:#}")), None),
            };
            end_child(u8::from(told.is_err()))
        }
    };
    drop(there);
    let mut opened = Vec::with_capacity(COUNT);
    while opened.len() < COUNT {
        match here.receive().context("hearing from a child")? {
            Some((None, Some(descriptor))) => opened.push(descriptor),
            Some((Some(error), _)) => bail!(String::clone(&error)),
            _ => bail!("a child of ddock ended too early"),
        }
    }
    drop(child);
    Ok(opened
        .try_into()
        .expect("there are as many as were asked for"))
}
