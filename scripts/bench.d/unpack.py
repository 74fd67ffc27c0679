"""scripts/bench unpack: ddock's unpacking by itself against GNU tar's: time, system calls, processor time by part, the recipe's cost.

Timed is the command from before its start to after its end, on an empty directory, the tar in the page cache, and nothing synced
by either: a pull syncs once for all its layers, and tar never does. ddock hashes the tar and makes the recipe, which tar does not.
Commands that are timed go before all else on the machine: whoever works on it meanwhile is hardly to be seen in the figures.
"""

import contextlib
import os
import pathlib
import re
import statistics
import subprocess
import time

from tools import DDOCK, quiet

# Interleaved runs of each command. A large layer gets half as many: each takes longer, and says as much.
UNPACKS = int(os.environ.get("BENCH_UNPACKS", 11))
LARGE = 256 << 20
LAYOUT = pathlib.Path("cache/test-images/distribution")

# ddock's counterpart of tar's `-x`: what a pull does with a layer, without the network and the store.
CANDIDATES = {
    "tar -x": lambda tar, to: ["tar", "-x", "-p", "--numeric-owner", "-f", tar, "-C", to],
    "ddock, no recipe": lambda tar, to: [DDOCK, "unpack-layer", "--no-recipe", tar, to],
    "ddock": lambda tar, to: [DDOCK, "unpack-layer", tar, to],
}


def tars(scratch):
    """Makes uncompressed layers of real files; returns their names and paths."""
    made = {}
    for number, blob in enumerate(sorted(LAYOUT.glob("blobs/sha256/*"))):
        tar = scratch / f"debian-{number}.tar"
        with open(tar, "wb") as out:
            done = subprocess.run(["gzip", "-dc", blob], stdout=out, stderr=subprocess.DEVNULL)
        if done.returncode == 0:
            made["Debian, minbase"] = tar
    for name, directories in {"/usr/share": ["usr/share"], "/usr/include, /usr/bin": ["usr/include", "usr/bin"]}.items():
        tar = scratch / (name.replace("/", "-").replace(", ", "") + ".tar")
        quiet(["tar", "-c", "-f", tar, "--format=posix", "-C", "/", *directories])
        made[name] = tar
    return made


@contextlib.contextmanager
def before_all_else():
    """Gives this process, and those that it starts, the processors whenever they want them (sched(7), SCHED_FIFO)."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def one(command, to):
    """Runs a command on a fresh directory; returns its wall time and its processor time, user and system, in seconds."""
    to.mkdir()
    with before_all_else():
        begin = time.perf_counter()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - begin
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"bench: {command}: exit code {child.returncode}")
    return seconds, usage.ru_utime, usage.ru_stime


def calls(command, to):
    """Returns how many system calls a command makes, with all its threads."""
    to.mkdir()
    done = subprocess.run(["strace", "-f", "-c", *command], capture_output=True, text=True, check=True)
    return int(re.search(r"(\d+)\s+(?:\d+\s+)?total", done.stderr).group(1))


def facts_of(scratch, tar):
    """Returns what is the same on every file system: how many entries a tar has, its size, that with gzip, and each command's system calls."""
    listing = subprocess.run(["tar", "-tf", tar], capture_output=True, check=True)
    to = scratch / "to"
    counts = {}
    for row, command in CANDIDATES.items():
        counts[row] = calls(command(tar, to), to)
        quiet(["rm", "-rf", to])
    return len(listing.stdout.splitlines()), tar.stat().st_size, compressed_size(tar), counts


def runs(scratch, tar, candidates, turns):
    """Returns each candidate's runs, interleaved, there and back so that none always follows the same; the first left out: it fills the caches."""
    all_runs = {name: [] for name in candidates}
    for turn in range(turns + 1):
        for name in list(candidates)[:: -1 if turn % 2 else 1]:
            to = scratch / "to"
            run = one(candidates[name](tar, to), to)
            quiet(["rm", "-rf", to])
            if turn:
                all_runs[name].append(run)
    return all_runs


def medians_of(times):
    return [statistics.median(column) for column in zip(*times)]


def measure(scratch, tar, candidates, turns):
    """Returns each candidate's median wall, user and system seconds."""
    return {name: medians_of(times) for name, times in runs(scratch, tar, candidates, turns).items()}


def ratios(times, base):
    """Returns the ratios of wall and of processor time: medians of those to the run of `base` in the same turn, which saw the machine as busy."""
    wall = statistics.median(one[0] / other[0] for one, other in zip(times, base))
    return wall, statistics.median((one[1] + one[2]) / (other[1] + other[2]) for one, other in zip(times, base))


@contextlib.contextmanager
def ext4(scratch):
    """Makes an ext4 in a file in memory, and mounts it: the disk's own speed is not what is asked."""
    image, point = scratch / "ext4.img", scratch / "ext4"
    point.mkdir()
    with open(image, "wb") as file:
        file.truncate(6 << 30)
    quiet(["mkfs.ext4", "-q", "-F", image])
    quiet(["mount", "-o", "loop", image, point])
    try:
        yield point
    finally:
        quiet(["umount", point])
        image.unlink()
        point.rmdir()


def recipe_size(place, tar):
    to = place / "to"
    one(CANDIDATES["ddock"](tar, to), to)
    size = (to / "recipe").stat().st_size
    quiet(["rm", "-rf", to])
    return size


def compressed_size(tar):
    return int(subprocess.run(["sh", "-c", 'gzip -6 <"$0" | wc -c', tar], capture_output=True, check=True).stdout)


def bench_layer(place, on, name, tar, facts):
    entries, size, gzip, counts = facts
    turns = UNPACKS if size < LARGE else (UNPACKS + 1) // 2
    print(f"\nunpack of {name}: {entries} entries, {size / 1e6:.0f} MB, {turns} interleaved runs, {on}, nothing synced\n")
    print("|                  | median ms | ratio | user s | system s | ratio | system calls | per entry |")
    print("|------------------|----------:|------:|-------:|---------:|------:|-------------:|----------:|")
    times = runs(place, tar, CANDIDATES, turns)
    base = times["tar -x"]
    medians = {row: medians_of(column) for row, column in times.items()}
    for row, (wall, user, system) in medians.items():
        count, (walls, processors) = counts[row], ratios(times[row], base)
        print(
            f"| {row:16} | {wall * 1e3:9.1f} | {walls:5.2f} | {user:6.3f} | {system:8.3f} | {processors:5.2f} | {count:12} | {count / entries:9.2f} |"
        )
    length = recipe_size(place, tar)
    wall, processors = ratios(times["ddock"], times["ddock, no recipe"])
    print(f"\nrecipe: {length} bytes, {length / size:.2%} of the tar, {length / gzip:.2%} of it compressed with gzip -6;", end=" ")
    print(f"{wall - 1:+.1%} of the time, {processors - 1:+.1%} of the processor time")
    return medians


def bench_parts(scratch, name, tar, size, medians):
    """Processor seconds a gigabyte, by difference: of one large file nearly all is the hash, of compressed tars what plain ones have not is inflation."""
    plain = medians["ddock, no recipe"]
    large = scratch / "large.tar"
    file = scratch / "large"
    with open(file, "wb") as out:
        out.write(os.urandom(1 << 20) * 256)
    quiet(["tar", "-c", "-f", large, "-C", scratch, "large"])
    file.unlink()
    no_recipe = {"plain": CANDIDATES["ddock, no recipe"]}
    one_file = measure(scratch, large, no_recipe, 5)["plain"]
    hash_cost = one_file[1] / (large.stat().st_size / 1e9)
    large.unlink()
    inflate = {}
    for word, command in {"gzip": ["gzip", "-6", "-k"], "zstd": ["zstd", "-q", "-3", "-k"]}.items():
        quiet([*command, tar])
        packed = tar.with_name(tar.name + (".gz" if word == "gzip" else ".zst"))
        inflate[word] = (measure(scratch, packed, no_recipe, 5)["plain"][1] - plain[1]) / (size / 1e9)
        packed.unlink()
    per = size / 1e9
    rows = {
        "hash (sha256)": hash_cost,
        "inflate, gzip": inflate["gzip"],
        "inflate, zstd": inflate["zstd"],
        "parse": plain[1] / per - hash_cost,
        "write (the kernel)": plain[2] / per,
        "recipe": (medians["ddock"][1] + medians["ddock"][2] - plain[1] - plain[2]) / per,
    }
    print(f"\nprocessor seconds a GB of tar, {name}\n\n|                    | s/GB |\n|--------------------|-----:|")
    for row, seconds in rows.items():
        print(f"| {row:18} | {seconds:4.2f} |")


def bench(scratch):
    directory = scratch / "unpack"
    directory.mkdir()
    for name, tar in tars(directory).items():
        facts = facts_of(directory, tar)
        medians = bench_layer(directory, "tmpfs", name, tar, facts)
        if name.startswith("Debian"):
            bench_parts(directory, name, tar, tar.stat().st_size, medians)
        with ext4(directory) as place:
            bench_layer(place, "ext4 in memory", name, tar, facts)
        tar.unlink()
