"""scripts/bench store: what a command costs beside 1 and beside 1,000 images and containers that have ended.

Processor time and not time: other work on the machine changes little of it. The lock is the store's, held exclusively; it is
watched by strace in a run of its own, which makes it look longer than it is.
"""

import hashlib
import json
import os
import pathlib
import re
import resource
import shutil
import sys

from tools import DDOCK, quiet

MANY = int(os.environ.get("BENCH_MANY", 1000))
TURNS = int(os.environ.get("BENCH_TURNS", 5))
# More than that an item, or of the lock, is too much.
MOST_MICROSECONDS, MOST_LOCKED = 10, 0.010


def copy_image(store, number):
    """Adds an image: the record and the tag of the first one under names of its own."""
    record = json.loads(sorted((store / "images").iterdir())[0].read_text())
    identity = "sha256:" + hashlib.sha256(f"image {number}".encode()).hexdigest()
    name = f"localhost:5000/copy/{number}"
    record["repo_digests"], record["tags"] = [f"{name}@{identity}"], [f"{name}:1"]
    (store / "images" / f"{identity[7:]}.json").write_text(json.dumps(record))
    tags = store / "refs" / name / "_tags"
    tags.mkdir(parents=True)
    (tags / "1").write_text(identity + "\n")


def copy_container(store, model, number):
    """Adds a container that has ended: a copy of one under a name of its own."""
    identity = hashlib.sha256(f"container {number}".encode()).hexdigest()
    directory = store / "containers" / identity
    shutil.copytree(model, directory, symlinks=True, ignore=shutil.ignore_patterns("attach", "upper", "work"))
    record = json.loads((model / "state.json").read_text())
    record["id"], record["name"] = identity, f"ended-{number}"
    (directory / "state.json").write_text(json.dumps(record))
    (store / "names" / record["name"]).symlink_to(identity)


def processor(command):
    """Returns the microseconds of processor that a command and its children take, the least of several turns."""
    least = None
    for _ in range(TURNS):
        words = command() if callable(command) else command
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        quiet(words)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        least = taken if least is None else min(least, taken)
    return least * 1e6


def locked(command, scratch):
    """Returns the longest time, in seconds, that the store's lock was held exclusively by a command."""
    trace = scratch / "trace"
    calls = "trace=openat,flock,close,exit_group"
    strace = ["strace", "-f", "--seccomp-bpf", "-ttt", "-e", calls, "-o", str(trace)]
    quiet(strace + (command() if callable(command) else command))
    opened, held, longest = {}, {}, 0.0
    for line in trace.read_text().splitlines():
        match = re.match(r"(\d+) +([\d.]+) (\w+)\((.*)\) += (-?\d+)", line)
        if not match:
            continue
        process, time, call, arguments, result = match.groups()
        time, result = float(time), int(result)
        if call == "openat" and result >= 0:
            opened[process, result] = arguments
        elif call == "flock" and result == 0 and "LOCK_EX" in arguments:
            number = int(arguments.split(",")[0])
            if '/v1/lock"' in opened.get((process, number), ""):
                held[process, number] = time
        elif call == "close":
            begun = held.pop((process, int(arguments)), None)
            longest = max(longest, time - begun) if begun else longest
    return longest


def bench(scratch, image):
    root = scratch / "many"
    store = root / "v1"
    ddock = [DDOCK, "--root", str(root)]
    quiet(ddock + ["pull", "-q", image])
    quiet(ddock + ["run", "-d", "--network", "none", "--name", "ended", image, "true"])
    quiet(ddock + ["wait", "ended"])
    model = next((store / "containers").iterdir())
    quiet(ddock + ["volume", "create", "data"])
    removed = iter(range(MANY * 10, MANY * 20))

    def rmi():
        number = next(removed)
        copy_image(store, number)
        return ddock + ["rmi", f"localhost:5000/copy/{number}:1"]

    networks = iter(range(1000))
    run = ddock + ["run", "--rm", "--network", "none"]
    commands = {
        "ps": ddock + ["ps"],
        "ps -a": ddock + ["ps", "-a"],
        "images": ddock + ["images"],
        "inspect IMAGE": ddock + ["inspect", image],
        "inspect ended": ddock + ["inspect", "ended"],
        "rmi": rmi,
        "run": run + [image, "true"],
        "run -v data:/data": run + ["-v", "data:/data", image, "true"],
        "network create": lambda: ddock + ["network", "create", f"net-{next(networks)}"],
    }
    before = {name: processor(command) for name, command in commands.items()}
    for number in range(1, MANY):
        copy_image(store, number)
        copy_container(store, model, number)
    print(f"\n{'beside':22} {'1':>10} {MANY:>10} {'an item':>10} {'lock':>10}")
    for name, command in commands.items():
        after = processor(command)
        each = (after - before[name]) / (MANY - 1)
        lock = locked(command, scratch)
        excess = " <- too much" if each > MOST_MICROSECONDS or lock > MOST_LOCKED else ""
        print(f"{name:22} {before[name]:7.0f} µs {after:7.0f} µs {each:7.1f} µs {lock * 1000:7.1f} ms{excess}")


if __name__ == "__main__":
    # A build and an image of one's own: store.py DDOCK IMAGE SCRATCH
    DDOCK = sys.argv[1]
    bench(pathlib.Path(sys.argv[3]), sys.argv[2])
