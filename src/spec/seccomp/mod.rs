//! Which system calls a container may make: the choice of a profile, and what of it holds for one container.

mod builtin;
mod profile;

use crate::options::SeccompProfile;
use crate::runtime;
use crate::spec::capabilities::Names;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use serde_json::value::RawValue;

/// What a profile depends on besides capabilities.
#[derive(Debug, Clone, Copy)]
struct Facts {
    machine: Machine,
    /// The kernel's version: major, minor.
    kernel: (u32, u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Machine {
    X86_64,
    Aarch64,
}

impl Machine {
    const NATIVE: Self = if cfg!(target_arch = "aarch64") {
        Self::Aarch64
    } else {
        Self::X86_64
    };

    /// What profiles call it in `includes` and `excludes`.
    fn in_go(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// Whose programs it runs, in the words of the OCI spec: its own first.
    fn architectures(self) -> &'static [&'static str] {
        match self {
            Self::X86_64 => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            Self::Aarch64 => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        }
    }
}

/// Returns `linux.seccomp` of the spec for a container with `capabilities`; none if it is unconfined.
pub(super) fn build(
    choice: &SeccompProfile,
    capabilities: &Names,
) -> Result<Option<Box<RawValue>>> {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    let facts = Facts {
        machine: Machine::NATIVE,
        kernel: version(&release)
            .with_context(|| format!("the kernel's release `{release}` is no version"))?,
    };
    match choice {
        SeccompProfile::Unconfined => Ok(None),
        SeccompProfile::Builtin if builtin::is_usual(capabilities, facts) => {
            let text = runtime::COMPILED_PROFILE.to_owned();
            Ok(Some(RawValue::from_string(text)?))
        }
        SeccompProfile::Builtin => lay_out(&builtin::filter(capabilities, facts)).map(Some),
        SeccompProfile::File(file) => {
            bail!("the seccomp profile `{}` was not read", file.display())
        }
        SeccompProfile::Text { file, text } => {
            let filter = profile::evaluate(text, capabilities, facts)
                .with_context(|| format!("invalid seccomp profile `{}`", file.display()))?;
            filter.as_ref().map(lay_out).transpose()
        }
    }
}

/// Writes a filter as far in as it stands in `config.json`.
fn lay_out(filter: &Value) -> Result<Box<RawValue>> {
    let text = serde_json::to_string_pretty(filter)?;
    Ok(RawValue::from_string(text.replace('\n', "\n    "))?)
}

/// Returns `4.8` and `4.8.0-1-amd64` as (4, 8).
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests;
