//! Containers that run are connected to networks and disconnected from them, as often as somebody likes.

use std::process::Command;

use serde_json::Value;

use crate::harness::ddock::{Ddock, output};
use crate::harness::network;
use crate::harness::scratch::command_succeeds;
use crate::harness::wait_for;

fn document(ddock: &Ddock, args: &[&str]) -> Value {
    let said: Value = serde_json::from_str(&ddock.ok(args)).unwrap();
    said[0].clone()
}

/// Runs a script in the network of a container that runs.
fn inside(ddock: &Ddock, name: &str, script: &str) -> String {
    let pid = document(ddock, &["inspect", name])["State"]["Pid"].to_string();
    let mut command = Command::new("nsenter");
    command.args(["-t", &pid, "-n", "--", "busybox", "sh", "-c", script]);
    command_succeeds(&mut command)
}

/// The addresses of the container's links, one link a line, and where the way out is.
const SHOW: &str = "busybox ip -o -4 address show | awk '{print $2, $4}' | grep -v ^lo; busybox ip route | grep default; true";

/// Makes networks that lead out, and one that does not, with addresses that are known.
fn with_networks() -> (Ddock, String) {
    network::enter_own();
    let (ddock, image) = Ddock::with_busybox();
    for (name, subnet) in [("one", "10.5.0.0/24"), ("two", "10.6.0.0/24")] {
        ddock.ok(&["network", "create", "--subnet", subnet, name]);
    }
    ddock.ok(&[
        "network",
        "create",
        "--internal",
        "--subnet",
        "10.7.0.0/24",
        "inner",
    ]);
    (ddock, image)
}

#[test]
fn a_container_is_connected_and_disconnected_and_its_way_out_moves() {
    let (ddock, image) = with_networks();
    let run = [
        "run",
        "-d",
        "--name",
        "box",
        "-h",
        "box",
        "--network",
        "inner",
        "--ip",
        "10.7.0.9",
    ];
    ddock.ok(&[&run[..], &[&image, "sleep", "1000"]].concat());
    assert_eq!(inside(&ddock, "box", SHOW), "eth0 10.7.0.9/24\n");
    ddock.ok(&[
        "network", "connect", "--ip", "10.5.0.9", "--alias", "db,sql", "one", "box",
    ]);
    assert_eq!(
        inside(&ddock, "box", SHOW),
        "eth0 10.7.0.9/24\neth1 10.5.0.9/24\ndefault via 10.5.0.1 dev eth1 \n"
    );
    ddock.ok(&["network", "connect", "--ip", "10.6.0.9", "two", "box"]);
    let networks = document(&ddock, &["inspect", "box"])["NetworkSettings"]["Networks"].clone();
    assert_eq!(networks["one"]["Aliases"], serde_json::json!(["db", "sql"]));
    assert_eq!(networks["two"]["IPAddress"], "10.6.0.9");
    assert_eq!(networks["inner"]["Gateway"], "");
    let members = document(&ddock, &["network", "inspect", "two"])["Containers"].clone();
    let member = members.as_object().unwrap().values().next().unwrap();
    assert_eq!(
        (&member["Name"], &member["IPv4Address"]),
        (&"box".into(), &"10.6.0.9/24".into())
    );
    ddock.ok(&["network", "disconnect", "one", "box"]);
    assert_eq!(
        inside(&ddock, "box", SHOW),
        "eth0 10.7.0.9/24\neth2 10.6.0.9/24\ndefault via 10.6.0.1 dev eth2 \n"
    );
    assert_eq!(ddock.ok(&["network", "rm", "one"]), "one\n");
    ddock.ok(&["network", "disconnect", "two", "box"]);
    ddock.ok(&["network", "disconnect", "inner", "box"]);
    assert_eq!(inside(&ddock, "box", SHOW), "");
    ddock.ok(&["network", "connect", "bridge", "box"]);
    let said = inside(&ddock, "box", SHOW);
    assert!(
        said.ends_with("default via 172.29.0.1 dev eth0 \n"),
        "{said}"
    );
    ddock.ok(&["network", "rm", "two", "inner"]);
    ddock.ok(&["rm", "-f", "box"]);
}

#[test]
fn the_containers_own_names_and_lists_follow() {
    let (ddock, image) = with_networks();
    let run = [
        "run",
        "-d",
        "--name",
        "box",
        "-h",
        "box",
        "--network",
        "one",
    ];
    ddock.ok(&[&run[..], &[&image, "sleep", "1000"]].concat());
    let pid = document(&ddock, &["inspect", "box"])["State"]["Pid"].to_string();
    let hosts = || fs_err::read_to_string(format!("/proc/{pid}/root/etc/hosts")).unwrap();
    let listed = |network: &str| {
        let filter = format!("network={network}");
        ddock.ok(&["ps", "-q", "--filter", &filter]).lines().count()
    };
    assert!(hosts().contains("10.5.0.") && hosts().ends_with("\tbox\n"));
    assert_eq!((listed("one"), listed("bridge")), (1, 0));
    ddock.ok(&["network", "disconnect", "one", "box"]);
    assert!(!hosts().contains("\tbox\n"), "{}", hosts());
    assert_eq!((listed("one"), listed("bridge")), (0, 0));
    ddock.ok(&["network", "connect", "bridge", "box"]);
    assert!(hosts().contains("172.29.") && hosts().ends_with("\tbox\n"));
    assert_eq!((listed("one"), listed("bridge")), (0, 1));
    ddock.ok(&["rm", "-f", "box"]);
}

#[test]
fn what_cannot_be_changed_is_refused_in_dockers_words() {
    let (ddock, image) = with_networks();
    for (name, flags) in [
        ("box", &["--network", "one"][..]),
        ("joined", &["--network", "container:box"]),
        ("hosts", &["--network", "host"]),
        ("alone", &["--network", "none"]),
    ] {
        let run = [
            &["run", "-d", "--name", name],
            flags,
            &[&image, "sleep", "1000"],
        ];
        ddock.ok(&run.concat());
    }
    ddock.ok(&["run", "--name", "ended", "--network", "one", &image, "true"]);
    let shared = "container sharing network namespace with another container or host cannot be connected to any other network";
    for (args, words) in [
        (
            "connect one box",
            "endpoint with name box already exists in network one",
        ),
        ("connect nope box", "network nope not found"),
        ("connect one nope", "No such container: nope"),
        (
            "connect host box",
            "container cannot be disconnected from host network or connected to host network",
        ),
        ("connect none box", "networks in private (none) mode"),
        (
            "connect --alias x bridge box",
            "network-scoped alias is supported only for containers in user defined networks",
        ),
        (
            "connect --ip 172.29.0.9 bridge box",
            "user specified IP address is supported on user defined networks only",
        ),
        (
            "connect --ip 10.9.0.9 two box",
            "It does not belong to any of this network's subnets",
        ),
        ("connect two joined", shared),
        ("connect two hosts", shared),
        ("connect two alone", "networks in private (none) mode"),
        ("connect two ended", "is not running"),
        ("disconnect two box", "is not connected to network two"),
        ("disconnect one ended", "is not running"),
    ] {
        let words_of: Vec<&str> = args.split(' ').collect();
        let said = ddock.run(&[&["network"], &words_of[..]].concat()).exits(1);
        said.says(words);
    }
    // What failed left nothing: the network is free.
    ddock.ok(&["network", "rm", "two"]);
    ddock.ok(&["network", "disconnect", "-f", "inner", "box"]);
    ddock.ok(&["rm", "-f", "-a"]);
}

#[test]
fn published_ports_follow_the_way_out_and_go_with_the_last() {
    let (ddock, image) = with_networks();
    let run = [
        "run",
        "-d",
        "--name",
        "box",
        "-p",
        "8080:80",
        "--network",
        "one",
    ];
    let serve = [&image, "nc", "-ll", "-p", "80", "-e", "echo", "hello"];
    ddock.ok(&[&run[..], &serve].concat());
    let ask = || {
        let script = "busybox nc -w 3 127.0.0.1 8080 </dev/null";
        output(Command::new("sh").args(["-c", script])).stdout
    };
    wait_for("the server", || (ask() == "hello\n").then_some(()));
    ddock.ok(&["network", "connect", "two", "box"]);
    assert_eq!(ask(), "hello\n");
    ddock.ok(&["network", "disconnect", "one", "box"]);
    assert_eq!(ask(), "hello\n");
    ddock.ok(&["network", "disconnect", "two", "box"]);
    assert_eq!(ask(), "");
    assert_eq!(ddock.ok(&["port", "box"]), "");
    let listening = command_succeeds(Command::new("ss").args(["-ltn"]));
    assert!(!listening.contains(":8080"), "{listening}");
    ddock.ok(&["rm", "-f", "box"]);
}

#[test]
fn a_link_of_the_containers_own_is_not_mistaken_for_an_address_in_use() {
    let (ddock, image) = with_networks();
    let args = ["--name", "box", "--network", "one", &image, "sleep", "1000"];
    ddock.ok(&[&["run", "-d"][..], &args].concat());
    inside(&ddock, "box", "ip link add eth1 type bridge");
    let refused = ddock.run(&["network", "connect", "two", "box"]);
    refused
        .exits(1)
        .says("the container has a link `eth1` of its own");
    let networks = &document(&ddock, &["inspect", "box"])["NetworkSettings"]["Networks"];
    assert_eq!(networks.as_object().unwrap().len(), 1);
    // Nobody is in it.
    ddock.ok(&["network", "rm", "two"]);
    ddock.ok(&["rm", "-f", "box"]);
}
