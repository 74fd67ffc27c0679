//! Networks that an ordinary user defined: his containers reach each other, and nothing is left of that.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use crate::harness::ddock::{Ddock, output};
use crate::harness::image::busybox;
use crate::harness::neighbour::Neighbour;
use crate::harness::scratch::command_succeeds;
use crate::harness::user::User;
use crate::harness::{network, wait_for};

/// Returns ddock for a user on a host without a way out, and an image.
fn alone(user: User) -> (Ddock, String) {
    network::enter_own();
    let ddock = Ddock::for_user(user);
    let image = ddock.pull(busybox());
    (ddock, image)
}

fn start(ddock: &Ddock, name: &str, flags: &[&str], image: &str) -> String {
    let mut args = vec!["run", "-d", "--name", name];
    args.extend(flags);
    args.extend([image, "sleep", "1000000"]);
    ddock.ok(&args);
    let said = ddock.ok(&["inspect", name]);
    let document: serde_json::Value = serde_json::from_str(&said).unwrap();
    document[0]["State"]["Pid"].to_string()
}

fn namespace(pid: &str, kind: &str) -> std::path::PathBuf {
    fs_err::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap()
}

/// Returns the network namespaces that processes are in or hold; `processes` is a pattern of their PIDs.
fn held(processes: &str) -> BTreeSet<String> {
    let list = format!(
        "find /proc/{processes}/ns/net /proc/{processes}/fd -maxdepth 1 -user ddock-ranges -printf '%l\\n' 2>/dev/null |
        grep '^net:'"
    );
    let said = output(Command::new("sh").args(["-c", &list])).stdout;
    said.lines().map(str::to_owned).collect()
}

fn monitor_of(pid: &str) -> String {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit(") ").next().unwrap();
    fields.split(' ').nth(1).unwrap().to_owned()
}

const FIND: &str = "busybox nslookup -type=a db | grep -A1 '^Name' | tail -1; ping -c 1 -W 5 db >/dev/null && echo pong";

#[test]
fn containers_of_a_user_reach_each_other_by_name_in_his_networks_only() {
    for user in [User::with_ranges(), User::without_ranges()] {
        let (ddock, image) = alone(user);
        ddock.ok(&["network", "create", "--ipv6", "app"]);
        ddock.ok(&["network", "create", "--internal", "back"]);
        let flags = ["--network", "app", "--network", "name=back,alias=store"];
        let db = start(&ddock, "db", &flags, &image);
        let said = ddock.sh(&["--network", "app"], &image, FIND);
        assert!(
            said.starts_with("Address: 172.") && said.ends_with("pong\n"),
            "{said}"
        );
        let by_ipv6 = "ping -6 -c 1 -W 5 db >/dev/null && echo pong";
        assert_eq!(ddock.sh(&["--network", "app"], &image, by_ipv6), "pong\n");
        let by_alias = FIND.replace("db", "store.back");
        let said = ddock.sh(&["--network", "back"], &image, &by_alias);
        assert!(
            said.starts_with("Address: 172.") && said.ends_with("pong\n"),
            "{said}"
        );
        let links = "ls /sys/class/net; ip route | grep -c default";
        let said = ddock.run(&["run", "--rm", "--network", "app", &image, "sh", "-c", links]);
        assert_eq!(
            (said.stdout.as_str(), said.stderr.as_str()),
            ("eth0\nlo\n0\n", "")
        );
        ddock.ok(&["network", "create", "other"]);
        let said = ddock.sh(
            &["--network", "other"],
            &image,
            &format!("{FIND} || echo nobody"),
        );
        assert_eq!(said, "nobody\n");
        // None of it is seen on the host.
        let links = command_succeeds(Command::new("ip").args(["-o", "link"]));
        assert_eq!(links.lines().count(), 1, "{links}");
        let refused = ddock.run(&["network", "rm", "app"]);
        refused.exits(1).says("has active endpoints");
        let user_namespace = namespace(&db, "user");
        let web = start(&ddock, "web", &["--network", "app"], &image);
        assert_eq!(namespace(&web, "user"), user_namespace);
        ddock.ok(&["rm", "-f", "db", "web"]);
        ddock.ok(&["network", "rm", "app", "back", "other"]);
    }
}

#[test]
fn what_holds_the_networks_outlives_whoever_made_it_and_goes_with_the_last() {
    let (ddock, image) = alone(User::with_ranges());
    ddock.ok(&["network", "create", "app"]);
    // Its first process is ours, and must not keep others waiting.
    let first = start(&ddock, "first", &["--init", "--network", "app"], &image);
    let db = start(&ddock, "db", &["--network", "app"], &image);
    let [monitor, other] = [first, db].map(|pid| monitor_of(&pid));
    let of_both = &held(&monitor) & &held(&other);
    // Where they are themselves, and what holds the networks.
    assert_eq!(of_both.len(), 2, "{of_both:?}");
    command_succeeds(Command::new("kill").args(["-9", &monitor]));
    let said = ddock.sh(&["--network", "app"], &image, FIND);
    assert!(said.ends_with("pong\n"), "{said}");
    ddock.ok(&["rm", "-f", "first", "db"]);
    wait_for("the network namespaces to go", || {
        held("[0-9]*").is_disjoint(&of_both).then_some(())
    });
}

#[test]
fn a_server_that_is_named_is_asked_as_the_container_sees_it() {
    let (ddock, image) = alone(User::with_ranges());
    ddock.ok(&["network", "create", "app"]);
    let db = start(&ddock, "db", &["--network", "app"], &image);
    let mut server = Command::new("nsenter");
    server.args([
        "-t",
        &db,
        "-U",
        "-n",
        "--",
        "dnsmasq",
        "-d",
        "-C",
        "/dev/null",
        "--no-resolv",
        "--no-hosts",
    ]);
    server.args([
        "--user=root",
        "--group=root",
        "--pid-file=",
        "--address=/own.example/192.0.2.9",
    ]);
    let mut server = server.stderr(Stdio::null()).spawn().unwrap();
    let address = ddock.sh(&["--network", "app"], &image, FIND);
    let address = address
        .lines()
        .next()
        .unwrap()
        .strip_prefix("Address: ")
        .unwrap();
    let ask = "busybox nslookup -type=a own.example | grep -A1 '^Name' | tail -1";
    wait_for("the server's answer", || {
        let said = ddock.sh(&["--network", "app", "--dns", address], &image, ask);
        (said == "Address: 192.0.2.9\n").then_some(())
    });
    drop(server.kill());
    drop(server.wait());
    ddock.ok(&["rm", "-f", "db"]);
}

#[test]
fn containers_that_start_at_the_same_time_meet() {
    let (ddock, image) = alone(User::with_ranges());
    ddock.ok(&["network", "create", "app"]);
    let children: Vec<_> = (0..6)
        .map(|number| {
            let name = format!("box{number}");
            let args = [
                "run",
                "-d",
                "--name",
                &name,
                "--network",
                "app",
                &image,
                "sleep",
                "1000000",
            ];
            ddock.command(&args).stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let script = "for it in 0 1 2 3 4 5; do ping -c 1 -W 5 box$it >/dev/null && echo pong; done";
    let said = ddock.sh(&["--network", "app"], &image, script);
    assert_eq!(said.lines().count(), 6, "{said}");
    ddock.ok(&["rm", "-f", "-a"]);
}

#[test]
fn the_way_out_is_a_program_beside_the_networks() {
    // As most systems have it.
    network::enter_private_mounts();
    let script = "mount -t tmpfs -o mode=755 none /dev/net; mknod -m 666 /dev/net/tun c 10 200";
    command_succeeds(Command::new("sh").args(["-ec", script]));
    let neighbour = Neighbour::connect();
    let ddock = Ddock::for_user(User::with_ranges());
    let image = ddock.pull(busybox());
    ddock.ok(&["network", "create", "app"]);
    let server = ["--network", "app", "-p", "8082:82"];
    let pid = start(&ddock, "db", &server, &image);
    let mut service = Command::new("nsenter");
    service.args([
        "-t", &pid, "-U", "-n", "--", "busybox", "nc", "-ll", "-p", "82", "-e", "echo", "reached",
    ]);
    let mut service = service.spawn().unwrap();
    let script = format!(
        "ping -c 1 -W 5 db >/dev/null && echo pong; ls /sys/class/net; sleep 1 | nc -w 5 {} 7000",
        Neighbour::ADDRESS
    );
    let mut outside = neighbour
        .command("busybox")
        .args(["nc", "-ll", "-p", "7000", "-e", "echo", "outside"])
        .spawn()
        .unwrap();
    let said = ddock.sh(&["--network", "app"], &image, &script);
    assert_eq!(said, "pong\neth0\neth1\nlo\noutside\n");
    let ask = format!("sleep 1 | busybox nc -w 3 {} 8082 || true", Neighbour::HOST);
    wait_for("an answer from the published port", || {
        (neighbour.sh(&ask).stdout == "reached\n").then_some(())
    });
    // A network that nothing leaves has no way out, of whatever kind.
    ddock.ok(&["network", "create", "--internal", "back"]);
    let said = ddock.sh(&["--network", "back"], &image, "ls /sys/class/net");
    assert_eq!(said, "eth0\nlo\n");
    for child in [&mut service, &mut outside] {
        drop(child.kill());
        drop(child.wait());
    }
    ddock.ok(&["rm", "-f", "db"]);
}

#[test]
fn what_an_ordinary_users_networks_cannot_do_is_said() {
    let (ddock, image) = alone(User::with_ranges());
    ddock.ok(&["network", "create", "app"]);
    let keep = ddock.run(&[
        "run",
        "--rm",
        "--userns",
        "keep-id",
        "--network",
        "app",
        &image,
        "true",
    ]);
    keep.exits(125)
        .says("--userns=keep-id and networks of yours");
    // It would be everybody's namespace.
    let kept = ["--userns", "keep-id", "--ipc", "shareable"];
    start(&ddock, "kept", &kept, &image);
    let joins = ["run", "--rm", "--ipc", "container:kept"];
    let joins = ddock.run(&[&joins[..], &["--network", "app", &image, "true"]].concat());
    joins
        .exits(125)
        .says("the container to join was started with --userns=keep-id");
    start(&ddock, "plain", &["--ipc", "shareable"], &image);
    let flags = ["--network", "app", "--ipc", "container:plain"];
    assert_eq!(ddock.sh(&flags, &image, "id -u"), "0\n");
    ddock.ok(&["rm", "-f", "kept", "plain"]);
    let missing = ddock.run(&["run", "--rm", "--network", "nowhere", &image, "true"]);
    missing.exits(125).says("nowhere");
}
