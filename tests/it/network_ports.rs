//! Published ports: reached from everywhere, with the client's own address, as far as the host's firewall lets it in.

use std::process::{Child, Command, Stdio};

use crate::harness::ddock::{Ddock, Output, output};
use crate::harness::image::busybox;
use crate::harness::neighbour::Neighbour;
use crate::harness::scratch::command_succeeds;
use crate::harness::wait_for;
use serde_json::json;

/// Port 81 says who asked, the same by datagrams at 53; port 80 says what it heard, and then 20 million zeros. Ports 84
/// and 54 are as 81 and 53, of IPv4 alone, and 86 and 56 of IPv6 alone. Port 87 repeats what one client says.
const SERVICE: &str = r"
import hashlib, socket, threading
def listen(port):
    return socket.create_server(('::', port), family=socket.AF_INET6, dualstack_ipv6=True)
def who(server):
    while True:
        client, peer = server.accept()
        client.sendall(f'{peer[0]}\n'.encode())
        client.close()
def echo(server):
    while True:
        client, _ = server.accept()
        heard = hashlib.sha256()
        try:
            while data := client.recv(1 << 20):
                heard.update(data)
            client.sendall(heard.hexdigest().encode() + b'\n' + bytes(20000000))
        except OSError:
            pass
        client.close()
def repeat(server):
    client, _ = server.accept()
    while data := client.recv(1 << 20):
        client.sendall(data)
def datagrams(server):
    while True:
        _, peer = server.recvfrom(65536)
        server.sendto(f'{peer[0]}\n'.encode(), peer)
names = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
names.bind(('::', 53))
services = [(who, listen(81)), (echo, listen(80)), (repeat, listen(87)), (datagrams, names)]
for family, address, digit in [(socket.AF_INET, '0.0.0.0', 4), (socket.AF_INET6, '::', 6)]:
    server = socket.create_server((address, 80 + digit), family=family)
    services.append((who, server))
    names = socket.socket(family, socket.SOCK_DGRAM)
    if digit == 6:
        names.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    names.bind((address, 50 + digit))
    services.append((datagrams, names))
for act, server in services:
    threading.Thread(target=act, args=(server,)).start()
";

/// A container that serves in the background of a test, and is gone with this.
struct Server<'a> {
    ddock: &'a Ddock,
    name: &'static str,
    client: Child,
    service: Child,
}

impl<'a> Server<'a> {
    /// Starts a container, and what serves in its network.
    fn start(ddock: &'a Ddock, name: &'static str, flags: &[&str], image: &str) -> Self {
        let mut args = vec!["run", "--rm", "--name", name];
        args.extend(flags);
        args.extend([image, "sleep", "1000000"]);
        Self::serve(ddock, name, ddock.command(&args))
    }

    /// Starts what serves in the container of that name, which `command` starts.
    fn serve(ddock: &'a Ddock, name: &'static str, mut command: Command) -> Self {
        let client = command.stdin(Stdio::null()).spawn().unwrap();
        let pid = wait_for("the container to run", || {
            let said = ddock.run(&["inspect", name]).stdout;
            let document: serde_json::Value = serde_json::from_str(&said).ok()?;
            document[0]["State"]["Pid"].as_u64().filter(|pid| *pid > 0)
        });
        let mut service = Command::new("nsenter");
        service.args(["-t", &pid.to_string(), "-n", "--", "/usr/bin/python3"]);
        let service = service.args(["-c", SERVICE]).spawn().unwrap();
        Server {
            ddock,
            name,
            client,
            service,
        }
    }

    /// Returns what `ps` has in the line of this container.
    fn listed(&self) -> String {
        let listed = self.ddock.ok(&["ps", "--no-trunc"]);
        let line = listed.lines().find(|line| line.ends_with(self.name));
        line.unwrap().to_owned()
    }

    fn end(mut self) {
        self.ddock.ok(&["rm", "-f", self.name]);
        self.client.wait().unwrap();
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        for process in [&mut self.client, &mut self.service] {
            drop(process.kill());
            drop(process.wait());
        }
    }
}

/// What this host hears when it asks.
fn ask(address: &str, port: u16) -> String {
    let script = format!("busybox nc -w 3 {address} {port} </dev/null");
    output(Command::new("sh").args(["-c", &script])).stdout
}

/// Asks until there is an answer.
fn answer(address: &str, port: u16) -> String {
    wait_for("an answer", || {
        Some(ask(address, port)).filter(|said| !said.is_empty())
    })
}

fn asks(neighbour: &Neighbour, address: &str, port: u16) -> Output {
    neighbour.sh(&format!(
        "busybox nc -w 3 {address} {port} </dev/null || true"
    ))
}

#[test]
fn a_published_port_is_reached_from_everywhere_and_the_client_is_seen() {
    let neighbour = Neighbour::connect();
    let (ddock, image) = Ddock::with_busybox();
    let server = Server::start(&ddock, "server", &["-p", "8081:81"], &image);
    // From loopback, which no container can answer: the host's own address.
    assert_eq!(answer("127.0.0.1", 8081), "::ffff:172.29.0.1\n");
    assert_eq!(answer("::1", 8081), "fd64:646f:636b:30::1\n");
    assert_eq!(answer(Neighbour::HOST, 8081), "::ffff:172.29.0.1\n");
    // From another host: that one's address, in both families.
    let said = asks(&neighbour, Neighbour::HOST, 8081).stdout;
    assert_eq!(said, "::ffff:192.0.2.2\n");
    let said = asks(&neighbour, Neighbour::HOST6, 8081).stdout;
    assert_eq!(said, "2001:db8::2\n");
    // From another container of the same network, by the host's address.
    let said = ddock.sh(
        &[],
        &image,
        &format!("nc -w 3 {} 8081 </dev/null", Neighbour::HOST),
    );
    assert_eq!(said, "::ffff:172.29.0.1\n");
    let listed = server.listed();
    assert!(
        listed.contains("0.0.0.0:8081->81/tcp, [::]:8081->81/tcp"),
        "{listed}"
    );
    assert_eq!(
        ddock.ok(&["port", "server"]),
        "81/tcp -> 0.0.0.0:8081\n81/tcp -> [::]:8081\n"
    );
    assert_eq!(
        ddock.ok(&["port", "server", "81"]),
        "0.0.0.0:8081\n[::]:8081\n"
    );
    ddock
        .run(&["port", "server", "82"])
        .exits(1)
        .says("no public port '82/tcp' published for server");
    server.end();
    assert_eq!(ask("127.0.0.1", 8081), "");
    command_succeeds(Command::new("sh").args(["-c", "! ss -ltn | grep 8081"]));
}

#[test]
fn a_port_that_the_hosts_firewall_closes_is_closed() {
    let neighbour = Neighbour::connect();
    let (ddock, image) = Ddock::with_busybox();
    let server = Server::start(&ddock, "server", &["-p", "8081:81"], &image);
    answer("127.0.0.1", 8081);
    assert_ne!(asks(&neighbour, Neighbour::HOST, 8081).stdout, "");
    let firewall = "add table inet ufw; \
        add chain inet ufw input { type filter hook input priority 0 ; policy drop ; }; \
        add rule inet ufw input iifname lo accept; \
        add rule inet ufw input ct state established,related accept";
    command_succeeds(Command::new("nft").arg(firewall));
    assert_eq!(asks(&neighbour, Neighbour::HOST, 8081).stdout, "");
    let open = "insert rule inet ufw input tcp dport 8081 accept";
    command_succeeds(Command::new("nft").args(open.split(' ')));
    let said = asks(&neighbour, Neighbour::HOST, 8081).stdout;
    assert_eq!(said, "::ffff:192.0.2.2\n");
    server.end();
}

#[test]
fn a_port_that_is_taken_is_refused_before_anything_runs() {
    let (ddock, image) = Ddock::with_busybox();
    let server = Server::start(&ddock, "server", &["-p", "127.0.0.1:8081:81"], &image);
    let mark = ddock.scratch().dir("mark");
    let bind = format!("{}:/mark", mark.display());
    for publish in ["8081:80", "127.0.0.1:8081:80"] {
        let run = [
            "run",
            "--rm",
            "-v",
            &bind,
            "-p",
            publish,
            &image,
            "touch",
            "/mark/ran",
        ];
        ddock.run(&run).exits(125).says("port is already allocated");
    }
    assert_eq!(fs_err::read_dir(&mark).unwrap().count(), 0);
    let said = ddock.run(&["run", "--rm", "-p", "8081-8083:80", &image, "true"]);
    said.exits(0);
    server.end();
}

#[test]
fn exposed_ports_are_published_at_free_ones_when_asked_for() {
    let image = busybox().config("ExposedPorts", json!({"81/tcp": {}}));
    let (ddock, image) = Ddock::with(image);
    let server = Server::start(&ddock, "server", &["-P", "--expose", "90/udp"], &image);
    let ports = ddock.ok(&["port", "server"]);
    assert_eq!(ports.lines().count(), 4, "{ports}");
    let line = ports
        .lines()
        .find(|line| line.starts_with("81/tcp -> 0.0.0.0:"))
        .unwrap();
    let port = line.rsplit_once(':').unwrap().1.parse().unwrap();
    assert_eq!(answer("127.0.0.1", port), "::ffff:172.29.0.1\n");
    server.end();
    let server = Server::start(&ddock, "quiet", &["--expose", "90"], &image);
    assert!(
        server.listed().contains(" 81/tcp, 90/tcp "),
        "{}",
        server.listed()
    );
    server.end();
}

#[test]
fn what_an_image_exposes_is_no_demand() {
    let odd = json!({
        "38412/sctp": {}, "80/": {}, "0": {}, "$PORT": {}, "70000/tcp": {}, "8002-8000/tcp": {}, " 81": {}, "": {},
        "90/udp": {},
    });
    let (ddock, image) = Ddock::with(busybox().config("ExposedPorts", odd));
    ddock.sh(&[], &image, "true");
    let server = Server::start(&ddock, "server", &["-P"], &image);
    let ports = ddock.ok(&["port", "server"]);
    let published = ["80/tcp -> 0.0.0.0:", "90/udp -> 0.0.0.0:"];
    assert!(published.iter().all(|it| ports.contains(it)), "{ports}");
    assert_eq!(ports.lines().count(), 4, "{ports}");
    server.end();
}

#[test]
fn datagrams_go_there_and_back_by_the_address_that_was_asked() {
    let neighbour = Neighbour::connect();
    command_succeeds(Command::new("ip").args("address add 192.0.2.9/24 dev up0".split(' ')));
    let (ddock, image) = Ddock::with_busybox();
    let server = Server::start(&ddock, "server", &["-p", "5353:53/udp"], &image);
    for (address, seen) in [
        (Neighbour::HOST, "::ffff:192.0.2.2\n"),
        ("192.0.2.9", "::ffff:192.0.2.2\n"),
        (Neighbour::HOST6, "2001:db8::2\n"),
    ] {
        let said = wait_for("an answer", || {
            // A connected socket hears the address that it asked, and no other.
            let script = format!(
                "import socket
family = socket.AF_INET6 if ':' in '{address}' else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM)
s.settimeout(2)
s.connect(('{address}', 5353))
s.send(b'x')
print(s.recv(100).decode(), end='')"
            );
            let mut client = neighbour.command("/usr/bin/python3");
            let said = output(client.args(["-c", &script])).stdout;
            Some(said).filter(|said| !said.is_empty())
        });
        assert_eq!(said, seen, "{address}");
    }
    server.end();
}

/// A client whose family nothing in the container listens at is served by the other, from the host's own address there.
#[test]
fn who_listens_at_one_family_only_serves_clients_of_both() {
    let neighbour = Neighbour::connect();
    let (ddock, image) = Ddock::with_busybox();
    let ports = [
        "8084:84",
        "8086:86",
        "5354:54/udp",
        "5356:56/udp",
        "8099:99",
    ];
    let flags = ports.map(|port| ["-p", port]).concat();
    let server = Server::start(&ddock, "server", &flags, &image);
    answer("127.0.0.1", 8084);
    let (v4, v6) = ("172.29.0.1\n", "fd64:646f:636b:30::1\n");
    for (port, address, seen) in [
        (8084, "::1", v4),
        (8084, Neighbour::HOST6, v4),
        (8084, Neighbour::HOST, "192.0.2.2\n"),
        (8086, "127.0.0.1", v6),
        (8086, Neighbour::HOST, v6),
        (8086, Neighbour::HOST6, "2001:db8::2\n"),
        (5354, "::1", v4),
        (5354, Neighbour::HOST6, v4),
        (5354, Neighbour::HOST, "192.0.2.2\n"),
        (5356, "127.0.0.1", v6),
        (5356, Neighbour::HOST, v6),
        (5356, Neighbour::HOST6, "2001:db8::2\n"),
    ] {
        let script = format!(
            "import socket
family = socket.AF_INET6 if ':' in '{address}' else socket.AF_INET
kind = socket.SOCK_STREAM if {port} > 8000 else socket.SOCK_DGRAM
s = socket.socket(family, kind)
s.settimeout(5)
s.connect(('{address}', {port}))
for _ in range(2 if kind == socket.SOCK_DGRAM else 1):
    s.send(b'x')
    said = s.recv(100).decode()
print(said, end='')"
        );
        let mut client = if ["127.0.0.1", "::1"].contains(&address) {
            Command::new("/usr/bin/python3")
        } else {
            neighbour.command("/usr/bin/python3")
        };
        let said = output(client.args(["-c", &script]));
        assert_eq!(said.stdout, seen, "{port} at {address}: {}", said.stderr);
    }
    // Where nobody listens at all the client sees its connection break.
    let script = "import socket
try: print(socket.create_connection(('::1', 8099), timeout=5).recv(1))
except ConnectionResetError: print('broke')";
    let said = output(Command::new("/usr/bin/python3").args(["-c", script]));
    assert_eq!(said.stdout, "broke\n", "{}", said.stderr);
    server.end();
}

#[test]
fn many_ports_are_published_whatever_the_callers_limit_which_the_command_keeps() {
    let (ddock, image) = Ddock::with_busybox();
    let publish = "127.0.0.1:20000-21099:20000-21099";
    let run = [
        "run",
        "--rm",
        "-p",
        publish,
        &image,
        "sh",
        "-c",
        "ulimit -Sn; ulimit -Hn",
    ];
    let said = output(&mut limited(&ddock.command(&run), "1024:4096"));
    assert_eq!(
        (said.code, said.stdout.as_str()),
        (0, "1024\n4096\n"),
        "{}",
        said.stderr
    );
    // Nor do they get in the way of a limit that is asked for.
    let publish = "127.0.0.1:20000-20199:20000-20199";
    let limit = [
        "run",
        "--rm",
        "--ulimit",
        "nofile=64:64",
        "-p",
        publish,
        &image,
    ];
    let said = ddock.ok(&[&limit[..], &["sh", "-c", "ulimit -n"]].concat());
    assert_eq!(said, "64\n");
    // More than there can be is an error with a reason, and nothing is left.
    let said = output(&mut limited(&ddock.command(&run), "512:1024"));
    assert_eq!(said.code, 125);
    assert!(
        said.stderr.contains("Too many open files"),
        "{}",
        said.stderr
    );
    assert_eq!(ddock.containers(), [""; 0]);
}

#[test]
fn the_most_silent_connection_gives_way_and_those_who_vanish_are_noticed() {
    let (ddock, image) = Ddock::with_busybox();
    let run = [
        "run",
        "--rm",
        "--name",
        "server",
        "-p",
        "8080:80",
        "-p",
        "8081:81",
        "-p",
        "8087:87",
        "-p",
        "5353:53/udp",
        &image,
    ];
    let run = [&run[..], &["sleep", "1000000"]].concat();
    let server = Server::serve(&ddock, "server", limited(&ddock.command(&run), "200:200"));
    // The first speaks between the others, of whom the earliest have to go.
    let script = "import socket, subprocess
def connect(port): return socket.create_connection(('127.0.0.1', port), timeout=20)
first = connect(8087)
def talk():
    first.sendall(b'x')
    assert first.recv(1) == b'x'
talk()
watched = subprocess.run(['ss', '-tnoH'], capture_output=True, text=True).stdout
print(len([line for line in watched.splitlines() if 'keepalive' in line]))
others = []
for _ in range(60):
    others.append(connect(8080))
    talk()
try: print(others[0].recv(1))
except ConnectionResetError: print('gave way')
talk()";
    answer("127.0.0.1", 8081);
    let said = output(Command::new("/usr/bin/python3").args(["-c", script]));
    assert_eq!(said.stdout, "2\ngave way\n", "{}", said.stderr);
    server.end();
}

/// Returns a command that has these limits of descriptors, soft and hard.
fn limited(command: &Command, limits: &str) -> Command {
    let mut limited = Command::new("prlimit");
    limited
        .arg(format!("--nofile={limits}"))
        .arg(command.get_program());
    limited.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}

#[test]
fn a_large_transfer_is_whole_in_both_directions_and_ends_when_one_side_has_said_all() {
    let (ddock, image) = Ddock::with_busybox();
    let server = Server::start(&ddock, "server", &["-p", "8080:80"], &image);
    // Half a connection is closed when all was sent; what follows comes all the same.
    let script = "import hashlib, socket, time\n\
        data = bytes(range(256)) * 80000\n\
        s = socket.create_connection(('127.0.0.1', 8080))\n\
        s.sendall(data); s.shutdown(socket.SHUT_WR)\n\
        answer = b''.join(iter(lambda: s.recv(1 << 20), b''))\n\
        line, rest = answer.split(b'\\n', 1)\n\
        assert line.split()[0].decode() == hashlib.sha256(data).hexdigest(), line\n\
        assert rest == bytes(20000000), len(rest)\n\
        print('whole')";
    let said = wait_for("the server", || {
        let said = output(Command::new("/usr/bin/python3").args(["-c", script]));
        (said.code == 0).then_some(said.stdout)
    });
    assert_eq!(said, "whole\n");
    server.end();
}

#[test]
fn with_the_hosts_network_there_is_nothing_to_publish() {
    let (ddock, image) = Ddock::with_busybox();
    let run = [
        "run",
        "--rm",
        "--network",
        "host",
        "-p",
        "80:80",
        &image,
        "true",
    ];
    ddock
        .run(&run)
        .exits(0)
        .says("WARNING: Published ports are discarded when using host network mode");
    ddock
        .run(&["run", "-p", "80:x", &image])
        .exits(125)
        .says("invalid publish `80:x`");
}
