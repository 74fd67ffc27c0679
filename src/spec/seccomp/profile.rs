//! A seccomp profile in Docker's format, and what of it holds for one container.

use crate::runtime;
use crate::spec::capabilities::Names;
use crate::spec::seccomp::{Facts, version};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

/// <https://docs.docker.com/engine/security/seccomp/>; what of it an OCI spec has too goes there as it is.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: Option<String>,
    default_errno_ret: Option<u32>,
    /// Written out; Docker takes either this or `archMap`.
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<Architecture>>,
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    syscalls: Option<Vec<Rule>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Architecture {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    /// Older profiles name one.
    #[serde(default)]
    name: String,
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<Value>>,
    includes: Option<Condition>,
    excludes: Option<Condition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    caps: Option<Vec<String>>,
    /// In Go's words: `amd64`, `arm64` …
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// Returns `linux.seccomp` of the spec; none if the profile is empty, which Docker takes for unconfined.
pub(super) fn evaluate(text: &str, capabilities: &Names, facts: Facts) -> Result<Option<Value>> {
    let profile: Profile = serde_json::from_str(text)?;
    let all = profile.syscalls.as_deref().unwrap_or_default();
    let default = match profile.default_action.as_deref() {
        None | Some("") if all.is_empty() => return Ok(None),
        None | Some("") => bail!("`defaultAction` is missing"),
        Some(default) => default,
    };
    ensure!(
        profile
            .listener_path
            .as_deref()
            .unwrap_or_default()
            .is_empty(),
        "`listenerPath` is not there yet"
    );
    let mut rules = Vec::new();
    for rule in all {
        if rule.applies(capabilities, facts)? {
            rules.push(rule.to_json()?);
        }
    }
    let mut filter = json!({
        "defaultAction": default,
        "architectures": profile.architectures(facts)?,
        "syscalls": rules,
    });
    if let Some(errno) = profile.default_errno_ret {
        filter["defaultErrnoRet"] = json!(errno);
    }
    if let Some(flags) = profile.flags {
        filter["flags"] = json!(flags);
    }
    // What is no OCI word, or cannot be compiled, is found here, where the file can be named.
    runtime::Filter::compile(&filter.to_string())?;
    Ok(Some(filter))
}

impl Profile {
    fn architectures(&self, facts: Facts) -> Result<Vec<String>> {
        let written = self.architectures.as_deref().unwrap_or_default();
        let map = self.arch_map.as_deref().unwrap_or_default();
        ensure!(
            written.is_empty() || map.is_empty(),
            "both `architectures` and `archMap` are there, use one of them"
        );
        let native = facts.machine.architectures()[0];
        let Some(entry) = map.iter().find(|entry| entry.architecture == native) else {
            return Ok(written.to_vec());
        };
        let others = entry.sub_architectures.iter().flatten().cloned();
        Ok(std::iter::once(native.to_owned()).chain(others).collect())
    }
}

impl Rule {
    fn applies(&self, capabilities: &Names, facts: Facts) -> Result<bool> {
        let included = match &self.includes {
            Some(condition) => condition.holds(capabilities, facts)?,
            None => true,
        };
        let excluded = match &self.excludes {
            Some(condition) => condition.hits(capabilities, facts)?,
            None => false,
        };
        Ok(included && !excluded)
    }

    fn to_json(&self) -> Result<Value> {
        let names = match (
            self.name.as_str(),
            self.names.as_deref().unwrap_or_default(),
        ) {
            ("", names) => names,
            (_, []) => std::slice::from_ref(&self.name),
            _ => bail!("both `name` and `names` are there, use one of them"),
        };
        ensure!(
            !names.is_empty() && names.iter().all(|name| !name.is_empty()),
            "a rule has no `names`, or an empty one"
        );
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
    /// As `includes`: every capability, one of the machines, the kernel at least.
    fn holds(&self, capabilities: &Names, facts: Facts) -> Result<bool> {
        let mut caps = self.caps.iter().flatten();
        let machines = self.arches.as_deref().unwrap_or_default();
        Ok(caps.all(|name| capabilities.contains(name.as_str()))
            && (machines.is_empty() || names(machines, facts))
            && self.is_kernel_enough(facts)?.unwrap_or(true))
    }

    /// As `excludes`: any of the capabilities or machines, or the kernel.
    fn hits(&self, capabilities: &Names, facts: Facts) -> Result<bool> {
        let mut caps = self.caps.iter().flatten();
        Ok(caps.any(|name| capabilities.contains(name.as_str()))
            || names(self.arches.as_deref().unwrap_or_default(), facts)
            || self.is_kernel_enough(facts)?.unwrap_or(false))
    }

    /// None if no kernel is named.
    fn is_kernel_enough(&self, facts: Facts) -> Result<Option<bool>> {
        let Some(text) = &self.min_kernel else {
            return Ok(None);
        };
        let minimum = version(text).with_context(|| format!("`{text}` is no kernel version"))?;
        Ok(Some(facts.kernel >= minimum))
    }
}

fn names(machines: &[String], facts: Facts) -> bool {
    machines
        .iter()
        .any(|machine| machine == facts.machine.in_go())
}
