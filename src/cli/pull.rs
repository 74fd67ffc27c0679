//! `ddock pull`, and the pull that `ddock run` begins with when the image is not here.

use crate::cli::failure::{DDOCK_FAILED, Told};
use crate::cli::output::{self, Stream};
use crate::cli::place;
use crate::cli::progress::Progress;
use crate::platform::Platform;
use crate::pull;
use crate::reference::Reference;
use crate::registry::Access;
use crate::sys::userns::Mapping;
use crate::unpack::{self, Limits, OverlayAttributes, Owners};
use anyhow::{Context, Result};
use clap::Args;
use rustix::process::Signal;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

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
    /// Connections to the registry at the same time
    #[arg(long, value_name = "N", default_value = "6", value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
    /// Report on stderr: the container's own output is to have stdout
    #[arg(long, hide = true)]
    for_run: bool,
    /// What to pull
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,
}

/// Pulls an image, telling on the way.
pub(crate) fn run(arguments: &Arguments, root: &Path) -> Result<()> {
    let context = || format!("cannot pull `{}`", arguments.name);
    let reference: Reference = arguments.name.parse().with_context(context)?;
    let stream = if arguments.for_run {
        Stream::Stderr
    } else {
        Stream::Stdout
    };
    if stream == Stream::Stdout && !arguments.quiet && !names_version(&arguments.name) {
        output::print("Using default tag: latest\n")?;
    }
    let progress = Progress::new(stream, arguments.quiet);
    // Before the namespace is entered: there, everybody is root.
    let access = Access::gather();
    let (store, mapping) = place::enter(root).with_context(context)?;
    if arguments.for_run {
        // Whoever waits for us may be ended without being able to tell us. After the namespace is entered: that
        // clears it (prctl(2), PR_SET_PDEATHSIG).
        rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
            .context("asking to end with `ddock run`")?;
    }
    let unpacking = unpacking(&mapping);
    let tell = |event| progress.event(event);
    let request = pull::Request {
        reference: &reference,
        platform: arguments.platform.as_ref(),
        access: &access,
        unpacking: &unpacking,
        jobs: arguments.jobs.into(),
    };
    let pulled = pull::pull(&store, &request, &tell).with_context(context)?;
    progress.finish(&pulled)
}

/// Returns how layers are unpacked where IDs are mapped so.
pub(crate) fn unpacking(mapping: &Mapping) -> unpack::Options {
    unpack::Options {
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
        limits: Limits::default(),
    }
}

/// Pulls `name` in a child process: what is to clone a container must have one thread, and a pull needs many.
///
/// The child tells the user everything, its failure too.
pub(crate) fn in_child(
    root: &Path,
    name: &str,
    platform: Option<&Platform>,
    quiet: bool,
) -> Result<()> {
    let mut child = Command::new("/proc/self/exe");
    child.arg0("ddock").arg("--root").arg(root);
    child.args(["pull", "--for-run"]);
    child.args(platform.map(|platform| format!("--platform={platform}")));
    child.args(quiet.then_some("--quiet"));
    let status = child
        .args(["--", name])
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start a pull of `{name}`"))?;
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
