//! `U`: what of the host becomes the property of the container's user.

use crate::options::Content;
use crate::spec::gather::Wanted;
use crate::spec::subject::Subject;
use crate::spec::user::User;

use crate::store;
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};

/// Directories that no container is given: the machine would not be the same. As podman has it.
const NEVER: [&str; 23] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/etc/passwd",
    "/etc/pki",
    "/etc/shadow",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
    "/var/lib",
];

/// Files of the host to be handed over before the container starts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) source: PathBuf,
    /// As this process sees them.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Returns what is to be handed over, or refuses to.
pub(super) fn plan(wanted: &[Wanted], subject: &Subject, user: &User) -> Result<Vec<Given>> {
    let given = wanted.iter().filter(|wanted| wanted.options.given);
    let sources = given.filter_map(|wanted| match &wanted.options.content {
        Content::Bind(bind) => Some(bind.source.clone()),
        Content::Volume(_) => {
            let name = wanted.volume.as_ref()?;
            Some(store::volume_data(&subject.volumes, name))
        }
        Content::Tmpfs(_) | Content::Image(_) => None,
    });
    let (uid, gid) = (user.uid, user.gid);
    sources
        .map(|source| {
            refuse_the_machines(&source)?;
            Ok(Given { source, uid, gid })
        })
        .collect()
}

fn refuse_the_machines(source: &Path) -> Result<()> {
    // What is not there yet is made, and then it is nothing of the machine's.
    let Ok(real) = fs_err::canonicalize(source) else {
        return Ok(());
    };
    ensure!(
        !NEVER.iter().any(|path| real == Path::new(path)),
        "`U` would hand `{}` over to the container's user, and the machine needs it as it is",
        real.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_needs_is_not_given_by_any_name() {
        for path in [
            "/",
            "/etc",
            "/etc/../usr",
            "/proc/self/root",
            "/proc/self/root/tmp",
        ] {
            assert!(refuse_the_machines(Path::new(path)).is_err(), "{path}");
        }
        for path in ["/usr/local", "/absent"] {
            assert!(refuse_the_machines(Path::new(path)).is_ok(), "{path}");
        }
    }
}
