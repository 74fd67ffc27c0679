//! Names between containers of a network of the user's, as real programs ask for them.

use std::fmt::Write as _;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::ddock::{Ddock, output};
use crate::harness::scratch::command_succeeds;
use crate::harness::{network, wait_for};

/// Where containers ask.
const RESOLVER: &str = "127.0.0.11";

/// A container that only sleeps; removed with this.
struct Member<'a> {
    ddock: &'a Ddock,
    name: String,
    pid: String,
}

impl<'a> Member<'a> {
    fn start(ddock: &'a Ddock, name: &str, flags: &[&str], image: &str) -> Member<'a> {
        let mut args = vec!["run", "-d", "--name", name];
        args.extend(flags);
        args.extend([image, "sleep", "1000000"]);
        ddock.ok(&args);
        let state = inspect(ddock, name);
        Member {
            ddock,
            name: name.to_owned(),
            pid: state["State"]["Pid"].to_string(),
        }
    }

    fn address(&self, network: &str, key: &str) -> String {
        let document = inspect(self.ddock, &self.name);
        let address = &document["NetworkSettings"]["Networks"][network][key];
        address.as_str().unwrap().to_owned()
    }

    /// Returns a command in the container's network, with the host's files.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid, "-n", "--", program]);
        command
    }

    /// Returns what `dig` says, asked once.
    fn dig(&self, args: &str) -> String {
        let mut command = self.command("dig");
        command.args(["+tries=1", "+time=15", &format!("@{RESOLVER}")]);
        command.args(args.split(' '));
        output(&mut command).stdout
    }

    /// Returns the answers alone, sorted.
    fn short(&self, args: &str) -> Vec<String> {
        let said = self.dig(&format!("+short {args}"));
        let mut lines: Vec<String> = said.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// Returns `STATUS ANSWERS`.
    fn status(&self, args: &str) -> String {
        let said = self.dig(args);
        let between = |from: &str| {
            let rest = said.split_once(from).map(|(_, rest)| rest);
            let rest = rest.unwrap_or_else(|| panic!("no {from:?} in {said}"));
            rest[..rest.find(',').unwrap()].to_owned()
        };
        format!("{} {}", between("status: "), between("ANSWER: "))
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        self.ddock.run(&["rm", "-f", &self.name]);
    }
}

fn inspect(ddock: &Ddock, name: &str) -> serde_json::Value {
    let said = ddock.ok(&["inspect", name]);
    let mut document: serde_json::Value = serde_json::from_str(&said).unwrap();
    document[0].take()
}

fn create(ddock: &Ddock, args: &[&str]) {
    ddock.ok(&[&["network", "create"], args].concat());
}

/// Makes the host's `/etc/resolv.conf` this file, which the test may change, for the test alone.
fn host_asks(ddock: &Ddock, servers: &[&str]) -> PathBuf {
    network::enter_own();
    network::enter_private_mounts();
    let path = ddock.scratch().join("resolv.conf");
    name_servers(&path, servers);
    let mut mount = Command::new("mount");
    command_succeeds(mount.arg("--bind").arg(&path).arg("/etc/resolv.conf"));
    path
}

fn name_servers(path: &Path, servers: &[&str]) {
    let lines = servers.iter().map(|it| format!("nameserver {it}\n"));
    fs_err::write(path, lines.collect::<String>()).unwrap();
}

/// A real name server; ended with this.
struct Server {
    process: Child,
    log: PathBuf,
}

impl Server {
    /// Starts it at an address of this host, or of `inside`'s.
    fn start(
        ddock: &Ddock,
        address: &str,
        inside: Option<&Member<'_>>,
        records: &[&str],
    ) -> Server {
        let log = ddock.scratch().join(&format!("queries-{address}"));
        let mut command = match inside {
            Some(member) => member.command("dnsmasq"),
            None => Command::new("dnsmasq"),
        };
        command.args([
            "-d",
            "-C",
            "/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--user=root",
        ]);
        command.args([
            "--pid-file=",
            "--bind-interfaces",
            "--log-queries",
            "--dns-forward-max=2000",
        ]);
        command.arg(format!("--log-facility={}", log.display()));
        command.arg(format!("--listen-address={address}"));
        let process = command.args(records).stderr(Stdio::null()).spawn().unwrap();
        let server = Server { process, log };
        wait_for("the name server", || {
            server.log().contains("started").then_some(())
        });
        server
    }

    /// Returns what it was asked.
    fn log(&self) -> String {
        fs_err::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[test]
fn containers_of_a_network_find_each_other_by_name_id_alias_and_network() {
    let (ddock, image) = Ddock::with_busybox();
    host_asks(&ddock, &["127.0.0.1"]);
    create(&ddock, &["--ipv6", "app"]);
    create(&ddock, &["other"]);
    let flags = ["--network", "app", "--network-alias", "database"];
    let db = Member::start(&ddock, "My.db", &flags, &image);
    let web = Member::start(&ddock, "web", &["--network", "app"], &image);
    let stranger = Member::start(&ddock, "stranger", &["--network", "other"], &image);
    let (v4, v6) = (
        db.address("app", "IPAddress"),
        db.address("app", "GlobalIPv6Address"),
    );
    let id = inspect(&ddock, "My.db")["Id"].as_str().unwrap()[..12].to_owned();
    for name in [
        "My.db",
        "my.DB",
        &id,
        "database",
        "my.db.app",
        "DATABASE.app",
        "my.db.",
    ] {
        assert_eq!(web.short(name), [v4.as_str()], "{name}");
        assert_eq!(web.short(&format!("{name} AAAA")), [v6.as_str()], "{name}");
    }
    // Itself, too.
    assert_eq!(web.short("web"), [web.address("app", "IPAddress")]);
    assert_eq!(web.short(&format!("-x {v4}")), ["My.db.app."]);
    assert_eq!(web.short(&format!("-x {v6}")), ["My.db.app."]);
    // It is known, and has nothing of the kind: nobody else is asked.
    assert_eq!(web.status("database MX"), "NOERROR 0");
    // The host's server is not there.
    assert_eq!(web.status("stranger"), "SERVFAIL 0");
    assert_eq!(stranger.status("web"), "SERVFAIL 0");
}

#[test]
fn the_c_library_finds_them_and_the_file_asks_the_responder() {
    let (ddock, image) = Ddock::with_busybox();
    network::enter_own();
    create(&ddock, &["app"]);
    let db = Member::start(&ddock, "db", &["--network", "app"], &image);
    let flags = [
        "--network",
        "app",
        "-v",
        "/usr:/usr:ro",
        "-v",
        "/lib:/lib:ro",
        "-v",
        "/lib64:/lib64:ro",
    ];
    let script =
        "grep -E '^(nameserver|options)' /etc/resolv.conf; getent ahostsv4 db; busybox nslookup db";
    let said = ddock.sh(&flags, &image, script);
    let address = db.address("app", "IPAddress");
    assert!(
        said.starts_with("nameserver 127.0.0.11\noptions "),
        "{said}"
    );
    assert!(said.lines().nth(1).unwrap().contains("ndots:0"), "{said}");
    assert!(
        said.contains(&format!("{address:<15} STREAM db\n")),
        "{said}"
    );
    assert!(said.contains(&format!("Address: {address}\n")), "{said}");
    // The default network has no names, as with Docker.
    let said = ddock.sh(&[], &image, "cat /etc/resolv.conf; cat /proc/net/udp");
    assert!(
        !said.contains(RESOLVER) && !said.contains("0B00007F"),
        "{said}"
    );
}

#[test]
fn an_alias_of_several_is_all_their_addresses_in_varying_order() {
    let (ddock, image) = Ddock::with_busybox();
    network::enter_own();
    create(&ddock, &["app"]);
    let flags = ["--network", "app", "--network-alias", "worker"];
    let names = ["one", "two", "three"];
    let members = names.map(|name| Member::start(&ddock, name, &flags, &image));
    let mut addresses = members.each_ref().map(|it| it.address("app", "IPAddress"));
    addresses.sort();
    assert_eq!(members[0].short("worker"), addresses);
    let first = || {
        members[0]
            .dig("+short worker")
            .lines()
            .next()
            .unwrap()
            .to_owned()
    };
    let one = first();
    wait_for("another to be first", || (first() != one).then_some(()));
}

#[test]
fn who_has_ended_has_no_name_however_that_came_and_nothing_of_it_is_left() {
    let (ddock, image) = Ddock::with_busybox();
    host_asks(&ddock, &["127.0.0.1"]);
    create(&ddock, &["app"]);
    let web = Member::start(&ddock, "web", &["--network", "app"], &image);
    let db = Member::start(&ddock, "db", &["--network", "app"], &image);
    assert_eq!(web.short("db").len(), 1);
    ddock.ok(&["stop", "-t", "0", "db"]);
    assert_eq!(web.status("db"), "SERVFAIL 0");
    drop(db);
    let db = Member::start(&ddock, "db", &["--network", "app"], &image);
    assert_eq!(web.short("db"), [db.address("app", "IPAddress")]);
    let stat = fs_err::read_to_string(format!("/proc/{}/stat", db.pid)).unwrap();
    let monitor = stat
        .rsplit(") ")
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .to_owned();
    let of_monitor = format!("/proc/{monitor}/task/{monitor}/children");
    let children = fs_err::read_to_string(of_monitor).unwrap();
    assert_eq!(children.split_whitespace().count(), 2, "{children}");
    command_succeeds(Command::new("kill").args(["-9", &monitor]));
    wait_for("the monitor's processes to end", || {
        let runs = |pid: &str| Path::new("/proc").join(pid).join("exe").exists();
        (!children.split_whitespace().any(runs)).then_some(())
    });
    assert_eq!(web.status("db"), "SERVFAIL 0");
    // The next command removes what the dead one was called, and of a network that goes nothing is left.
    let members = ddock
        .root()
        .join("v1/networks")
        .join(network_id(&ddock, "app"));
    assert!(members.join("db").exists());
    ddock.ok(&["ps"]);
    assert!(!members.join("db").exists());
    drop((db, web));
    assert_eq!(fs_err::read_dir(&members).unwrap().count(), 0);
    ddock.ok(&["network", "rm", "app"]);
    assert!(!members.exists());
}

fn network_id(ddock: &Ddock, name: &str) -> String {
    let said = ddock.ok(&["network", "inspect", name]);
    let document: serde_json::Value = serde_json::from_str(&said).unwrap();
    document[0]["Id"].as_str().unwrap().to_owned()
}

#[test]
fn a_damaged_record_is_its_own_containers_matter() {
    let (ddock, image) = Ddock::with_busybox();
    host_asks(&ddock, &["127.0.0.1"]);
    create(&ddock, &["app"]);
    let members = ["one", "two", "three"];
    let [one, two, three] =
        members.map(|name| Member::start(&ddock, name, &["--network", "app"], &image));
    let addresses = [&one, &two, &three].map(|it| it.address("app", "IPAddress"));
    let id = inspect(&ddock, "two")["Id"].as_str().unwrap().to_owned();
    let record = ddock
        .root()
        .join("v1/containers")
        .join(id)
        .join("state.json");
    let whole = fs_err::read(&record).unwrap();
    let cut = &whole[..whole.len() / 2];
    let future = String::from_utf8_lossy(&whole).replace("\"running\"", "\"dreaming\"");
    for damaged in [&b""[..], cut, future.as_bytes()] {
        fs_err::write(&record, damaged).unwrap();
        // Others, the container itself, and the container's own questions.
        for asker in [&one, &two] {
            assert_eq!(asker.short("three"), [addresses[2].as_str()]);
            assert_eq!(asker.short("two"), [addresses[1].as_str()]);
            assert_eq!(asker.short(&format!("-x {}", addresses[0])), ["one.app."]);
            assert_eq!(asker.status("nobody"), "SERVFAIL 0");
        }
    }
    fs_err::remove_file(&record).unwrap();
    fs_err::create_dir(&record).unwrap();
    assert_eq!(one.short("three"), [addresses[2].as_str()]);
    assert_eq!(two.short("three"), [addresses[2].as_str()]);
    fs_err::remove_dir(&record).unwrap();
    assert_eq!(two.short("three"), [addresses[2].as_str()]);
    fs_err::write(&record, whole).unwrap();
}

/// Others' containers, ended ones and members of the network, cost a question nothing.
#[test]
fn a_question_costs_the_same_among_a_thousand() {
    const MANY: usize = 1000;
    const QUESTIONS: u64 = 2000;
    let (ddock, image) = Ddock::with_busybox();
    host_asks(&ddock, &["127.0.0.1"]);
    create(&ddock, &["app"]);
    let db = Member::start(&ddock, "db", &["--network", "app"], &image);
    let web = Member::start(&ddock, "web", &["--network", "app"], &image);
    let responder = responder_of(&web);
    let memory = || memory_of(&responder);
    assert_eq!(web.short("db"), [db.address("app", "IPAddress")]);
    let before = memory();
    ddock.ok(&["run", "--name", "ended", &image, "true"]);
    let containers = ddock.root().join("v1/containers");
    let id = inspect(&ddock, "ended")["Id"].as_str().unwrap().to_owned();
    let record = fs_err::read_to_string(containers.join(&id).join("state.json")).unwrap();
    let members = ddock
        .root()
        .join("v1/networks")
        .join(network_id(&ddock, "app"));
    for number in 0..MANY {
        let other = format!("{number:064x}");
        let directory = containers.join(&other);
        fs_err::create_dir(&directory).unwrap();
        fs_err::write(directory.join("state.json"), record.replace(&id, &other)).unwrap();
        let word = members.join(format!("other{number}"));
        fs_err::create_dir(&word).unwrap();
        fs_err::os::unix::fs::symlink("172.20.9.9", word.join(&other)).unwrap();
    }
    assert_eq!(web.short("db"), [db.address("app", "IPAddress")]);
    let used = || {
        let used = fs_err::read_to_string(format!("/proc/{responder}/schedstat")).unwrap();
        used.split(' ').next().unwrap().parse::<u64>().unwrap() / 1000
    };
    let begun = used();
    let namespace = fs_err::File::open(format!("/proc/{}/ns/net", web.pid)).unwrap();
    let asked = std::thread::spawn(move || {
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        for _ in 0..QUESTIONS {
            let mut buffer = [0; 512];
            socket.send_to(&query("db"), (RESOLVER, 53)).unwrap();
            assert!(socket.recv(&mut buffer).is_ok() && buffer[7] == 1);
        }
    });
    asked.join().unwrap();
    let each = (used() - begun) / QUESTIONS;
    // An optimised program takes a third of this.
    assert!(each < 150, "{each} µs");
    let grown = memory().saturating_sub(before);
    assert!(grown < MANY as u64 * 100 / 1024 + 64, "{grown} KiB");
}

/// Returns the PID of the process that answers for a container of the user's networks: its monitor has no other child.
fn responder_of(member: &Member<'_>) -> String {
    let stat = fs_err::read_to_string(format!("/proc/{}/stat", member.pid)).unwrap();
    let monitor = stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap();
    let children = format!("/proc/{monitor}/task/{monitor}/children");
    let children = fs_err::read_to_string(children).unwrap();
    let mut others = children
        .split_whitespace()
        .filter(|pid| **pid != *member.pid);
    others.next().unwrap().to_owned()
}

/// Returns the memory that a process has for itself, in KiB.
fn memory_of(pid: &str) -> u64 {
    let rollup = fs_err::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Private_Dirty:"));
    line.unwrap().trim_end_matches("kB").trim().parse().unwrap()
}

#[test]
fn other_names_are_asked_of_the_hosts_server_on_loopback_and_pass_as_they_are() {
    let (ddock, image) = Ddock::with_busybox();
    let file = host_asks(&ddock, &["127.0.0.53"]);
    let records = [
        "--address=/outside.example/192.0.2.7",
        "--mx-host=outside.example,mail.example,5",
        "--dns-rr=outside.example,999,0a0b",
        "--local=/example/",
    ];
    let server = Server::start(&ddock, "127.0.0.53", None, &records);
    create(&ddock, &["app"]);
    let web = Member::start(&ddock, "web", &["--network", "app"], &image);
    assert_eq!(web.short("outside.example"), ["192.0.2.7"]);
    assert_eq!(web.short("outside.example MX"), ["5 mail.example."]);
    assert_eq!(web.short("outside.example TYPE999"), ["\\# 2 0A0B"]);
    assert_eq!(web.short("+tcp outside.example"), ["192.0.2.7"]);
    assert_eq!(web.status("nowhere.example"), "NXDOMAIN 0");
    assert!(web.dig("outside.example").contains("EDNS: version: 0"));
    // What is a container's is nobody else's business.
    assert_eq!(web.status("web MX"), "NOERROR 0");
    assert_eq!(web.status("web AAAA"), "NOERROR 0");
    assert!(!server.log().contains(" web "), "{}", server.log());
    drop(server);
    assert_eq!(web.status("outside.example"), "SERVFAIL 0");
    let other = Server::start(
        &ddock,
        "127.0.0.54",
        None,
        &["--address=/outside.example/192.0.2.8"],
    );
    name_servers(&file, &["127.0.0.54"]);
    assert_eq!(web.short("outside.example"), ["192.0.2.8"]);
    drop(other);
}

#[test]
fn an_answer_that_is_too_long_for_a_datagram_comes_by_a_connection() {
    let (ddock, image) = Ddock::with_busybox();
    host_asks(&ddock, &["127.0.0.53"]);
    let mut text = String::from("--txt-record=long.example");
    for number in 0..20 {
        write!(text, ",{number}-{}", "x".repeat(200)).unwrap();
    }
    let _server = Server::start(&ddock, "127.0.0.53", None, &[&text]);
    create(&ddock, &["app"]);
    let web = Member::start(&ddock, "web", &["--network", "app"], &image);
    for args in ["long.example TXT", "+noedns long.example TXT"] {
        let said = web.dig(args);
        assert!(
            said.contains(&format!("\"19-{}\"", "x".repeat(200))),
            "{said}"
        );
        assert!(said.contains("retrying in TCP mode"), "{said}");
    }
    // So many of one name are cut off in a datagram, too.
    let aliases: Vec<String> = (0..3).map(|it| format!("m{it}")).collect();
    let flags = ["--network", "app", "--network-alias", "all"];
    let _members = aliases
        .iter()
        .map(|name| Member::start(&ddock, name, &flags, &image))
        .collect::<Vec<_>>();
    assert_eq!(web.short("+tcp all").len(), 3);
}

#[test]
fn a_dead_server_is_passed_over_and_a_slow_one_is_waited_for() {
    let (ddock, image) = Ddock::with_busybox();
    let file = host_asks(&ddock, &["127.0.0.51", "127.0.0.52", "127.0.0.53"]);
    // The first has no socket, the second never answers.
    let _mute = UdpSocket::bind("127.0.0.52:53").unwrap();
    let server = Server::start(
        &ddock,
        "127.0.0.53",
        None,
        &["--address=/outside.example/192.0.2.7"],
    );
    create(&ddock, &["app"]);
    let web = Member::start(&ddock, "web", &["--network", "app"], &image);
    let begin = Instant::now();
    assert_eq!(web.short("outside.example"), ["192.0.2.7"]);
    assert!(
        begin.elapsed() < Duration::from_secs(4),
        "{:?}",
        begin.elapsed()
    );
    drop(server);
    let begin = Instant::now();
    assert_eq!(web.status("outside.example"), "SERVFAIL 0");
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );

    let slow = UdpSocket::bind("127.0.0.55:53").unwrap();
    name_servers(&file, &["127.0.0.55"]);
    let answer = std::thread::spawn(move || {
        let mut buffer = [0; 512];
        let (length, peer) = slow.recv_from(&mut buffer).unwrap();
        // As slow as it takes to be asked again.
        let (_, again) = slow.recv_from(&mut [0; 512]).unwrap();
        assert_ne!(peer, again);
        buffer[2] |= 0x80;
        buffer[3] = 3;
        slow.send_to(&buffer[..length], peer).unwrap();
    });
    assert_eq!(web.status("outside.example"), "NXDOMAIN 0");
    answer.join().unwrap();
}

#[test]
fn a_thousand_questions_at_once_are_all_answered() {
    let (ddock, image) = Ddock::with_busybox();
    host_asks(&ddock, &["127.0.0.53"]);
    let _server = Server::start(
        &ddock,
        "127.0.0.53",
        None,
        &["--address=/outside.example/192.0.2.7"],
    );
    create(&ddock, &["app"]);
    let web = Member::start(&ddock, "web", &["--network", "app"], &image);
    let namespace = fs_err::File::open(format!("/proc/{}/ns/net", web.pid)).unwrap();
    let answered = std::thread::spawn(move || {
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let sockets: Vec<UdpSocket> = (0..1000)
            .map(|number| {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                socket
                    .set_read_timeout(Some(Duration::from_secs(10)))
                    .unwrap();
                let name = if number % 2 == 0 {
                    "web"
                } else {
                    "outside.example"
                };
                socket.send_to(&query(name), (RESOLVER, 53)).unwrap();
                socket
            })
            .collect();
        sockets
            .iter()
            .filter(|socket| {
                let mut buffer = [0; 512];
                // An answer with one record.
                socket.recv(&mut buffer).is_ok() && buffer[7] == 1
            })
            .count()
    });
    assert_eq!(answered.join().unwrap(), 1000);
}

/// A question for an address.
fn query(name: &str) -> Vec<u8> {
    let mut message = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

#[test]
fn a_container_may_have_a_server_of_its_own_at_port_53() {
    let (ddock, image) = Ddock::with_busybox();
    host_asks(&ddock, &["127.0.0.1"]);
    create(&ddock, &["app"]);
    let web = Member::start(&ddock, "web", &["--network", "app"], &image);
    let dns = Member::start(&ddock, "dns", &["--network", "app"], &image);
    let _server = Server::start(
        &ddock,
        "0.0.0.0",
        Some(&dns),
        &["--address=/own.example/192.0.2.9"],
    );
    let mut dig = web.command("dig");
    let address = dns.address("app", "IPAddress");
    let said = output(dig.args(["+short", &format!("@{address}"), "own.example"]));
    assert_eq!(said.stdout, "192.0.2.9\n");
    assert_eq!(dns.short("web"), [web.address("app", "IPAddress")]);
    // `--dns` is meant as the container sees it: this one has itself for it.
    let own = Member::start(
        &ddock,
        "own",
        &["--network", "app", "--dns", "127.0.0.1"],
        &image,
    );
    let _server = Server::start(
        &ddock,
        "127.0.0.1",
        Some(&own),
        &["--address=/own.example/192.0.2.10"],
    );
    assert_eq!(own.short("own.example"), ["192.0.2.10"]);
    let other = Member::start(
        &ddock,
        "other",
        &["--network", "app", "--dns", &address],
        &image,
    );
    assert_eq!(other.short("own.example"), ["192.0.2.9"]);
}

#[test]
fn a_container_of_the_default_network_has_names_once_it_is_connected_to_another() {
    let (ddock, image) = Ddock::with_busybox();
    host_asks(&ddock, &["127.0.0.1", "192.0.2.1"]);
    create(&ddock, &["app"]);
    let db = Member::start(&ddock, "db", &["--network", "app"], &image);
    let web = Member::start(&ddock, "web", &[], &image);
    let own = Member::start(&ddock, "own", &[], &image);
    let file = |member: &Member<'_>| {
        let path = format!("/proc/{}/root/etc/resolv.conf", member.pid);
        fs_err::read_to_string(path).unwrap()
    };
    assert!(file(&web).starts_with("nameserver 192.0.2.1\n"));
    let path = format!("/proc/{}/root/etc/resolv.conf", own.pid);
    fs_err::write(path, "nameserver 192.0.2.2\n").unwrap();
    for name in ["web", "own"] {
        ddock.ok(&["network", "connect", "--alias", "late", "app", name]);
    }
    assert!(
        file(&web).starts_with("nameserver 127.0.0.11\n"),
        "{}",
        file(&web)
    );
    assert!(file(&web).contains("options ndots:0\n"), "{}", file(&web));
    assert_eq!(file(&own), "nameserver 192.0.2.2\n");
    assert_eq!(web.short("db"), [db.address("app", "IPAddress")]);
    assert_eq!(db.short("web"), [web.address("app", "IPAddress")]);
    assert_eq!(db.short("late").len(), 2);
    ddock.ok(&["network", "disconnect", "app", "web"]);
    assert_eq!(db.short("late").len(), 1);
    assert_eq!(web.status("db"), "SERVFAIL 0");
    ddock.ok(&["network", "connect", "app", "web"]);
    assert_eq!(web.short("db"), [db.address("app", "IPAddress")]);
}

#[test]
fn an_internal_network_has_names_and_hears_nothing_from_outside() {
    let (ddock, image) = Ddock::with_busybox();
    host_asks(&ddock, &["127.0.0.53"]);
    let server = Server::start(
        &ddock,
        "127.0.0.53",
        None,
        &["--address=/outside.example/192.0.2.7"],
    );
    create(&ddock, &["--internal", "app"]);
    let web = Member::start(&ddock, "web", &["--network", "app"], &image);
    assert_eq!(web.short("web"), [web.address("app", "IPAddress")]);
    assert_eq!(web.status("outside.example"), "SERVFAIL 0");
    assert!(!server.log().contains("outside"), "{}", server.log());
}

#[test]
fn nonsense_from_a_container_is_refused_or_not_heard() {
    let (ddock, image) = Ddock::with_busybox();
    host_asks(&ddock, &["127.0.0.1"]);
    create(&ddock, &["app"]);
    let web = Member::start(&ddock, "web", &["--network", "app"], &image);
    let script = "import os, socket
for size in range(0, 5000, 7):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.sendto(os.urandom(size), ('127.0.0.11', 53))
    sock.sendto(b'\\x07\\x07\\x01\\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00' + os.urandom(size), ('127.0.0.11', 53))
idle = [socket.create_connection(('127.0.0.11', 53)) for _ in range(300)]
for size in range(0, 5000, 61):
    sock = socket.create_connection(('127.0.0.11', 53))
    try:
        sock.sendall(size.to_bytes(2, 'big') + os.urandom(size))
        sock.sendall(b'\\xff\\xff' + os.urandom(100))
    except OSError:
        pass
print('sent')
";
    let said = output(web.command("python3").args(["-c", script])).exits(0);
    assert_eq!(said.stdout, "sent\n");
    assert_eq!(web.short("web"), [web.address("app", "IPAddress")]);
    assert_eq!(web.short("+tcp web"), [web.address("app", "IPAddress")]);
    assert_eq!(web.status("+opcode=status web"), "NOTIMP 0");
}
