"""scripts/bench unpack: ddock's unpacking by itself against GNU tar's, on tmpfs: time, system calls, processor time by part, the recipe's cost."""

import os
import pathlib
import re
import statistics
import subprocess
import time

from tools import DDOCK, quiet

UNPACKS = int(os.environ.get("BENCH_UNPACKS", 11))
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


def one(command, to):
    """Runs a command on a fresh directory; returns its wall time and its processor time, user and system, in seconds."""
    to.mkdir()
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


def entries_of(tar):
    listing = subprocess.run(["tar", "-tf", tar], capture_output=True, check=True)
    return len(listing.stdout.splitlines())


def measure(scratch, tar, candidates, turns):
    """Returns each candidate's runs, interleaved, the first left out: it fills the caches."""
    runs = {name: [] for name in candidates}
    for turn in range(turns + 1):
        for name, command in candidates.items():
            to = scratch / "to"
            run = one(command(tar, to), to)
            quiet(["rm", "-rf", to])
            if turn:
                runs[name].append(run)
    return {name: [statistics.median(column) for column in zip(*times)] for name, times in runs.items()}


def compressed_size(tar):
    return int(subprocess.run(["sh", "-c", 'gzip -6 <"$0" | wc -c', tar], capture_output=True, check=True).stdout)


def bench_layer(scratch, name, tar):
    entries, size = entries_of(tar), tar.stat().st_size
    print(f"\nunpack of {name}: {entries} entries, {size / 1e6:.0f} MB, {UNPACKS} interleaved runs, tmpfs\n")
    print("|                  | median ms | ratio | user s | system s | system calls | per entry |")
    print("|------------------|----------:|------:|-------:|---------:|-------------:|----------:|")
    medians = measure(scratch, tar, CANDIDATES, UNPACKS)
    base = medians["tar -x"][0]
    to = scratch / "to"
    for row, (wall, user, system) in medians.items():
        count = calls(CANDIDATES[row](tar, to), to)
        recipe = to / "recipe"
        length = recipe.stat().st_size if recipe.exists() else 0
        quiet(["rm", "-rf", to])
        print(
            f"| {row:16} | {wall * 1e3:9.1f} | {wall / base:5.2f} | {user:6.3f} | {system:8.3f} | {count:12} | {count / entries:9.2f} |"
        )
    cost = medians["ddock"][0] / medians["ddock, no recipe"][0] - 1
    gzip = compressed_size(tar)
    print(
        f"\nrecipe: {length} bytes, {length / size:.2%} of the tar, {length / gzip:.2%} of it compressed with gzip -6; {cost:+.1%} of the time"
    )
    return size, medians


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
        size, medians = bench_layer(directory, name, tar)
        if name.startswith("Debian"):
            bench_parts(directory, name, tar, size, medians)
        tar.unlink()
