//! The facts of a start's steps, for `--explain`.

use crate::narration::Step;
use crate::runtime::cgroup::Cgroup;
use crate::runtime::options::Options;
use crate::runtime::plan::{Command, Mount, Node, Plan};
use crate::runtime::seccomp::Filter;
use nix::sched::CloneFlags;
use std::ffi::CString;

/// Every namespace that a container can have, as namespaces(7) names them.
const NAMESPACES: [(CloneFlags, &str); 6] = [
    (CloneFlags::CLONE_NEWPID, "pid"),
    (CloneFlags::CLONE_NEWNS, "mount"),
    (CloneFlags::CLONE_NEWUTS, "uts"),
    (CloneFlags::CLONE_NEWIPC, "ipc"),
    (CloneFlags::CLONE_NEWNET, "network"),
    (CloneFlags::CLONE_NEWCGROUP, "cgroup"),
];

/// Tells of this process, which was just cloned: `/proc` is still the host's.
pub(crate) fn clone(plan: &Plan) -> Step {
    let joined = plan.joined.iter().map(|namespace| namespace.kind);
    let joined = joined.fold(CloneFlags::empty(), CloneFlags::union);
    let pid = rustix::fs::readlink("/proc/self", Vec::new());
    let (new, shared) = NAMESPACES
        .iter()
        .filter(|(flag, _)| !joined.contains(*flag))
        .partition::<Vec<_>, _>(|(flag, _)| plan.namespaces.contains(*flag));
    let names = |of: Vec<&(CloneFlags, &str)>| of.iter().map(|(_, name)| (*name).into()).collect();
    Step::Clone {
        // A host without `/proc` has no name for it to tell.
        pid: pid.map_or_else(|_| "?".into(), |pid| pid.to_string_lossy().into_owned()),
        namespaces: names(new),
        shared: names(shared),
        joined: plan
            .joined
            .iter()
            .map(|namespace| namespace.path.display().to_string())
            .collect(),
    }
}

pub(crate) fn cgroup(cgroup: &Cgroup) -> Step {
    Step::Cgroup {
        directories: cgroup
            .directories()
            .map(|directory| directory.display().to_string())
            .collect(),
        values: cgroup.values(),
    }
}

pub(crate) fn mount(mount: &Mount) -> Step {
    Step::Mount {
        target: mount.target.display().to_string(),
        kind: if mount.options.bind.is_some() {
            "bind".into()
        } else {
            mount.kind.clone()
        },
        source: mount.source.display().to_string(),
        options: options(&mount.options),
    }
}

/// Returns the options in the order of the kernel's bits, the file system's own last.
fn options(options: &Options) -> String {
    let names = options.flags.iter_names().map(|(name, _)| match name {
        "RDONLY" => "ro".to_owned(),
        name => name.to_ascii_lowercase(),
    });
    let own = (!options.data.is_empty()).then(|| options.data.clone());
    let mapped = options.idmap.map(|_| "idmap".to_owned());
    names.chain(mapped).chain(own).collect::<Vec<_>>().join(",")
}

pub(crate) fn devices(nodes: &[Node]) -> Step {
    Step::Devices {
        nodes: nodes
            .iter()
            .map(|node| node.path.display().to_string())
            .collect(),
    }
}

pub(crate) fn directory(command: &Command) -> Step {
    Step::Directory {
        path: command.directory.display().to_string(),
    }
}

pub(crate) fn capabilities(command: &Command) -> Step {
    let kept = command.capabilities.bounding;
    Step::Capabilities {
        kept: kept
            .iter_names()
            .map(|(name, _)| name.to_ascii_lowercase())
            .collect(),
    }
}

pub(crate) fn user(command: &Command) -> Step {
    Step::User {
        uid: command.uid,
        gid: command.gid,
        groups: command.groups.clone(),
    }
}

pub(crate) fn filter(filter: &Filter) -> Step {
    Step::Filter {
        instructions: filter.length(),
    }
}

pub(crate) fn exec(command: &Command) -> Step {
    let text = |argument: &CString| argument.to_string_lossy().into_owned();
    Step::Exec {
        arguments: command.arguments.iter().map(text).collect(),
    }
}
