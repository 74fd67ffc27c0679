//! The command lines that are compared: between them they have every flag that Docker or podman has too.

use crate::harness::peer::Kind;

/// One command line, less what every one has.
///
/// Words that stand for others: `SOURCE` a directory of the host with some files, `OUT` an empty one of this run alone, `NAME` a name of
/// this case alone, `DISK` a block device, `PARENT` a cgroup of this test alone.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Who has these flags with these meanings.
    peers: &'static [Kind],
    pub(crate) flags: &'static [&'static str],
    /// Empty for the probe.
    command: &'static [&'static str],
    /// The flags of a container `NAME-donor` that runs meanwhile.
    donor: Option<&'static [&'static str]>,
    /// That of the directory which is there instead of the image, if one is.
    directory: Option<&'static str>,
    /// What `inspect` tells of the container afterwards, as JSON pointers.
    pub(crate) inspected: &'static [&'static str],
}

/// What the words of capitals stand for.
pub(crate) struct Place {
    pub(crate) image: String,
    /// A directory with the image's files.
    pub(crate) root: String,
    pub(crate) source: String,
    pub(crate) out: String,
    pub(crate) name: String,
    pub(crate) disk: String,
    pub(crate) parent: String,
}

impl Case {
    pub(crate) fn is_for(&self, peer: Kind) -> bool {
        match peer {
            // What is in a bundle can be told by its probe alone; an init and a terminal are not in it.
            Kind::Runc => {
                self.command.is_empty()
                    && !self.is_in_directory()
                    && self.donor.is_none()
                    && !self.flags.contains(&"-t")
                    && !self.flags.contains(&"--init")
            }
            peer => self.peers.contains(&peer),
        }
    }

    /// Returns the arguments for any of the programs; what is inspected is kept.
    pub(crate) fn words(&self, place: &Place, kept: bool) -> Vec<String> {
        let life: &[&str] = if kept { &["--name", "NAME"] } else { &["--rm"] };
        let words = ["run", "--network", "none"].iter().chain(life);
        let words = words.chain(self.flags).copied();
        let origin = match self.directory {
            Some(option) => format!("{}{option}", place.root),
            None => place.image.clone(),
        };
        let words = words.map(|word| place.fill(word)).chain([origin]);
        words
            .chain(self.command.iter().map(|word| place.fill(word)))
            .collect()
    }

    /// Returns the arguments that start the other container.
    pub(crate) fn donor(&self, place: &Place) -> Option<Vec<String>> {
        let before = ["run", "-d", "--network", "none", "--name", "NAME-donor"].iter();
        let words = before.chain(self.donor?).map(|word| place.fill(word));
        let after = [place.image.as_str(), "sleep", "1000"].map(str::to_owned);
        Some(words.chain(after).collect())
    }

    const fn of(self, peers: &'static [Kind]) -> Case {
        Case { peers, ..self }
    }

    const fn beside(self, donor: &'static [&'static str]) -> Case {
        Case {
            donor: Some(donor),
            ..self
        }
    }

    const fn in_directory(self, option: &'static str) -> Case {
        Case {
            directory: Some(option),
            ..self
        }
    }

    pub(crate) fn is_in_directory(&self) -> bool {
        self.directory.is_some()
    }

    const fn inspect(self, inspected: &'static [&'static str]) -> Case {
        Case { inspected, ..self }
    }
}

impl Place {
    fn fill(&self, word: &str) -> String {
        let word = word
            .replace("SOURCE", &self.source)
            .replace("OUT", &self.out);
        let word = word.replace("NAME", &self.name).replace("DISK", &self.disk);
        word.replace("PARENT", &self.parent)
    }
}

const DOCKER: &[Kind] = &[Kind::Docker];
const PODMAN: &[Kind] = &[Kind::Podman];

const fn probe(name: &'static str, flags: &'static [&'static str]) -> Case {
    run(name, flags, &[])
}

const fn run(
    name: &'static str,
    flags: &'static [&'static str],
    command: &'static [&'static str],
) -> Case {
    Case {
        name,
        peers: &[Kind::Docker, Kind::Podman],
        flags,
        command,
        donor: None,
        directory: None,
        inspected: &[],
    }
}

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    probe("plain", &[]),

    // The command and how it ends.
    run("exit code", &["--pull", "never"], &["sh", "-c", "echo out; echo err >&2; exit 7"]),
    run("killed", &[], &["sh", "-c", "kill -SEGV $$; sleep 1; exit 3"]),
    run("not found", &[], &["/absent"]),
    run("not found in the path", &[], &["absent"]),
    run("not executable", &[], &["/etc/passwd"]),
    run("a directory", &[], &["/etc"]),
    run("entrypoint", &["--entrypoint", "echo"], &["a", "b  c"]),
    run("entrypoint without arguments", &["--entrypoint", "id"], &[]),
    run("entrypoint reset", &["--entrypoint", ""], &["echo", "x"]),
    probe("terminal", &["-t"]),
    run("terminal for no terminal", &["-i", "-t"], &["true"]),
    run("input", &["-i"], &["cat"]),
    run("no input", &[], &["cat"]),
    run("one stream", &["-a", "stdout"], &["sh", "-c", "echo out; echo err >&2"]),
    run("left running", &["-d"], &["true"]),
    run("left running and attached", &["-d", "-a", "stdout"], &["true"]),
    run("unknown flag", &["--no-such-flag"], &["true"]),
    run("another platform", &["--platform", "linux/s390x"], &["true"]),
    run("time is over", &["--timeout", "1", "-q"], &["sleep", "1000"]).of(PODMAN),
    probe("init", &["--init"]).of(DOCKER),

    // Who it is.
    probe("named user", &["-u", "alice"]),
    probe("user and group", &["-u", "alice:wheel"]),
    probe("numbers without an entry", &["-u", "4000:5000"]),
    probe("number with an entry", &["-u", "1000"]),
    probe("further groups", &["-u", "alice", "--group-add", "staff", "--group-add", "77"]),
    run("unknown user", &["-u", "nobody-here"], &["true"]),
    run("impossible user", &["-u", "4294967296"], &["true"]),
    run("unknown group", &["--group-add", "no-such-group"], &["true"]),

    // What it is told.
    probe("environment", &[
        "-e", "A=b c", "-e", "FROM=flag", "-e", "HOME=/h", "-e", "ABSENT", "-e", "PASSED", "--env-file", "SOURCE/variables"
    ]),
    probe("environment of the caller", &["--env-host"]).of(PODMAN),
    probe("environment unset", &["--unsetenv", "FROM"]).of(PODMAN),
    probe("environment emptied", &["--unsetenv-all", "-e", "PATH=/bin"]).of(PODMAN),
    probe("environment merged", &["--env-merge", "PATH=${PATH}:/opt/bin"]).of(PODMAN),
    run("environment of no file", &["--env-file", "SOURCE/absent"], &["true"]),
    probe("workdir", &["-w", "/new/dir"]),
    run("relative workdir", &["-w", "new"], &["true"]),
    probe("umask and zone", &["--umask", "0077", "--tz", "Europe/Berlin"]).of(PODMAN),

    // Files.
    probe("read-only root", &["--read-only"]),
    probe("read-only root with tmpfs", &["--read-only", "--read-only-tmpfs"]).of(PODMAN),
    probe("tmpfs", &["--tmpfs", "/run", "--tmpfs", "/t:size=1m,exec", "--shm-size", "1m"]),
    probe("tmpfs on a directory of the image", &["--tmpfs", "/data", "--tmpfs", "/private", "--mount", "type=tmpfs,dst=/home/alice"]),
    probe("bind", &["-v", "SOURCE:/in", "-v", "SOURCE:/ro:ro", "-v", "OUT:/out-of-there"]),
    probe("bind through a symlink", &["-v", "SOURCE:/out/there"]),
    run("bind of a file on a directory", &["-v", "SOURCE/file:/data"], &["true"]),
    run("bind of what is not there", &["--mount", "type=bind,src=SOURCE/absent,dst=/in"], &["true"]),
    run("bind to a relative path", &["-v", "SOURCE:in"], &["true"]),
    run("two on one place", &["-v", "SOURCE:/in", "-v", "OUT:/in"], &["true"]),
    probe("volumes", &["-v", "NAME-one:/data", "-v", "/anonymous", "-v", "NAME-two:/other:ro"]),
    probe("volumes of a driver", &["--volume-driver", "local", "-v", "NAME-one:/data"]).of(DOCKER),
    run("volumes of an unknown driver", &["--volume-driver", "nope", "-v", "NAME-one:/data"], &["true"]).of(DOCKER),
    probe("volume without the image's files", &["-v", "NAME-one:/data:nocopy"]),
    probe("mounts", &[
        "--mount", "type=bind,src=SOURCE,dst=/in,readonly", "--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=0700",
        "--mount", "type=volume,src=NAME-one,dst=/data", "--mount", "type=volume,dst=/anonymous",
    ]),
    run("mount of an unknown kind", &["--mount", "type=nope,dst=/in"], &["true"]),
    probe("volumes of another", &["--volumes-from", "NAME-donor:ro"]).beside(&["-v", "SOURCE:/in", "-v", "NAME-one:/data"]),
    run("volumes of nobody", &["--volumes-from", "no-such-container"], &["true"]),
    probe("image's volume in memory", &["--image-volume", "tmpfs"]).of(PODMAN),
    probe("image's volume ignored", &["--image-volume", "ignore"]).of(PODMAN),

    run("directory for a root", &["--rootfs"], &["/probe"]).of(PODMAN).in_directory(""),
    run("directory under an overlay", &["--rootfs"], &["/probe"]).of(PODMAN).in_directory(":O"),
    run("no such directory for a root", &["--rootfs"], &["true"]).of(PODMAN).in_directory("/absent"),
    run("directory without a command", &["--rootfs"], &[]).of(PODMAN).in_directory(""),

    // Namespaces.
    probe("hostname", &["-h", "box.example"]),
    probe("domainname", &["-h", "box", "--domainname", "example.org"]).of(DOCKER),
    probe("pid of the host", &["--pid", "host"]),
    probe("pid of another", &["--pid", "container:NAME-donor"]).beside(&[]),
    run("pid of nobody", &["--pid", "container:no-such-container"], &["true"]),
    probe("ipc of the host", &["--ipc", "host"]),
    probe("ipc of another", &["--ipc", "container:NAME-donor"]).beside(&["--ipc", "shareable", "--shm-size", "2m"]),
    probe("ipc none", &["--ipc", "none"]),
    run("ipc unknown", &["--ipc", "nope"], &["true"]),
    probe("uts of the host", &["--uts", "host"]),
    run("uts of the host and a hostname", &["--uts", "host", "-h", "box"], &["true"]),
    probe("users of the host", &["--userns", "host"]),
    run("cgroups of the host", &["--cgroupns", "host", "--cgroup-parent", "/PARENT/of-case"], &[
        "sh", "-c", "grep -E ':(devices|memory):' /proc/self/cgroup | cut -d: -f2,3"
    ]),
    probe("cgroups of its own", &["--cgroupns", "private"]),

    // Names, servers and ports, as far as there is no network.
    probe("names and servers", &[
        "--add-host", "db:10.0.0.1", "--add-host", "db6:fd00::1", "--dns", "10.0.0.2", "--dns", "10.0.0.3", "--dns-search", "example.org", "--dns-option", "ndots:3",
    ]).of(DOCKER),
    run("servers without a network", &["--dns", "10.0.0.2"], &["true"]).of(PODMAN),
    probe("names alone", &["--add-host", "db:10.0.0.1"]),
    probe("exposed ports", &["--expose", "81", "-P"]),
    probe("published port", &["-p", "127.0.0.1:0:80"]).of(DOCKER),
    run("name without an address", &["--add-host", "db"], &["true"]),
    run("address outside of networks of one's own", &["--ip", "10.0.0.9"], &["true"]).of(DOCKER),
    run("address of IPv6 there", &["--ip6", "fd00::9"], &["true"]).of(DOCKER),
    run("alias there", &["--network-alias", "db"], &["true"]).of(DOCKER),
    run("no name server", &["--dns", "nope"], &["true"]),
    run("no port", &["-p", "nope"], &["true"]),
    run("no port to expose", &["--expose", "nope"], &["true"]),

    // Limits.
    probe("memory", &["-m", "64m", "--memory-swap", "96m", "--memory-reservation", "32m", "--memory-swappiness", "10"]),
    probe("memory without a killer", &["-m", "64m", "--oom-kill-disable", "--oom-score-adj", "100"]),
    probe("cpus", &["--cpus", "0.5"]),
    probe("processor time", &["-c", "512", "--cpu-period", "50000", "--cpu-quota", "25000", "--cpuset-cpus", "0", "--cpuset-mems", "0"]),
    run("real-time scheduling", &["--cpu-rt-period", "100000", "--cpu-rt-runtime", "1000"], &["true"]),
    probe("pids", &["--pids-limit", "20"]),
    probe("pids without limit", &["--pids-limit", "-1"]),
    probe("disk", &[
        "--device-read-bps", "DISK:1m", "--device-write-bps", "DISK:2m", "--device-read-iops", "DISK:30", "--device-write-iops", "DISK:40",
    ]),
    run("weight", &["--blkio-weight", "500"], &["true"]),
    run("weight of a disk", &["--blkio-weight-device", "DISK:200"], &["true"]),
    run("impossible weight", &["--blkio-weight", "5"], &["true"]),
    probe("ulimits", &["--ulimit", "nofile=512:1024", "--ulimit", "core=0", "--ulimit", "nproc=100"]),
    probe("sysctls", &["--sysctl", "net.ipv4.ip_unprivileged_port_start=80", "--sysctl", "kernel.shmmax=65536", "--sysctl", "fs.mqueue.msg_max=20"]),
    run("too little memory", &["-m", "1m"], &["true"]),
    run("no amount of memory", &["-m", "much"], &["true"]),
    run("swap below memory", &["-m", "64m", "--memory-swap", "32m"], &["true"]),
    run("swap without memory", &["--memory-swap", "64m"], &["true"]),
    run("too many cpus", &["--cpus", "1000"], &["true"]),
    run("cpus and a quota", &["--cpus", "1", "--cpu-quota", "50000"], &["true"]),
    run("cpus that are not there", &["--cpuset-cpus", "4000"], &["true"]),
    run("unknown ulimit", &["--ulimit", "nope=1"], &["true"]),
    run("soft limit above the hard one", &["--ulimit", "nofile=20:10"], &["true"]),
    run("sysctl of the host", &["--sysctl", "vm.swappiness=60"], &["true"]),
    run("impossible score", &["--oom-score-adj", "2000"], &["true"]),

    // Devices.
    probe("devices", &["--device", "/dev/zero:/dev/other:r", "--device", "/dev/full", "--device-cgroup-rule", "c 10:229 rw"]),
    run("device to read", &["--device", "/dev/zero:/dev/other:r", "--cap-drop", "MKNOD"], &["sh", "-c", "head -c 3 /dev/other | wc -c; echo x > /dev/other || echo refused"]),
    run("device that is not there", &["--device", "/dev/no-such-device"], &["true"]),
    run("device with unknown access", &["--device", "/dev/full:/dev/other:x"], &["true"]),
    run("no rule", &["--device-cgroup-rule", "all of them"], &["true"]),

    // Rights.
    probe("capability added", &["--cap-add", "SYS_ADMIN", "--cap-add", "CAP_net_admin"]),
    probe("capability dropped", &["--cap-drop", "CHOWN", "--cap-drop", "mknod"]),
    probe("no capability", &["--cap-drop", "ALL"]),
    probe("one capability of all", &["--cap-drop", "ALL", "--cap-add", "KILL"]),
    probe("all capabilities", &["--cap-add", "ALL"]),
    probe("all but one capability", &["--cap-add", "ALL", "--cap-drop", "SYS_TIME"]),
    probe("all capabilities for a user", &["--cap-add", "ALL", "-u", "alice"]),
    run("unknown capability", &["--cap-add", "FLY"], &["true"]),
    probe("privileged", &["--privileged"]),
    probe("privileged user", &["--privileged", "-u", "alice"]),
    probe("no filter", &["--security-opt", "seccomp=unconfined"]),
    run("own filter", &["--security-opt", "seccomp=SOURCE/filter.json"], &["sh", "-c", "mkdir /new || echo refused"]),
    run("no such filter", &["--security-opt", "seccomp=SOURCE/absent"], &["true"]),
    probe("no new privileges", &["--security-opt", "no-new-privileges"]),
    probe("system paths", &["--security-opt", "systempaths=unconfined"]).of(DOCKER),
    run("unknown security", &["--security-opt", "nope=1"], &["true"]),

    // What is kept of it.
    run("kept", &[
        "-l", "a=b", "-l", "empty", "--label-file", "SOURCE/labels", "--stop-signal", "USR1", "--stop-timeout", "5", "--restart", "no",
        "--log-driver", "json-file", "--log-opt", "max-size=1m", "--sig-proxy=false", "--detach-keys", "ctrl-x",
    ], &["true"]).inspect(&["/Config/Labels", "/Config/StopSignal", "/Config/StopTimeout", "/HostConfig/LogConfig", "/State/ExitCode"]),
    run("kept by default", &[], &["false"])
        .inspect(&["/Config/Labels", "/Config/StopSignal", "/HostConfig/LogConfig/Type", "/State/ExitCode", "/State/Status", "/Path", "/Args"]),
    run("annotation", &["--annotation", "a=b"], &["true"]).of(PODMAN).inspect(&["/HostConfig/Annotations/a", "/Config/Annotations/a"]),
    run("ID in a file", &["--cidfile", "OUT/id"], &["true"]),
    run("ID in a file that is there", &["--cidfile", "SOURCE/file"], &["true"]),
    run("name that is taken", &["--name", "NAME-donor"], &["true"]).beside(&[]),
    run("name taken over", &["--name", "NAME-donor", "--replace"], &["true"]).of(PODMAN).beside(&[]),
    run("removed and restarted", &["--restart", "always"], &["true"]),
    run("unknown signal", &["--stop-signal", "NOPE"], &["true"]),
    run("no log", &["--log-driver", "none"], &["echo", "seen"]),
];
