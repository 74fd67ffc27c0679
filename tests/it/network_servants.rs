//! The processes that serve a container, as it is seen from outside: their rights, and where they are counted.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::ddock::{Ddock, output};
use crate::harness::host::send_signal;
use crate::harness::{network, wait_for};

/// capabilities(7), by number: `CAP_NET_BIND_SERVICE`, `CAP_NET_RAW`, `CAP_SYS_RESOURCE`.
const OF_FORWARDER: u64 = 1 << 10 | 1 << 13 | 1 << 24;

/// A container in a network with names, with a published port; removed with this.
struct Served<'a> {
    ddock: &'a Ddock,
    name: &'static str,
    pid: String,
    monitor: String,
}

impl<'a> Served<'a> {
    fn start(ddock: &'a Ddock, name: &'static str, flags: &[&str], image: &str) -> Self {
        let run = ["run", "-d", "--name", name, "--network", "app"];
        let command = [image, "sleep", "1000000"];
        ddock.ok(&[&run[..], flags, &command].concat());
        let said = ddock.ok(&["inspect", name]);
        let document: serde_json::Value = serde_json::from_str(&said).unwrap();
        let pid = document[0]["State"]["Pid"].to_string();
        let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let monitor = stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap();
        Served {
            ddock,
            name,
            monitor: monitor.to_owned(),
            pid,
        }
    }

    /// Returns the processes that serve it once there are `count`, the one that passes on first.
    fn servants(&self, count: usize) -> Vec<String> {
        let path = format!("/proc/{0}/task/{0}/children", self.monitor);
        wait_for("the processes that serve", || {
            let children = fs_err::read_to_string(&path).unwrap();
            let children = children.split_whitespace().map(str::to_owned);
            let mut servants: Vec<String> = children.filter(|it| *it != self.pid).collect();
            // They are ready when they have their filter.
            let is_ready = |pid: &String| status(pid, "Seccomp:") == "2";
            if servants.len() != count || !servants.iter().all(is_ready) {
                return None;
            }
            servants.sort_by_key(|pid| std::cmp::Reverse(status(pid, "CapEff:")));
            Some(servants)
        })
    }

    fn asks(&self, args: &str) -> String {
        let mut command = self.inside("dig");
        command.args(["+short", "+tries=1", "@127.0.0.11"]);
        output(command.args(args.split(' '))).stdout
    }

    /// Returns a program of the host's, in the container's network.
    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid, "-n", "--", program]);
        command
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        self.ddock.run(&["rm", "-f", self.name]);
    }
}

/// Returns what a line of `/proc/PID/status` says.
fn status(pid: &str, line: &str) -> String {
    let text = fs_err::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|it| it.strip_prefix(line));
    line.unwrap_or_default().trim().to_owned()
}

/// Returns the cgroup of a process in the hierarchy of a controller.
fn cgroup(pid: &str, controller: &str) -> String {
    let text = fs_err::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let mut lines = text
        .lines()
        .map(|line| line.splitn(3, ':').collect::<Vec<_>>());
    let line = lines.find(|it| it[1].split(',').any(|it| it == controller));
    line.map(|it| it[2].to_owned()).unwrap_or_default()
}

#[test]
fn who_serves_a_container_has_few_rights() {
    network::enter_own();
    let (ddock, image) = Ddock::with_busybox();
    ddock.ok(&["network", "create", "app"]);
    let flags = ["-p", "127.0.0.1:8080:80", "--dns", "127.0.0.1"];
    let served = Served::start(&ddock, "served", &flags, &image);
    let servants = served.servants(2);
    let inside = opener(&servants[1]);
    let own = u64::from_str_radix(&status("self", "CapEff:"), 16).unwrap();
    for (pid, rights) in [
        (&servants[0], own & OF_FORWARDER),
        (&servants[1], 0),
        (&inside, 0),
    ] {
        for set in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
            let set = u64::from_str_radix(&status(pid, set), 16).unwrap();
            assert_eq!(set & !rights, 0, "{pid}");
        }
        assert_eq!(
            u64::from_str_radix(&status(pid, "CapEff:"), 16).unwrap(),
            rights
        );
        assert_eq!(status(pid, "NoNewPrivs:"), "1");
    }
    assert_eq!(served.asks("served").lines().count(), 1);
    assert_eq!(served.asks("-x 127.0.0.9"), "");
}

/// Returns the process that opens sockets in the container's network, a child of the one that answers.
fn opener(responder: &str) -> String {
    let path = format!("/proc/{responder}/task/{responder}/children");
    wait_for("the process inside", || {
        let children = fs_err::read_to_string(&path).ok()?;
        let child = children.split_whitespace().next()?.to_owned();
        (status(&child, "Seccomp:") == "2").then_some(child)
    })
}

#[test]
fn who_served_a_container_and_was_killed_is_started_again() {
    network::enter_own();
    let (ddock, image) = Ddock::with_busybox();
    ddock.ok(&["network", "create", "app"]);
    let flags = ["-p", "127.0.0.1:8080:80", "--dns", "127.0.0.1"];
    let served = Served::start(&ddock, "served", &flags, &image);
    let answer = ["nc", "-ll", "-p", "80", "-e", "echo", "here"];
    let mut service = served.inside("busybox").args(answer).spawn().unwrap();
    let is_served = || {
        let mut ask = Command::new("busybox");
        ask.args(["nc", "-w", "5", "127.0.0.1", "8080"]);
        // Who was under way when it died has an end.
        output(ask.stdin(Stdio::null())).stdout == "here\n" && !served.asks("served").is_empty()
    };
    wait_for("the container to be served", || is_served().then_some(()));
    let log = wait_for("the container's directory", || {
        let containers = fs_err::read_dir(ddock.root().join("v1/containers")).ok()?;
        let found = containers.map(|it| it.unwrap().path().join("network.log"));
        found.last()
    });
    // Each of them, and then the first of them once more.
    for (number, dying) in [0, 1, 2, 0].into_iter().enumerate() {
        let servants = served.servants(2);
        let victim = match dying {
            2 => opener(&servants[1]),
            at => servants[at].clone(),
        };
        send_signal(victim.parse().unwrap(), Signal::KILL);
        let others = wait_for("another process", || {
            let others = served.servants(2);
            (others != servants).then_some(others)
        });
        wait_for("the container to be served again", || {
            is_served().then_some(())
        });
        let said = fs_err::read_to_string(&log).unwrap();
        assert_eq!(said.matches("started again").count(), number + 1, "{said}");
        assert!(others.iter().any(|it| said.contains(it)), "{said}");
        // As those that were started with it, not as their monitor.
        for other in others {
            let score = fs_err::read_to_string(format!("/proc/{other}/oom_score_adj")).unwrap();
            assert_eq!(score.trim(), "0");
        }
    }
    let said = fs_err::read_to_string(&log).unwrap();
    assert!(said.contains("was killed by signal 9"), "{said}");
    let why = "the process in the container's network namespace ended";
    assert!(said.contains(why), "{said}");
    drop(service.kill());
    drop(service.wait());
}

/// On v2 that is a cgroup beside the container's.
#[test]
fn who_serves_a_container_is_counted_where_its_processors_are_limited() {
    network::enter_own();
    let (ddock, image) = Ddock::with_busybox();
    ddock.ok(&["network", "create", "app"]);
    let parent = format!("servants-{}", std::process::id());
    let flags = [
        "-p",
        "127.0.0.1:8080:80",
        "--cpus=0.5",
        "--cpuset-cpus=0",
        "--cgroup-parent",
        &parent,
    ];
    let served = Served::start(&ddock, "served", &flags, &image);
    let is_v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    for servant in served.servants(2) {
        if is_v2 {
            assert_eq!(cgroup(&servant, ""), cgroup(&served.pid, "") + "-servants");
            continue;
        }
        for controller in ["cpu", "cpuset"] {
            assert_eq!(
                cgroup(&servant, controller),
                cgroup(&served.pid, controller)
            );
        }
        for controller in ["pids", "memory", "devices"] {
            assert_eq!(
                cgroup(&servant, controller),
                cgroup(&served.monitor, controller)
            );
        }
    }
    assert_eq!(served.asks("served").lines().count(), 1);
    let left = || {
        let mut find = Command::new("find");
        find.args([
            "/sys/fs/cgroup",
            "-type",
            "d",
            "-path",
            &format!("*/{parent}/*"),
        ]);
        output(find.stderr(Stdio::null())).stdout
    };
    assert_ne!(left(), "");
    drop(served);
    assert_eq!(left(), "");
    // One that cannot start leaves none, and nobody waits for those who were to serve it.
    let begun = Instant::now();
    let run = [
        &["run", "--network", "app"][..],
        &flags,
        &[&image, "/no/such/command"],
    ]
    .concat();
    ddock.run(&run).exits(127);
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(left(), "");
    let mut find = Command::new("find");
    find.args(["/sys/fs/cgroup", "-type", "d", "-name", &parent, "-delete"]);
    output(find.stderr(Stdio::null()));
}
