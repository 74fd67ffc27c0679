//! The limits of a single process (setrlimit(2)), which the command and all that it starts inherit.

use crate::runtime::failure::StartError;
use crate::sys::limit::restore_descriptors;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Sets `limits`. All were asked for: one that cannot be reached is an error.
///
/// What was raised for this process itself is taken back first.
pub(crate) fn set(limits: &[(Resource, Rlimit)]) -> Result<(), StartError> {
    // Where that fails there is more, which is no reason not to start.
    restore_descriptors().ok();
    for (resource, limit) in limits {
        let (resource, limit) = (*resource, *limit);
        setrlimit(resource, limit).map_err(|error| {
            let words = |bound: Option<u64>| bound.map_or("unlimited".into(), |n| n.to_string());
            let now = getrlimit(resource).maximum;
            StartError::Unenforceable {
                message: format!(
                    "cannot set the limit `{}` to {}, as the hard limit here is {}: {error}",
                    format!("{resource:?}").to_lowercase(),
                    words(limit.maximum),
                    words(now)
                ),
                cure: Some(cure(resource, limit.maximum)),
            }
        })?;
    }
    Ok(())
}

fn cure(resource: Resource, wanted: Option<u64>) -> String {
    let most = (resource == Resource::Nofile).then(files_at_most).flatten();
    match most {
        Some(most) if wanted.is_none_or(|wanted| wanted > most) => {
            format!("the kernel lets no process open more than {most} files (`fs.nr_open`)")
        }
        _ => "raising it takes CAP_SYS_RESOURCE, which `sudo ddock run …` has on most machines: ask for less"
            .to_owned(),
    }
}

fn files_at_most() -> Option<u64> {
    let text = fs_err::read_to_string("/proc/sys/fs/nr_open").ok()?;
    text.trim().parse().ok()
}
