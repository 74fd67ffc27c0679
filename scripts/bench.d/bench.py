"""The measuring half of scripts/bench: stores, peers, interleaved runs, medians. Root only; everything is on tmpfs."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

DDOCK = "target/ddock"
STARTS = int(os.environ.get("BENCH_STARTS", 200))
PULLS = int(os.environ.get("BENCH_PULLS", 7))


def quiet(command, **options):
    """Runs a command that must succeed and returns its stdout."""
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, **options)
    if done.returncode:
        sys.exit(f"bench: {' '.join(map(str, command))}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def timed(command, **options):
    """Returns the seconds from before the start of a command to after its end, which must be a success.

    Spawned without pipes, so that nothing is measured but the command.
    """
    begin = time.perf_counter()
    code = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
    ).wait()
    seconds = time.perf_counter() - begin
    if code:
        quiet(command, **options)
        sys.exit(f"bench: {' '.join(map(str, command))}: exit code {code}")
    return seconds


def table(title, rows, base):
    """Prints medians, their ratio to the row called `base`, and how far the slow ones are from the middle."""
    print(f"\n{title}\n")
    print(f"| {'':34} | median ms | ratio |  p99 ms | p99/p50 |  n |\n|{'-' * 36}|----------:|------:|--------:|--------:|---:|")
    base = statistics.median(rows[base])
    for name, times in rows.items():
        median = statistics.median(times)
        p99 = sorted(times)[min(len(times) - 1, int(len(times) * 0.99))]
        print(
            f"| {name:34} | {median * 1e3:9.2f} | {median / base:5.2f} | {p99 * 1e3:7.2f} | {p99 / median:7.2f} | {len(times):2} |"
        )


@contextlib.contextmanager
def registry(scratch):
    directory = scratch / "registry"
    quiet(["scripts/registry", str(directory)])
    try:
        yield (directory / "image").read_text().strip()
    finally:
        os.kill(int((directory / "pid").read_text()), signal.SIGTERM)


def bench_run(scratch, image):
    """`run --rm` of a cached image against a C program that makes the same system calls and no others."""
    root = scratch / "store"
    ddock = [DDOCK, "--root", str(root)]
    quiet(ddock + ["pull", "-q", image])
    lower = json.loads(quiet(ddock + ["inspect", image]))[0]["GraphDriver"]["Data"]["LowerDir"]
    state = scratch / "floor"
    candidates = {
        "floor (C, the same system calls)": ["target/floor", lower, str(state), "/bin/true"],
        "ddock run --rm": ddock + ["run", "--rm", image, "true"],
    }
    rows = {name: [] for name in candidates}
    for turn in range(STARTS + 5):
        for name, command in candidates.items():
            seconds = timed(command)
            if turn >= 5:  # the first ones fill the page cache
                rows[name].append(seconds)
    table(f"run --rm of a cached image, `true`, {STARTS} interleaved starts", rows, next(iter(rows)))


class Ddock:
    name = "ddock pull"

    def __init__(self, root):
        self.root = root

    def pull(self, image):
        return timed([DDOCK, "--root", str(self.root / "store"), "pull", "-q", image])


class Umoci:
    name = "skopeo copy + umoci unpack"

    def __init__(self, root):
        self.root = root

    def pull(self, image):
        layout = f"{self.root}/layout:image"
        copy = ["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{image}", f"oci:{layout}"]
        unpack = ["umoci", "unpack", "--image", layout, f"{self.root}/bundle"]
        return timed(copy) + timed(unpack)


class Podman:
    name = "podman pull"

    def __init__(self, root):
        self.root = root
        (root / "tmp").mkdir()

    def pull(self, image):
        # Its blobs wait in TMPDIR, which is /var/tmp otherwise.
        podman = ["podman", "--root", f"{self.root}/s", "--runroot", f"{self.root}/r", "--storage-driver", "overlay"]
        environment = os.environ | {"TMPDIR": f"{self.root}/tmp"}
        return timed(podman + ["pull", "-q", "--tls-verify=false", image], env=environment)


class Docker:
    """A dockerd of our own, started before the clock: all of its directories are in the scratch, no network of its."""

    name = "docker pull"

    def __init__(self, root):
        self.root = root
        self.host = f"unix://{root}/socket"
        command = ["dockerd", "--host", self.host, "--data-root", f"{root}/data", "--exec-root", f"{root}/exec"]
        command += ["--pidfile", f"{root}/pid", "--bridge", "none", "--iptables=false", "--ip6tables=false"]
        with open(root / "log", "w") as log:
            self.daemon = subprocess.Popen(command, stdout=log, stderr=log)
        self.wait_until_it_answers()

    def wait_until_it_answers(self):
        end = time.monotonic() + 30
        while subprocess.run(["docker", "-H", self.host, "info"], capture_output=True).returncode:
            if time.monotonic() > end or self.daemon.poll() is not None:
                sys.exit("bench: dockerd does not start:\n" + (self.root / "log").read_text()[-2000:])
            time.sleep(0.1)

    def pull(self, image):
        return timed(["docker", "-H", self.host, "pull", "-q", image])

    def close(self):
        self.daemon.terminate()
        self.daemon.wait()


def bench_pull(scratch, image):
    """A cold pull into an empty store, network on loopback, store on tmpfs."""
    peers = [Ddock, Umoci]
    if shutil.which("podman"):
        peers.append(Podman)
    if shutil.which("dockerd") and shutil.which("docker"):
        peers.append(Docker)
    rows = {peer.name: [] for peer in peers}
    for turn in range(PULLS + 1):
        for peer in peers:
            root = scratch / "pull"
            root.mkdir()
            candidate = peer(root)
            seconds = candidate.pull(image)
            if hasattr(candidate, "close"):
                candidate.close()
            if turn:  # the first round fills the page cache
                rows[peer.name].append(seconds)
            remove(root)
    table(f"pull of {image.split('/', 1)[1]} into an empty store on tmpfs, {PULLS} interleaved pulls", rows, Ddock.name)


def remove(root):
    """Removes a peer's tree, with what it left mounted there."""
    mounts = [line.split()[1] for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()]
    for target in reversed([mount for mount in mounts if mount.startswith(f"{root}/")]):
        subprocess.run(["umount", "-l", target], check=False)
    quiet(["rm", "-rf", str(root)])


def main():
    wanted = sys.argv[1:] or ["run", "pull"]
    benches = {"run": bench_run, "pull": bench_pull}
    if os.geteuid() or not set(wanted) <= set(benches):
        sys.exit("usage: scripts/bench [run|pull], as root")
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="ddock-bench-", dir="/dev/shm"))
    try:
        with registry(scratch) as image:
            for name in wanted:
                benches[name](scratch, image)
    finally:
        remove(scratch)


if __name__ == "__main__":
    main()
