//! Networks that users define: made when first needed, with containers that have the addresses they asked for.

use std::process::Command;

use serde_json::Value;

use crate::harness::ddock::Ddock;
use crate::harness::neighbour::Neighbour;
use crate::harness::scratch::command_succeeds;
use crate::harness::user::User;
use crate::harness::{network, wait_for};

/// What `ip` says of this test's own network, on the host's side.
fn ip(args: &str) -> String {
    command_succeeds(Command::new("ip").args(args.split(' ')))
}

/// Prints the addresses of the container's links, one link a line, and where the way out is.
const SHOW: &str =
    "ip -o address show scope global | awk '{print $2, $4}'; ip route | grep default";

#[test]
fn a_network_is_made_when_a_container_first_needs_it_and_leads_out() {
    let neighbour = Neighbour::connect();
    let (ddock, image) = Ddock::with_busybox();
    let id = ddock.ok(&["network", "create", "--subnet", "10.5.0.0/16", "net"]);
    assert_eq!(id.trim_end().len(), 64);
    assert!(!ip("-o link").contains("ddock"));
    let ping = format!(
        "{SHOW}; ping -c 1 -W 5 {} >/dev/null && echo pong",
        Neighbour::ADDRESS
    );
    for name in ["net", id.trim_end(), &id[..12]] {
        let said = ddock.sh(&["--network", name], &image, &ping);
        assert!(said.starts_with("eth0 10.5."), "{said}");
        assert!(
            said.ends_with("default via 10.5.0.1 dev eth0 \npong\n"),
            "{said}"
        );
    }
    assert!(ip("-o link").contains(&format!("ddock{}", &id[..5])));
    // As after the host has started anew.
    ip(&format!("link delete ddock{}", &id[..5]));
    command_succeeds(Command::new("nft").arg("flush ruleset"));
    ddock.sh(&["--network", "net"], &image, &ping);
    drop(neighbour);
}

#[test]
fn a_container_has_the_addresses_that_it_asks_for() {
    network::enter_own();
    let (ddock, image) = Ddock::with_busybox();
    let create = "network create --subnet 10.5.0.0/16 --subnet fd00:5::/64 --gateway 10.5.0.254 \
        --ip-range 10.5.1.0/24 -o com.docker.network.driver.mtu=1400 net";
    ddock.ok(&create.split_whitespace().collect::<Vec<_>>());
    let said = ddock.sh(&["--network", "net"], &image, SHOW);
    assert!(said.contains("eth0 10.5.1."), "{said}");
    assert!(said.contains("eth0 fd00:5::1"), "{said}");
    assert!(said.contains("default via 10.5.0.254 dev eth0"), "{said}");
    let asked = "name=net,ip=10.5.7.7,ip6=fd00:5::7,mac-address=02:00:00:00:00:07";
    let show = format!("{SHOW}; cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu");
    let said = ddock.sh(&["--network", asked], &image, &show);
    assert_eq!(
        said,
        "eth0 10.5.7.7/16\neth0 fd00:5::7/64\ndefault via 10.5.0.254 dev eth0 \n02:00:00:00:00:07\n1400\n"
    );
    let flags = ["--network", "net", "--ip", "10.5.0.1", "--ip6", "fd00:5::7"];
    let said = ddock.sh(&flags, &image, SHOW);
    assert!(
        said.starts_with("eth0 10.5.0.1/16\neth0 fd00:5::7/64\n"),
        "{said}"
    );
    // In the default network too.
    let flags = ["--mac-address", "02:00:00:00:00:08"];
    let said = ddock.sh(&flags, &image, "cat /sys/class/net/eth0/address");
    assert_eq!(said, "02:00:00:00:00:08\n");
}

#[test]
fn an_address_that_is_taken_or_elsewhere_is_refused() {
    network::enter_own();
    let (ddock, image) = Ddock::with_busybox();
    ddock.ok(&[
        "network",
        "create",
        "--subnet",
        "10.5.0.0/24",
        "--ipv6",
        "net",
    ]);
    let document =
        |name: &str| -> Value { serde_json::from_str(&ddock.ok(&["inspect", name])).unwrap() };
    let flags = [
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "net",
        "--ip",
        "10.5.0.9",
    ];
    ddock.ok(&[&flags[..], &[&image, "sleep", "1000"]].concat());
    let settings = &document("box")[0]["NetworkSettings"]["Networks"]["net"];
    assert_eq!(settings["IPAddress"], "10.5.0.9");
    let v6 = settings["GlobalIPv6Address"].as_str().unwrap().to_owned();
    let refused = |flags: &[&str], words: &str| {
        let args = [&["run", "--rm"], flags, &[&image, "true"]].concat();
        ddock.run(&args).exits(125).says(words);
    };
    for address in ["10.5.0.9", "10.5.0.1", "10.5.0.0", "10.5.0.255"] {
        refused(
            &["--network", "net", "--ip", address],
            "Address already in use",
        );
    }
    refused(
        &["--network", "net", "--ip6", &v6],
        "Address already in use",
    );
    for (flag, address) in [("--ip", "10.6.0.9"), ("--ip6", "fd00::1")] {
        refused(
            &["--network", "net", flag, address],
            "It does not belong to any of this network's subnets",
        );
    }
    ddock.ok(&["rm", "-f", "box"]);
    let said = ddock.sh(&["--network", "net", "--ip6", &v6], &image, SHOW);
    assert!(said.contains(&v6), "{said}");
}

#[test]
fn what_only_networks_of_ones_own_have_is_refused_elsewhere() {
    network::enter_own();
    let (ddock, image) = Ddock::with_busybox();
    let refused = |flags: &[&str], words: &str| {
        let args = [&["run", "--rm"], flags, &[&image, "true"]].concat();
        ddock.run(&args).exits(125).says(words);
    };
    refused(
        &["--ip", "172.29.0.9"],
        "user specified IP address is supported on user defined networks only",
    );
    refused(
        &["--network-alias", "x"],
        "network-scoped alias is supported only for containers in user defined networks",
    );
    refused(&["--network", "nope"], "network nope not found");
    refused(
        &["--network", "net", "--network", "host"],
        "cannot attach both user-defined and non-user-defined network-modes",
    );
}

#[test]
fn what_a_joined_network_leaves_no_choice_of_is_refused() {
    let ddock = Ddock::new();
    for (flags, words) in [
        (
            "-p 80:80",
            "port publishing and the container type network mode",
        ),
        ("-P", "port publishing and the container type network mode"),
        (
            "--expose 80",
            "port exposing and the container type network mode",
        ),
        ("--dns 192.0.2.1", "dns and the network mode"),
        ("--dns-search example", "dns and the network mode"),
        ("--dns-option ndots:1", "dns and the network mode"),
        (
            "--add-host a:192.0.2.1",
            "custom host-to-IP mapping and the network mode",
        ),
        (
            "--mac-address 02:00:00:00:00:01",
            "mac-address and the network mode",
        ),
        ("-h box", "hostname and the network mode"),
    ] {
        let flags = flags.split(' ').collect::<Vec<_>>();
        let run = [&["run", "--network", "container:x"], &flags[..], &["image"]];
        let words = format!("ddock: conflicting options: {words}");
        ddock.run(&run.concat()).exits(125).says(&words);
    }
    let (ddock, image) = Ddock::with_busybox();
    ddock
        .run(&[
            "run",
            "--rm",
            "--network",
            "none",
            "-p",
            "80:80",
            &image,
            "true",
        ])
        .exits(0)
        .says("WARNING: Published ports are discarded when using none network mode");
}

#[test]
fn a_container_in_several_networks_leaves_by_the_first_that_leads_anywhere() {
    network::enter_own();
    let (ddock, image) = Ddock::with_busybox();
    ddock.ok(&[
        "network",
        "create",
        "--internal",
        "--subnet",
        "10.5.0.0/24",
        "inner",
    ]);
    ddock.ok(&["network", "create", "--subnet", "10.6.0.0/24", "first"]);
    ddock.ok(&["network", "create", "--subnet", "10.7.0.0/24", "second"]);
    let flags = [
        "--network",
        "name=inner,ip=10.5.0.5",
        "--network",
        "name=first,ip=10.6.0.5",
        "--network",
        "name=second,ip=10.7.0.5",
    ];
    assert_eq!(
        ddock.sh(&flags, &image, SHOW),
        "eth0 10.5.0.5/24\neth1 10.6.0.5/24\neth2 10.7.0.5/24\ndefault via 10.6.0.1 dev eth1 \n"
    );
    let said = ddock.sh(&["--network", "inner"], &image, "ip route");
    assert!(!said.contains("default"), "{said}");
}

#[test]
fn members_reach_each_other_and_nobody_else_does() {
    network::enter_own();
    let (ddock, image) = Ddock::with_busybox();
    for (name, subnet, more) in [
        ("one", "10.5.0.0/24", "--attachable"),
        ("two", "10.6.0.0/24", "--attachable"),
        (
            "apart",
            "10.7.0.0/24",
            "-o=com.docker.network.bridge.enable_icc=false",
        ),
    ] {
        ddock.ok(&["network", "create", "--subnet", subnet, more, name]);
        let address = subnet.replace(".0/24", ".9");
        let flags = ["run", "-d", "--network", name, "--ip", &address];
        let serve = [&image, "nc", "-ll", "-p", "80", "-e", "echo", "hello"];
        ddock.ok(&[&flags[..], &serve].concat());
    }
    let ask = |network: &str, address: &str| {
        let script = format!("nc -w 1 {address} 80 </dev/null || echo closed");
        ddock.sh(&["--network", network], &image, &script)
    };
    wait_for("the server", || {
        (ask("one", "10.5.0.9") == "hello\n").then_some(())
    });
    wait_for("the server", || {
        (ask("two", "10.6.0.9") == "hello\n").then_some(())
    });
    assert_eq!(ask("one", "10.6.0.9"), "closed\n");
    assert_eq!(ask("bridge", "10.6.0.9"), "closed\n");
    assert_eq!(ask("apart", "10.7.0.9"), "closed\n");
    // Not by way of the host either.
    let script =
        "ip route replace 10.7.0.9 via 10.7.0.1 && nc -w 1 10.7.0.9 80 </dev/null || echo closed";
    let flags = ["--network", "apart", "--cap-add", "NET_ADMIN"];
    assert_eq!(ddock.sh(&flags, &image, script), "closed\n");
    // The host reaches them all.
    command_succeeds(
        Command::new("sh").args(["-c", "busybox nc -w 5 10.7.0.9 80 </dev/null | grep hello"]),
    );
    ddock.ok(&["rm", "-f", "-a"]);
}

/// The rules of everybody, to be compared.
fn ruleset() -> String {
    command_succeeds(Command::new("nft").args(["-j", "list", "ruleset"]))
}

#[test]
fn a_network_goes_with_all_that_belongs_to_it_unless_a_container_is_in_it() {
    network::enter_own();
    let theirs = "add table ip theirs; add chain ip theirs input { type filter hook input priority 0 ; policy accept ; }";
    command_succeeds(Command::new("nft").arg(theirs));
    let (before, links) = (ruleset(), ip("-o link"));
    let (ddock, image) = Ddock::with_busybox();
    for name in ["one", "two"] {
        let id = ddock.ok(&["network", "create", name]);
        ddock.ok(&[
            "run",
            "-d",
            "--name",
            name,
            "--network",
            name,
            &image,
            "sleep",
            "1000",
        ]);
        ddock.run(&["network", "rm", name]).exits(1).says(&format!(
            "error while removing network: network {name} id {} has active endpoints",
            id.trim_end()
        ));
    }
    // One that has ended keeps nothing.
    ddock.ok(&["kill", "one"]);
    ddock.ok(&["wait", "one"]);
    assert_eq!(ddock.ok(&["network", "rm", "one"]), "one\n");
    assert!(ruleset().contains("ddock"));
    ddock.ok(&["rm", "-f", "two"]);
    assert_eq!(
        ddock.ok(&["network", "prune", "-f"]),
        "Deleted Networks:\ntwo\n\n"
    );
    assert_eq!(ruleset(), before);
    // The kernel removes those of containers that have ended when it has time.
    wait_for("the links to go", || (ip("-o link") == links).then_some(()));
    assert_eq!(
        ddock.ok(&["network", "ls", "--filter", "type=custom", "-q"]),
        ""
    );
    for (name, words) in [
        ("one", "network one not found"),
        (
            "bridge",
            "bridge is a pre-defined network and cannot be removed",
        ),
    ] {
        ddock.run(&["network", "rm", name]).exits(1).says(words);
    }
    assert_eq!(ddock.ok(&["network", "rm", "-f", "one"]), "one\n");
}

/// What `network create` refuses, and its words.
const REFUSED: &[(&str, &str)] = &[
    ("net", "network with name net already exists"),
    (
        "bridge",
        "operation is not permitted on predefined bridge network",
    ),
    ("a/b", "invalid network name (a/b)"),
    (
        "--subnet 10.5.3.0/24 x",
        "Pool overlaps with other one on this address space",
    ),
    (
        "--subnet 192.0.2.128/25 x",
        "Pool overlaps with other one on this address space",
    ),
    (
        "--subnet nonsense x",
        "Invalid subnet nonsense : invalid CIDR address: nonsense",
    ),
    (
        "--subnet 10.7.0.0/24 --gateway 10.8.0.1 x",
        "no matching subnet for gateway 10.8.0.1",
    ),
    (
        "--subnet 10.7.0.0/24 --ip-range 10.8.0.0/24 x",
        "no matching subnet for range 10.8.0.0/24",
    ),
    (
        "--gateway 10.8.0.1 x",
        "every ip-range or gateway must have a corresponding subnet",
    ),
    (
        "--subnet 10.7.0.0/24 --subnet 10.8.0.0/24 x",
        "bridge driver doesn't support multiple subnets",
    ),
    (
        "--subnet 10.7.0.0/31 x",
        "is too small for a network of containers",
    ),
    ("-d nope x", "plugin \"nope\" not found"),
    (
        "-d host x",
        "only one instance of \"host\" network is allowed",
    ),
    (
        "-d macvlan x",
        "the network driver `macvlan` is not there yet",
    ),
    (
        "-o com.docker.network.bridge.name=x x",
        "the option `com.docker.network.bridge.name` is not there",
    ),
    (
        "-o com.docker.network.driver.mtu=12 x",
        "a number of bytes from 68 to 65535",
    ),
    ("-o bogus=1 x", "there is no option `bogus` of networks"),
];

#[test]
fn networks_are_made_as_docker_makes_them() {
    network::enter_own();
    command_succeeds(Command::new("ip").args("link add up0 type bridge".split(' ')));
    command_succeeds(Command::new("ip").args("address add 192.0.2.1/24 dev up0".split(' ')));
    command_succeeds(Command::new("ip").args("link set up0 up".split(' ')));
    let ddock = Ddock::new();
    ddock.ok(&[
        "network",
        "create",
        "--subnet",
        "10.5.0.7/16",
        "--label",
        "a=b",
        "net",
    ]);
    for (args, words) in REFUSED {
        let words_of = args.split(' ').collect::<Vec<_>>();
        ddock
            .run(&[&["network", "create"], &words_of[..]].concat())
            .exits(1)
            .says(words);
    }
    assert_eq!(
        ddock
            .ok(&[
                "network",
                "ls",
                "--filter",
                "label=a=b",
                "--filter",
                "name=ne"
            ])
            .lines()
            .count(),
        2
    );
}

#[test]
fn networks_and_the_host_never_have_the_same_addresses() {
    network::enter_own();
    let (ddock, image) = Ddock::with_busybox();
    // The default network goes out of the way, made or not.
    ddock.ok(&["network", "create", "--subnet", "172.29.4.0/24", "early"]);
    let said = ddock.sh(&[], &image, "ip route | head -1");
    assert_eq!(said, "default via 172.28.0.1 dev eth0 \n");
    ddock.ok(&["network", "create", "chosen"]);
    let said = ddock.sh(&["--network", "chosen"], &image, "ip route | head -1");
    assert_eq!(said, "default via 172.30.0.1 dev eth0 \n");
    ddock
        .run(&["network", "create", "--subnet", "172.28.9.0/24", "late"])
        .exits(1)
        .says("Pool overlaps with other one on this address space");
    // A host that has moved meanwhile keeps its way.
    ddock.ok(&["network", "create", "--subnet", "10.5.0.0/24", "net"]);
    command_succeeds(Command::new("ip").args("link add up0 type bridge".split(' ')));
    command_succeeds(Command::new("ip").args("address add 10.5.0.1/16 dev up0".split(' ')));
    command_succeeds(Command::new("ip").args("link set up0 up".split(' ')));
    ddock
        .run(&["run", "--rm", "--network", "net", &image, "true"])
        .exits(125)
        .says("this host has another way to 10.5.0.0/24 by now");
    assert!(!ip("-o link").contains("10.5.0"));
}

#[test]
fn inspect_finds_networks_and_volumes_too() {
    network::enter_own();
    let ddock = Ddock::new();
    let of = |args: &[&str]| -> Value { serde_json::from_str(&ddock.ok(args)).unwrap() };
    assert_eq!(of(&["inspect", "bridge"])[0]["Driver"], "bridge");
    let id = ddock.ok(&["network", "create", "one"]);
    ddock.ok(&["volume", "create", "one"]);
    assert_eq!(of(&["inspect", "one"])[0]["Id"], id.trim_end());
    let of_volume = of(&["inspect", "--type", "volume", "one"]);
    assert_eq!(of_volume[0]["Driver"], "local");
    let missing = ["inspect", "--type", "network", "two"];
    ddock
        .run(&missing)
        .exits(1)
        .says("error: no such network: two");
}

#[test]
fn an_ordinary_user_has_definitions() {
    let user = User::with_ranges();
    let ddock = Ddock::for_user(user);
    ddock.ok(&["network", "create", "--subnet", "10.5.0.0/24", "net"]);
    assert!(ddock.ok(&["network", "ls"]).contains(" net "));
    assert!(
        ddock
            .ok(&["network", "inspect", "net"])
            .contains("10.5.0.0/24")
    );
    ddock
        .run(&["network", "connect", "net", "box"])
        .exits(1)
        .says("No such container: box");
    assert_eq!(ddock.ok(&["network", "rm", "net"]), "net\n");
}
