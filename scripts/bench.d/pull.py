"""Cold pulls by ddock, by its peers and by the shell, in turns: medians, ratios, and ddock's peak memory.

A registry on loopback, stores on tmpfs, each pull into an empty one. Daemons are started before the clock.
"""

import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import time
import urllib.request

import large_image
from tools import DDOCK, quiet, remove, timed

PULLS = int(os.environ.get("BENCH_PULLS", 5))


class Floor:
    """The same bytes, two layers at a time; nothing is hashed, synced or kept apart."""

    name = "floor: curl, igzip -d, tar x"

    def __init__(self, root):
        self.root = root

    def pull(self, image):
        registry, name = image.split("/", 1)
        repository, tag = name.split(":")
        script = """
            export root=$0
            xargs -P 2 -I {} sh -ec 'layer=$root/${1##*:}; mkdir $layer
                curl -fsS "$1" | igzip -dc | tar -xf - -C $layer' sh {} <$0/list
        """
        blobs = [f"http://{registry}/v2/{repository}/blobs/{layer}" for layer in layers_of(registry, repository, tag)]
        (self.root / "list").write_text("".join(f"{blob}\n" for blob in blobs))
        return timed(["sh", "-ec", script, str(self.root)])


def layers_of(registry, repository, tag):
    request = urllib.request.Request(f"http://{registry}/v2/{repository}/manifests/{tag}")
    request.add_header("Accept", "application/vnd.oci.image.manifest.v1+json")
    with urllib.request.urlopen(request) as answer:
        return [layer["digest"] for layer in json.load(answer)["layers"]]


class Ddock:
    name = "ddock pull"

    def __init__(self, root):
        self.root = root

    def command(self, image):
        return [DDOCK, "--root", str(self.root / "store"), "pull", "-q", image]

    def pull(self, image):
        return timed(self.command(image))

    def peak(self, image):
        """Pulls without a clock and returns the process's peak of memory, in KiB (VmHWM of proc_pid_status(5))."""
        pull = subprocess.Popen(self.command(image), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        peak = 0
        while pull.poll() is None:
            status = pathlib.Path(f"/proc/{pull.pid}/status").read_text()
            peak = max([peak] + [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")])
            time.sleep(0.002)
        if pull.returncode:
            sys.exit(f"bench: ddock pull: exit code {pull.returncode}")
        return peak


class Umoci:
    name = "skopeo copy + umoci unpack"

    def __init__(self, root):
        self.root = root
        (root / "tmp").mkdir()

    def pull(self, image):
        layout = f"{self.root}/layout:image"
        copy = ["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{image}", f"oci:{layout}"]
        unpack = ["umoci", "unpack", "--image", layout, f"{self.root}/bundle"]
        environment = os.environ | {"TMPDIR": f"{self.root}/tmp"}
        return timed(copy, env=environment) + timed(unpack, env=environment)


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


class Daemon:
    """A daemon of our own, started before the clock: all of its directories are in the scratch."""

    def __init__(self, root, command, alive, **options):
        self.root = root
        with open(root / "log", "w") as log:
            self.daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options)
        end = time.monotonic() + 30
        while subprocess.run(alive, capture_output=True).returncode:
            if time.monotonic() > end or self.daemon.poll() is not None:
                sys.exit(f"bench: {command[0]} does not start:\n" + (root / "log").read_text()[-2000:])
            time.sleep(0.1)

    def close(self):
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait()


class Docker(Daemon):
    name = "docker pull"

    def __init__(self, root):
        self.client = ["docker", "-H", f"unix://{root}/socket"]
        command = ["dockerd", "--host", f"unix://{root}/socket", "--data-root", f"{root}/data"]
        command += ["--exec-root", f"{root}/exec", "--pidfile", f"{root}/pid", "--storage-driver", "overlay2"]
        command += ["--bridge", "none", "--iptables=false", "--ip6tables=false"]
        environment = os.environ | {"DOCKER_TMPDIR": f"{root}/data/tmp"}
        super().__init__(root, command, self.client + ["info"], env=environment)

    def pull(self, image):
        return timed(self.client + ["pull", "-q", image])


class Containerd(Daemon):
    name = "ctr images pull"

    def __init__(self, root):
        self.client = ["ctr", "--address", f"{root}/socket"]
        (root / "config.toml").write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
        command = ["containerd", "--config", f"{root}/config.toml", "--address", f"{root}/socket"]
        command += ["--root", f"{root}/data", "--state", f"{root}/state"]
        super().__init__(root, command, self.client + ["version"])

    def pull(self, image):
        return timed(self.client + ["images", "pull", "--plain-http", "--snapshotter", "overlayfs", image])


NEEDS = {Floor: "igzip", Ddock: None, Docker: "dockerd", Containerd: "ctr", Podman: "podman", Umoci: "umoci"}


def files_in(root):
    return int(quiet(["sh", "-c", 'find "$0" -type f | wc -l', str(root)]))


def measure(scratch, image):
    """Returns each candidate's seconds, and ddock's peak of memory in KiB."""
    candidates = [candidate for candidate, program in NEEDS.items() if program is None or shutil.which(program)]
    seconds = {candidate: [] for candidate in candidates}
    files, peak = {}, 0
    for turn in range(PULLS + 1):
        for candidate in candidates:
            root = scratch / "pull"
            root.mkdir()
            puller = candidate(root)
            try:
                if turn:
                    seconds[candidate].append(puller.pull(image))
                    continue
                # The first round fills the page cache, and shows that all unpack the same.
                if candidate is Ddock:
                    peak = puller.peak(image)
                else:
                    puller.pull(image)
                files[candidate] = files_in(root)
            finally:
                if hasattr(puller, "close"):
                    puller.close()
                remove(root)
    for candidate, count in files.items():
        if count < 0.98 * files[Floor]:  # layers may replace some of each other's
            sys.exit(f"bench: {candidate.name} left {count} files, the floor {files[Floor]}: it did not unpack")
    return seconds, peak


def report(title, seconds, peak):
    medians = {candidate: statistics.median(times) for candidate, times in seconds.items()}
    print(f"\npull of {title} into an empty store on tmpfs, medians of {PULLS} interleaved pulls\n")
    print(f"| {'':30} | seconds | to the floor | to ddock | fastest | slowest |")
    print(f"|{'-' * 32}|--------:|-------------:|---------:|--------:|--------:|")
    for candidate, median in medians.items():
        print(
            f"| {candidate.name:30} | {median:7.2f} | {median / medians[Floor]:12.2f} | {median / medians[Ddock]:8.2f}"
            f" | {min(seconds[candidate]):7.2f} | {max(seconds[candidate]):7.2f} |"
        )
    peers = {candidate: median for candidate, median in medians.items() if candidate not in (Floor, Ddock)}
    best = min(peers, key=peers.get)
    print(f"\nbest peer: {best.name}, {peers[best] / medians[Ddock]:.2f} times ddock's time")
    print(f"ddock's peak of memory: {peak / 1024:.1f} MiB")


def bench(scratch, image):
    """Measures the image of scripts/debian-image and the large one; `image` is the former's reference."""
    for candidate, program in NEEDS.items():
        if program and not shutil.which(program):
            print(f"left out, as there is no {program}: {candidate.name}")
    report(image.split("/", 1)[1], *measure(scratch, image))
    registry = image.split("/", 1)[0]
    base = pathlib.Path("cache/test-images/distribution")
    layout = large_image.make(base.resolve(), pathlib.Path("target/bench/large").resolve())
    large = f"{registry}/large:latest"
    quiet(["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{layout}:latest", f"docker://{large}"])
    layers = layers_of(registry, "large", "latest")
    report(f"an image of {len(layers)} layers", *measure(scratch, large))
