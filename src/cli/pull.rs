//! `ddock pull`, and the pull that `ddock run` begins with when the image is not here.

use crate::cli::failure::{self, DDOCK_FAILED, Refusal, Told};
use crate::cli::layer_limits;
use crate::cli::output::{self, Stream};
use crate::cli::progress::{Mode, Progress, Style};
use crate::cli::pull_flags::PullFlags;
use crate::engine::place;
use crate::human;
use crate::monitor::{self, Signals};
use crate::platform::Platform;
use crate::pull::{self, Pulled, Retry, Stopped};
use crate::reference::{Reference, looks_like_registry};
use crate::registry::{Access, Secret};
use crate::store::Store;
use crate::sys::signal;
use crate::sys::userns::Mapping;
use crate::unpack::{self, OverlayAttributes, Owners};
use anyhow::{Context, Result, ensure};
use clap::Args;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

#[derive(Debug, Args, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// Say nothing but the image's full name at the end
    #[arg(short, long)]
    quiet: bool,
    /// Pull the image for this platform instead of the machine's own
    #[arg(
        long,
        value_name = "OS/ARCH[/VARIANT]",
        env = "DOCKER_DEFAULT_PLATFORM",
        hide_env = true
    )]
    platform: Option<Platform>,
    #[command(flatten)]
    flags: PullFlags,
    /// Connections to the registry at the same time
    #[arg(long, value_name = "N", default_value = "6", value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
    /// How to show what happens
    #[arg(long, value_enum, value_name = "FORM", default_value = "auto")]
    progress: Mode,
    /// Pull every tag of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Report on stderr: the container's own output is to have stdout
    #[arg(long, hide = true)]
    for_run: bool,
    /// What to pull
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,
}

/// Pulls an image, or all of a repository, telling on the way.
pub(crate) fn run(arguments: &Arguments, root: &Path) -> Result<()> {
    let context = || format!("cannot pull `{}`", arguments.name);
    let reference: Reference = arguments.name.parse().with_context(context)?;
    if arguments.all_tags && names_version(&arguments.name) {
        return Err(Refusal::new("tag can't be used with --all-tags/-a")
            .code(1)
            .into());
    }
    let stream = if arguments.for_run {
        Stream::Stderr
    } else {
        Stream::Stdout
    };
    let style = Style::new(stream, arguments.progress, arguments.quiet)?;
    if looks_like_registry(&arguments.name) {
        output::tell(&meant_as_registry(&arguments.name, &reference));
    }
    let announced = arguments.all_tags || names_version(&arguments.name);
    if stream == Stream::Stdout && style.is_talkative() && !announced {
        output::print("Using default tag: latest\n")?;
    }
    // Before the namespace is entered: there, everybody is root.
    let mut given = arguments.flags.given().with_context(context)?;
    if arguments.for_run {
        given.pair = handed_over().with_context(context)?;
    }
    let access =
        Access::gather(&reference, &given, arguments.flags.reach.flags()).with_context(context)?;
    for warning in access.warnings() {
        output::tell(&format!("ddock: {}\n", human::printable(warning)));
    }
    let (store, mapping) = place::enter(root).with_context(context)?;
    if arguments.for_run {
        // Whoever waits for us may be ended without being able to tell us. After the namespace is entered: that
        // clears it (prctl(2), PR_SET_PDEATHSIG).
        rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
            .context("asking to end with `ddock run`")?;
        // Our parent passes on what it gets itself, and is there to see how that ends.
        monitor::heed_endings()?;
    }
    let work = Pulls {
        store,
        platform: arguments.platform.as_ref(),
        access,
        unpacking: unpacking(&mapping).with_context(context)?,
        jobs: arguments.jobs.into(),
        retry: arguments.flags.retry(),
        style,
    };
    if arguments.all_tags {
        return work.all(&reference).with_context(context);
    }
    let (pulled, progress) = work.one(&reference).with_context(context)?;
    progress.finish(&pulled)
}

/// What one pull after the other needs.
struct Pulls<'a> {
    store: Store,
    platform: Option<&'a Platform>,
    access: Access,
    unpacking: unpack::Options,
    /// Connections to the registry at once.
    jobs: usize,
    retry: Retry,
    style: Style,
}

impl Pulls<'_> {
    fn one(&self, reference: &Reference) -> Result<(Pulled, Progress)> {
        let progress = Progress::new(self.style);
        let request = pull::Request {
            reference,
            platform: self.platform,
            access: &self.access,
            unpacking: &self.unpacking,
            jobs: self.jobs,
            retry: self.retry,
        };
        let pulled = pull::pull(&self.store, &request, &|event| progress.event(event))?;
        Ok((pulled, progress))
    }

    /// Pulls every tag of the repository of `reference`; one that fails does not stop the others.
    fn all(&self, reference: &Reference) -> Result<()> {
        let progress = Progress::new(self.style);
        let tags = pull::tags(reference, &self.access, &|event| progress.event(event))?;
        drop(progress);
        ensure!(!tags.is_empty(), "the repository has no tags");
        let mut newer = false;
        let done = failure::each(&tags, |tag| {
            let context = || format!("cannot pull `{}:{tag}`", reference.familiar_name());
            let reference = reference.with_tag(tag).with_context(context)?;
            let (pulled, progress) = self.one(&reference).with_context(context)?;
            newer |= pulled.newer;
            progress.finish_one(&pulled)
        });
        done.and_then(|()| self.style.finish_all(reference, newer))
    }
}

/// Returns the warning about `localhost:5000` alone and the like.
fn meant_as_registry(name: &str, reference: &Reference) -> String {
    format!(
        "`{name}` is taken for the repository {reference}; what is in a registry is named `{name}/REPOSITORY`\n"
    )
}

/// Returns how layers are unpacked where IDs are mapped so.
pub(crate) fn unpacking(mapping: &Mapping) -> Result<unpack::Options> {
    Ok(unpack::Options {
        owners: if mapping.is_single() {
            Owners::Squashed
        } else {
            Owners::Kept
        },
        overlay: if mapping.is_root() {
            OverlayAttributes::Trusted
        } else {
            OverlayAttributes::User
        },
        limits: layer_limits::gather()?,
    })
}

/// Pulls `name` in a child process: what is to clone a container must have one thread, and a pull needs many.
///
/// The child tells the user everything, its failure too.
pub(crate) fn in_child(
    root: &Path,
    name: &str,
    platform: Option<&Platform>,
    flags: &PullFlags,
    quiet: bool,
) -> Result<()> {
    let mut child = Command::new("/proc/self/exe");
    child.arg0("ddock").arg("--root").arg(root);
    child.args(["pull", "--for-run"]);
    child.args(platform.map(|platform| format!("--platform={platform}")));
    child.args(flags.words());
    child.args(quiet.then_some("--quiet"));
    let given = flags.given()?;
    child.args(["--", name]).stdin(match given.pair {
        Some(_) => Stdio::piped(),
        None => Stdio::null(),
    });
    let signals = Signals::take_endings()?;
    let mut child = child
        .spawn()
        .with_context(|| format!("cannot start a pull of `{name}`"))?;
    if let (Some(mut pipe), Some(pair)) = (child.stdin.take(), given.pair) {
        // A child that ended before it read this says why.
        pipe.write_all(pair.expose().as_bytes()).ok();
    }
    let (status, stopped) = end(child, &signals).context("waiting for the pull")?;
    signals.give_back()?;
    if let Some(signal) = stopped {
        return Err(Stopped { signal }.into());
    }
    match status.signal() {
        // 128 + n is at most 192.
        Some(signal) => Err(Told(u8::try_from(128 + signal).unwrap_or(DDOCK_FAILED)).into()),
        None if status.success() => Ok(()),
        // A pull that was interrupted says so by its exit code.
        None => {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            let interrupted = code.filter(|code| *code > 128);
            Err(Told(interrupted.unwrap_or(DDOCK_FAILED)).into())
        }
    }
}

/// Returns the user name and password that [`in_child`] wrote here, where no list of processes shows them.
fn handed_over() -> Result<Option<Secret>> {
    let pair = io::read_to_string(io::stdin()).context("reading the credentials of `ddock run`")?;
    Ok((!pair.is_empty()).then(|| pair.into()))
}

/// Waits for `child`, passing signals on; returns how it ended, and the last signal that came.
fn end(mut child: Child, signals: &Signals) -> Result<(ExitStatus, Option<i32>)> {
    let pid = Pid::from_raw(i32::try_from(child.id())?).context("the pull has no PID")?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("opening the pull")?;
    let mut last = None;
    loop {
        let mut ends = [
            PollFd::new(&pidfd, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        retry_on_intr(|| poll(&mut ends, None))?;
        let has_ended = !ends[0].revents().is_empty();
        while let Some(number) = signals.next()? {
            signal::send(pidfd.as_fd(), number)?;
            last = Some(number);
        }
        if has_ended {
            return Ok((child.wait()?, last));
        }
    }
}

/// Tells whether the user wrote a tag or a digest: then there is no default to announce.
fn names_version(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    last.contains([':', '@'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_no_tag() {
        for (name, expected) in [
            ("ubuntu", false),
            ("localhost:5000/x", false),
            ("[::1]:5000/x", false),
            ("ubuntu:24.04", true),
            ("localhost:5000/x:1", true),
            ("x@sha256:00", true),
        ] {
            assert_eq!(names_version(name), expected, "{name}");
        }
    }
}
