"""Makes a large image of Debian's own packages: the distribution's layer and one layer for each of PACKAGES below.

An OCI image layout (image-spec image-layout.md) in target/bench/large, kept until it is deleted or PACKAGES change.
"""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor

# Each with all that it depends on and that no layer below has: about 1.5 GB, in few large files and in many small ones.
PACKAGES = [
    ["gcc", "g++"],
    ["golang-go"],
    ["default-jdk-headless"],
    ["python3-scipy"],
    ["texlive-latex-recommended", "texlive-fonts-recommended"],
    ["nodejs", "git"],
    ["ruby", "php-cli"],
]
OCI = "application/vnd.oci.image"


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise SystemExit(f"large_image: {' '.join(map(str, command))}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def download(directory, base):
    """Downloads the packages as if in a container of the layer `base`; returns each layer's files."""
    archives = directory / "archives"
    (archives / "partial").mkdir(parents=True)
    (directory / "status").write_text(run("tar", "-xOzf", base, "./var/lib/dpkg/status"))
    apt = ["apt-get", "-o", f"Dir::State::status={directory}/status", "-o", f"Dir::Cache::archives={archives}"]
    apt += ["-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root", "-y", "--no-install-recommends", "--download-only"]
    layers, seen = [], set()
    for packages in PACKAGES:
        run(*apt, "install", *packages)
        here = set(archives.glob("*.deb"))
        layers.append(sorted(here - seen))
        seen = here
    return layers


def make_layer(layout, directory, number, packages):
    """Unpacks packages side by side and writes their tree as a layer; returns its descriptor and diff ID."""
    root = directory / f"root{number}"
    for package in packages:
        run("dpkg-deb", "-x", package, root)
    tar = directory / f"{number}.tar"
    run("tar", "--sort=name", "--numeric-owner", "--format=gnu", "-C", root, "-cf", tar, ".")
    shutil.rmtree(root)
    diff_id = digest(tar)
    run("gzip", "-n", "-6", tar)
    return put(layout, f"{tar}.gz", f"{OCI}.layer.v1.tar+gzip"), diff_id


def digest(path):
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def blob(layout, descriptor):
    return layout / "blobs/sha256" / descriptor["digest"].removeprefix("sha256:")


def put(layout, path, media_type):
    """Moves a file to its place among the blobs and returns its descriptor."""
    descriptor = {"mediaType": media_type, "digest": digest(path), "size": os.path.getsize(path)}
    shutil.move(path, blob(layout, descriptor))
    return descriptor


def put_json(layout, value, media_type):
    path = layout / "json"
    path.write_text(json.dumps(value))
    return put(layout, path, media_type)


def read_base(base, layout):
    """Copies the layer of scripts/debian-image; returns its descriptor and diff ID, and its config."""
    index = json.loads((base / "index.json").read_text())
    manifest = json.loads(blob(base, index["manifests"][0]).read_text())
    config = json.loads(blob(base, manifest["config"]).read_text())
    [layer] = manifest["layers"]
    shutil.copy(blob(base, layer), layout / "blobs/sha256")
    return layer, config["rootfs"]["diff_ids"][0], config


def make(base, place):
    """Makes the layout at `place` unless it is there."""
    wanted = json.dumps(PACKAGES)
    if (place / "packages").exists() and (place / "packages").read_text() == wanted:
        return place
    print("+ making a large image of Debian's packages (a few minutes)", flush=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as directory:
        directory = pathlib.Path(directory)
        layout = directory / "layout"
        (layout / "blobs/sha256").mkdir(parents=True)
        first, first_id, config = read_base(base, layout)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            work = [
                pool.submit(make_layer, layout, directory, number, packages)
                for number, packages in enumerate(download(directory, blob(layout, first)))
            ]
            made = [(first, first_id)] + [layer.result() for layer in work]
        config["rootfs"]["diff_ids"] = [diff_id for _, diff_id in made]
        config["history"] = [{"created": config["created"], "created_by": f"layer {n}"} for n in range(len(made))]
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": put_json(layout, config, f"{OCI}.config.v1+json"),
            "layers": [layer for layer, _ in made],
        }
        manifest = put_json(layout, manifest, f"{OCI}.manifest.v1+json")
        manifest["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
        (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
        (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        (layout / "packages").write_text(wanted)
        shutil.rmtree(place, ignore_errors=True)
        layout.rename(place)
    return place
