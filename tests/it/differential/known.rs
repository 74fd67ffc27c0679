//! Differences that are meant, each with its reason.

use super::view::Difference;
use crate::harness::peer::Kind;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Something that one side finds and the other does not.
struct Known {
    peers: &'static [Kind],
    /// Every case whose name begins with this.
    case: &'static str,
    side: Side,
    /// The fact begins with this, or with any of several between bars.
    fact: &'static str,
    /// Read by people, and printed when the difference is gone.
    reason: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Ours,
    Theirs,
    Both,
}

use Side::{Both, Ours, Theirs};

const DOCKER: &[Kind] = &[Kind::Docker];
const PODMAN: &[Kind] = &[Kind::Podman];
const RUNC: &[Kind] = &[Kind::Runc];
const BOTH: &[Kind] = &[Kind::Docker, Kind::Podman];
const ALL: &[Kind] = &[Kind::Docker, Kind::Podman, Kind::Runc];

#[rustfmt::skip]
const KNOWN: &[Known] = &[
    // What an old Docker does not do yet, or a newer one does as we do.
    known(DOCKER, "", Both, "hosts f", "Docker 20.10 writes `fe00::0`, a newer one `fe00::`"),
    known(BOTH, "", Both, "mount /proc/interrupts", "hidden by Docker since 28"),
    known(BOTH, "", Theirs, "hidden /proc/interrupts", "hidden by Docker since 28"),
    known(DOCKER, "privileged user", Both, "status CapBnd", "Docker 20.10 does not know the newest capabilities"),
    known(DOCKER, "all capabilities for a user", Both, "status CapBnd", "Docker 20.10 does not know the newest capabilities"),

    // Where ddock is stricter.
    known(DOCKER, "", Both, "mount / overlay", "runc leaves the root a slave of the host's mounts, ours is private"),
    known(DOCKER, "", Both, "mount /declared", "Docker's volumes are slaves of its directory's mount, ours are private"),
    known(DOCKER, "volume", Both, "mount /data |mount /anonymous |mount /other ", "Docker's volumes are slaves of its directory's mount, ours are private"),
    known(DOCKER, "mounts", Both, "mount /data |mount /anonymous ", "Docker's volumes are slaves of its directory's mount, ours are private"),
    known(DOCKER, "ipc of the host", Both, "mount /dev/shm", "what is shared of the host's can do no more than the container's own: no programs"),
    known(ALL, "", Both, "mount /proc/acpi", "what hides something can do nothing else either: no devices, no programs"),
    known(ALL, "", Both, "mount /sys/firmware", "what hides something can do nothing else either: no devices, no programs"),
    known(BOTH, "", Both, "namespace cgroup", "its cgroup is the top of them all on v1 too, so that it sees no host path"),
    known(ALL, "", Both, "mount /sys/fs/cgroup ", "the directory above the hierarchies is read-only, and no larger than it must be"),
    known(ALL, "", Theirs, "mount /sys/fs/cgroup/", "only hierarchies that hold a limit are joined and shown: each costs the start 100 µs"),
    known(ALL, "", Theirs, "cgroup ", "only hierarchies that hold a limit are joined and shown: each costs the start 100 µs"),
    known(BOTH, "cgroups of the host", Both, "memory:", "only hierarchies that hold a limit are joined"),
    known(BOTH, "weight of a disk", Both, "exit code", "a limit that the kernel cannot keep is refused, not dropped"),
    known(BOTH, "impossible weight", Both, "exit code", "a limit that cannot be is refused, not dropped"),
    known(BOTH, "kept", Ours, "inspect /Config/Labels", "they drop a label without a value in a file"),
    known(BOTH, "kept", Theirs, "inspect /Config/Labels", "they drop a label without a value in a file"),

    // What only ddock does.
    known(BOTH, "memory", Ours, "mount /proc/", "`/proc` tells of the limits: --proc"),
    known(BOTH, "cpus", Ours, "mount /proc/|mount /sys/devices/", "`/proc` and `/sys` tell of the limits: --proc"),
    known(BOTH, "processor time", Ours, "mount /proc/|mount /sys/devices/", "`/proc` and `/sys` tell of the limits: --proc"),

    // Ways to say the same.
    known(ALL, "", Both, "status SigIgn", "their programs leave signal 32 ignored, Go's own"),
    known(BOTH, "tmpfs on a directory", Both, "mount /data |mount /private |mount /home/alice ", "the same mode, but theirs is no option of the mount"),
    known(BOTH, "pid of another", Both, "pid ", "runc's own processes had the numbers in between"),
    known(DOCKER, "init", Both, "pid ", "runc's own processes had the numbers in between"),
    known(DOCKER, "init", Both, "first ", "our init is ddock itself"),
    known(DOCKER, "init", Theirs, "mount /sbin/docker-init", "our init is ddock itself"),
    known(BOTH, "kept", Both, "inspect /HostConfig/LogConfig", "ours are bytes, with the number of files"),

    // Where Docker has a way of its own, and podman's is ours.
    known(DOCKER, "all capabilities", Both, "", "Docker 20.10 fails where it cannot have every capability that it knows"),
    known(DOCKER, "all but one capability", Both, "", "Docker 20.10 fails where it cannot have every capability that it knows"),
    known(DOCKER, "privileged", Both, "", "Docker 20.10 fails where it cannot have every capability that it knows"),
    known(DOCKER, "uts of the host", Both, "env HOSTNAME", "Docker tells of a name that is not the host's"),
    known(DOCKER, "uts of the host", Both, "hostname ID", "Docker tells of a name that is not the host's"),
    known(DOCKER, "device that is not there", Both, "exit code", "Docker takes whatever is not there for the command"),

    // Where podman goes ways of its own, and Docker's are ours: what it marks,
    known(PODMAN, "", Theirs, "env TERM=xterm", "podman sets it without a terminal too"),
    known(PODMAN, "", Theirs, "env container=podman", "podman's mark"),
    known(PODMAN, "", Theirs, "file /run", "podman's mark lies there"),
    known(PODMAN, "", Theirs, "mount /run/.containerenv", "podman's mark"),
    known(PODMAN, "", Ours, "file /.dockerenv", "Docker's mark, which programs look for"),
    // in general,
    known(PODMAN, "", Both, "hosts ", "podman takes the host's file and adds names of its own"),
    known(PODMAN, "", Both, "cgroup pids/pids.max", "podman limits processes to 2048, Docker does not"),
    known(PODMAN, "", Both, "cgroup devices/devices.list", "podman does not open /dev/console to a command without a terminal"),
    known(PODMAN, "", Both, "sysctl net/ipv4/", "every port and ping are everybody's, as under Docker"),
    known(PODMAN, "", Both, "file / ", "podman's root is 0555, Docker's 0755"),
    known(PODMAN, "", Both, "id uid=", "podman leaves the own group out of the further ones, and adds users to passwd"),
    known(PODMAN, "", Both, "status Groups", "podman leaves the own group out of the further ones"),
    known(PODMAN, "", Both, "limit Max ", "podman sets limits, as low here as this machine's root can have"),
    known(PODMAN, "", Both, "mount /dev ", "podman's /dev is noexec"),
    known(PODMAN, "", Both, "mount /proc/keys", "podman's /dev is noexec, and what is hidden lies behind its null"),
    known(PODMAN, "", Both, "mount /proc/timer_list", "podman's /dev is noexec, and what is hidden lies behind its null"),
    known(PODMAN, "", Both, "mount /dev/shm", "podman's 64 MB are decimal, Docker's 64 MiB"),
    known(PODMAN, "", Theirs, "mount /sys/dev/block", "hidden by podman only"),
    known(PODMAN, "", Ours, "mount /etc/resolv.conf|resolv.conf", "podman makes none without a network"),
    known(PODMAN, "servers without a network", Both, "exit code", "podman refuses them, under Docker they are merely of no use"),
    // what is mounted,
    known(PODMAN, "", Both, "mount /declared", "podman's volumes may hold neither devices nor setuid programs"),
    known(PODMAN, "volume", Both, "mount /data |mount /anonymous |mount /other ", "podman's volumes may hold neither devices nor setuid programs"),
    known(PODMAN, "volume without", Both, "file /data ", "podman takes the mode of the image's directory even so"),
    known(PODMAN, "mounts", Both, "mount /data |mount /anonymous |mount /t ", "podman's volumes may hold neither devices nor setuid programs; its tmpfs may run programs"),
    known(PODMAN, "read-only root", Both, "mount /etc/host", "podman adds restrictions"),
    known(PODMAN, "read-only root", Theirs, "mount /run |mount /tmp |mount /var/tmp ", "podman makes /run, /tmp and /var/tmp writable; ours: --read-only-tmpfs"),
    known(PODMAN, "tmpfs", Both, "mount /run |mount /t |mount /data |mount /private |mount /home/alice ", "podman's tmpfs may run programs, Docker's not"),
    known(PODMAN, "tmpfs on a directory", Theirs, "file /data/file", "podman copies the image's files into a tmpfs"),
    known(PODMAN, "image's volume in memory", Theirs, "file /declared/file", "podman copies the image's files into a tmpfs"),
    known(PODMAN, "directory under an overlay", Both, "mount / ", "podman's may hold no devices; ours are kept away like an image's"),
    known(PODMAN, "umask and zone", Both, "mount /etc/localtime", "podman copies the zone, ours is the host's own file, read-only"),
    known(PODMAN, "workdir", Both, "", "podman does not make the directory"),
    known(PODMAN, "cgroups of the host", Both, "devices:", "podman writes `libpod-` before the ID"),
    // what it is told,
    known(PODMAN, "environment of the caller", Both, "env ", "the callers are not the same, and podman's `PATH` is not the image's but the caller's"),
    known(PODMAN, "environment emptied", Theirs, "env HO", "podman sets HOSTNAME all the same, and runc HOME"),
    known(PODMAN, "terminal", Theirs, "/probe: ", "podman makes no resolv.conf without a network"),
    known(PODMAN, "all capabilities for a user", Both, "status Cap", "podman gives a user the added capabilities, Docker none"),
    // how it ends,
    known(PODMAN, "entrypoint without arguments", Both, "uid=", "podman leaves the own group out of the further ones"),
    known(PODMAN, "terminal for no terminal", Both, "", "podman takes an input that is no terminal for one"),
    known(PODMAN, "left running and attached", Both, "", "podman leaves it running"),
    known(PODMAN, "name taken over", Theirs, "name-taken-over", "podman prints what it removes, among what the command prints"),
    known(PODMAN, "unknown user", Both, "exit code", "podman: 126 for what is not the command's fault"),
    known(PODMAN, "unknown group", Both, "exit code", "podman: 126 for what is not the command's fault"),
    known(PODMAN, "impossible user", Both, "exit code", "podman: 126 for what is not the command's fault"),
    known(PODMAN, "impossible score", Both, "exit code", "podman: 126 for what is not the command's fault"),
    known(PODMAN, "relative workdir", Both, "exit code", "podman: 126 for what is not the command's fault"),
    known(PODMAN, "real-time scheduling", Both, "exit code", "podman: 126 for what is not the command's fault"),
    known(PODMAN, "bind of a file on a directory", Both, "exit code", "podman: 126 for what is not the command's fault"),
    known(PODMAN, "too little memory", Both, "exit code", "podman: 126 for what is not the command's fault"),
    known(PODMAN, "too many cpus", Both, "exit code", "podman takes what cannot be"),
    // and what it tells afterwards.
    known(PODMAN, "kept", Both, "inspect /Config/StopSignal", "podman tells numbers, Docker names"),
    known(PODMAN, "kept by default", Both, "inspect /Args", "podman counts the program among its arguments"),
    known(PODMAN, "annotation", Both, "inspect ", "podman has them elsewhere than Docker"),

    // What a bundle says and does not.
    known(RUNC, "", Ours, "file /.dockerenv", "made in the container's own directory, not by the bundle"),
    known(RUNC, "", Ours, "file /etc/mtab", "made in the container's own directory, not by the bundle"),
    known(RUNC, "", Both, "mount / ", "runc is given a plain directory, not an overlay"),
    known(RUNC, "environment emptied", Theirs, "env HOME", "runc sets it where it is missing"),
    known(RUNC, "domainname", Both, "domainname ", "runc 1.1.5 does not know it yet"),
];

const fn known(
    peers: &'static [Kind],
    case: &'static str,
    side: Side,
    fact: &'static str,
    reason: &'static str,
) -> Known {
    Known {
        peers,
        case,
        side,
        fact,
        reason,
    }
}

impl Known {
    fn explains(&self, peer: Kind, case: &str, difference: &Difference) -> bool {
        let side = if difference.is_ours { Ours } else { Theirs };
        self.peers.contains(&peer)
            && case.starts_with(self.case)
            && (self.side == Both || self.side == side)
            && self
                .fact
                .split('|')
                .any(|fact| difference.fact.starts_with(fact))
    }
}

/// What was found of one peer, against what is known.
pub(crate) struct Ledger {
    peer: Kind,
    used: BTreeSet<usize>,
    unexplained: String,
}

impl Ledger {
    pub(crate) fn new(peer: Kind) -> Ledger {
        Ledger {
            peer,
            used: BTreeSet::new(),
            unexplained: String::new(),
        }
    }

    pub(crate) fn enter(&mut self, case: &str, difference: &Difference) {
        let all = KNOWN.iter().enumerate();
        let explaining = all.filter(|(_, known)| known.explains(self.peer, case, difference));
        let explaining: Vec<usize> = explaining.map(|(index, _)| index).collect();
        if explaining.is_empty() {
            writeln!(self.unexplained, "{case}: {difference}").unwrap();
        }
        self.used.extend(explaining);
    }

    /// Returns what no entry explains, and the entries that explain nothing.
    pub(crate) fn unexplained(mut self) -> String {
        let all = KNOWN.iter().enumerate();
        let stale = all.filter(|(index, known)| {
            known.peers.contains(&self.peer) && !self.used.contains(index)
        });
        for (
            _,
            Known {
                case, fact, reason, ..
            },
        ) in stale
        {
            writeln!(
                self.unexplained,
                "no longer a difference: {case:?} {fact:?}: {reason}"
            )
            .unwrap();
        }
        self.unexplained
    }
}
