//! `ddock run`: its flags, and the way from them to a running container.

mod arguments;
mod connect;
mod donors;
mod explain;
mod id_file;
mod mounts;
mod origin;
mod peers;
mod prepare;
mod start;

use crate::cli::failure::Refusal;
use crate::cli::pull_flags::PullFlags;
use crate::cli::{detach_keys, output, pull};
use crate::engine::place;
use crate::image;
use crate::monitor::{DetachKeys, Session};
use crate::options::{ContainerOptions, Network, Root, Streams, UserNamespace};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::spec::{Host, Settled};
use crate::store::{NotFound, Store};
use crate::sys::kernel;
use crate::sys::program::Protected;
use crate::sys::userns::Mapping;
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _};
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use donors::Donors;
use explain::Explain;
use id_file::IdFile;
use peers::Peers;

pub(crate) use arguments::{Arguments, invalid_signal};
pub(crate) use start::code_of;

/// What `ddock run` was asked to do: the container's shape, and what is done around it.
#[derive(Debug)]
pub(crate) struct Run {
    options: ContainerOptions,
    /// `--name`, well formed.
    name: Option<String>,
    session: SessionOptions,
    /// `--preserve-fds` and `--preserve-fd`, by number.
    handed: BTreeSet<RawFd>,
    /// `--replace`
    replace: bool,
    /// `--cidfile`
    cidfile: Option<PathBuf>,
    pull: PullPolicy,
    /// How the image is pulled.
    pull_flags: PullFlags,
    /// `-q`
    quiet: bool,
    /// `--explain`
    explain: Option<Explain>,
    /// `--dry-run`
    is_dry: bool,
}

/// What a client and its container are to have to do with each other.
#[derive(Debug)]
struct SessionOptions {
    /// Leave as soon as the command runs.
    detached: bool,
    /// `--sig-proxy`
    sig_proxy: bool,
    /// `--detach-keys`
    detach_keys: Option<String>,
}

impl SessionOptions {
    /// Returns what the monitor is told; Docker's configuration is read only where keys are watched.
    fn session(&self, options: &ContainerOptions) -> Result<Session> {
        let Streams {
            stdin,
            stdout,
            stderr,
        } = options.attached;
        Ok(Session {
            detached: self.detached,
            stdin,
            keeps_stdin: options.interactive,
            stdout,
            stderr,
            sig_proxy: self.sig_proxy,
            detach_keys: if (options.terminal && stdin) || self.detach_keys.is_some() {
                detach_keys::choose(self.detach_keys.as_deref())?
            } else {
                DetachKeys::default()
            },
        })
    }
}

impl Run {
    /// Tells whether an image for `platform` saves a pull. With `--pull never` there is none to save,
    /// and what is wrong with the image is said later.
    fn takes(&self, platform: &Platform) -> bool {
        let wanted = self.options.platform.as_ref();
        self.pull == PullPolicy::Never
            || wanted.is_none_or(|wanted| wanted.rank(platform).is_some())
    }
}

/// `--pull`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullPolicy {
    Always,
    Missing,
    Never,
}

/// How often an image is pulled that somebody else removes before it can be run.
const PULLS: usize = 3;

/// Runs a command in a new container and returns the exit code of ddock: the command's own, if it ran.
///
/// A process of this `program` becomes the command.
pub(crate) fn run(arguments: Arguments, root: &Path, program: Protected) -> Result<u8> {
    let mut run = Run::try_from(arguments)?;
    let handed = handed(&run.handed)?;
    let session = run.session.session(&run.options)?;
    if session.stdin && run.options.terminal && !io::stdin().is_terminal() {
        return Err(no_terminal().into());
    }
    let wish = format!("cannot run `{}`", run.options.root);
    let mut mapping = place::mapping(root).with_context(|| wish.clone())?;
    // Before anything is pulled, made or removed.
    let host = Host::detect(prepare::spec_mapping(&mapping)).with_context(|| wish.clone())?;
    let settled = Settled::choose(&run.options, &host).with_context(|| wish.clone())?;
    let id_file = run.cidfile.as_deref().map(IdFile::create);
    let id_file = id_file.transpose()?;
    let found = match &run.options.root {
        Root::Image(image) => provide(&run, image, root, &mapping)?,
        Root::Directory { .. } => None,
    };
    let company = enter(&mut run, root, &mut mapping).context(wish)?;
    let store = found.map_or_else(|| Store::open(root, &mapping.to_string()), Ok)?;
    start::start(
        &run,
        (session, handed),
        id_file,
        &store,
        &mapping,
        (host, settled),
        (company, program),
    )
}

/// Sees to it that the image is in the store, also when somebody else removes it meanwhile, and returns that.
fn provide(run: &Run, image: &str, root: &Path, mapping: &Mapping) -> Result<Option<Store>> {
    let mut found = find(run, image, root, mapping)?;
    for _ in 0..PULLS {
        if !obtain(run, image, root, found.is_some())? {
            break;
        }
        found = find(run, image, root, mapping)?;
        if found.is_some() {
            break;
        }
    }
    Ok(found)
}

/// Takes the caller's descriptors that are to be the command's; refuses in podman's words.
fn handed(numbers: &BTreeSet<RawFd>) -> Result<Vec<OwnedFd>, Refusal> {
    kernel::take_inherited(numbers).map_err(|number| {
        Refusal::new(format!(
            "file descriptor {number} is not available - the preserve-fds option requires that file descriptors must be passed"
        ))
    })
}

/// The running containers that the new one has to do with.
struct Company {
    donors: Donors,
    /// Of an ordinary user's container that is to be in networks of his.
    peers: Option<Peers>,
}

/// Finds the containers that are to be joined, and enters the user namespace: theirs, if there are any.
fn enter(run: &mut Run, root: &Path, mapping: &mut Mapping) -> Result<Company> {
    let donors = Donors::find(&run.options.namespaces, root, &mapping.to_string())?;
    let namespaces = &run.options.namespaces;
    let peers = match &namespaces.network {
        Network::Named(networks) if !mapping.is_root() && !run.is_dry => {
            ensure!(
                namespaces.user == UserNamespace::Default,
                "conflicting options: --userns=keep-id and networks of yours, whose containers share a user namespace in which you are root"
            );
            let first = networks[0].network.as_str();
            Some(Peers::find(root, &mapping.to_string(), first)?)
        }
        _ => None,
    };
    let peer = peers.as_ref().and_then(Peers::process);
    let company = donors.process(peer)?;
    if let (Some(_), Some(process)) = (&peers, company) {
        // The first in the user's networks brings them all into its user namespace.
        ensure!(
            mapping.is_root_inside(process)?,
            "the container to join was started with --userns=keep-id, and containers in networks of yours share a user namespace in which you are root"
        );
    }
    match (company, namespaces.user) {
        (None, UserNamespace::Default) => mapping.enter()?,
        (Some(process), UserNamespace::Default) => mapping.join(process)?,
        (Some(_), UserNamespace::KeepId(..)) => bail!(
            "conflicting options: --userns=keep-id and joining a container, which has a user namespace of its own"
        ),
        (None, UserNamespace::KeepId(uid, gid)) => {
            let own = mapping
                .own()
                .context("keep-id is only supported in rootless mode")?;
            let (uid, gid) = (uid.unwrap_or(own.0), gid.unwrap_or(own.1));
            let own = format!("{uid}:{gid}").parse()?;
            run.options.user.get_or_insert(own);
            mapping.keep(uid, gid);
            mapping.enter()?;
        }
    }
    Ok(Company { donors, peers })
}

/// Returns the store if it has the image, for a platform that is wanted.
fn find(run: &Run, image: &str, root: &Path, mapping: &Mapping) -> Result<Option<Store>> {
    if !Store::exists(root)? {
        return Ok(None);
    }
    let store = Store::open(root, &mapping.to_string())?;
    match image::find(&store, image) {
        Err(error) if error.is::<NotFound>() => Ok(None),
        found => Ok(run.takes(&found?.record.platform).then_some(store)),
    }
}

/// Docker's words and exit code.
fn no_terminal() -> Refusal {
    Refusal::new("cannot attach stdin to a TTY-enabled container because stdin is not a terminal")
        .hint("leave out `-t` where input comes from a pipe or a file")
        .code(1)
}

/// Pulls the image if `--pull` says so, and returns whether it was pulled.
fn obtain(run: &Run, image: &str, root: &Path, found: bool) -> Result<bool> {
    match run.pull {
        PullPolicy::Missing | PullPolicy::Never if found => return Ok(false),
        PullPolicy::Never => return Err(absent(image).into()),
        PullPolicy::Missing if !run.quiet => {
            let shown = match image.parse::<Reference>() {
                Ok(reference) => reference.familiar(),
                Err(_) => image.to_owned(),
            };
            output::tell(&format!("Unable to find image '{shown}' locally\n"));
        }
        PullPolicy::Missing | PullPolicy::Always => {}
    }
    pull::in_child(
        root,
        image,
        run.options.platform.as_ref(),
        &run.pull_flags,
        run.quiet,
    )?;
    Ok(true)
}

fn absent(image: &str) -> Refusal {
    let shown = image
        .parse::<Reference>()
        .map_or_else(|_| image.to_owned(), |reference| reference.familiar());
    Refusal::new(format!("No such image: {shown}")).hint(format!(
        "`--pull never` forbids to get it; `ddock pull {image}` does"
    ))
}
