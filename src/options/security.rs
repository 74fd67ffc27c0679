//! What the container may do: `--privileged`, capabilities, and `--security-opt`.

use crate::human::{self, printable};
use crate::options::capability::Capability;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::str::FromStr;

/// What the container may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Security {
    /// `--privileged`
    pub(crate) privileged: bool,
    /// `--cap-add`, in order.
    pub(crate) capabilities_added: Vec<Capability>,
    /// `--cap-drop`, in order.
    pub(crate) capabilities_dropped: Vec<Capability>,
    /// `--security-opt`, in order.
    pub(crate) options: Vec<SecurityOption>,
}

impl Security {
    pub(crate) fn check(&self) -> Result<()> {
        let has_all = |words: &[Capability]| words.iter().any(Capability::is_all);
        ensure!(
            !(has_all(&self.capabilities_added) && has_all(&self.capabilities_dropped)),
            "adding and dropping all capabilities at once makes no sense"
        );
        Ok(())
    }
}

/// One `--security-opt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SecurityOption {
    NoNewPrivileges(bool),
    Seccomp(SeccompProfile),
    /// No part of `/proc` and `/sys` is hidden or read-only.
    UnconfinedPaths,
    /// A profile of the host's, or `unconfined`.
    Apparmor(String),
    /// SELinux's.
    Label(String),
}

/// `--security-opt seccomp=…`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SeccompProfile {
    Builtin,
    Unconfined,
    /// Not read yet.
    File(PathBuf),
    /// What was in the file: it may be another, or none, when the container starts again.
    Text {
        file: PathBuf,
        text: String,
    },
}

impl FromStr for SecurityOption {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        // `:` is Docker's older way to write it.
        let parts = text.split_once('=').or_else(|| text.split_once(':'));
        let shown = printable(text);
        Ok(match parts.unwrap_or((text, "")) {
            ("no-new-privileges", "") if !text.ends_with(['=', ':']) => Self::NoNewPrivileges(true),
            ("no-new-privileges", value) => {
                let value = human::parse_boolean(value).with_context(|| {
                    format!("invalid --security-opt `{shown}`: it is either `true` or `false`")
                })?;
                Self::NoNewPrivileges(value)
            }
            ("seccomp", "builtin") => Self::Seccomp(SeccompProfile::Builtin),
            ("seccomp", "unconfined") => Self::Seccomp(SeccompProfile::Unconfined),
            ("seccomp", file) if !file.is_empty() => {
                Self::Seccomp(SeccompProfile::File(file.into()))
            }
            ("systempaths", "unconfined") => Self::UnconfinedPaths,
            ("apparmor", profile) if !profile.is_empty() => Self::Apparmor(profile.to_owned()),
            ("label", label) if !label.is_empty() => Self::Label(label.to_owned()),
            ("writable-cgroups" | "mask" | "unmask" | "proc-opts", _) => {
                bail!("`--security-opt {shown}` is not there yet")
            }
            _ => bail!(
                "invalid --security-opt `{shown}`: there are `seccomp=FILE|unconfined|builtin`, `no-new-privileges`, \
                 `systempaths=unconfined`, `apparmor=PROFILE` and `label=LABEL`"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_dockers_in_both_spellings() {
        use SecurityOption::{Apparmor, Label, NoNewPrivileges, Seccomp, UnconfinedPaths};
        for (text, expected) in [
            ("no-new-privileges", NoNewPrivileges(true)),
            ("no-new-privileges:true", NoNewPrivileges(true)),
            ("no-new-privileges=0", NoNewPrivileges(false)),
            ("seccomp:unconfined", Seccomp(SeccompProfile::Unconfined)),
            ("seccomp=builtin", Seccomp(SeccompProfile::Builtin)),
            (
                "seccomp=a=b:c",
                Seccomp(SeccompProfile::File("a=b:c".into())),
            ),
            ("systempaths=unconfined", UnconfinedPaths),
            ("apparmor=unconfined", Apparmor("unconfined".to_owned())),
            ("label=disable", Label("disable".to_owned())),
        ] {
            assert_eq!(text.parse::<SecurityOption>().unwrap(), expected, "{text}");
        }
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
            let error = option.parse::<SecurityOption>().unwrap_err().to_string();
            assert!(error.contains(option), "{option}: {error}");
        }
    }
}
