"""scripts/bench network: throughput to and from containers, ddock's beside Docker's bridge and pasta's own, in turns.

Everything happens in a network namespace of the bench's own; a second one stands for another host. The servers are `iperf3`, started
in the containers' network namespaces, so that each way is measured with the same program.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import time

from tools import DDOCK, quiet

TURNS = int(os.environ.get("BENCH_TURNS", 7))
SECONDS = os.environ.get("BENCH_SECONDS", "2")
# Of the documentation (RFC 5737): nobody else is meant.
HOST, NEIGHBOUR = "192.0.2.1", "192.0.2.2"
USER = 4711


class Host:
    """This network namespace and a neighbour at the other end of a pair of links, which is also its way to everywhere."""

    def __init__(self):
        self.neighbour = subprocess.Popen(["unshare", "--net", "--kill-child", "sleep", "infinity"])
        own = os.readlink("/proc/self/ns/net")
        eventually(lambda: os.readlink(f"/proc/{self.neighbour.pid}/ns/net") != own)
        quiet(["sh", "-ec", f"""
            echo 1 >/proc/sys/net/ipv4/ip_forward
            ip link set lo up
            ip link add up0 type veth peer name eth0 netns {self.neighbour.pid}
            ip link set up0 up
            ip address add {HOST}/24 dev up0
            nsenter -t {self.neighbour.pid} -n sh -ec '
                ip link set lo up; ip link set eth0 up; ip address add {NEIGHBOUR}/24 dev eth0'
            ip route add default via {NEIGHBOUR}
        """])


def eventually(holds):
    """Waits for a condition, at most ten seconds; returns what it says."""
    deadline = time.monotonic() + 10
    while True:
        with contextlib.suppress(OSError, LookupError, ValueError):
            if found := holds():
                return found
        if time.monotonic() > deadline:
            raise SystemExit("bench: waited in vain")
        time.sleep(0.02)


def inside(pid):
    """The words before a command that is to run in the network namespace of a process."""
    return ["nsenter", "-t", str(pid), "-n", "--"]


def serve(stack, pid, port=5201):
    """Starts a server in the network namespace of a process."""
    command = [*inside(pid), "iperf3", "-s", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    stack.callback(server.kill)
    listening = f":{port:04X}"
    eventually(lambda: listening in pathlib.Path(f"/proc/{pid}/net/tcp6").read_text())


def client(address, port=5201, at=()):
    return [*at, "iperf3", "-c", address, "-p", str(port), "-t", SECONDS, "-J"]


def throughput(command):
    """Returns what arrived, in Gbit/s."""
    for _ in range(5):
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        said = json.loads(done.stdout)
        if "error" not in said:
            return said["end"]["sum_received"]["bits_per_second"] / 1e9
        # A server has one client at a time, and may not have seen the end of the one before.
        time.sleep(0.2)
    raise SystemExit(f"bench: {' '.join(command)}: {said['error']}")


def table(title, candidates):
    """Measures candidates in turns; the last one is what the others are compared with."""
    rows = {name: [] for name in candidates}
    for turn in range(TURNS):
        for name in list(candidates)[:: -1 if turn % 2 else 1]:
            rows[name].append(throughput(candidates[name]))
    base = statistics.median(rows[name := list(rows)[-1]])
    print(f"\n{title}, {TURNS} turns of {SECONDS} s\n\n| {'':24} | Gbit/s, median | ratio |\n|{'-' * 26}|---------------:|------:|")
    for name, figures in rows.items():
        median = statistics.median(figures)
        print(f"| {name:24} | {median:14.1f} | {median / base:5.2f} |", flush=True)


class Ddock:
    """Containers of root's, or of an ordinary user's."""

    def __init__(self, stack, scratch, user=None):
        store = scratch / f"store-{user or 0}"
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        self.stack, self.command = stack, [*become, str(scratch / "ddock"), "--root", str(store)]
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(scratch / "home")}

    def pull(self, image):
        quiet([*self.command, "pull", "-q", image], env=self.environment)

    def start(self, image, *flags):
        """Starts a container that sleeps; returns its PID and its address, if it has one of the bridge's."""
        name = quiet([*self.command, "run", "-d", "--rm", *flags, image, "sleep", "infinity"], env=self.environment).strip()
        self.stack.callback(quiet, [*self.command, "rm", "-f", name], env=self.environment)
        found = json.loads(quiet([*self.command, "inspect", name], env=self.environment))[0]
        return found["State"]["Pid"], found["NetworkSettings"]["Networks"].get("bridge", {}).get("IPAddress")


class Docker:
    def __init__(self, stack, scratch, archive):
        socket = f"unix://{scratch}/docker.socket"
        words = ["--data-root", scratch / "docker", "--exec-root", scratch / "docker-exec", "--pidfile", scratch / "docker.pid", "--host", socket]
        (scratch / "daemon.json").write_text("{}")
        words += ["--config-file", scratch / "daemon.json", "--containerd-namespace", "ddock-bench", "--storage-driver", "vfs"]
        with open(scratch / "docker.log", "wb") as log:
            daemon = subprocess.Popen(["dockerd", *map(str, words)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.stack, self.command = stack, ["docker", "--host", socket]
        stack.callback(daemon.wait)
        stack.callback(daemon.send_signal, signal.SIGTERM)
        eventually(lambda: subprocess.run([*self.command, "version"], capture_output=True).returncode == 0)
        self.image = quiet([*self.command, "load", "-q", "-i", archive]).split(":", 1)[1].strip()

    def start(self, *flags):
        name = quiet([*self.command, "run", "-d", "--rm", *flags, self.image, "sleep", "infinity"]).strip()
        self.stack.callback(quiet, [*self.command, "rm", "-f", name])
        found = json.loads(quiet([*self.command, "inspect", name]))[0]
        return found["State"]["Pid"], found["NetworkSettings"]["IPAddress"]


def root(stack, scratch, image, host):
    """A bridge of ours beside Docker's."""
    peers = {"ddock": Ddock(stack, scratch), "Docker": Docker(stack, scratch, scratch / "image.tar")}
    ports = {"ddock": 5301, "Docker": 5302}
    servers, clients = {}, {}
    for name, peer in peers.items():
        arguments = [image] if name == "ddock" else []
        servers[name] = peer.start(*arguments, "-p", f"{ports[name]}:5201")
        clients[name] = peer.start(*arguments)
        serve(stack, servers[name][0])
    addresses = {name: address for name, (_, address) in servers.items()}
    table("host to a container's address", {name: client(addresses[name]) for name in peers})
    table("container to container", {name: client(addresses[name], at=inside(clients[name][0])) for name in peers})
    neighbour = inside(host.neighbour.pid)
    table("another host to a published port", {name: client(HOST, ports[name], neighbour) for name in peers})
    table("the host to a published port, by its address", {name: client(HOST, ports[name]) for name in peers})
    table("the host to a published port, by loopback", {name: client("127.0.0.1", ports[name]) for name in peers})
    serve(stack, host.neighbour.pid)
    table("container to another host", {name: client(NEIGHBOUR, at=inside(clients[name][0])) for name in peers})


def rootless(stack, scratch, image, host):
    """An ordinary user's containers, which pasta connects, beside pasta alone."""
    ddock, pasta = f"ddock, {USER}", "pasta alone"
    pid, _ = Ddock(stack, scratch, USER).start(image, "-p", "5401:5201")
    serve(stack, pid)
    words = ["--config-net", "--no-map-gw", "-t", "5402:5201", "-u", "none", "-T", "none", "-U", "none"]
    become = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    alone = subprocess.Popen([*become, "pasta", "-q", "-f", *words, "--", "iperf3", "-s"], stdout=subprocess.DEVNULL, start_new_session=True)
    stack.callback(os.killpg, alone.pid, signal.SIGKILL)
    own = os.readlink("/proc/self/ns/net")
    children = pathlib.Path(f"/proc/{alone.pid}/task/{alone.pid}/children")
    child = eventually(lambda: [it for it in children.read_text().split() if os.readlink(f"/proc/{it}/ns/net") != own])[0]
    eventually(lambda: ":1451" in pathlib.Path(f"/proc/{child}/net/tcp6").read_text())
    ports, pids = {ddock: 5401, pasta: 5402}, {ddock: pid, pasta: child}
    table("another host to a user's published port", {name: client(HOST, ports[name], inside(host.neighbour.pid)) for name in ports})
    table("the host to a user's published port, by loopback", {name: client("127.0.0.1", ports[name]) for name in ports})
    serve(stack, host.neighbour.pid)
    table("a user's container to another host", {name: client(NEIGHBOUR, at=inside(pids[name])) for name in ports})


def bench(scratch, image):
    """Gets what is needed from the registry, which the network of the bench's own does not reach, and goes there."""
    directory = scratch / "network"
    for made in (directory, directory / "home"):
        made.mkdir()
    for passed in (scratch, directory):
        passed.chmod(0o755)
    os.chown(directory / "home", USER, USER)
    shutil.copy(DDOCK, directory / "ddock")
    (directory / f"store-{USER}").mkdir()
    os.chown(directory / f"store-{USER}", USER, USER)
    for user in (None, USER):
        Ddock(None, directory, user).pull(image)
    quiet(["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{image}", f"docker-archive:{directory}/image.tar:bench:latest"])
    # Open to users, as most systems have it, where nobody else sees that.
    script = """mount -t tmpfs -o mode=755 none /dev/net
        mknod -m 666 /dev/net/tun c 10 200
        exec "$@"
    """
    itself = [sys.executable, __file__, directory, image]
    subprocess.run(["unshare", "--net", "--mount", "sh", "-ec", script, "sh", *itself], check=True)


def main():
    scratch, image = pathlib.Path(sys.argv[1]), sys.argv[2]
    host = Host()
    try:
        for measure in (root, rootless):
            with contextlib.ExitStack() as stack:
                measure(stack, scratch, image, host)
    finally:
        host.neighbour.kill()


if __name__ == "__main__":
    main()
