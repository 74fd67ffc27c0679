//! `--security-opt`: what the kernel is to refuse the container besides capabilities.

use crate::human;
use crate::runtime::apparmor;
use anyhow::{Result, bail, ensure};
use std::path::{Path, PathBuf};

/// `--security-opt seccomp=…`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Profile {
    Builtin,
    Unconfined,
    File(PathBuf),
}

/// `--security-opt apparmor=…`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Confinement {
    /// The host's for containers, if it has one.
    Default,
    Unconfined,
    Profile(String),
}

/// The security options of a container; what comes later on the command line counts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Security {
    pub(super) no_new_privileges: bool,
    pub(super) seccomp: Profile,
    pub(super) apparmor: Confinement,
    /// Whether parts of `/proc` and `/sys` are hidden or read-only.
    pub(super) hides_paths: bool,
}

impl Security {
    /// Interprets `options`; a privileged container starts with nothing refused, and takes them all the same.
    pub(super) fn parse(options: &[String], privileged: bool) -> Result<Self> {
        let mut security = Self {
            no_new_privileges: false,
            seccomp: if privileged {
                Profile::Unconfined
            } else {
                Profile::Builtin
            },
            apparmor: if privileged {
                Confinement::Unconfined
            } else {
                Confinement::Default
            },
            hides_paths: !privileged,
        };
        for option in options {
            security.add(option)?;
        }
        Ok(security)
    }

    fn add(&mut self, option: &str) -> Result<()> {
        // `:` is Docker's older way to write it.
        let parts = option.split_once('=').or_else(|| option.split_once(':'));
        let printable = human::printable(option);
        match parts.unwrap_or((option, "")) {
            ("no-new-privileges", value) => self.no_new_privileges = yes_or_no(option, value)?,
            ("seccomp", "builtin") => self.seccomp = Profile::Builtin,
            ("seccomp", "unconfined") => self.seccomp = Profile::Unconfined,
            ("seccomp", file) if !file.is_empty() => self.seccomp = Profile::File(file.into()),
            ("systempaths", "unconfined") => self.hides_paths = false,
            ("apparmor", "unconfined") => self.apparmor = Confinement::Unconfined,
            // Where the kernel has no such module, Docker takes any profile and label.
            ("apparmor", profile) if !profile.is_empty() => {
                self.apparmor = if apparmor::is_on() {
                    Confinement::Profile(profile.to_owned())
                } else {
                    Confinement::Unconfined
                };
            }
            ("label", label) if !label.is_empty() => ensure!(
                label == "disable" || !has_selinux(),
                "`--security-opt {printable}` is not there yet"
            ),
            ("writable-cgroups" | "mask" | "unmask" | "proc-opts", _) => {
                bail!("`--security-opt {printable}` is not there yet")
            }
            _ => bail!(
                "invalid --security-opt `{printable}`: there are `seccomp=FILE|unconfined|builtin`, `no-new-privileges`, \
                 `systempaths=unconfined`, `apparmor=PROFILE` and `label=LABEL`"
            ),
        }
        Ok(())
    }
}

/// The words of Go's `strconv.ParseBool`, which Docker takes; none at all is yes.
fn yes_or_no(option: &str, value: &str) -> Result<bool> {
    match value {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "" if !option.ends_with(['=', ':']) => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        _ => bail!(
            "invalid --security-opt `{}`: it is either `true` or `false`",
            human::printable(option)
        ),
    }
}

/// Tells whether SELinux is at work; no container is given a label yet.
pub(crate) fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(options: &[&str], privileged: bool) -> Result<Security> {
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        Security::parse(&options, privileged)
    }

    #[test]
    fn the_last_option_counts() {
        let file = |name: &str| Profile::File(name.into());
        for (options, no_new_privileges, seccomp, hides_paths) in [
            (&[][..], false, Profile::Builtin, true),
            (&["no-new-privileges"], true, Profile::Builtin, true),
            (
                &["no-new-privileges:true", "no-new-privileges=0"],
                false,
                Profile::Builtin,
                true,
            ),
            (&["seccomp:unconfined"], false, Profile::Unconfined, true),
            (
                &["seccomp=unconfined", "seccomp=a=b:c"],
                false,
                file("a=b:c"),
                true,
            ),
            (
                &["seccomp=unconfined", "seccomp=builtin"],
                false,
                Profile::Builtin,
                true,
            ),
            (&["systempaths=unconfined"], false, Profile::Builtin, false),
            (
                &["apparmor=unconfined", "label=disable"],
                false,
                Profile::Builtin,
                true,
            ),
        ] {
            let found = parsed(options, false).unwrap();
            let found = (found.no_new_privileges, found.seccomp, found.hides_paths);
            let expected = (no_new_privileges, seccomp, hides_paths);
            assert_eq!(found, expected, "{options:?}");
        }
    }

    #[test]
    fn a_privileged_container_has_what_it_is_given_explicitly() {
        let plain = parsed(&[], true).unwrap();
        assert_eq!(
            (plain.seccomp, plain.apparmor, plain.hides_paths),
            (Profile::Unconfined, Confinement::Unconfined, false)
        );
        let confined = parsed(&["seccomp=builtin", "no-new-privileges"], true).unwrap();
        assert_eq!(confined.seccomp, Profile::Builtin);
        assert!(confined.no_new_privileges && !confined.hides_paths);
    }

    #[test]
    fn what_is_unknown_or_not_there_is_refused() {
        for option in [
            "",
            "seccomp",
            "seccomp=",
            "no-new-privileges=2",
            "no-new-privileges=",
            "systempaths=confined",
            "apparmor",
            "label=",
            "writable-cgroups=true",
            "unmask=ALL",
            "bogus",
            "bogus=x",
        ] {
            let error = parsed(&[option], false).unwrap_err().to_string();
            assert!(error.contains(option), "{option}: {error}");
        }
    }
}
