//! `--security-opt`: what the kernel is to refuse the container besides capabilities.

use crate::human;
use anyhow::{Result, bail};
use std::path::PathBuf;

/// `--security-opt seccomp=…`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Profile {
    /// Docker's, also with `--privileged`.
    Builtin,
    Unconfined,
    File(PathBuf),
}

/// The security options of a container; what comes later on the command line counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Security {
    pub(super) no_new_privileges: bool,
    /// None if it was not asked for.
    pub(super) seccomp: Option<Profile>,
}

impl Security {
    /// Refuses what this host or ddock has no means for, as Docker does.
    pub(super) fn parse(options: &[String]) -> Result<Self> {
        let mut security = Self::default();
        for option in options {
            // `:` is Docker's older way to write it.
            let (name, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
            match (name, value) {
                ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
                ("no-new-privileges", "false") => security.no_new_privileges = false,
                ("seccomp", "builtin") => security.seccomp = Some(Profile::Builtin),
                ("seccomp", "unconfined") => security.seccomp = Some(Profile::Unconfined),
                ("seccomp", file) if !file.is_empty() => {
                    security.seccomp = Some(Profile::File(file.into()));
                }
                // Containers have neither anyway.
                ("apparmor", "unconfined") | ("label", "disable") => {}
                ("apparmor" | "label" | "systempaths" | "writable-cgroups", _) => {
                    bail!(
                        "`--security-opt {}` is not there yet",
                        human::printable(option)
                    )
                }
                _ => bail!("invalid --security-opt: `{}`", human::printable(option)),
            }
        }
        Ok(security)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(options: &[&str]) -> Result<Security> {
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        Security::parse(&options)
    }

    #[test]
    fn the_last_option_counts() {
        for (options, no_new_privileges, seccomp) in [
            (&[][..], false, None),
            (&["no-new-privileges"], true, None),
            (
                &["no-new-privileges:true", "no-new-privileges=false"],
                false,
                None,
            ),
            (&["seccomp=builtin"], false, Some(Profile::Builtin)),
            (&["seccomp:unconfined"], false, Some(Profile::Unconfined)),
            (
                &["seccomp=unconfined", "seccomp=a=b"],
                false,
                Some(Profile::File("a=b".into())),
            ),
            (&["apparmor=unconfined", "label=disable"], false, None),
        ] {
            let expected = Security {
                no_new_privileges,
                seccomp,
            };
            assert_eq!(parsed(options).unwrap(), expected, "{options:?}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for option in [
            "",
            "seccomp",
            "seccomp=",
            "no-new-privileges=1",
            "apparmor=x",
            "label=type:x",
            "bogus",
        ] {
            let error = parsed(&[option]).unwrap_err().to_string();
            assert!(error.contains(option), "{option}: {error}");
        }
    }
}
