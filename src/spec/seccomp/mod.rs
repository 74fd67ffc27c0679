//! A seccomp profile in Docker's format, and what of it holds for one container.

use crate::spec::capabilities::Names;
use crate::spec::security::Profile as Choice;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

/// Docker's default profile: what a container may call, by architecture, capability and kernel.
const DEFAULT: &str = include_str!("default.json");

/// <https://docs.docker.com/engine/security/seccomp/>; what of it an OCI spec has too goes there as it is.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    /// Written out; Docker takes either this or `archMap`.
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<Architecture>>,
    flags: Option<Vec<String>>,
    #[serde(default)]
    syscalls: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Architecture {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    /// Older profiles name one.
    name: Option<String>,
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<Value>>,
    #[serde(default)]
    includes: Condition,
    #[serde(default)]
    excludes: Condition,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    caps: Option<Vec<String>>,
    /// In Go's words: `amd64`, `arm64` …
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// Returns `linux.seccomp` of the spec for a command with `capabilities`; none if it is unconfined.
pub(super) fn build(choice: Option<&Choice>, capabilities: &Names) -> Result<Option<Value>> {
    let kernel = rustix::system::uname();
    let kernel = version(&kernel.release().to_string_lossy())
        .context("the kernel's release is no version")?;
    let filter = match choice {
        Some(Choice::Unconfined) => return Ok(None),
        None | Some(Choice::Builtin) => evaluate(DEFAULT, capabilities, kernel)?,
        Some(Choice::File(path)) => {
            let text = fs_err::read_to_string(path).context("opening the seccomp profile")?;
            evaluate(&text, capabilities, kernel)
                .with_context(|| format!("invalid seccomp profile `{}`", path.display()))?
        }
    };
    Ok(Some(filter))
}

fn evaluate(text: &str, capabilities: &Names, kernel: (u32, u32)) -> Result<Value> {
    let profile: Profile = serde_json::from_str(text)?;
    let mut rules = Vec::new();
    for rule in &profile.syscalls {
        if rule.includes.holds(capabilities, kernel)? && !rule.excludes.hits(capabilities)? {
            rules.push(rule.to_json()?);
        }
    }
    let mut filter = json!({
        "defaultAction": profile.default_action,
        "architectures": profile.architectures()?,
        "syscalls": rules,
    });
    if let Some(errno) = profile.default_errno_ret {
        filter["defaultErrnoRet"] = json!(errno);
    }
    if let Some(flags) = profile.flags {
        filter["flags"] = json!(flags);
    }
    // What is no OCI word is found here, where the file can be named.
    oci_spec::runtime::LinuxSeccomp::deserialize(&filter)?;
    Ok(filter)
}

impl Profile {
    fn architectures(&self) -> Result<Vec<String>> {
        match (&self.architectures, &self.arch_map) {
            (Some(_), Some(_)) => bail!("use either `architectures` or `archMap`"),
            (Some(architectures), None) => Ok(architectures.clone()),
            (None, None) => Ok(Vec::new()),
            (None, Some(map)) => {
                let native = if cfg!(target_arch = "aarch64") {
                    "SCMP_ARCH_AARCH64"
                } else {
                    "SCMP_ARCH_X86_64"
                };
                let found = map.iter().find(|entry| entry.architecture == native);
                Ok(found.map_or_else(Vec::new, |entry| {
                    let others = entry.sub_architectures.iter().flatten().cloned();
                    std::iter::once(native.to_owned()).chain(others).collect()
                }))
            }
        }
    }
}

impl Rule {
    fn to_json(&self) -> Result<Value> {
        let names = match (&self.name, &self.names) {
            (Some(name), None) => std::slice::from_ref(name),
            (None, Some(names)) => names,
            _ => bail!("a rule needs either `name` or `names`"),
        };
        let mut rule = json!({ "names": names, "action": self.action });
        if let Some(errno) = self.errno_ret {
            rule["errnoRet"] = json!(errno);
        }
        if let Some(arguments) = self.args.as_ref().filter(|arguments| !arguments.is_empty()) {
            rule["args"] = json!(arguments);
        }
        Ok(rule)
    }
}

impl Condition {
    /// As `includes`: every capability, one of the architectures, the kernel at least.
    fn holds(&self, capabilities: &Names, kernel: (u32, u32)) -> Result<bool> {
        let minimum = match &self.min_kernel {
            Some(text) => {
                version(text).with_context(|| format!("`{text}` is no kernel version"))?
            }
            None => (0, 0),
        };
        let caps = self.caps.iter().flatten();
        let is_here = self
            .arches
            .as_ref()
            .is_none_or(|names| names.is_empty() || is_native(names));
        Ok(kernel >= minimum
            && is_here
            && caps
                .into_iter()
                .all(|name| capabilities.contains(name.as_str())))
    }

    /// As `excludes`: any of the capabilities or architectures. Docker knows no kernel here.
    fn hits(&self, capabilities: &Names) -> Result<bool> {
        if self.min_kernel.is_some() {
            bail!("`minKernel` cannot be excluded");
        }
        let mut caps = self.caps.iter().flatten();
        let is_here = self.arches.as_ref().is_some_and(|names| is_native(names));
        Ok(is_here || caps.any(|name| capabilities.contains(name.as_str())))
    }
}

fn is_native(names: &[String]) -> bool {
    let native = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    names.iter().any(|name| name == native)
}

/// Returns `4.8` and `4.8.0-1-amd64` as (4, 8).
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests;
