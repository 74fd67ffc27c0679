"""The measuring half of scripts/bench: stores, peers, interleaved runs, medians. Root only; everything is on tmpfs."""

import json
import os
import pathlib
import signal
import statistics
import sys
import tempfile

sys.dont_write_bytecode = True

import network  # noqa: E402 (the line above is for these imports)
import pull  # noqa: E402
import store  # noqa: E402
import unpack  # noqa: E402
from tools import DDOCK, quiet, registry, remove, timed  # noqa: E402

STARTS = int(os.environ.get("BENCH_STARTS", 200))


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


def bench_run(scratch, image):
    """`run --rm` of a cached image against a C program that makes the same system calls and no others."""
    root = scratch / "store"
    ddock = [DDOCK, "--root", str(root)]
    quiet(ddock + ["pull", "-q", image])
    lower = json.loads(quiet(ddock + ["inspect", image]))[0]["GraphDriver"]["Data"]["LowerDir"]
    state = scratch / "floor"
    candidates = {
        "floor (C, the same system calls)": ["target/floor", lower, str(state), "/bin/true"],
        "ddock run --rm --network none": ddock + ["run", "--rm", "--network", "none", image, "true"],
        "ddock run --rm (bridge)": ddock + ["run", "--rm", image, "true"],
    }
    rows = {name: [] for name in candidates}
    for turn in range(STARTS + 5):
        for name, command in candidates.items():
            seconds = timed(command)
            if turn >= 5:  # the first ones fill the page cache
                rows[name].append(seconds)
    table(f"run --rm of a cached image, `true`, {STARTS} interleaved starts", rows, next(iter(rows)))
    print()
    for name, command in candidates.items():
        print(f"{name}: {system_calls(scratch, command)} system calls")


def system_calls(scratch, command):
    """Returns how many system calls a command makes, in all of its processes."""
    counts = scratch / "counts"
    quiet(["strace", "-f", "-c", "-o", str(counts)] + command)
    # % time, seconds, usecs/call, calls, errors, `total`
    return counts.read_text().splitlines()[-1].split()[3]


def main():
    parts = ["run", "pull", "unpack", "network", "store"]
    wanted = sys.argv[1:] or parts
    if os.geteuid() or not set(wanted) <= set(parts):
        sys.exit(f"usage: scripts/bench [{'|'.join(parts)}], as root")
    sys.stdout.reconfigure(line_buffering=True)
    # An end by a signal is an end like others: daemons, mounts and the scratch go.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: terminated"))
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="ddock-bench-", dir="/dev/shm"))
    try:
        with registry(scratch) as image:
            if "run" in wanted:
                bench_run(scratch, image)
            if "pull" in wanted:
                pull.bench(scratch, image)
            if "unpack" in wanted:
                unpack.bench(scratch)
            if "network" in wanted:
                network.bench(scratch, image)
            if "store" in wanted:
                store.bench(scratch, image)
    finally:
        remove(scratch)


if __name__ == "__main__":
    main()
