//! `ddock run`: its flags, and the way from them to a running container.

mod arguments;
mod end;
mod explain;
mod id_file;

use crate::cli::failure::{self, Refusal};
use crate::cli::pull_flags::PullFlags;
use crate::cli::{detach_keys, output, pull};
use crate::engine::container::{self as engine, Groundwork, Naming, Starter};
use crate::image;
use crate::monitor::{DetachKeys, Session};
use crate::options::{ContainerOptions, Root, Streams};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::{NotFound, Store};
use crate::sys::kernel;
use crate::sys::program::Protected;
use crate::sys::userns::Mapping;
use anyhow::{Context, Result};
use clap::ValueEnum;
use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _};
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use explain::Explain;
use id_file::IdFile;

pub(crate) use arguments::{Arguments, invalid_signal};
pub(crate) use end::code_of;
use end::conclude;

/// What `ddock run` was asked to do: the container's shape, and what is done around it.
#[derive(Debug)]
pub(crate) struct Run {
    options: ContainerOptions,
    /// `--name` and `--replace`
    naming: Naming,
    session: SessionOptions,
    /// `--preserve-fds` and `--preserve-fd`, by number.
    handed: BTreeSet<RawFd>,
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
    let run = Run::try_from(arguments)?;
    let handed = handed(&run.handed)?;
    let session = run.session.session(&run.options)?;
    if session.stdin && run.options.terminal && !io::stdin().is_terminal() {
        return Err(no_terminal().into());
    }
    let wish = || format!("cannot run `{}`", run.options.root);
    let (groundwork, id_file) = begin(&run, root)?;
    let found = provide(&run, root, &groundwork)?;
    let entered = groundwork
        .enter(&run.options, root, found, run.is_dry)
        .with_context(wish)?;
    let narration = run.explain.map(explain::listen).transpose()?;
    if run.is_dry {
        let notes = &failure::note;
        let config = engine::preview(entered, &run.options, narration.as_ref(), notes);
        return output::print(&format!("{}\n", config.with_context(wish)?)).map(|()| 0);
    }
    let starter = Starter {
        session,
        handed,
        program,
        narration: narration.as_ref(),
        notes: &failure::note,
    };
    let made = |id: &str| id_file.map_or(Ok(()), |mut file| file.write(id));
    let (id, end) =
        engine::run(entered, &run.options, &run.naming, starter, made).with_context(wish)?;
    conclude(&end, &id)
}

/// Makes a container that is started another time, and prints its ID.
pub(crate) fn create(arguments: Arguments, root: &Path) -> Result<u8> {
    let run = Run::try_from(arguments)?;
    let wish = || format!("cannot create a container of `{}`", run.options.root);
    let (groundwork, id_file) = begin(&run, root)?;
    provide(&run, root, &groundwork)?;
    let id = engine::create(&groundwork, root, &run.options, &run.naming, &failure::note)
        .with_context(wish)?;
    id_file.map_or(Ok(()), |mut file| file.write(&id))?;
    output::print(&format!("{id}\n")).map(|()| 0)
}

/// Refuses what makes no sense, and takes the file for the ID, before anything is pulled, made or removed.
fn begin(run: &Run, root: &Path) -> Result<(Groundwork, Option<IdFile>)> {
    let wish = || format!("cannot run `{}`", run.options.root);
    let groundwork = Groundwork::lay(&run.options, root).with_context(wish)?;
    let id_file = run.cidfile.as_deref().filter(|_| !run.is_dry);
    let id_file = id_file.map(IdFile::create).transpose()?;
    Ok((groundwork, id_file))
}

/// Sees to it that the image is in the store, also when somebody else removes it meanwhile, and returns that.
fn provide(run: &Run, root: &Path, groundwork: &Groundwork) -> Result<Option<Store>> {
    let Root::Image(image) = &run.options.root else {
        return Ok(None);
    };
    let mapping = &groundwork.mapping;
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
pub(super) fn no_terminal() -> Refusal {
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
