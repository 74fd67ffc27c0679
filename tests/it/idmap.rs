//! `idmap`: whose the files of a bind are, inside and on the host.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::ddock::Ddock;
use crate::harness::scratch::command_succeeds;
use crate::harness::user::User;

/// A user of the host, who need not be in any file.
const OWNER: u32 = 4321;
const GROUP: u32 = 8765;

fn give(path: &Path) {
    chown(path, Some(OWNER), Some(GROUP)).unwrap();
}

/// Returns who owns a file on the host.
fn owner(path: &Path) -> (u32, u32) {
    let found = fs_err::symlink_metadata(path).unwrap();
    (found.uid(), found.gid())
}

/// Returns a `-v` of `source` at `/data` with these options.
fn bind(source: &Path, options: &str) -> String {
    format!("{}:/data:{options}", source.display())
}

/// Puts a file system that is made in a file on the new directory `name`.
fn loop_mounted(ddock: &Ddock, name: &str, kind: &str) -> std::path::PathBuf {
    let (image, path) = (
        ddock.scratch().file(&format!("{name}.image"), ""),
        ddock.scratch().dir(name),
    );
    let disk = fs_err::File::create(&image).unwrap();
    disk.set_len(16 << 20).unwrap();
    command_succeeds(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image));
    command_succeeds(
        Command::new("mount")
            .args(["-t", kind, "-o", "loop"])
            .args([&image, &path]),
    );
    path
}

/// Checks that the owner of `source` is root inside, both ways.
fn assert_the_owner_is_root(ddock: &Ddock, image: &str, source: &Path) {
    give(source);
    fs_err::create_dir(source.join("below")).unwrap();
    give(&source.join("below"));
    fs_err::write(source.join("mine"), "mine\n").unwrap();
    give(&source.join("mine"));
    let script = "cd /data && stat -c '%u:%g %n' . mine below && echo more >> mine && \
                  echo new > new && mkdir dir && touch dir/file below/file && ln -s mine link && \
                  stat -c %u:%g new";
    assert_eq!(
        ddock.sh(&["-v", &bind(source, "idmap")], image, script),
        "0:0 .\n0:0 mine\n0:0 below\n0:0\n"
    );
    for name in [
        "mine",
        "new",
        "dir",
        "dir/file",
        "below",
        "below/file",
        "link",
    ] {
        assert_eq!(owner(&source.join(name)), (OWNER, GROUP), "{name}");
    }
}

#[test]
fn what_the_containers_root_writes_belongs_to_the_owner_of_the_source() {
    let (ddock, image) = Ddock::with_busybox();
    let memory = ddock.scratch().tmpfs("memory", "1m");
    assert_the_owner_is_root(&ddock, &image, &memory);
    let disk = loop_mounted(&ddock, "disk", "ext4");
    assert_the_owner_is_root(&ddock, &image, &disk);
}

#[test]
fn others_are_themselves_and_the_hosts_root_is_nobody() {
    let (ddock, image) = Ddock::with_busybox();
    let dir = ddock.scratch().dir("data");
    give(&dir);
    crate::harness::scratch::chmod(&dir, 0o777);
    for (name, uid) in [("other", 1), ("next", OWNER + 1), ("roots", 0)] {
        fs_err::write(dir.join(name), "").unwrap();
        chown(dir.join(name), Some(uid), Some(uid)).unwrap();
    }
    let flag = bind(&dir, "idmap");
    let script = "cd /data && stat -c '%u:%g %n' other next roots; \
                  touch made && chown 7:8 made; echo x 2>/dev/null > roots || echo refused";
    assert_eq!(
        ddock.sh(&["-v", &flag], &image, script),
        format!(
            "1:1 other\n{0}:{0} next\n65534:65534 roots\nrefused\n",
            OWNER + 1
        )
    );
    assert_eq!(owner(&dir.join("made")), (7, 8));

    // Whoever has the owner's number inside is not the host's root.
    let user = format!("{OWNER}:{GROUP}");
    let script = "touch /data/x 2>/dev/null || echo refused; echo x 2>/dev/null > /data/roots || echo refused";
    assert_eq!(
        ddock.sh(&["-u", &user, "-v", &flag], &image, script),
        "refused\nrefused\n"
    );
    assert!(!dir.join("x").exists());
}

#[test]
fn what_is_read_only_stays_so() {
    let (ddock, image) = Ddock::with_busybox();
    let dir = ddock.scratch().dir("data");
    give(&dir);
    let script = "stat -c %u:%g /data; touch /data/x 2>/dev/null || echo refused";
    assert_eq!(
        ddock.sh(&["-v", &bind(&dir, "ro,idmap")], &image, script),
        "0:0\nrefused\n"
    );
}

#[test]
fn files_and_roots_own_directories_can_be_mounted_so() {
    let (ddock, image) = Ddock::with_busybox();
    let file = ddock.scratch().file("file", "");
    give(&file);
    let script = "stat -c %u:%g /data; echo text > /data";
    assert_eq!(
        ddock.sh(&["-v", &bind(&file, "idmap")], &image, script),
        "0:0\n"
    );
    assert_eq!(owner(&file), (OWNER, GROUP));
    let dir = ddock.scratch().dir("roots");
    ddock.sh(&["-v", &bind(&dir, "idmap")], &image, "touch /data/x");
    assert_eq!(owner(&dir.join("x")), (0, 0));
    let missing = ddock.scratch().join("missing");
    let args = [
        "run",
        "--rm",
        "-v",
        &bind(&missing, "idmap"),
        &image,
        "true",
    ];
    ddock.run(&args).exits(0);
}

#[test]
fn mounts_below_the_source_are_mapped_too_unless_left_out() {
    let (ddock, image) = Ddock::with_busybox();
    let dir = ddock.scratch().dir("data");
    let below = ddock.scratch().tmpfs("data/below", "1m");
    give(&dir);
    give(&below);
    let script = "stat -c %u:%g /data /data/below; touch /data/below/x";
    assert_eq!(
        ddock.sh(&["-v", &bind(&dir, "idmap")], &image, script),
        "0:0\n0:0\n"
    );
    assert_eq!(owner(&below.join("x")), (OWNER, GROUP));

    let odd = ddock.scratch().dir("data/odd");
    command_succeeds(Command::new("mount").args(["-t", "ramfs", "odd"]).arg(&odd));
    let run =
        |options: &str| ddock.run(&["run", "--rm", "-v", &bind(&dir, options), &image, "true"]);
    run("idmap").exits(125).says("mounted below it");
    run("idmap,bind").exits(0);
}

#[test]
fn a_file_system_that_cannot_is_named() {
    let (ddock, image) = Ddock::with_busybox();
    let dir = ddock.scratch().dir("data");
    command_succeeds(Command::new("mount").args(["-t", "ramfs", "odd"]).arg(&dir));
    give(&dir);
    let output = ddock.run(&["run", "--rm", "-v", &bind(&dir, "idmap"), &image, "true"]);
    let source = dir.display();
    output
        .exits(125)
        .says(&format!("mounting `{source}` at `/data` with `idmap`"))
        .says("the file system `ramfs` cannot show files as others'");
    assert_eq!(ddock.containers(), [""; 0]);
}

#[test]
fn ranges_can_be_given() {
    let (ddock, image) = Ddock::with_busybox();
    let dir = ddock.scratch().dir("data");
    for (name, id) in [("a", 100), ("b", 101), ("c", 102)] {
        fs_err::write(dir.join(name), "").unwrap();
        chown(dir.join(name), Some(id), Some(id)).unwrap();
    }
    let maps = "idmap=uids=0-0-1#100-5-2;gids=0-0-1#100-7-1";
    let script = "cd /data && stat -c %u:%g a b c; touch x && chown 6:7 x";
    let seen = "5:7\n6:65534\n65534:65534\n";
    assert_eq!(ddock.sh(&["-v", &bind(&dir, maps)], &image, script), seen);
    assert_eq!(owner(&dir.join("x")), (101, 100));
    let mount = format!("type=bind,src={},dst=/data,{maps}", dir.display());
    assert_eq!(ddock.sh(&["--mount", &mount], &image, script), seen);

    for (maps, error) in [
        ("uids=0-0-2#1-5-1", "overlap"),
        ("uids=x", "invalid range of IDs: `x`"),
        ("0-1-1", "invalid idmap: 0-1-1"),
    ] {
        let flag = bind(&dir, &format!("idmap={maps}"));
        let output = ddock.run(&["run", "--rm", "-v", &flag, &image, "true"]);
        output.exits(125).says(error);
    }
}

#[test]
fn config_json_says_it_as_the_runtime_spec_does() {
    let (ddock, image) = Ddock::with_busybox();
    let dir = ddock.scratch().dir("data");
    give(&dir);
    let mount = format!("type=bind,src={},dst=/data,idmap", dir.display());
    let id = ddock.ok(&["run", "-d", "--mount", &mount, &image, "true"]);
    let path = format!("containers/{}/config.json", id.trim());
    let found = command_succeeds(
        Command::new("find")
            .arg(ddock.root())
            .args(["-path", &format!("*/{path}")]),
    );
    let config: Value = serde_json::from_slice(&fs_err::read(found.trim()).unwrap()).unwrap();
    let mounts = config["mounts"].as_array().unwrap();
    let data = mounts.iter().find(|it| it["destination"] == "/data");
    let data = data.unwrap();
    let range = |disk: u32, seen: u32, size: u32| json!({"containerID": disk, "hostID": seen, "size": size});
    let rest = |owner: u32| {
        let (before, after) = (
            range(1, 1, owner - 1),
            range(owner + 1, owner + 1, u32::MAX - 1 - owner),
        );
        json!([range(owner, 0, 1), before, after])
    };
    assert_eq!(data["uidMappings"], rest(OWNER));
    assert_eq!(data["gidMappings"], rest(GROUP));
    assert!(
        data["options"]
            .as_array()
            .unwrap()
            .contains(&"ridmap".into())
    );
    assert!(
        mounts
            .iter()
            .all(|it| it == data || it.get("uidMappings").is_none())
    );

    // Whoever takes over the mount sees the same.
    let script = "stat -c %u:%g /data";
    let inherited = ddock.sh(&["--volumes-from", id.trim()], &image, script);
    assert_eq!(inherited, "0:0\n");
}

#[test]
fn an_ordinary_user_is_root_inside_anyway() {
    for user in [User::with_ranges(), User::without_ranges()] {
        let own = (user.uid, user.gid);
        let ddock = Ddock::for_user(user);
        let image = ddock.pull(crate::harness::image::busybox());
        let dir = ddock.scratch().dir("data");
        chown(&dir, Some(own.0), Some(own.1)).unwrap();
        let script = "stat -c %u:%g /data; touch /data/x";
        let flag = bind(&dir, "idmap");
        assert_eq!(ddock.sh(&["-v", &flag], &image, script), "0:0\n");
        assert_eq!(owner(&dir.join("x")), own);
        let keep = ["--userns", "keep-id", "-v", &flag];
        ddock.sh(&keep, &image, "touch /data/y");
        assert_eq!(owner(&dir.join("y")), own);

        let refused = |source: &Path, options: &str| {
            let flag = bind(source, options);
            ddock.run(&["run", "--rm", "-v", &flag, &image, "true"])
        };
        refused(&dir, "idmap=uids=0-1-1")
            .exits(125)
            .says("only root can choose who owns the files of a mount");
        let others = ddock.scratch().dir("others");
        refused(&others, "idmap").exits(125).says("is not yours");
    }
}
