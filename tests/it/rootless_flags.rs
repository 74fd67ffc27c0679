//! Every flag of `run` for an ordinary user who has nothing: no program for the network, no IDs but the own one, no
//! cgroup. Each does what it says, or is refused with what to do.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::harness::ddock::{Ddock, Output, output};
use crate::harness::host::assert_nothing_left;
use crate::harness::image::busybox;
use crate::harness::neighbour::Neighbour;
use crate::harness::user::User;
use crate::network_rootless::path_with;

/// What is to come of a flag.
enum Outcome {
    /// The command runs, and this script finds nothing missing.
    Works(&'static str),
    /// 125, and this of what can be done.
    Refused(&'static str),
    /// Refused with a command to paste, or said to be without effect, as version 2 has it for some.
    Limit,
}

use Outcome::{Limit, Refused, Works};

impl Outcome {
    fn is_that_of(&self, found: &Output) -> bool {
        let mut lines = found.stderr.lines();
        match self {
            Works(_) => found.code == 0,
            Refused(cure) => found.code == 125 && found.stderr.contains(cure),
            Limit if found.code == 0 => {
                lines.any(|line| !line.contains("the container has no network"))
            }
            Limit => {
                found.code == 125
                    && lines.any(|line| line.starts_with("hint: ") && line.contains('`'))
            }
        }
    }
}

const MORE_IDS: &str = "`sudo usermod --add-subuids ";
const PROGRAM: &str = "`sudo apt-get install passt` ";
const OWN_NETWORK: &str = "`ddock network create ";

/// The flag's words, the flag itself first; `--a=b` where the rest is its value.
#[rustfmt::skip]
const FLAGS: &[(&[&str], Outcome)] = &[
    (&["--interactive"], Works("true")),
    (&["--tty"], Works("test -t 1")),
    (&["--rm"], Works("true")),
    (&["--name=other"], Works("true")),
    (&["--pull=never"], Works("true")),
    (&["--mirror=localhost:1=http://localhost:2"], Works("true")),
    (&["--insecure-registry=localhost:1"], Works("true")),
    (&["--tls-verify=false"], Works("true")),
    (&["--creds=a:b"], Works("true")),
    (&["--authfile=/dev/null"], Works("true")),
    (&["--retry=1"], Works("true")),
    (&["--retry-delay=1s"], Works("true")),
    (&["--platform=linux"], Works("true")),
    (&["--explain"], Works("true")),
    (&["--dry-run"], Works("true")),
    (&["--quiet"], Works("true")),
    (&["--help"], Works("true")),
    (&["--env=A=1"], Works("test $A = 1")),
    (&["--env-file=/etc/os-release"], Works("test -n \"$ID\"")),
    (&["--env-host"], Works("test -n \"$DDOCK_ROOT\"")),
    (&["--env-merge=A=${PATH}:/x"], Works("test $A = $PATH:/x")),
    (&["--unsetenv=HOME"], Works("true")),
    (&["--unsetenv-all"], Works("true")),
    (&["--workdir=/tmp"], Works("test $PWD = /tmp")),
    (&["--user=1000"], Refused(MORE_IDS)),
    (&["--user=0"], Works("test $(id -u) = 0")),
    (&["--group-add=5"], Refused(MORE_IDS)),
    (&["--umask=077"], Works("test $(umask) = 0077")),
    (&["--tz=local"], Works("true")),
    (&["--entrypoint=/bin/env"], Works("true")),
    (&["--rootfs"], Works("test -e /bin/marked")),
    (&["--volume=/tmp:/shown"], Works("grep -q ' /shown ' /proc/self/mounts")),
    (&["--mount=type=tmpfs,target=/shown"], Works("grep -q ' /shown ' /proc/self/mounts")),
    (&["--tmpfs=/shown:size=1m"], Works("grep -q ' /shown .*size=1024k' /proc/self/mounts")),
    (&["--volumes-from=donor"], Works("grep -q ' /given ' /proc/self/mounts")),
    (&["--tmpfs=/shown:uid=5"], Refused(MORE_IDS)),
    (&["--mount=type=tmpfs,target=/shown", "--tmpfs=/t:gid=5"], Refused(MORE_IDS)),
    (&["--image-volume=tmpfs"], Works("true")),
    (&["--volume-driver=local"], Works("true")),
    (&["--shm-size=1m"], Works("grep -q ' /dev/shm .*size=1024k' /proc/self/mounts")),
    (&["--read-only"], Works("! touch /x 2>/dev/null")),
    (&["--read-only-tmpfs"], Works("true")),
    (&["--hostname=box"], Works("test $(hostname) = box")),
    (&["--domainname=dom"], Works("test $(cat /proc/sys/kernel/domainname) = dom")),
    (&["--pid=host"], Works("test $$ != 1")),
    (&["--ipc=host"], Works("true")),
    (&["--uts=host"], Works("true")),
    (&["--proc=host"], Works("true")),
    (&["--userns=keep-id"], Works("test $(id -u) != 0")),
    (&["--cgroupns=host"], Works("true")),
    (&["--isolation=default"], Works("true")),
    (&["--network=none"], Works("true")),
    (&["--network=own"], Works("ip address show eth0 | grep -q 'inet '")),
    (&["--ip=10.0.0.3"], Refused(OWN_NETWORK)),
    (&["--ip6=fd00::3"], Refused(OWN_NETWORK)),
    (&["--mac-address=02:00:00:00:00:05"], Refused(OWN_NETWORK)),
    (&["--mac-address=02:00:00:00:00:05", "--network=own"], Works("grep -qi 02:00:00:00:00:05 /sys/class/net/eth0/address")),
    (&["--network-alias=x"], Refused(OWN_NETWORK)),
    (&["--publish=80"], Refused(PROGRAM)),
    (&["--publish=127.0.0.1:8099:80/udp"], Refused(PROGRAM)),
    (&["--publish=80", "--network=own"], Refused(PROGRAM)),
    (&["--publish-all", "--expose=81"], Refused(PROGRAM)),
    (&["--publish-all"], Works("true")),
    (&["--expose=81"], Works("true")),
    (&["--dns=192.0.2.7"], Works("grep -q 192.0.2.7 /etc/resolv.conf")),
    (&["--dns-search=a.example"], Works("grep -q a.example /etc/resolv.conf")),
    (&["--dns-option=ndots:3"], Works("grep -q ndots:3 /etc/resolv.conf")),
    (&["--add-host=a:192.0.2.8"], Works("grep -q 192.0.2.8 /etc/hosts")),
    (&["--add-host=a:host-gateway"], Refused("`--network host` it is 127.0.0.1")),
    (&["--memory=64m"], Limit),
    (&["--memory-swap=128m", "--memory=64m"], Limit),
    (&["--memory-reservation=32m"], Limit),
    (&["--memory-swappiness=10"], Limit),
    (&["--oom-kill-disable"], Limit),
    (&["--oom-score-adj=-5"], Refused("`sudo ddock run ")),
    (&["--oom-score-adj=500"], Works("test $(cat /proc/self/oom_score_adj) = 500")),
    (&["--cpus=0.5"], Limit),
    (&["--cpu-shares=100"], Limit),
    (&["--cpu-period=50000"], Limit),
    (&["--cpu-quota=50000"], Limit),
    (&["--cpu-rt-period=1000", "--cpu-rt-runtime=100"], Limit),
    (&["--cpu-rt-runtime=100"], Limit),
    (&["--cpuset-cpus=0"], Limit),
    (&["--cpuset-mems=0"], Limit),
    (&["--pids-limit=10"], Limit),
    (&["--blkio-weight=100"], Limit),
    (&["--blkio-weight-device=/dev/null:100"], Refused("/dev/null")),
    (&["--device-read-bps=/dev/null:1m"], Refused("/dev/null")),
    (&["--device-write-bps=/dev/null:1m"], Refused("/dev/null")),
    (&["--device-read-iops=/dev/null:10"], Refused("/dev/null")),
    (&["--device-write-iops=/dev/null:10"], Refused("/dev/null")),
    (&["--cgroup-parent=/other"], Limit),
    (&["--cgroup-parent=ddock/other"], Limit),
    (&["--ulimit=core=0"], Works("test $(ulimit -c) = 0")),
    (&["--ulimit=nofile=999999999"], Refused("hint: ")),
    (&["--sysctl=net.ipv4.ip_forward=1"], Works("grep -q 1 /proc/sys/net/ipv4/ip_forward")),
    (&["--device=/dev/null:/dev/other"], Works("test -c /dev/other")),
    (&["--device-cgroup-rule=c 1:* rwm"], Refused("`sudo ddock run ")),
    (&["--privileged"], Works("grep -q ^CapEff.*ffffff /proc/self/status")),
    (&["--cap-add=NET_ADMIN"], Works("ip link set lo down")),
    (&["--cap-drop=ALL"], Works("grep -q ^CapEff.*0000000000000000 /proc/self/status")),
    (&["--security-opt=no-new-privileges"], Works("grep -q 'NoNewPrivs.*1' /proc/self/status")),
    (&["--detach"], Works("true")),
    (&["--attach=stdout"], Works("true")),
    (&["--preserve-fds=0"], Works("true")),
    (&["--preserve-fd=99"], Refused("file descriptors must be passed")),
    (&["--detach-keys=ctrl-x"], Works("true")),
    (&["--sig-proxy=false"], Works("true")),
    (&["--cidfile=OWN/id"], Works("true")),
    (&["--init"], Works("test $$ != 1")),
    (&["--log-driver=none"], Works("true")),
    (&["--log-opt=max-size=1m"], Works("true")),
    (&["--stop-signal=INT"], Works("true")),
    (&["--stop-timeout=3"], Works("true")),
    (&["--timeout=30"], Works("true")),
    (&["--label=a=b"], Works("true")),
    (&["--label-file=/dev/null"], Works("true")),
    (&["--annotation=a=b"], Works("true")),
    (&["--replace", "--name=replaced"], Works("true")),
    (&["--restart=no"], Works("true")),
];

fn name(words: &[&'static str]) -> &'static str {
    words[0].split('=').next().unwrap_or_default()
}

/// Returns the flags that the help of `run` has.
fn in_help(ddock: &Ddock) -> BTreeSet<String> {
    let help = ddock.ok(&["run", "--help"]);
    let lines = help.lines().map(str::trim_start);
    let flags = lines
        .filter(|line| line.starts_with('-'))
        .filter_map(|line| {
            let mut words = line.split([' ', ',', '[', '=']);
            words.find(|word| word.starts_with("--"))
        });
    flags.map(str::to_owned).collect()
}

/// Makes a root of the user's own.
fn make_root(ddock: &Ddock, root: &Path) {
    let bin = root.join("bin");
    fs_err::create_dir_all(&bin).unwrap();
    fs_err::copy("/bin/busybox", bin.join("busybox")).unwrap();
    for applet in ["sh", "marked"] {
        symlink("busybox", bin.join(applet)).unwrap();
    }
    for made in [root, &bin] {
        ddock.user().give(made);
    }
}

#[test]
fn every_flag_works_or_is_refused_with_the_cure() {
    // A way out, for which a program is missing.
    let _neighbour = Neighbour::connect();
    let ddock = Ddock::for_user(User::without_ranges());
    let known: BTreeSet<String> = FLAGS.iter().map(|(words, _)| name(words).into()).collect();
    assert_eq!(known, in_help(&ddock), "flags here, and in the help");

    let image = ddock.pull(busybox());
    let path = path_with(&ddock, &[]);
    let own = ddock.root().parent().unwrap().to_owned();
    make_root(&ddock, &own.join("rootfs"));
    ddock.ok(&["network", "create", "own"]);
    let donor = [
        "run",
        "--network=none",
        "--name=donor",
        "-v",
        "/given",
        &image,
        "true",
    ];
    ddock.ok(&donor);

    let mut wrong = Vec::new();
    for (words, outcome) in FLAGS {
        let words: Vec<String> = words
            .iter()
            .map(|word| word.replace("OWN", own.to_str().unwrap()))
            .collect();
        let mut args = vec!["run", "--rm"];
        args.extend(words.iter().map(String::as_str));
        let root = own.join("rootfs");
        args.push(if words[0] == "--rootfs" {
            root.to_str().unwrap()
        } else {
            &image
        });
        let script = match outcome {
            Works(script) => script,
            Refused(_) | Limit => "true",
        };
        if words[0] == "--entrypoint=/bin/env" {
            args.extend(["sh", "-c", script]);
        } else {
            args.extend(["/bin/sh", "-c", script]);
        }
        let found = output(ddock.command(&args).env("PATH", &path));
        if !outcome.is_that_of(&found) {
            wrong.push(format!("{words:?}: {}", found.text()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    ddock.ok(&["rm", "donor"]);
    assert_nothing_left(&ddock, "no-such-container");
}
