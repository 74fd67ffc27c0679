//! Name, network and kernel parameters: what new namespaces start without; and the first process's OOM score.

use crate::narration::{Step, tell};
use crate::runtime::failure::StartError;
use crate::runtime::plan::{Command, Plan};
use crate::sys::kernel;
use anyhow::{Context, Result};
use nix::sched::CloneFlags;
use std::io::{ErrorKind, Write as _};

/// How readily the kernel kills this process when memory runs out (proc(5)).
const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// Sets the name and the loopback of the namespaces of `plan`.
pub(crate) fn apply(plan: &Plan) -> Result<()> {
    if plan.namespaces.contains(CloneFlags::CLONE_NEWUTS) {
        nix::unistd::sethostname(&plan.hostname).context("setting the hostname")?;
        if let Some(name) = &plan.domain_name {
            rustix::system::setdomainname(name.as_bytes()).context("setting the domain name")?;
        }
        tell(|| Step::Hostname {
            name: plan.hostname.clone(),
        });
    }
    if plan.namespaces.contains(CloneFlags::CLONE_NEWNET) {
        kernel::loopback_up().context("bringing the loopback interface up")?;
        tell(|| Step::Loopback);
    }
    Ok(())
}

/// Sets the kernel parameters of `plan`, when the networks are connected: there are some for each link, and an address or a
/// route that is still to come may not be had any more where IPv6 is disabled.
pub(crate) fn set_parameters(plan: &Plan) -> Result<()> {
    for (name, value) in &plan.sysctls {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        // Nothing can be created there, and trying to would say so instead of what is wrong.
        let mut options = fs_err::OpenOptions::new();
        let written = options.write(true).open(path);
        written
            .and_then(|mut file| file.write_all(value.as_bytes()))
            .with_context(|| format!("setting the kernel parameter `{name}`"))?;
        tell(|| Step::Sysctl {
            name: name.clone(),
            value: value.clone(),
        });
    }
    Ok(())
}

/// Sets how readily the kernel kills the command when memory runs out.
pub(crate) fn set_oom_score(command: &Command) -> Result<()> {
    let Some(score) = command.oom_score else {
        // The caller's is nothing to the container; but who has no right to a lower one keeps it.
        fs_err::write(OOM_SCORE, "0").ok();
        return Ok(());
    };
    match fs_err::write(OOM_SCORE, score.to_string()) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Err(StartError::Unenforceable {
                message: format!("cannot lower the OOM score to {score}: {error}"),
                cure: Some("lowering it takes CAP_SYS_RESOURCE, which `sudo ddock run …` has on most machines: ask for 0 or more".to_owned()),
            }
            .into())
        }
        written => Ok(written?),
    }
}
