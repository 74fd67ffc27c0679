//! What the kernel is to refuse the container besides capabilities, of all that `--security-opt` says.

use crate::options::{SeccompProfile, SecurityOption};
use crate::runtime::apparmor;
use anyhow::{Result, ensure};
use std::path::Path;

/// Which AppArmor profile the container has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Confinement {
    /// The host's for containers, if it has one.
    Default,
    Unconfined,
    Profile(String),
}

/// What the security options of a container come to; what comes later on the command line counts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) no_new_privileges: bool,
    pub(super) seccomp: SeccompProfile,
    pub(super) apparmor: Confinement,
    /// Whether parts of `/proc` and `/sys` are hidden or read-only.
    pub(super) hides_paths: bool,
}

impl Refused {
    /// Adds up `options`; a privileged container starts with nothing refused, and takes them all the same.
    pub(super) fn choose(options: &[SecurityOption], privileged: bool) -> Result<Self> {
        let mut refused = Self {
            no_new_privileges: false,
            seccomp: if privileged {
                SeccompProfile::Unconfined
            } else {
                SeccompProfile::Builtin
            },
            apparmor: if privileged {
                Confinement::Unconfined
            } else {
                Confinement::Default
            },
            hides_paths: !privileged,
        };
        for option in options {
            refused.add(option)?;
        }
        Ok(refused)
    }

    fn add(&mut self, option: &SecurityOption) -> Result<()> {
        match option {
            SecurityOption::NoNewPrivileges(is_set) => self.no_new_privileges = *is_set,
            SecurityOption::Seccomp(profile) => self.seccomp = profile.clone(),
            SecurityOption::UnconfinedPaths => self.hides_paths = false,
            // Where the kernel has no such module, Docker takes any profile and label.
            SecurityOption::Apparmor(profile) => {
                self.apparmor = if profile != "unconfined" && apparmor::is_on() {
                    Confinement::Profile(profile.clone())
                } else {
                    Confinement::Unconfined
                };
            }
            SecurityOption::Label(label) => ensure!(
                label == "disable" || !has_selinux(),
                "`--security-opt label={label}` is not there yet"
            ),
        }
        Ok(())
    }
}

/// Tells whether SELinux is at work; no container is given a label yet.
pub(crate) fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(options: &[&str], privileged: bool) -> Refused {
        let options: Vec<_> = options.iter().map(|text| text.parse().unwrap()).collect();
        Refused::choose(&options, privileged).unwrap()
    }

    #[test]
    fn the_last_option_counts() {
        let file = |name: &str| SeccompProfile::File(name.into());
        for (options, no_new_privileges, seccomp, hides_paths) in [
            (&[][..], false, SeccompProfile::Builtin, true),
            (&["no-new-privileges"], true, SeccompProfile::Builtin, true),
            (
                &["no-new-privileges:true", "no-new-privileges=0"],
                false,
                SeccompProfile::Builtin,
                true,
            ),
            (
                &["seccomp=unconfined", "seccomp=a=b:c"],
                false,
                file("a=b:c"),
                true,
            ),
            (
                &["seccomp=unconfined", "seccomp=builtin"],
                false,
                SeccompProfile::Builtin,
                true,
            ),
            (
                &["systempaths=unconfined"],
                false,
                SeccompProfile::Builtin,
                false,
            ),
            (
                &["apparmor=unconfined", "label=disable"],
                false,
                SeccompProfile::Builtin,
                true,
            ),
        ] {
            let found = chosen(options, false);
            let found = (found.no_new_privileges, found.seccomp, found.hides_paths);
            let expected = (no_new_privileges, seccomp, hides_paths);
            assert_eq!(found, expected, "{options:?}");
        }
    }

    #[test]
    fn a_privileged_container_has_what_it_is_given_explicitly() {
        let plain = chosen(&[], true);
        assert_eq!(
            (plain.seccomp, plain.apparmor, plain.hides_paths),
            (SeccompProfile::Unconfined, Confinement::Unconfined, false)
        );
        let confined = chosen(&["seccomp=builtin", "no-new-privileges"], true);
        assert_eq!(confined.seccomp, SeccompProfile::Builtin);
        assert!(confined.no_new_privileges && !confined.hides_paths);
    }
}
