//! Binds and tmpfs: what of the host a user puts into a container, and how.

use crate::harness::ddock::Ddock;
use crate::harness::image::{ImageBuilder, busybox, busybox_tree};
use crate::harness::user::User;
use std::os::unix::fs::MetadataExt;

#[test]
fn a_bind_shows_the_hosts_files_both_ways() {
    let (ddock, image) = Ddock::with_busybox();
    let dir = ddock.scratch().dir("data");
    fs_err::write(dir.join("in"), "from the host").unwrap();
    let bind = format!("{}:/data", dir.display());
    let stdout = ddock.sh(
        &["-v", &bind],
        &image,
        "cat /data/in; echo from inside > /data/out",
    );
    assert_eq!(stdout, "from the host");
    assert_eq!(
        fs_err::read_to_string(dir.join("out")).unwrap(),
        "from inside\n"
    );
}

#[test]
fn a_read_only_bind_is_read_only_with_all_below_it() {
    let (ddock, image) = Ddock::with_busybox();
    let dir = ddock.scratch().dir("data");
    ddock.scratch().tmpfs("data/below", "1m");
    let bind = format!("{}:/data:ro", dir.display());
    let script = "touch /data/x 2>/dev/null || touch /data/below/x 2>/dev/null || echo refused";
    assert_eq!(ddock.sh(&["-v", &bind], &image, script), "refused\n");
}

#[test]
fn a_file_can_be_bound_over_a_file() {
    let (ddock, image) = Ddock::with_busybox();
    let file = ddock.scratch().file("file", "mine\n");
    let bind = format!("{}:/etc/passwd:ro", file.display());
    assert_eq!(
        ddock.sh(&["-v", &bind], &image, "cat /etc/passwd"),
        "mine\n"
    );
}

#[test]
fn a_file_bound_on_a_directory_is_refused_with_which_is_which() {
    let (ddock, image) = Ddock::with_busybox();
    let file = ddock.scratch().file("file", "");
    let bind = format!("{}:/etc", file.display());
    let output = ddock.run(&["run", "--rm", "-v", &bind, &image, "true"]);
    output.exits(125).says("directory");
}

#[test]
fn a_missing_source_is_made_as_docker_makes_it_and_said() {
    let (ddock, image) = Ddock::with_busybox();
    let missing = ddock.scratch().join("missing");
    let bind = format!("{}:/data", missing.display());
    let output = ddock.run(&["run", "--rm", "-v", &bind, &image, "true"]);
    output.exits(0).says(missing.to_str().unwrap());
    assert!(missing.is_dir());

    // The classic trap, `-v /etc/hosst:/etc/hosts`: a directory there could never be meant.
    let typo = ddock.scratch().join("hosst");
    let bind = format!("{}:/etc/passwd", typo.display());
    let output = ddock.run(&["run", "--rm", "-v", &bind, &image, "true"]);
    output.exits(125).says(typo.to_str().unwrap());
    assert!(!typo.exists());
}

#[test]
fn mounts_are_made_parents_first() {
    let (ddock, image) = Ddock::with_busybox();
    let outer = ddock.scratch().dir("outer");
    let inner = ddock.scratch().dir("inner");
    fs_err::create_dir(outer.join("in")).unwrap();
    fs_err::write(inner.join("seen"), "").unwrap();
    let flags = [
        "-v",
        &format!("{}:/a/in", inner.display()),
        "-v",
        &format!("{}:/a", outer.display()),
    ];
    assert_eq!(ddock.sh(&flags, &image, "ls /a/in"), "seen\n");
}

#[test]
fn a_target_behind_a_symlink_of_the_image_stays_inside() {
    let (outside, bound) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs_err::write(bound.path().join("seen"), "").unwrap();
    let link = outside.path().to_str().unwrap();
    let tree = busybox_tree().symlink("link", link);
    let (ddock, image) = Ddock::with(ImageBuilder::new().layer(tree));
    let bind = format!("{}:/link/target", bound.path().display());
    assert_eq!(
        ddock.sh(&["-v", &bind], &image, "ls /link/target"),
        "seen\n"
    );
    assert_eq!(fs_err::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn what_is_mounted_inside_does_not_reach_the_host() {
    let (ddock, image) = Ddock::with_busybox();
    let dir = ddock.scratch().dir("data");
    let bind = format!("{}:/data", dir.display());
    ddock.sh(
        &["--privileged", "-v", &bind],
        &image,
        "mount -t tmpfs inside /data && touch /data/x",
    );
    assert_eq!(fs_err::read_dir(dir).unwrap().count(), 0);
    let mounts = fs_err::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains("inside "), "{mounts}");
}

#[test]
fn one_target_cannot_be_mounted_twice() {
    let (ddock, image) = Ddock::with_busybox();
    let args = [
        "run", "--rm", "-v", "/tmp:/x", "-v", "/etc:/x", &image, "true",
    ];
    ddock
        .run(&args)
        .exits(125)
        .says("Duplicate mount point: /x");
}

#[test]
fn a_tmpfs_is_as_private_as_the_directory_of_the_image_that_it_covers() {
    let (ddock, image) = Ddock::with_busybox();
    let tmpfs = [
        "--tmpfs",
        "/root",
        "--tmpfs",
        "/new",
        "--tmpfs",
        "/home/alice:mode=711",
    ];
    let flags = [&tmpfs[..], &["--mount", "type=tmpfs,dst=/tmp,ro"]].concat();
    let modes = ddock.sh(
        &flags,
        &image,
        "stat -c '%n %a' /root /new /home/alice /tmp",
    );
    assert_eq!(modes, "/root 700\n/new 1777\n/home/alice 711\n/tmp 1777\n");
}

#[test]
fn a_tmpfs_has_dockers_options_and_takes_others() {
    let (ddock, image) = Ddock::with_busybox();
    let options = |flag: &str| {
        let stdout = ddock.sh(&["--tmpfs", flag], &image, "grep ' /t ' /proc/mounts");
        let words: Vec<&str> = stdout.split(' ').collect();
        assert_eq!(words[2], "tmpfs");
        words[3].split(',').map(str::to_owned).collect::<Vec<_>>()
    };
    let plain = options("/t");
    for option in ["rw", "nosuid", "nodev", "noexec"] {
        assert!(plain.iter().any(|o| o == option), "{plain:?}");
    }
    let given = options("/t:size=1m,exec,mode=700");
    assert!(given.iter().any(|o| o == "size=1024k"), "{given:?}");
    assert!(given.iter().any(|o| o == "mode=700"), "{given:?}");
    assert!(!given.iter().any(|o| o == "noexec"), "{given:?}");
}

/// Makes a tree in the scratch directory, with a symlink out of it.
fn foreign_tree(ddock: &Ddock, owner: (u32, u32)) -> std::path::PathBuf {
    let dir = ddock.scratch().dir("data");
    fs_err::create_dir(dir.join("sub")).unwrap();
    fs_err::write(dir.join("sub/file"), "").unwrap();
    let canary = ddock.scratch().file("canary", "");
    std::os::unix::fs::symlink(&canary, dir.join("link")).unwrap();
    for path in [dir.clone(), dir.join("sub"), dir.join("sub/file"), canary] {
        std::os::unix::fs::chown(path, Some(owner.0), Some(owner.1)).unwrap();
    }
    std::os::unix::fs::lchown(dir.join("link"), Some(owner.0), Some(owner.1)).unwrap();
    dir
}

const OWNERS: &str = "stat -c '%n %u:%g' /data /data/sub /data/sub/file /data/link";

#[test]
fn files_are_given_to_the_containers_user_and_nothing_behind_a_link_is() {
    let user = User::with_ranges();
    let own = (user.uid, user.gid);
    for (ddock, before) in [(Ddock::new(), (0, 0)), (Ddock::for_user(user), own)] {
        let image = ddock.pull(busybox());
        let dir = foreign_tree(&ddock, before);
        let bind = format!("{}:/data:U", dir.display());
        let owner = |path: &str| {
            let found = fs_err::symlink_metadata(ddock.scratch().join(path)).unwrap();
            (found.uid(), found.gid())
        };
        ddock.ok(&["run", "--dry-run", "-u", "alice", "-v", &bind, &image]);
        assert_eq!(owner("data/sub/file"), before, "a dry run changes nothing");
        let stdout = ddock.sh(&["-u", "alice", "-v", &bind], &image, OWNERS);
        let name = |name: &str| format!("/data{name} 1000:1000\n");
        assert_eq!(
            stdout,
            ["", "/sub", "/sub/file", "/link"].map(name).concat()
        );
        assert_ne!(owner("data/sub/file"), before);
        assert_eq!(owner("canary"), before);
        // Back, in the other spelling.
        let mount = format!("type=bind,src={},dst=/data,chown=true", dir.display());
        ddock.sh(&["--mount", &mount], &image, "true");
        assert_eq!(owner("data/sub/file"), before);
    }
}

#[test]
fn a_volume_is_given_to_the_containers_user() {
    let (ddock, image) = Ddock::with_busybox();
    let stdout = ddock.sh(
        &["-u", "alice", "-v", "data:/tmp:U"],
        &image,
        "stat -c %u:%g /tmp; touch /tmp/x",
    );
    assert_eq!(stdout, "1000:1000\n");
}

#[test]
fn the_machines_own_directories_are_given_to_nobody() {
    let (ddock, image) = Ddock::with_busybox();
    let link = ddock.scratch().join("link");
    std::os::unix::fs::symlink("/etc", &link).unwrap();
    for source in ["/usr", link.to_str().unwrap()] {
        let bind = format!("{source}:/data:U");
        let output = ddock.run(&["run", "--rm", "-v", &bind, &image, "true"]);
        output.exits(125).says("the machine needs it as it is");
    }
}
