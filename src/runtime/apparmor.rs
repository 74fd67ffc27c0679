//! AppArmor: the profile that confines a container's command, where the kernel has such.

use crate::runtime::failure::StartError;
use crate::sys::lookup;
use anyhow::{Context, Result, ensure};
use fs_err as fs;
use std::io::{ErrorKind, Write as _};
use std::process::{Command, Stdio};

/// The profile of containers that ask for none.
pub(crate) const OWN: &str = "ddock-default";

/// What it allows: the same as Docker's own, in apparmor.d(5). It stands behind what capabilities, seccomp and mounts do.
const TEXT: &str = include_str!("apparmor.profile");

/// Tells whether the kernel confines programs by AppArmor.
pub(crate) fn is_on() -> bool {
    let switch = fs::read("/sys/module/apparmor/parameters/enabled");
    // What cannot be read is not there.
    switch.is_ok_and(|text| text.starts_with(b"Y"))
}

/// Sees to it that our own profile is loaded, and returns its name; `None` where there is no AppArmor, or none that this
/// process is shown. Only root can.
pub(crate) fn provide() -> Result<Option<&'static str>> {
    if !is_on() {
        return Ok(None);
    }
    let Ok(loaded) = fs::read_to_string("/sys/kernel/security/apparmor/profiles") else {
        return Ok(None);
    };
    if !names(&loaded).any(|name| name == OWN) {
        load()?;
    }
    Ok(Some(OWN))
}

/// Returns the names in the kernel's list: `NAME (MODE)` on each line.
fn names(list: &str) -> impl Iterator<Item = &str> {
    let lines = list.lines();
    lines.filter_map(|line| Some(line.rsplit_once(" (")?.0))
}

/// Has AppArmor's own program compile our profile and load it, which stays until the machine starts anew.
fn load() -> Result<()> {
    // Where distributions have it is no directory of every caller's `PATH`.
    let program = lookup::in_path("apparmor_parser")
        .or_else(|| lookup::of_system("apparmor_parser"))
        .context("`apparmor_parser` is not installed")?;
    let mut parser = Command::new(program)
        .args(["--replace", "--skip-cache", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting `apparmor_parser`")?;
    if let Some(mut stdin) = parser.stdin.take() {
        // One that ended before it read this says why.
        stdin.write_all(TEXT.as_bytes()).ok();
    }
    let ended = parser
        .wait_with_output()
        .context("waiting for `apparmor_parser`")?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(
        ended.status.success(),
        "`apparmor_parser` cannot load it: {}",
        said.trim()
    );
    Ok(())
}

/// Where this process says which profile its next program is to have.
///
/// It is opened in the host's `/proc`, for in the container's an image or another process could have put anything.
#[derive(Debug)]
pub(super) struct NextProgram(fs::File);

impl NextProgram {
    pub(super) fn open() -> Result<Self> {
        let open = |path: &str| fs::OpenOptions::new().write(true).open(path);
        let file = match open("/proc/self/attr/apparmor/exec") {
            // Before Linux 5.1, or where another module had the place first.
            Err(error) if error.kind() == ErrorKind::NotFound => open("/proc/self/attr/exec"),
            other => other,
        };
        let context = "opening where the kernel is told of the AppArmor profile";
        file.context(context).map(Self)
    }

    /// Has the next program that this process executes confined by the profile `name`; children inherit that.
    pub(super) fn confine(mut self, name: &str) -> Result<()> {
        match self.0.write_all(format!("exec {name}").as_bytes()) {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(StartError::Unenforceable {
                message: format!("the AppArmor profile `{name}` is not loaded"),
                cure: Some(
                    "`apparmor_parser -r FILE` loads it, and `aa-status` lists those that are"
                        .to_owned(),
                ),
            }
            .into()),
            written => written.with_context(|| format!("asking for the AppArmor profile `{name}`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_is_read_by_name() {
        let list = "docker-default (enforce)\n/usr/bin/man (complain)\na b (c) (enforce)\n";
        let names: Vec<_> = names(list).collect();
        assert_eq!(names, ["docker-default", "/usr/bin/man", "a b (c)"]);
    }

    #[test]
    fn the_text_is_of_the_profile_that_containers_get() {
        assert!(TEXT.contains(&format!("\nprofile {OWN} ")));
    }
}
