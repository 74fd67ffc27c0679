//! `run --rootfs`: a directory of the host instead of an image.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::ddock::{Ddock, Output};
use crate::harness::image::busybox_tree;
use crate::harness::listing::listing;
use crate::harness::scratch::command_succeeds;
use crate::harness::tree::Tree;
use crate::harness::user::User;

/// ddock and a directory to run from, which is its user's.
struct Host {
    ddock: Ddock,
    root: PathBuf,
    owner: (u32, u32),
}

impl Host {
    fn new() -> Host {
        Host::with(Ddock::new(), (0, 0))
    }

    fn of_user(user: User) -> Host {
        let owner = (user.uid, user.gid);
        Host::with(Ddock::for_user(user), owner)
    }

    fn with(ddock: Ddock, owner: (u32, u32)) -> Host {
        let root = ddock.scratch().dir("root");
        unpack(busybox_tree(), &ddock, &root);
        let host = Host { ddock, root, owner };
        host.give();
        host
    }

    /// Hands all files to the user.
    fn give(&self) {
        let (uid, gid) = self.owner;
        command_succeeds(
            Command::new("chown")
                .arg("-Rh")
                .arg(format!("{uid}:{gid}"))
                .arg(&self.root),
        );
    }

    /// Runs `run --rm FLAGS --rootfs ROOT`; `suffix` is the root's option.
    fn run(&self, flags: &[&str], suffix: &str, command: &[&str]) -> Output {
        let root = format!("{}{suffix}", self.root.display());
        self.ddock
            .run(&[&["run", "--rm"], flags, &["--rootfs", &root], command].concat())
    }

    fn sh(&self, flags: &[&str], suffix: &str, script: &str) -> String {
        self.run(flags, suffix, &["sh", "-c", script])
            .exits(0)
            .stdout
    }
}

fn unpack(tree: Tree, ddock: &Ddock, into: &Path) {
    let tar = ddock.scratch().file("tree.tar", tree.tar());
    command_succeeds(Command::new("tar").arg("-xpf").arg(tar).arg("-C").arg(into));
}

/// Root, an ordinary user with subordinate IDs and one without.
fn everybody() -> [Host; 3] {
    [
        Host::new(),
        Host::of_user(User::with_ranges()),
        Host::of_user(User::without_ranges()),
    ]
}

#[test]
fn the_directory_is_the_root_itself() {
    for host in everybody() {
        let script = "pwd; id -u; echo $PATH; echo $$; echo text > /new; mkdir /made";
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        assert_eq!(host.sh(&[], "", script), format!("/\n0\n{path}\n1\n"));
        let new = host.root.join("new");
        assert_eq!(fs_err::read_to_string(&new).unwrap(), "text\n");
        let found = fs_err::metadata(&new).unwrap();
        assert_eq!((found.uid(), found.gid()), host.owner);
        assert_eq!(host.sh(&[], "", "cat /new"), "text\n");
        assert_eq!(host.ddock.containers(), [""; 0]);
        assert!(new.exists(), "it does not go with the container");
    }
}

#[test]
fn with_an_overlay_the_directory_stays_as_it_is() {
    for host in everybody() {
        let before = listing(&host.root);
        let script = "rm -r /home; echo text > /etc/passwd; echo > /new; cat /etc/passwd; cat /proc/self/mounts";
        let stdout = host.sh(&[], ":O", script);
        assert!(stdout.starts_with("text\n"), "{stdout}");
        let root = host.root.to_str().unwrap();
        assert!(!stdout.contains(root), "it tells where it is: {stdout}");
        assert_eq!(host.sh(&[], ":O", "ls -d /new || true"), "");
        assert!(listing(&host.root) == before, "it was changed");
    }
}

#[test]
fn the_overlays_root_looks_like_the_directory() {
    let host = Host::new();
    crate::harness::scratch::chmod(&host.root, 0o711);
    assert_eq!(host.sh(&[], ":O", "stat -c %a /"), "711\n");
}

#[test]
fn what_is_kept_of_the_container_names_the_directory() {
    let host = Host::new();
    let root = host.root.to_str().unwrap();
    let link = host.ddock.scratch().join("link");
    std::os::unix::fs::symlink(&host.root, &link).unwrap();
    let link = link.to_str().unwrap();
    host.ddock
        .ok(&["run", "--name", "box", "--rootfs", link, "true"]);
    let listed = host.ddock.ok(&["ps", "-a"]);
    assert!(listed.contains(root), "{listed}");
    let inspected = host.ddock.ok(&["inspect", "box"]);
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected[0]["Rootfs"], root);
    assert_eq!(inspected[0]["Image"], "");
    host.ddock.ok(&["rm", "box"]);
    assert!(host.root.join("bin/busybox").exists());
}

#[test]
fn it_is_explained_and_written_as_a_bundle() {
    let host = Host::new();
    let root = host.root.to_str().unwrap();
    let told = host.run(&["--explain"], "", &["true"]).exits(0);
    told.says(&format!(
        "there is no image: its root is the directory `{root}` of the host"
    ))
    .says(&format!("what it changes goes to `{root}`"));
    let told = host.run(&["--explain"], ":O", &["true"]).exits(0);
    told.says("merged 1 directory under the one for changes");
    for (suffix, path) in [("", root), (":O", "rootfs")] {
        let config = host.run(&["--dry-run"], suffix, &["true"]).exits(0).stdout;
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["root"]["path"], path);
    }
}

#[test]
fn a_dry_run_changes_nothing_in_the_directory() {
    let host = Host::new();
    let before = listing(&host.root);
    host.run(&["--dry-run"], "", &["true"]).exits(0);
    assert!(listing(&host.root) == before, "it was changed");
}

#[test]
fn what_cannot_be_a_root_is_refused() {
    let host = Host::new();
    let scratch = host.ddock.scratch();
    let file = scratch.file("file", "");
    // The host's root by another name.
    let other = scratch.dir("other");
    command_succeeds(Command::new("mount").args(["--bind", "/"]).arg(&other));
    let own = "the host's own root cannot be a container's";
    for (root, says) in [
        ("/absent", "No such file or directory"),
        (file.to_str().unwrap(), "Not a directory"),
        ("/", own),
        ("/:O", own),
        ("/proc/self/root", own),
        (other.to_str().unwrap(), own),
        ("/absent:X", "`/absent:X`: No such file"),
        ("/tmp:idmap", "`--rootfs /tmp:idmap` is not there yet"),
    ] {
        let output = host.ddock.run(&["run", "--rm", "--rootfs", root, "true"]);
        output.exits(125).says(says);
    }
    host.run(&[], "", &[])
        .exits(125)
        .says("no command specified");
    assert_eq!(host.ddock.containers(), [""; 0]);
}

#[test]
fn flags_of_images_are_refused() {
    let host = Host::new();
    for flags in [
        &["--pull", "always"][..],
        &["--platform", "linux/arm64"],
        &["--retry", "3"],
        &["--creds", "me:secret"],
    ] {
        let conflict = format!("conflicting options: `{}` and `--rootfs`", flags[0]);
        host.run(flags, "", &["true"]).exits(125).says(&conflict);
    }
    // What is said for all images is not said for this.
    let root = host.root.to_str().unwrap();
    for platform in ["linux/arm64", ""] {
        let mut command = host
            .ddock
            .command(&["run", "--rm", "--rootfs", root, "true"]);
        command.env("DOCKER_DEFAULT_PLATFORM", platform);
        crate::harness::ddock::output(&mut command).exits(0);
    }
}

#[test]
fn mounts_below_the_directory_are_seen_and_none_of_the_containers_reaches_the_host() {
    let host = Host::new();
    let root = host.root.to_str().unwrap();
    let mount = |args: &[&str]| command_succeeds(Command::new("mount").args(args));
    mount(&["--bind", root, root]);
    mount(&["--make-shared", root]);
    fs_err::create_dir(host.root.join("below")).unwrap();
    mount(&["-t", "tmpfs", "ddock-it", &format!("{root}/below")]);
    fs_err::write(host.root.join("below/file"), "of the tmpfs\n").unwrap();
    // Others mount too.
    let table = || {
        let mounts = fs_err::read_to_string("/proc/self/mounts").unwrap();
        let own = mounts.lines().filter(|line| line.contains(root));
        own.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = table();
    let script = "cat /below/file; mkdir /m; mount -t tmpfs none /m; grep -c ' /m ' /proc/mounts";
    let flags = ["--privileged", "-v", "/etc:/below/etc:ro"];
    assert_eq!(host.sh(&flags, "", script), "of the tmpfs\n1\n");
    assert_eq!(table(), before);
}

#[test]
fn a_read_only_root_keeps_what_else_its_mount_forbids() {
    for host in everybody() {
        let root = host.root.to_str().unwrap();
        let mount = |args: &[&str]| command_succeeds(Command::new("mount").args(args));
        mount(&["--bind", root, root]);
        mount(&["-o", "remount,bind,nosuid,nodev", root]);
        // The places to mount on are made while it can be written to.
        let script =
            "touch /x 2>&1; grep ' / ' /proc/mounts | cut -d' ' -f4 | tr , '\n' | head -n 3";
        assert_eq!(
            host.sh(&["--read-only"], "", script),
            "touch: /x: Read-only file system\nro\nnosuid\nnodev\n"
        );
    }
}

#[test]
fn nothing_in_it_leads_to_ddocks_own_program() {
    for host in everybody() {
        let links = Tree::new()
            .file("script", 0o755, "#!/proc/self/exe run\n")
            .symlink("bin/link", "/proc/self/exe");
        unpack(links, &host.ddock, &host.root);
        host.give();
        for command in ["/proc/self/exe", "link", "/script"] {
            for suffix in ["", ":O"] {
                host.run(&[], suffix, &[command])
                    .exits(126)
                    .says("leads to ddock's own program");
            }
        }
    }
}
