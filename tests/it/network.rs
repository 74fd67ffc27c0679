//! The network of containers: a bridge, addresses, the way out; and nothing of it left behind.

use std::process::Command;

use crate::harness::ddock::{Ddock, output};
use crate::harness::neighbour::Neighbour;
use crate::harness::scratch::command_succeeds;
use crate::harness::{network, wait_for};

/// What `ip` says of this test's own network, on the host's side.
fn ip(args: &str) -> String {
    command_succeeds(Command::new("ip").args(args.split(' ')))
}

/// Returns the names of the bridge's ports.
fn ports() -> Vec<String> {
    let links = ip("-o link show type veth");
    let names = links.lines().filter_map(|line| line.split(": ").nth(1));
    names
        .filter(|name| name.starts_with("ddock"))
        .map(str::to_owned)
        .collect()
}

fn ruleset() -> String {
    command_succeeds(Command::new("nft").args(["list", "ruleset"]))
}

#[test]
fn a_container_has_an_address_and_a_way_out_and_is_seen_as_the_host() {
    let neighbour = Neighbour::connect();
    let (ddock, image) = Ddock::with_busybox();
    let mut server = neighbour
        .command("busybox")
        .args(["nc", "-ll", "-p", "7000", "-e", "sh", "-c"])
        .arg("echo from $(busybox netstat -tn | grep -m1 :7000 | awk '{print $5}')")
        .spawn()
        .unwrap();
    let script = format!(
        "ip -o address show dev eth0 | grep -o 'inet6* [0-9a-f:.]*/[0-9]*'; ip route | head -1;
         ping -c 1 -W 5 {0} >/dev/null && echo pong; ping -6 -c 1 -W 5 {1} >/dev/null && echo pong6;
         nc -w 5 {0} 7000 </dev/null",
        Neighbour::ADDRESS,
        Neighbour::ADDRESS6
    );
    let said = ddock.sh(&[], &image, &script);
    drop(server.kill());
    drop(server.wait());
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("inet 172.29."), "{said}");
    assert!(lines[1].starts_with("inet6 fd64:646f:636b:30:"), "{said}");
    assert!(said.contains("default via 172.29.0.1 dev eth0"), "{said}");
    assert!(
        said.contains("pong\n") && said.contains("pong6\n"),
        "{said}"
    );
    assert!(
        said.contains("from ::ffff:192.0.2.1:") || said.contains("from 192.0.2.1:"),
        "{said}"
    );
}

#[test]
fn the_first_container_of_a_host_says_that_it_turns_forwarding_on() {
    let (ddock, image) = Ddock::with_busybox();
    fs_err::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
    let args = ["run", "--rm", &image, "true"];
    ddock
        .run(&args)
        .exits(0)
        .says("`net.ipv4.ip_forward` was 0");
    let again = ddock.run(&args).exits(0);
    assert_eq!(again.stderr, "");
}

#[test]
fn no_network_and_the_hosts_make_no_bridge() {
    let (ddock, image) = Ddock::with_busybox();
    let links = "ls /sys/class/net; ping -c 1 127.0.0.1 >/dev/null && echo pong";
    assert_eq!(
        ddock.sh(&["--network", "none"], &image, links),
        "lo\npong\n"
    );
    ddock.sh(&["--network", "host"], &image, "true");
    assert!(!ip("-o link").contains("ddock0"));
    assert_eq!(ruleset(), "");
}

#[test]
fn the_bridge_is_made_once_by_many_at_the_same_time() {
    let (ddock, image) = Ddock::with_busybox();
    let show = "ip -o address show dev eth0 | grep -o 'inet [0-9.]*'";
    let args = ["run", "--rm", &image, "sh", "-c", show];
    let children: Vec<_> = (0..8)
        .map(|_| {
            let mut command = ddock.command(&args);
            command
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut addresses: Vec<String> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            String::from_utf8(output.stdout).unwrap()
        })
        .collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 8);
    assert_eq!(ruleset().matches("chain nat").count(), 1);
}

#[test]
fn containers_reach_each_other_and_the_host_and_nothing_is_left_when_they_end() {
    let (ddock, image) = Ddock::with_busybox();
    let serve = "ip -o address show dev eth0; exec nc -l -p 80 -e echo hello";
    let mut server = ddock
        .command(&["run", "--rm", "--name", "server", &image, "sh", "-c", serve])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the server's link", || (ports().len() == 1).then_some(()));
    let document = wait_for("the server", || {
        let said = ddock.run(&["inspect", "server"]);
        said.stdout
            .contains("\"IPAddress\": \"172.")
            .then_some(said.stdout)
    });
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    let settings = &document[0]["NetworkSettings"];
    let address = settings["Networks"]["bridge"]["IPAddress"]
        .as_str()
        .unwrap();
    assert_eq!(settings["IPAddress"], address);
    assert_eq!(settings["Networks"]["bridge"]["Gateway"], "172.29.0.1");
    let said = ddock.sh(
        &[],
        &image,
        &format!("ping -c 1 -W 5 172.29.0.1 >/dev/null && nc -w 5 {address} 80"),
    );
    assert_eq!(said, "hello\n");
    server.wait().unwrap();
    wait_for("the links to go", || ports().is_empty().then_some(()));
}

#[test]
fn nothing_is_left_of_a_container_whose_monitor_is_killed() {
    let (ddock, image) = Ddock::with_busybox();
    let mut client = ddock
        .command(&["run", "--rm", "--name", "box", &image, "sleep", "1000"])
        .spawn()
        .unwrap();
    wait_for("the link", || (ports().len() == 1).then_some(()));
    let monitors =
        fs_err::read_to_string(format!("/proc/{0}/task/{0}/children", client.id())).unwrap();
    for pid in monitors.split_whitespace() {
        command_succeeds(Command::new("kill").args(["-9", pid]));
    }
    client.wait().unwrap();
    wait_for("the link to go", || ports().is_empty().then_some(()));
}

#[test]
fn rules_that_were_flushed_are_there_again_for_the_next_container_and_those_of_others_stay() {
    let neighbour = Neighbour::connect();
    let (ddock, image) = Ddock::with_busybox();
    let ping = format!(
        "ping -c 1 -W 5 {} >/dev/null && echo pong",
        Neighbour::ADDRESS
    );
    let theirs = "add table ip theirs; add chain ip theirs input { type filter hook input priority 0 ; policy accept ; }";
    assert_eq!(ddock.sh(&[], &image, &ping), "pong\n");
    command_succeeds(Command::new("nft").arg("flush ruleset"));
    command_succeeds(Command::new("nft").arg(theirs));
    let before = command_succeeds(Command::new("nft").args(["list", "table", "ip", "theirs"]));
    assert_eq!(ddock.sh(&[], &image, &ping), "pong\n");
    let after = command_succeeds(Command::new("nft").args(["list", "table", "ip", "theirs"]));
    assert_eq!(before, after);
    drop(neighbour);
}

#[test]
fn a_neighbour_who_routes_to_a_container_is_not_let_in() {
    let neighbour = Neighbour::connect();
    let (ddock, image) = Ddock::with_busybox();
    let mut server = ddock
        .command(&[
            "run", "--rm", &image, "nc", "-ll", "-p", "80", "-e", "echo", "hello",
        ])
        .spawn()
        .unwrap();
    wait_for("the server's link", || (ports().len() == 1).then_some(()));
    let address = wait_for("the server's address", || {
        let number =
            u32::from_str_radix(ports().first()?.split_once('.')?.1.split('@').next()?, 16).ok()?;
        Some(format!("172.29.{}.{}", number >> 8, number & 255))
    });
    let from_host = format!("nc -w 5 {address} 80 </dev/null");
    wait_for("the server", || {
        let said = output(Command::new("busybox").args(["sh", "-c", &from_host]));
        (said.stdout == "hello\n").then_some(())
    });
    neighbour
        .sh(&format!(
            "ip route add 172.29.0.0/16 via {}",
            Neighbour::HOST
        ))
        .exits(0);
    let said = neighbour.sh(&format!(
        "busybox nc -w 1 {address} 80 </dev/null || echo closed"
    ));
    assert_eq!(said.stdout, "closed\n");
    drop(server.kill());
    drop(server.wait());
}

#[test]
fn names_are_found_as_the_flags_say() {
    let (ddock, image) = Ddock::with_busybox();
    let flags = [
        "-h",
        "box.example",
        "--dns",
        "192.0.2.53",
        "--dns-search",
        "a.example",
        "--dns-option",
        "ndots:3",
        "--add-host",
        "db:10.0.0.1",
        "--add-host",
        "host.internal:host-gateway",
    ];
    let said = ddock.sh(
        &flags,
        &image,
        "grep -v '^#' /etc/resolv.conf; tail -n +7 /etc/hosts; hostname -i",
    );
    let lines: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(
        lines[..6],
        [
            "nameserver 192.0.2.53",
            "search a.example",
            "options ndots:3",
            "10.0.0.1\tdb",
            "172.29.0.1\thost.internal",
            "fd64:646f:636b:30::1\thost.internal",
        ]
    );
    let own: Vec<&str> = lines[6].split('\t').collect();
    assert!(own[0].starts_with("172.29."), "{said}");
    assert_eq!(own[1], "box.example box");
    let refused = ddock.run(&[
        "run",
        "--network",
        "none",
        "--add-host",
        "a:host-gateway",
        &image,
    ]);
    refused.exits(125).says("`host-gateway`");
}

#[test]
fn a_container_knows_its_full_name_and_of_ipv6_only_what_it_has() {
    let (ddock, image) = Ddock::with_busybox();
    let disabled = "net.ipv6.conf.all.disable_ipv6";
    let of_loopback = "net.ipv6.conf.lo.disable_ipv6=0";
    for (flags, names, ipv6) in [
        (
            &["-h", "web", "--domainname", "example.com"][..],
            "web.example.com web",
            5,
        ),
        (&["-h", "a.b", "--domainname", "c"], "a.b.c a", 5),
        (
            &["-h", "web", "--sysctl", &format!("{disabled}=1")],
            "web",
            0,
        ),
        (
            &["-h", "web", "--sysctl", &format!("{disabled}=0")],
            "web",
            5,
        ),
        (
            &[
                "-h",
                "web",
                "--sysctl",
                &format!("{disabled}=1"),
                "--sysctl",
                of_loopback,
            ],
            "web",
            5,
        ),
    ] {
        let hosts = ddock.sh(flags, &image, "cat /etc/hosts");
        let own = format!("\t{names}");
        let is_own = |it: &str| it.starts_with("172.29.") && it.ends_with(&own);
        assert!(hosts.lines().any(is_own), "{flags:?} {hosts}");
        let local = |line: &&str| {
            ["::1\t", "fe00::", "ff0"]
                .iter()
                .any(|it| line.starts_with(it))
        };
        assert_eq!(
            hosts.lines().filter(local).count(),
            ipv6,
            "{flags:?} {hosts}"
        );
    }
    // What is of a link can be set, as the link is there.
    let said = ddock.sh(
        &["--sysctl", "net.ipv4.conf.eth0.rp_filter=2"],
        &image,
        "cat /proc/sys/net/ipv4/conf/eth0/rp_filter",
    );
    assert_eq!(said, "2\n");
    let private = ["--network=none", "--sysctl", &format!("{disabled}=1")];
    let said = ddock.sh(&private, &image, "cat /etc/hosts");
    assert_eq!(said, "127.0.0.1\tlocalhost\n");
    let said = ddock.sh(&["--uts=host"], &image, "tail -n 1 /etc/hosts; hostname");
    let (line, name) = said.trim_end().rsplit_once('\n').unwrap();
    assert!(line.split(['\t', ' ']).nth(1) == Some(name), "{said}");
}

#[test]
fn without_the_right_to_make_links_the_error_names_the_networks_that_need_none() {
    let (ddock, image) = Ddock::with_busybox();
    let run = ddock.command(&["run", "--rm", &image, "true"]);
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-net_admin", "--inh-caps=-net_admin"]);
    command.arg(run.get_program()).args(run.get_args());
    command.env("DDOCK_ROOT", ddock.root());
    output(&mut command)
        .exits(125)
        .says("`--network none` and `--network host` need none");
}

#[test]
fn a_network_that_the_host_uses_is_not_taken() {
    network::enter_own();
    command_succeeds(Command::new("ip").args("link add up0 type bridge".split(' ')));
    command_succeeds(Command::new("ip").args("link set up0 up".split(' ')));
    command_succeeds(Command::new("ip").args("address add 172.29.3.1/24 dev up0".split(' ')));
    let (ddock, image) = Ddock::with_busybox();
    let said = ddock.sh(&[], &image, "ip route | head -1");
    assert_eq!(said, "default via 172.28.0.1 dev eth0 \n");
}
