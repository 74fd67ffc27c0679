//! `--mount`, what is shown of mounts, and the files and memory that every container has.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::ddock::Ddock;
use crate::harness::image::{ImageBuilder, busybox_tree};
use crate::harness::scratch::command_succeeds;
use crate::harness::tree::Tree;
use crate::harness::user::User;

#[test]
fn a_mount_can_have_any_source() {
    let (ddock, image) = Ddock::with_busybox();
    // A colon, a comma and a quote, which `-v` cannot say.
    let dir = ddock.scratch().dir("a:b,\"c\"");
    fs_err::write(dir.join("file"), "odd\n").unwrap();
    let quoted = dir.to_str().unwrap().replace('"', "\"\"");
    let mount = format!("type=bind,\"source={quoted}\",target=/m,readonly");
    let script = "cat /m/file; touch /m/x 2>/dev/null || echo ro";
    assert_eq!(ddock.sh(&["--mount", &mount], &image, script), "odd\nro\n");

    // A symlink is followed: it is the caller's.
    let link = ddock.scratch().join("link");
    std::os::unix::fs::symlink(&dir, &link).unwrap();
    let mount = format!("type=bind,src={},dst=/m", link.display());
    assert_eq!(
        ddock.sh(&["--mount", &mount], &image, "cat /m/file"),
        "odd\n"
    );

    let mut command = ddock.command(&[
        "run",
        "--rm",
        "--mount",
        "type=bind,src=./link,dst=/m",
        &image,
        "cat",
        "/m/file",
    ]);
    command.current_dir(ddock.scratch().path());
    assert_eq!(
        crate::harness::ddock::output(&mut command).exits(0).stdout,
        "odd\n"
    );
}

#[test]
fn a_missing_source_of_a_mount_is_an_error_unless_it_is_to_be_made() {
    let (ddock, image) = Ddock::with_busybox();
    let missing = ddock.scratch().join("missing");
    let mount = format!("type=bind,source={},target=/m", missing.display());
    let output = ddock.run(&["run", "--rm", "--mount", &mount, &image, "true"]);
    let words = format!("bind source path does not exist: {}", missing.display());
    output.exits(125).says(&words);
    assert!(!missing.exists());
    let mount = format!("{mount},bind-create-src");
    ddock.sh(&["--mount", &mount], &image, "touch /m/x");
    assert!(missing.join("x").exists());
}

#[test]
fn mounts_below_a_source_are_what_was_asked_for() {
    let (ddock, image) = Ddock::with_busybox();
    let dir = ddock.scratch().dir("data");
    let below = ddock.scratch().tmpfs("data/below", "1m");
    fs_err::write(below.join("file"), "").unwrap();
    let script = "touch /m/x 2>/dev/null && echo top; ls /m/below; touch /m/below/x 2>/dev/null && echo below; true";
    for (options, expected) in [
        ("", "top\nfile\nbelow\n"),
        (",readonly", "file\nx\n"),
        (
            ",readonly,bind-recursive=readonly,bind-propagation=rprivate",
            "file\nx\n",
        ),
        (",readonly,bind-recursive=writable", "file\nx\nbelow\n"),
        (",bind-recursive=disabled", "top\nbelow\n"),
        (",bind-nonrecursive,readonly", "x\n"),
    ] {
        let mount = format!("type=bind,src={},dst=/m{options}", dir.display());
        assert_eq!(
            ddock.sh(&["--mount", &mount], &image, script),
            expected,
            "{options}"
        );
        if options.is_empty() {
            assert!(below.join("x").exists());
        }
    }
}

#[test]
fn mounts_spread_as_far_as_was_asked_and_the_source_gives() {
    let (ddock, image) = Ddock::with_busybox();
    let private = ddock.scratch().tmpfs("private", "1m");
    command_succeeds(Command::new("mount").arg("--make-private").arg(&private));
    let shared = ddock.scratch().tmpfs("shared", "1m");
    command_succeeds(Command::new("mount").arg("--make-shared").arg(&shared));
    fs_err::create_dir(shared.join("place")).unwrap();

    for (word, kind) in [("shared", "shared"), ("rslave", "shared or slave")] {
        let bind = format!("{}:/m:{word}", private.display());
        let output = ddock.run(&["run", "--rm", "-v", &bind, &image, "true"]);
        let place = private.display();
        output.exits(125).says(&format!(
            "path {place} is mounted on {place} but it is not a {kind} mount"
        ));
    }
    // Out of the container, and not out of it.
    let script = "mount -t tmpfs inside /m/place && touch /m/place/x";
    for (word, count) in [("rslave", 0), ("rprivate", 0), ("rshared", 1)] {
        let bind = format!("{}:/m:{word}", shared.display());
        ddock.sh(&["--privileged", "-v", &bind], &image, script);
        let seen = fs_err::read_dir(shared.join("place")).unwrap().count();
        assert_eq!(seen, count, "{word}");
    }
    command_succeeds(Command::new("umount").arg(shared.join("place")));
}

#[test]
fn a_file_and_a_directory_do_not_go_on_each_other() {
    let (ddock, image) = Ddock::with_busybox();
    let (file, dir) = (ddock.scratch().file("file", ""), ddock.scratch().dir("dir"));
    let bind = format!("{}:/etc", file.display());
    let output = ddock.run(&["run", "--rm", "-v", &bind, &image, "true"]);
    let output = output
        .exits(125)
        .says(&format!("the file `{}`", file.display()));
    output.says("`/etc` in the container is a directory");
    let bind = format!("{}:/bin/busybox", dir.display());
    let output = ddock.run(&["run", "--rm", "-v", &bind, &image, "true"]);
    let output = output
        .exits(125)
        .says(&format!("the directory `{}`", dir.display()));
    output.says("/bin/busybox is not a directory");
    let output = ddock.run(&["run", "--rm", "-v", "vol:/bin/busybox", &image, "true"]);
    output
        .exits(125)
        .says("`/bin/busybox`: a volume is a directory, and that is a file");
}

#[test]
fn tmpfs_mounts_have_size_and_mode() {
    let (ddock, image) = Ddock::with_busybox();
    let mount = "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1750";
    let script = "grep ' /t ' /proc/mounts; stat -c %a /t";
    let stdout = ddock.sh(&["--mount", mount], &image, script);
    for word in ["size=1024k", "nosuid", "nodev", "noexec", "\n1750\n"] {
        assert!(stdout.contains(word), "{stdout}");
    }
    let stdout = ddock.sh(&["--shm-size", "3m"], &image, "df -k /dev/shm | tail -1");
    assert_eq!(stdout.split_whitespace().nth(1), Some("3072"), "{stdout}");
    for bad in ["-1", "x"] {
        ddock
            .run(&["run", "--shm-size", bad, &image, "true"])
            .exits(125);
    }
}

#[test]
fn another_image_can_be_mounted_and_not_written_to() {
    let (ddock, image) = Ddock::with_busybox();
    let layers = ImageBuilder::new()
        .layer(
            Tree::new()
                .dir("d/", 0o755)
                .file("d/gone", 0o644, "")
                .file("d/low", 0o644, "low\n"),
        )
        .layer(
            Tree::new()
                .file("d/.wh.gone", 0o644, "")
                .file("d/top", 0o644, "top\n"),
        );
    let single =
        ImageBuilder::new().layer(Tree::new().dir("d/", 0o755).file("d/top", 0o644, "top\n"));
    let registry = crate::harness::registry::Registry::start();
    let pull = |name: &str, image: ImageBuilder| {
        let reference = registry.push(name, &image.build());
        ddock.ok(&["pull", "-q", &reference]);
        reference
    };
    let (other, single) = (pull("test/other:1", layers), pull("test/single:1", single));
    let mount = format!("type=image,source={other},target=/i");
    let script = "ls /i/d; cat /i/d/low; touch /i/x 2>/dev/null || echo ro";
    assert_eq!(
        ddock.sh(&["--mount", &mount], &image, script),
        "low\ntop\nlow\nro\n"
    );
    let below = format!("{mount},image-subpath=d");
    assert_eq!(
        ddock.sh(
            &["--mount", &below],
            &image,
            "ls /i; grep -c ' /i ' /proc/mounts"
        ),
        "low\ntop\n1\n"
    );
    let one = format!("type=image,source={single},target=/i");
    let script = "cat /i/d/top; touch /i/x 2>/dev/null || echo ro";
    assert_eq!(ddock.sh(&["--mount", &one], &image, script), "top\nro\n");

    // It stays as long as the container does.
    ddock.ok(&["run", "--name", "box", "--mount", &mount, &image, "true"]);
    ddock.ok(&["rmi", "-f", &other]);
    ddock.ok(&["rm", "box"]);
    let output = ddock.run(&["run", "--rm", "--mount", &mount, &image, "true"]);
    output.exits(125).says("No such image");
}

#[test]
fn an_ordinary_user_mounts_images_with_what_they_hide() {
    for user in [User::with_ranges(), User::without_ranges()] {
        let ddock = Ddock::for_user(user);
        let image = ddock.pull(
            ImageBuilder::new()
                .layer(busybox_tree().dir("d/", 0o755).file("d/old", 0o644, ""))
                .layer(
                    Tree::new()
                        .file("d/.wh..wh..opq", 0o644, "")
                        .file("d/new", 0o644, ""),
                ),
        );
        let mount = format!("type=image,source={image},target=/i");
        assert_eq!(ddock.sh(&["--mount", &mount], &image, "ls /i/d"), "new\n");
    }
}

#[test]
fn inspect_shows_mounts_as_docker_does() {
    let (ddock, image) = Ddock::with_busybox();
    let dir = ddock.scratch().dir("dir");
    let bind = format!("{}:/b:ro", dir.display());
    ddock.ok(&[
        "run",
        "--name",
        "box",
        "-v",
        "vol:/v",
        "-v",
        &bind,
        "--mount",
        "type=tmpfs,dst=/t",
        &image,
        "true",
    ]);
    let document: Value = serde_json::from_str(&ddock.ok(&["inspect", "box"])).unwrap();
    let data = ddock.root().join("v1/volumes/vol/_data");
    assert_eq!(
        document[0]["Mounts"],
        json!([
            {"Type": "volume", "Name": "vol", "Source": data, "Destination": "/v", "Driver": "local", "Mode": "z", "RW": true, "Propagation": ""},
            {"Type": "bind", "Source": dir, "Destination": "/b", "Mode": "ro", "RW": false, "Propagation": "rprivate"},
            {"Type": "tmpfs", "Source": "", "Destination": "/t", "Mode": "", "RW": true, "Propagation": ""},
        ])
    );
}

#[test]
fn every_container_has_the_files_that_programs_look_for() {
    let (ddock, image) = Ddock::with_busybox();
    for flags in [&[][..], &["--read-only"]] {
        let script = "stat -c '%a %s' /.dockerenv; readlink /etc/mtab; stat -c '%u:%g %a' /etc; grep -c ' / ' /etc/mtab";
        assert_eq!(
            ddock.sh(flags, &image, script),
            "755 0\n/proc/mounts\n0:0 755\n1\n"
        );
    }
}

#[test]
fn those_files_are_made_through_no_symlink_of_the_image() {
    let outside = tempfile::tempdir().unwrap();
    let directory = outside.path().to_str().unwrap();
    for tree in [
        busybox_tree().symlink(".dockerenv", &format!("{directory}/made")),
        busybox_tree().symlink("etc/mtab", &format!("{directory}/made")),
        busybox_tree()
            .dir(".dockerenv/", 0o755)
            .dir("etc/mtab/", 0o755),
    ] {
        let (ddock, image) = Ddock::with(ImageBuilder::new().layer(tree));
        ddock.sh(&[], &image, "true");
    }
    // `/etc` itself leads away.
    let tree = Tree::new().dir("bin/", 0o755).file(
        "bin/busybox",
        0o755,
        fs_err::read("/bin/busybox").unwrap(),
    );
    let (ddock, image) = Ddock::with(ImageBuilder::new().layer(tree.symlink("etc", directory)));
    ddock.run(&["run", "--rm", &image, "busybox", "true"]);
    assert_eq!(fs_err::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_read_only_root_may_have_places_to_write_to() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "touch /x 2>/dev/null || echo ro; touch /tmp/x /run/x /var/tmp/x /v/x && echo rw";
    let flags = ["--read-only", "--read-only-tmpfs", "-v", "/v"];
    assert_eq!(ddock.sh(&flags, &image, script), "ro\nrw\n");
    let output = ddock.run(&["run", "--rm", "--read-only", &image, "touch", "/tmp/x"]);
    output.exits(1).says("Read-only file system");
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let (ddock, image) = Ddock::with_busybox();
    for (flags, words) in [
        (["--storage-opt", "size=1g"], "--storage-opt size=1g"),
        (["--volume-driver", "nfs"], "no volume driver `nfs`"),
        (["-v", "/tmp:/x:O"], "`O`"),
        (["--mount", "type=npipe,target=/x"], "npipe"),
        (["-v", "/tmp:/proc/sys"], "/proc/sys"),
    ] {
        let mut args = vec!["run", "--rm"];
        args.extend(flags);
        args.extend([&image, "true"]);
        ddock.run(&args).exits(125).says(words);
    }
    ddock.sh(
        &["--volume-driver", "local", "-v", "vol:/v"],
        &image,
        "true",
    );
}
