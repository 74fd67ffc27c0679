//! What the host's network is, it stays: its settings, its routes, what it forwards, and from whom it learns.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sched::{CloneFlags, setns};
use rustix::net::{AddressFamily, SendFlags, SocketType, sendto, socket};

use crate::harness::ddock::{Ddock, output};
use crate::harness::scratch::command_succeeds;
use crate::harness::{network, wait_for};

fn ip(args: &str) -> String {
    command_succeeds(Command::new("ip").args(args.split_whitespace()))
}

fn nft(args: &str) -> String {
    command_succeeds(Command::new("nft").args(args.split_whitespace()))
}

fn set(setting: &str, value: &str) {
    fs_err::write(Path::new("/proc/sys/net").join(setting), value).unwrap();
}

fn get(setting: &str) -> String {
    let text = fs_err::read_to_string(Path::new("/proc/sys/net").join(setting)).unwrap();
    text.trim().to_owned()
}

/// A network namespace at the other end of a link of the host's: somebody in one of the networks that the host is in.
struct Lan {
    process: Child,
    number: u8,
}

impl Lan {
    fn connect(number: u8) -> Self {
        let own = fs_err::read_link("/proc/thread-self/ns/net").unwrap();
        let process = Command::new("unshare")
            .args(["--net", "--kill-child", "sleep", "1000000"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let lan = Self { process, number };
        wait_for("the other network", || {
            let found = fs_err::read_link(lan.namespace()).ok()?;
            (found != own).then_some(())
        });
        let pid = lan.process.id();
        ip(&format!(
            "link add h{number} type veth peer name eth0 netns {pid}"
        ));
        lan.inside(&format!(
            "ip link set lo up; ip link set eth0 up
             ip address add 10.{number}.0.9/24 dev eth0
             ip -6 address add fd00:{number}::9/64 dev eth0 nodad"
        ));
        lan
    }

    /// Gives the host's end, or the bridge that it is a port of, the host's address there.
    fn serve(self, link: &str) -> Self {
        let number = self.number;
        ip(&format!("link set h{number} up"));
        ip(&format!("link set {link} up"));
        ip(&format!("address add 10.{number}.0.1/24 dev {link}"));
        ip(&format!(
            "-6 address add fd00:{number}::1/64 dev {link} nodad"
        ));
        self.inside(&format!(
            "ip route add default via 10.{number}.0.1; ip -6 route add default via fd00:{number}::1"
        ));
        let ping = format!("busybox ping -c 1 -W 1 fd00:{number}::1");
        wait_for("the host", || self.tries(&ping).then_some(()));
        self
    }

    fn namespace(&self) -> String {
        format!("/proc/{}/ns/net", self.process.id())
    }

    fn inside(&self, script: &str) {
        assert!(self.tries(script), "{script}");
    }

    fn tries(&self, script: &str) -> bool {
        let pid = self.process.id().to_string();
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid, "-n", "sh", "-ec", script]);
        command.output().unwrap().status.success()
    }

    /// Tells by which families the other is reached, through the host.
    fn reaches(&self, other: &Lan) -> (bool, bool) {
        let ping = |address: String| self.tries(&format!("busybox ping -c 1 -W 1 {address}"));
        let number = other.number;
        (
            ping(format!("10.{number}.0.9")),
            ping(format!("fd00:{number}::9")),
        )
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Says by the link of a network namespace that the way out leads to who says so (RFC 4861, 4.2).
fn advertise(namespace: &str, link: &str) {
    let namespace = fs_err::File::open(namespace).unwrap();
    let link = link.to_owned();
    let send = move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        let index = nix::net::if_::if_nametoindex(link.as_str()).unwrap();
        let protocol = Some(rustix::net::ipproto::ICMPV6);
        let socket = socket(AddressFamily::INET6, SocketType::RAW, protocol).unwrap();
        rustix::net::sockopt::set_ipv6_multicast_hops(&socket, 255).unwrap();
        wait_for("a link-local address", || {
            let found = ip(&format!(
                "-6 -o address show dev {link} scope link -tentative"
            ));
            (!found.is_empty()).then_some(())
        });
        // The kernel fills in the checksum; a router for half an hour, and nothing else.
        let advertisement = [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let to = SocketAddrV6::new(all, 0, 0, index);
        sendto(&socket, &advertisement, SendFlags::empty(), &to).unwrap();
    };
    std::thread::spawn(send).join().unwrap();
}

/// Everything that the host's network is: its settings, rules, links, addresses and routes.
fn host() -> BTreeMap<String, String> {
    fn walk(directory: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs_err::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if let Ok(value) = fs_err::read_to_string(&path) {
                let name = path.strip_prefix("/proc/sys/net").unwrap();
                found.insert(name.display().to_string(), value.trim().to_owned());
            }
        }
    }
    wait_for("addresses to be the host's", || {
        ip("-6 address show tentative").is_empty().then_some(())
    });
    let mut found = BTreeMap::new();
    walk(Path::new("/proc/sys/net"), &mut found);
    // A counter, and what is random.
    found.retain(|name, _| {
        !name.starts_with("netfilter/nf_conntrack_count") && !name.contains("stable_secret")
    });
    let commands = ["link show", "address show", "rule show", "-6 rule show"];
    for command in commands
        .iter()
        .chain(&["route show table all", "-6 route show table all"])
    {
        for line in ip(&format!("-o {command}")).lines() {
            // The time that is left of what is learnt.
            let line = line.split(" expires ").next().unwrap_or_default();
            found.insert(format!("ip {command}: {line}"), String::new());
        }
    }
    for table in nft("list tables").lines() {
        found.insert(table.to_owned(), nft(&format!("list {table}")));
    }
    found
}

/// Returns what is not as it was, but for what names a link of ours or is our table.
fn changed(before: &BTreeMap<String, String>) -> BTreeSet<String> {
    let after = host();
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let names = names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name));
    let ours = |name: &&String| !name.contains("ddock");
    names.filter(ours).cloned().collect()
}

/// Does everything that makes, changes and removes networks.
fn use_networks(ddock: &Ddock, image: &str) {
    ddock.sh(&[], image, "true");
    let kinds: [&[&str]; 3] = [
        &["net"],
        &["--internal", "inner"],
        &["-o", "com.docker.network.bridge.enable_icc=false", "apart"],
    ];
    for kind in kinds {
        ddock.ok(&[&["network", "create", "--ipv6"], kind].concat());
    }
    let all = [
        "--network",
        "net",
        "--network",
        "inner",
        "--network",
        "apart",
    ];
    ddock.sh(
        &[&all[..], &["-p", "127.0.0.1::80"]].concat(),
        image,
        "true",
    );
    ddock.ok(&["run", "-d", "--name", "one", image, "sleep", "1000"]);
    ddock.ok(&["network", "connect", "net", "one"]);
    ddock.ok(&["network", "disconnect", "net", "one"]);
    ddock.ok(&["rm", "-f", "one"]);
    ddock.ok(&["network", "rm", "net", "inner", "apart"]);
}

#[test]
fn a_host_that_forwards_is_afterwards_as_it_was_before() {
    network::enter();
    let (ddock, image) = Ddock::with_busybox();
    let _lan = Lan::connect(71).serve("h71");
    set("ipv6/conf/all/forwarding", "1");
    ip("-6 route add default via fd00:71::9");
    let before = host();
    use_networks(&ddock, &image);
    // What routes answers to clients of published ports is made once a host.
    let changed = changed(&before);
    let foreign = |it: &&String| !it.contains("dd0c") && !it.contains("table 221");
    let changed: Vec<_> = changed.iter().filter(foreign).collect();
    assert!(changed.is_empty(), "{changed:#?}");
    assert!(nft("list table inet ddock").contains("networks"));
    assert!(!nft("list table inet ddock").contains("others"));
}

#[test]
fn a_host_that_does_not_forward_changes_in_that_alone() {
    network::enter();
    set("ipv4/ip_forward", "0");
    let lans = [71, 72].map(|number| Lan::connect(number).serve(&format!("h{number}")));
    for link in ["all", "default", "h71", "h72"] {
        set(&format!("ipv6/conf/{link}/accept_ra"), "1");
    }
    advertise(&lans[0].namespace(), "eth0");
    let learnt = || ip("-6 route show default").contains("dev h71");
    wait_for("the route that is learnt", || learnt().then_some(()));
    let (ddock, image) = Ddock::with_busybox();
    let before = host();
    use_networks(&ddock, &image);
    let changed: Vec<String> = changed(&before)
        .into_iter()
        .filter(|it| !it.contains("dd0c") && !it.contains("table 221"))
        // The kernel's own doing, where it forwards.
        .filter(|it| !it.starts_with("ipv4/conf/") && !it.ends_with("/forwarding"))
        .filter(|it| !it.contains(": anycast "))
        .collect();
    assert_eq!(changed, ["ipv4/ip_forward", "ipv6/conf/h71/accept_ra"]);
    assert_eq!(get("ipv6/conf/h71/accept_ra"), "2");
    assert!(learnt());
}

#[test]
fn the_host_learns_no_route_from_a_container() {
    network::enter();
    for setting in ["accept_ra", "accept_redirects"] {
        set(&format!("ipv6/conf/default/{setting}"), "1");
    }
    set("ipv4/conf/default/route_localnet", "1");
    set("ipv4/conf/default/accept_source_route", "1");
    let (ddock, image) = Ddock::with_busybox();
    ddock.ok(&["network", "create", "--ipv6", "net"]);
    for network in ["bridge", "net"] {
        let args = ["run", "-d", "--network", network, &image, "sleep", "1000"];
        let id = ddock.ok(&args).trim().to_owned();
        let document = ddock.ok(&["inspect", &id]);
        let document: serde_json::Value = serde_json::from_str(&document).unwrap();
        let pid = &document[0]["State"]["Pid"];
        advertise(&format!("/proc/{pid}/ns/net"), "eth0");
        // What came before the ping was taken or left before its answer.
        let pid = pid.to_string();
        let ping = [
            "-t",
            &pid,
            "-n",
            "busybox",
            "ping",
            "-6",
            "-c1",
            "-W5",
            "ff02::1%eth0",
        ];
        command_succeeds(Command::new("nsenter").args(ping));
        assert_eq!(ip("-6 route show default"), "");
        let links = ip("-o link show");
        let names = links
            .lines()
            .filter_map(|line| line.split([':', '@']).nth(1));
        let ours: Vec<&str> = names
            .map(str::trim)
            .filter(|it| it.starts_with("ddock"))
            .collect();
        assert!(ours.len() >= 2, "{links}");
        for link in ours {
            let closed = [
                "ipv6/conf/LINK/accept_ra",
                "ipv6/conf/LINK/accept_redirects",
                "ipv4/conf/LINK/accept_redirects",
                "ipv4/conf/LINK/accept_source_route",
                "ipv4/conf/LINK/route_localnet",
            ];
            for setting in closed {
                assert_eq!(
                    get(&setting.replace("LINK", link)),
                    "0",
                    "{setting} of {link}"
                );
            }
        }
        ddock.ok(&["rm", "-f", &id]);
    }
    assert_eq!(get("ipv6/conf/default/accept_ra"), "1");
}

#[test]
fn networks_that_the_host_is_in_do_not_reach_each_other_through_it() {
    network::enter();
    set("ipv4/ip_forward", "0");
    let (ddock, image) = Ddock::with_busybox();
    let [one, other] = [71, 72].map(|number| Lan::connect(number).serve(&format!("h{number}")));
    ip("-6 route add default via fd00:71::9");
    assert_eq!(one.reaches(&other), (false, false));
    let run = |options: &[&str]| {
        let script = "ping -c 1 -W 5 10.71.0.9 && ping -c 1 -W 5 fd00:72::9";
        ddock.sh(options, &image, script);
        assert_eq!(one.reaches(&other), (false, false), "after {options:?}");
    };
    run(&[]);
    assert_eq!(
        (get("ipv4/ip_forward"), get("ipv6/conf/all/forwarding")),
        ("1".into(), "1".into())
    );
    run(&[]);
    // As a firewall does that is loaded again.
    nft("flush ruleset");
    run(&[]);
    ddock.ok(&["network", "create", "--ipv6", "net"]);
    run(&["--network", "net"]);
    ddock.ok(&["network", "rm", "net"]);
    assert_eq!(one.reaches(&other), (false, false));

    // Somebody's bridge, who turned forwarding on again and made rules of his own.
    ip("link add virbr0 type bridge");
    let machine = Lan::connect(73);
    ip("link set h73 master virbr0");
    let machine = machine.serve("virbr0");
    set("ipv4/ip_forward", "1");
    assert_eq!(machine.reaches(&one), (true, true));
    assert_eq!(one.reaches(&machine), (true, true));
    // Another network is no bridge.
    let late = Lan::connect(74).serve("h74");
    assert_eq!(late.reaches(&one), (false, false));
    // Who opens the host has it open.
    nft("flush chain inet ddock others-ipv4");
    ddock.sh(&[], &image, "true");
    assert_eq!(one.reaches(&other), (true, false));
}

#[test]
fn a_host_that_forwards_goes_on_to() {
    network::enter();
    set("ipv6/conf/all/forwarding", "1");
    let (ddock, image) = Ddock::with_busybox();
    let [one, other] = [71, 72].map(|number| Lan::connect(number).serve(&format!("h{number}")));
    ip("-6 route add default via fd00:71::9");
    assert_eq!(one.reaches(&other), (true, true));
    ddock.sh(&[], &image, "true");
    assert_eq!(one.reaches(&other), (true, true));
    nft("flush ruleset");
    ddock.sh(&[], &image, "true");
    assert_eq!(one.reaches(&other), (true, true));
}

#[test]
fn a_process_that_dies_while_it_turns_forwarding_on_leaves_the_host_closed() {
    network::enter();
    let (ddock, image) = Ddock::with_busybox();
    let [one, other] = [71, 72].map(|number| Lan::connect(number).serve(&format!("h{number}")));
    set("ipv4/ip_forward", "0");
    let mut command = ddock.command(&["run", "--rm", &image, "true"]);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    while get("ipv4/ip_forward") == "0" {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(one.reaches(&other), (false, false));
    ddock.sh(&[], &image, "true");
    assert_eq!(one.reaches(&other), (false, false));
}

#[test]
fn a_pid_namespace_that_proc_does_not_show_is_refused_and_changes_nothing() {
    network::enter();
    let (ddock, image) = Ddock::with_busybox();
    ddock.ok(&["network", "create", "net"]);
    ddock.sh(&["--network", "net"], &image, "true");
    ddock.sh(&[], &image, "true");
    let within = |flags: &[&str], options: &[&str]| {
        let args = [
            &["run", "--rm"],
            options,
            &[&image, "ip", "address", "show", "dev", "eth0"],
        ];
        let inner = ddock.command(&args.concat());
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork"]).args(flags);
        command.arg(inner.get_program()).args(inner.get_args());
        for (name, value) in inner.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        output(&mut command)
    };
    let state = || [ip("-4 -o address show"), ip("-4 route show default")];
    let before = state();
    for options in [&[][..], &["--network", "net"], &["--pid", "host"]] {
        within(&[], options).exits(125).says("--mount-proc");
        assert_eq!(state(), before, "{options:?}");
        let shown = within(&["--mount-proc"], options).exits(0);
        assert!(shown.stdout.contains("inet "), "{}", shown.text());
    }
}

#[test]
fn what_a_packet_costs_does_not_grow_with_the_networks() {
    network::enter();
    let (ddock, image) = Ddock::with_busybox();
    let rules = || {
        let rules = nft("-j list ruleset");
        ["chain", "rule"].map(|what| rules.matches(&format!("{{\"{what}\": {{")).count())
    };
    let run = |count: usize| {
        let names: Vec<String> = (0..count).map(|number| format!("net{number}")).collect();
        let options: Vec<&str> = names.iter().flat_map(|name| ["--network", name]).collect();
        ddock.sh(&options, &image, "true");
        rules()
    };
    for number in 0..50 {
        ddock.ok(&["network", "create", &format!("net{number}")]);
    }
    let one = run(1);
    assert_eq!(one, [3, 7]);
    assert_eq!(run(50), one);
    ddock.ok(&["network", "prune", "-f"]);
    assert_eq!(nft("list ruleset"), "");
}
