"""What all measurements need: commands that must succeed, a registry on loopback, trees that go away with their mounts."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

DDOCK = "target/ddock"


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


@contextlib.contextmanager
def registry(scratch):
    """Serves the image of scripts/debian-image and gives its reference."""
    directory = scratch / "registry"
    quiet(["scripts/registry", str(directory)])
    try:
        yield (directory / "image").read_text().strip()
    finally:
        os.kill(int((directory / "pid").read_text()), signal.SIGTERM)


def remove(root):
    """Removes a tree, with what is mounted there."""
    mounts = [line.split()[1] for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()]
    for target in reversed([mount for mount in mounts if mount.startswith(f"{root}/")]):
        subprocess.run(["umount", "-l", target], check=False)
    quiet(["rm", "-rf", str(root)])
