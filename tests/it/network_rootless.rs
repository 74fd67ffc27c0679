//! The network of an ordinary user's containers: by `pasta`, by `slirp4netns`, or loopback only.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::harness::ddock::{Ddock, output};
use crate::harness::host::{parent_of, send_signal};
use crate::harness::image::busybox;
use crate::harness::neighbour::Neighbour;
use crate::harness::scratch::command_succeeds;
use crate::harness::user::User;
use crate::harness::{network, wait_for};

/// What says at port 81 who asked.
const WHO: &str = "import socket
server = socket.create_server(('0.0.0.0', 81))
while True:
    client, peer = server.accept()
    client.sendall(f'{peer[0]}\\n'.encode())
    client.close()
";

/// Returns a directory with little in it but links to these programs: a `PATH`.
pub(crate) fn path_with(ddock: &Ddock, programs: &[&str]) -> String {
    let path = ddock.scratch().dir("programs");
    // With which the test becomes the user.
    for program in programs.iter().chain(&["/usr/bin/setpriv"]) {
        let name = Path::new(program).file_name().unwrap();
        std::os::unix::fs::symlink(program, path.join(name)).unwrap();
    }
    path.to_str().unwrap().to_owned()
}

/// A container that only sleeps; ended with this.
struct Sleeper(Child);

impl Sleeper {
    fn start(ddock: &Ddock, path: &str, image: &str) -> (Sleeper, u64) {
        let args = [
            "run", "--rm", "--name", "server", "-p", "8081:81", image, "sleep", "1000000",
        ];
        let mut command = ddock.command(&args);
        let child = command
            .env("PATH", path)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pid = wait_for("the container to run", || {
            let said = ddock.run(&["inspect", "server"]).stdout;
            let document: serde_json::Value = serde_json::from_str(&said).ok()?;
            document[0]["State"]["Pid"].as_u64().filter(|pid| *pid > 0)
        });
        (Sleeper(child), pid)
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Opens `/dev/net/tun` to all, as most systems have it, where only this test sees it.
pub(crate) fn open_tun() {
    network::enter_private_mounts();
    let script = "mount -t tmpfs -o mode=755 none /dev/net; mknod -m 666 /dev/net/tun c 10 200";
    command_succeeds(Command::new("sh").args(["-ec", script]));
}

/// Returns who is seen in a container when the neighbour asks, and when this host does.
fn seen_with(program: &str) -> (String, String) {
    open_tun();
    let neighbour = Neighbour::connect();
    let ddock = Ddock::for_user(User::with_ranges());
    let image = ddock.pull(busybox());
    let path = path_with(&ddock, &[program]);
    let mut server = neighbour
        .command("busybox")
        .args(["nc", "-ll", "-p", "7000", "-e", "echo", "reached"])
        .spawn()
        .unwrap();
    // Debian 12's pasta loses the answer to a client that has closed its own half before.
    let reach = format!("sleep 1 | nc -w 5 {} 7000", Neighbour::ADDRESS);
    let mut run = ddock.command(&["run", "--rm", &image, "sh", "-c", &reach]);
    let said = output(run.env("PATH", &path)).exits(0);
    drop(server.kill());
    drop(server.wait());
    assert_eq!(
        (said.stdout.as_str(), said.stderr.as_str()),
        ("reached\n", ""),
        "{program}"
    );

    let (sleeper, pid) = Sleeper::start(&ddock, &path, &image);
    let mut service = Command::new("nsenter");
    service.args([
        "-t",
        &pid.to_string(),
        "-U",
        "-n",
        "--",
        "/usr/bin/python3",
        "-c",
        WHO,
    ]);
    let mut service = service.spawn().unwrap();
    let ask = format!("sleep 1 | busybox nc -w 3 {} 8081", Neighbour::HOST);
    let from_neighbour = wait_for("an answer", || {
        Some(neighbour.sh(&format!("{ask} || true")).stdout).filter(|said| !said.is_empty())
    });
    let ask = "sleep 1 | busybox nc -w 3 127.0.0.1 8081";
    let from_host = output(Command::new("sh").args(["-c", ask])).stdout;
    drop(sleeper);
    drop(service.kill());
    drop(service.wait());
    wait_for("the port to be free", || {
        let listening = command_succeeds(Command::new("ss").arg("-ltn"));
        (!listening.contains(":8081 ")).then_some(())
    });
    (from_neighbour, from_host)
}

#[test]
fn pasta_connects_a_container_and_keeps_the_clients_address() {
    let (from_neighbour, from_host) = seen_with("/usr/bin/pasta");
    assert_eq!(from_neighbour, format!("{}\n", Neighbour::ADDRESS));
    assert_ne!(from_host, "");
}

#[test]
fn slirp4netns_connects_a_container_where_there_is_no_pasta() {
    let (from_neighbour, from_host) = seen_with("/usr/bin/slirp4netns");
    assert_eq!(
        (from_neighbour.as_str(), from_host.as_str()),
        ("127.0.0.1\n", "127.0.0.1\n")
    );
}

/// Each process that connects a container is killed in turn, and then the container is asked by its port and asks itself.
fn is_connected_again(program: &str) {
    open_tun();
    let neighbour = Neighbour::connect();
    let ddock = Ddock::for_user(User::with_ranges());
    let image = ddock.pull(busybox());
    let path = path_with(&ddock, &[program]);
    let mut server = neighbour
        .command("busybox")
        .args(["nc", "-ll", "-p", "7000", "-e", "echo", "reached"])
        .spawn()
        .unwrap();
    let service = "nc -ll -p 81 -e echo here";
    let args = ["run", "-d", "--name", "server", "-p", "8081:81", &image];
    let mut run = ddock.command(&[&args[..], &["sh", "-c", service]].concat());
    output(run.env("PATH", &path)).exits(0);
    let inspect = ddock.ok(&["inspect", "server"]);
    let document: serde_json::Value = serde_json::from_str(&inspect).unwrap();
    let pid = u32::try_from(document[0]["State"]["Pid"].as_u64().unwrap()).unwrap();
    let id = document[0]["Id"].as_str().unwrap();
    let monitor = parent_of(pid);
    let servants = || {
        let path = format!("/proc/{monitor}/task/{monitor}/children");
        let children = fs_err::read_to_string(path).unwrap();
        let children = children.split_whitespace().map(|it| it.parse().unwrap());
        children.filter(|it| *it != pid).collect::<Vec<u32>>()
    };
    let first = servants();
    let is_served = || {
        let ask = "sleep 0.2 | busybox nc -w 3 127.0.0.1 8081";
        let asked = output(Command::new("sh").args(["-c", ask])).stdout;
        let reach = format!("sleep 0.2 | busybox nc -w 3 {} 7000", Neighbour::ADDRESS);
        let pid = pid.to_string();
        let inside = ["-t", &pid, "-U", "-n", "--", "sh", "-c", &reach];
        let reached = output(Command::new("nsenter").args(inside)).stdout;
        asked == "here\n" && reached == "reached\n"
    };
    wait_for("the container to be connected", || {
        is_served().then_some(())
    });
    for victim in &first {
        send_signal(*victim, Signal::KILL);
        wait_for("another process", || {
            let others = servants();
            (others.len() == first.len() && !others.contains(victim)).then_some(())
        });
        wait_for("the container to be connected again", || {
            is_served().then_some(())
        });
    }
    let log = ddock.root().join(format!("v1/containers/{id}/network.log"));
    let said = fs_err::read_to_string(log).unwrap();
    assert_eq!(
        said.matches("killed by signal 9").count(),
        first.len(),
        "{said}"
    );
    ddock.ok(&["rm", "-f", "server"]);
    drop(server.kill());
    drop(server.wait());
}

#[test]
fn a_container_of_a_users_is_connected_again_whatever_of_that_was_killed() {
    for program in ["/usr/bin/pasta", "/usr/bin/slirp4netns"] {
        // Each in networks of its own: a thread's.
        let tried = std::thread::spawn(move || is_connected_again(program)).join();
        tried.unwrap_or_else(|error| std::panic::resume_unwind(error));
    }
}

#[test]
fn with_neither_there_is_loopback_and_a_line_that_says_what_to_install() {
    let _neighbour = Neighbour::connect();
    let ddock = Ddock::for_user(User::with_ranges());
    let image = ddock.pull(busybox());
    let path = path_with(&ddock, &[]);
    let run = |flags: &[&str]| {
        let mut args = vec!["run", "--rm"];
        args.extend(flags);
        args.extend([image.as_str(), "ls", "/sys/class/net"]);
        output(ddock.command(&args).env("PATH", &path)).exits(0)
    };
    assert_eq!(run(&[]).says("install `pasta`").stdout, "lo\n");
    let none = run(&["--network", "none"]);
    assert_eq!((none.stdout.as_str(), none.stderr.as_str()), ("lo\n", ""));
}

#[test]
fn a_container_that_shares_processes_is_connected_too() {
    open_tun();
    let _neighbour = Neighbour::connect();
    let ddock = Ddock::for_user(User::with_ranges());
    let image = ddock.pull(busybox());
    let links = "ls /sys/class/net";
    assert_eq!(ddock.sh(&["--pid", "host"], &image, links), "eth0\nlo\n");
    ddock.ok(&["network", "create", "own"]);
    let args = [
        "--name",
        "first",
        "--network",
        "own",
        &image,
        "sleep",
        "1000",
    ];
    ddock.ok(&[&["run", "-d"][..], &args].concat());
    let flags = ["--pid", "container:first", "--network", "own"];
    let said = ddock.sh(&flags, &image, links);
    assert_eq!(said, "eth0\neth1\nlo\n");
    ddock.ok(&["rm", "-f", "first"]);
}
