//! Networks that users define are right whoever dies, and whoever else does something at the same time.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::ddock::{Ddock, finished_child};
use crate::harness::network;
use crate::harness::scratch::command_succeeds;
use crate::harness::wait_for;

fn ip(args: &str) -> String {
    command_succeeds(Command::new("ip").args(args.split(' ')))
}

fn ruleset() -> String {
    command_succeeds(Command::new("nft").args(["-j", "list", "ruleset"]))
}

/// Returns the name of the bridge of the network with this ID.
fn bridge(id: &str) -> String {
    format!("ddock{}", &id[..5])
}

#[test]
fn a_network_is_made_once_by_many_at_the_same_time() {
    network::enter_own();
    let (ddock, image) = Ddock::with_busybox();
    let id = ddock.ok(&["network", "create", "--ipv6", "net"]);
    let show = "ip -o address show dev eth0 scope global | awk '{print $4}'";
    let args = ["run", "--rm", "--network", "net", &image, "sh", "-c", show];
    let start = |_| {
        let mut command = ddock.command(&args);
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..8).map(start).collect();
    let said = children.into_iter().map(|child| {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    });
    let mut addresses: Vec<String> = said
        .flat_map(|said| said.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 16, "{addresses:?}");
    assert_eq!(ruleset().matches("\"masquerade\"").count(), 1);
    assert!(ruleset().contains(&bridge(&id)));
    ddock.ok(&["network", "rm", "net"]);
}

#[test]
fn a_bridge_that_was_left_unfinished_is_made_anew() {
    network::enter_own();
    let (ddock, image) = Ddock::with_busybox();
    let id = ddock.ok(&["network", "create", "--subnet", "10.5.0.0/24", "net"]);
    // As a process leaves it that dies between making it and bringing it up.
    ip(&format!("link add {} type bridge", bridge(&id)));
    ip(&format!("address add 10.5.0.1/24 dev {}", bridge(&id)));
    let show = "ip route | grep default";
    let said = ddock.sh(&["--network", "net"], &image, show);
    assert_eq!(said, "default via 10.5.0.1 dev eth0 \n");
    ddock.ok(&["network", "rm", "net"]);
    assert!(!ip("-o link show type bridge").contains("ddock"));
    assert!(!ruleset().contains("ddock"));
}

#[test]
fn a_container_whose_monitor_is_killed_keeps_no_network() {
    network::enter_own();
    let (ddock, image) = Ddock::with_busybox();
    let id = ddock.ok(&["network", "create", "net"]);
    let mut client = ddock
        .command(&["run", "--network", "net", &image, "sleep", "1000"])
        .spawn()
        .unwrap();
    let is_port = || ip("-o link show type veth").contains(&bridge(&id));
    wait_for("the link", || is_port().then_some(()));
    ddock
        .run(&["network", "rm", "net"])
        .exits(1)
        .says("has active endpoints");
    let children = format!("/proc/{0}/task/{0}/children", client.id());
    for pid in fs_err::read_to_string(children).unwrap().split_whitespace() {
        command_succeeds(Command::new("kill").args(["-9", pid]));
    }
    client.wait().unwrap();
    ddock.ok(&["network", "rm", "net"]);
    wait_for("the link to go", || (!is_port()).then_some(()));
    assert!(!ruleset().contains("ddock"));
}

#[test]
fn who_removes_a_network_and_who_runs_in_it_never_meet_half_way() {
    network::enter_own();
    let (ddock, image) = Ddock::with_busybox();
    let (mut ran, mut removed) = (0, 0);
    for attempt in 0..24 {
        let id = ddock.ok(&["network", "create", "--subnet", "10.5.0.0/24", "net"]);
        if attempt % 2 == 0 {
            // There already.
            ddock.sh(&["--network", "net"], &image, "true");
        }
        let script = "ip route | grep -q 'default via 10.5.0.1'";
        let run = [
            "run",
            "--rm",
            "--network",
            "net",
            &image,
            "sh",
            "-c",
            script,
        ];
        let [mut run, mut remove] =
            [&run[..], &["network", "rm", "net"]].map(|args| ddock.command(args));
        for command in [&mut run, &mut remove] {
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
        }
        let run = run.spawn().unwrap();
        if attempt % 4 > 1 {
            // Not always first: a run has more to do before it comes to its network.
            let containers = ddock.root().join("v1/containers");
            let is_there = || fs_err::read_dir(&containers).unwrap().next().is_some();
            wait_for("the container", || is_there().then_some(()));
        }
        let remove = remove.spawn().unwrap();
        let (run, remove) = (finished_child(run), finished_child(remove));
        match run.code {
            0 => ran += 1,
            _ => drop(run.exits(125).says("network net not found")),
        }
        if remove.code == 0 {
            removed += 1;
            assert!(!ip("-o link show type bridge").contains(&bridge(&id)));
        } else {
            remove.exits(1).says("has active endpoints");
            ddock.ok(&["network", "rm", "net"]);
        }
    }
    assert!(ran > 0 && removed > 0, "ran {ran}, removed {removed}");
    assert!(!ruleset().contains("ddock"));
}

#[test]
fn who_dies_while_making_or_removing_a_network_leaves_one_or_none() {
    network::enter_own();
    let (ddock, image) = Ddock::with_busybox();
    let killed_after = |args: &[&str], time: Duration| {
        let mut command = ddock.command(args);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(time);
        drop(child.kill());
        child.wait().unwrap();
    };
    for attempt in 0..20 {
        let time = Duration::from_micros(400 * attempt);
        killed_after(
            &["network", "create", "--subnet", "10.5.0.0/24", "net"],
            time,
        );
        let id = ddock.ok(&["network", "ls", "-q", "--no-trunc", "--filter", "name=net"]);
        if id.is_empty() {
            ddock.ok(&["network", "create", "--subnet", "10.5.0.0/24", "net"]);
        }
        ddock.sh(&["--network", "net"], &image, "ip route | grep -q 10.5.0.1");
        killed_after(&["network", "rm", "net"], time);
        // What is still there serves still.
        let listed = ddock.ok(&["network", "ls", "-q", "--filter", "name=net"]);
        if !listed.is_empty() {
            ddock.sh(&["--network", "net"], &image, "ip route | grep -q 10.5.0.1");
        }
        ddock.ok(&["network", "rm", "-f", "net"]);
    }
    assert!(!ip("-o link show type bridge").contains("ddock"));
    assert!(!ruleset().contains("ddock"));
    assert_eq!(
        fs_err::read_dir(ddock.root().join("v1/networks"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn parallel_creators_never_share_a_name_or_an_address() {
    network::enter_own();
    let ddock = Ddock::new();
    ddock.ok(&["network", "create", "first"]);
    let start = |number: usize| {
        let name = format!("net{}", number % 6);
        let mut command = ddock.command(&["network", "create", &name]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let children: Vec<_> = (0..12).map(start).collect();
    let made = children.into_iter().map(finished_child);
    assert_eq!(made.filter(|output| output.code == 0).count(), 6);
    let names = ["first", "net0", "net1", "net2", "net3", "net4", "net5"];
    let said = ddock.ok(&[&["network", "inspect"][..], &names].concat());
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let mut subnets: Vec<String> = said
        .as_array()
        .unwrap()
        .iter()
        .map(|network| network["IPAM"]["Config"][0]["Subnet"].to_string())
        .collect();
    subnets.sort();
    subnets.dedup();
    assert_eq!(subnets.len(), 7, "{subnets:?}");
}
