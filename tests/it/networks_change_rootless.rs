//! An ordinary user's containers that run are connected to networks of his and disconnected from them.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::ddock::{Ddock, output};
use crate::harness::image::busybox;
use crate::harness::neighbour::Neighbour;
use crate::harness::network;
use crate::harness::scratch::command_succeeds;
use crate::harness::user::User;
use crate::harness::wait_for;

/// Returns ddock for a user with networks, and an image.
fn with_networks(user: User) -> (Ddock, String) {
    let ddock = Ddock::for_user(user);
    let image = ddock.pull(busybox());
    for (name, subnet) in [("one", "10.5.0.0/24"), ("two", "10.6.0.0/24")] {
        ddock.ok(&["network", "create", "--subnet", subnet, name]);
    }
    let inner = ["--internal", "--subnet", "10.7.0.0/24", "inner"];
    ddock.ok(&[&["network", "create"], &inner[..]].concat());
    (ddock, image)
}

fn start(ddock: &Ddock, name: &str, flags: &[&str], image: &str) {
    let run = ["run", "-d", "--name", name];
    ddock.ok(&[&run[..], flags, &[image, "sleep", "1000000"]].concat());
}

fn document(ddock: &Ddock, name: &str) -> Value {
    let said: Value = serde_json::from_str(&ddock.ok(&["inspect", name])).unwrap();
    said[0].clone()
}

fn pid(ddock: &Ddock, name: &str) -> String {
    document(ddock, name)["State"]["Pid"].to_string()
}

/// Runs a script in the network of a container that runs.
fn inside(ddock: &Ddock, name: &str, script: &str) -> String {
    let mut command = Command::new("nsenter");
    command.args(["-t", &pid(ddock, name), "-n", "--"]);
    command_succeeds(command.args(["busybox", "sh", "-c", script]))
}

fn hosts(ddock: &Ddock, name: &str) -> String {
    let path = format!("/proc/{}/root/etc/hosts", pid(ddock, name));
    fs_err::read_to_string(path).unwrap()
}

/// The addresses of the container's links, one link a line.
const SHOW: &str = "busybox ip -o -4 address show | awk '{print $2, $4}' | grep -v ^lo; true";

#[test]
fn a_container_of_a_user_is_connected_and_disconnected() {
    for user in [User::with_ranges(), User::without_ranges()] {
        network::enter_own();
        let (ddock, image) = with_networks(user);
        start(
            &ddock,
            "box",
            &["-h", "box", "--network", "one", "--ip", "10.5.0.9"],
            &image,
        );
        let to = ["--ip", "10.6.0.9", "--alias", "store", "two", "box"];
        ddock.ok(&[&["network", "connect"], &to[..]].concat());
        assert_eq!(
            inside(&ddock, "box", SHOW),
            "eth0 10.5.0.9/24\neth1 10.6.0.9/24\n"
        );
        assert!(hosts(&ddock, "box").ends_with("10.5.0.9\tbox\n10.6.0.9\tbox\n"));
        let find = "busybox nslookup -type=a store | grep -A1 '^Name' | tail -1; ping -c 1 -W 5 box >/dev/null && echo pong";
        let found = "Address: 10.6.0.9\npong\n";
        assert_eq!(ddock.sh(&["--network", "two"], &image, find), found);
        // It finds others there itself.
        start(&ddock, "db", &["--network", "two"], &image);
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid(&ddock, "box"), "-U", "-n", "-m", "--"]);
        command_succeeds(command.args(["/bin/busybox", "ping", "-c", "1", "-W", "5", "db"]));
        ddock.ok(&["network", "disconnect", "one", "box"]);
        assert_eq!(inside(&ddock, "box", SHOW), "eth1 10.6.0.9/24\n");
        assert!(!hosts(&ddock, "box").contains("10.5.0.9"));
        let networks = document(&ddock, "box")["NetworkSettings"]["Networks"].clone();
        assert_eq!(networks.as_object().unwrap().len(), 1, "{networks}");
        // Its bridge is there still, and not in the way of another of the same name and addresses.
        ddock.ok(&["network", "rm", "one"]);
        ddock.ok(&["network", "create", "--subnet", "10.5.0.0/24", "one"]);
        ddock.ok(&["network", "connect", "--ip", "10.5.0.9", "one", "box"]);
        let reach = "ping -c 1 -W 5 box >/dev/null && echo pong";
        assert_eq!(ddock.sh(&["--network", "one"], &image, reach), "pong\n");
        // What failed takes nothing.
        let taken = ["network", "connect", "--ip", "10.5.0.9", "one", "db"];
        ddock
            .run(&taken)
            .exits(1)
            .says("Address already in use: 10.5.0.9");
        ddock.ok(&["network", "disconnect", "one", "box"]);
        ddock.ok(&["network", "rm", "one"]);
        ddock.ok(&["rm", "-f", "-a"]);
    }
}

#[test]
fn a_container_of_a_user_that_left_all_networks_is_among_the_others_still() {
    network::enter_own();
    let (ddock, image) = with_networks(User::with_ranges());
    start(&ddock, "box", &["--network", "one"], &image);
    ddock.ok(&["network", "disconnect", "one", "box"]);
    assert_eq!(inside(&ddock, "box", SHOW), "");
    // Nobody else holds the networks now.
    start(&ddock, "db", &["--network", "two"], &image);
    ddock.ok(&["network", "connect", "--ip", "10.6.0.9", "two", "box"]);
    assert_eq!(inside(&ddock, "box", SHOW), "eth0 10.6.0.9/24\n");
    let reach = "busybox ping -c 1 -W 5 10.6.0.9 >/dev/null && echo pong";
    assert_eq!(inside(&ddock, "db", reach), "pong\n");
    ddock.ok(&["rm", "-f", "-a"]);
}

#[test]
fn a_users_way_out_goes_with_the_last_network_that_leads_anywhere_and_comes_again() {
    leave_and_come_again("/usr/bin/pasta", Neighbour::HOST);
}

#[test]
fn a_users_way_out_by_slirp4netns_goes_and_comes_as_well() {
    leave_and_come_again("/usr/bin/slirp4netns", "10.0.2.100");
}

/// `own`: the container's address there.
fn leave_and_come_again(program: &str, own: &str) {
    // As most systems have it.
    network::enter_private_mounts();
    let script = "mount -t tmpfs -o mode=755 none /dev/net; mknod -m 666 /dev/net/tun c 10 200";
    command_succeeds(Command::new("sh").args(["-ec", script]));
    let neighbour = Neighbour::connect();
    let (ddock, image) = with_networks(User::with_ranges());
    let flags = ["-h", "box", "--network", "one", "-p", "8082:82"];
    // With which the test becomes the user.
    let path = ddock.scratch().dir("programs");
    for program in [program, "/usr/bin/setpriv"].map(Path::new) {
        std::os::unix::fs::symlink(program, path.join(program.file_name().unwrap())).unwrap();
    }
    let run = [&["run", "-d", "--name", "box"], &flags[..]].concat();
    let run = [&run[..], &[&image, "sleep", "1000000"]].concat();
    output(ddock.command(&run).env("PATH", &path)).exits(0);
    let out = |name: &str| {
        let script = format!(
            "sleep 1 | busybox nc -w 3 {} 7000 || true",
            Neighbour::ADDRESS
        );
        inside(&ddock, name, &script)
    };
    let mut outside = neighbour
        .command("busybox")
        .args(["nc", "-ll", "-p", "7000", "-e", "echo", "outside"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the way out", || (out("box") == "outside\n").then_some(()));
    ddock.ok(&["network", "connect", "--ip", "10.7.0.9", "inner", "box"]);
    let inner = "eth2 10.7.0.9/24";
    ddock.ok(&["network", "connect", "two", "box"]);
    ddock.ok(&["network", "disconnect", "one", "box"]);
    assert_eq!(out("box"), "outside\n");
    assert!(ddock.ok(&["port", "box"]).contains(":8082"));
    ddock.ok(&["network", "disconnect", "two", "box"]);
    wait_for("its link to go", || {
        (inside(&ddock, "box", SHOW) == format!("{inner}\n")).then_some(())
    });
    assert_eq!(out("box"), "");
    assert_eq!(ddock.ok(&["port", "box"]), "");
    assert_eq!(hosts(&ddock, "box").matches("\tbox\n").count(), 1);
    let listening = command_succeeds(Command::new("ss").args(["-ltn"]));
    assert!(!listening.contains(":8082"), "{listening}");
    ddock.ok(&["network", "connect", "one", "box"]);
    wait_for("the way out", || (out("box") == "outside\n").then_some(()));
    let line = format!("{own}\tbox\n");
    assert!(hosts(&ddock, "box").contains(&line), "{line}");
    // Who was to reach nothing reaches nothing.
    start(&ddock, "alone", &["--network", "inner"], &image);
    let said = ddock.run(&["network", "connect", "two", "alone"]).exits(0);
    said.says("was started without a way out");
    assert_eq!(out("alone"), "");
    drop(outside.kill());
    drop(outside.wait());
    ddock.ok(&["rm", "-f", "-a"]);
}

#[test]
fn what_cannot_be_changed_for_a_user_is_said() {
    for user in [User::with_ranges(), User::without_ranges()] {
        network::enter_own();
        let (ddock, image) = with_networks(user);
        for (name, flags) in [
            ("box", &["--network", "one"][..]),
            ("default", &[]),
            ("alone", &["--network", "none"]),
            ("kept", &["--userns", "keep-id"]),
            ("joined", &["--network", "container:box"]),
        ] {
            start(&ddock, name, flags, &image);
        }
        let own = "is in a user namespace of its own, not in that of your networks: it has to be started with `run --network NAME`";
        let bridge = "`bridge` is `pasta` or `slirp4netns` for an ordinary user's containers";
        for (args, words) in [
            ("connect one default", own),
            ("connect one alone", own),
            ("connect one kept", own),
            ("connect one joined", "container sharing network namespace"),
            ("connect bridge box", bridge),
            ("disconnect bridge box", bridge),
            ("disconnect -f bridge default", bridge),
            ("disconnect two box", "is not connected to network two"),
            ("connect one box", "endpoint with name box already exists"),
        ] {
            let words_of: Vec<&str> = args.split(' ').collect();
            let said = ddock.run(&[&["network"], &words_of[..]].concat()).exits(1);
            said.says(words);
        }
        ddock.ok(&["network", "disconnect", "-f", "two", "box"]);
        ddock.ok(&["network", "rm", "two"]);
        ddock.ok(&["rm", "-f", "-a"]);
    }
}
