//! The whole of a spec, and what the parts' tests share.

mod limits;
mod refused;

use super::*;
use crate::options::{Environment, Files, Limits, Namespaces, Security, parse_tmpfs, parse_volume};
use crate::runtime::Plan;
use rustix::fs::{Mode, OFlags, open};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;

/// A machine with two processors, used by root.
pub(crate) fn host() -> Host {
    Host {
        mapping: None,
        cpus: || Ok(2),
        capabilities: (1 << 41) - 1,
        profile: Some("ddock-default"),
        hostname: "machine".to_owned(),
        ipv6: true,
    }
}

/// An image's tree with the users root and alice.
pub(crate) fn tree() -> (tempfile::TempDir, OwnedFd) {
    let dir = tempfile::tempdir().unwrap();
    let etc = dir.path().join("etc");
    fs_err::create_dir(&etc).unwrap();
    let passwd = "root:x:0:0::/root:/bin/sh\nalice:x:1000:100::/home/alice:/bin/sh\n";
    fs_err::write(etc.join("passwd"), passwd).unwrap();
    fs_err::write(etc.join("group"), "wheel:x:10:alice\n").unwrap();
    symlink("/etc/passwd", dir.path().join("link")).unwrap();
    let root = open(dir.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    (dir, root)
}

fn image() -> ImageDefaults {
    ImageDefaults {
        command: vec!["sh".to_owned()],
        ..ImageDefaults::default()
    }
}

fn subject(options: ContainerOptions) -> Subject {
    Subject {
        options,
        id: "0123456789abcdef".repeat(4),
        directory: "/store/containers/x".into(),
        ..Subject::default()
    }
}

fn decided(
    image: &ImageDefaults,
    subject: &Subject,
    host: &Host,
    root: BorrowedFd<'_>,
) -> Result<Built> {
    let settled = Settled::choose(&subject.options, host)?;
    build(image, subject, settled, host, root)
}

fn built(image: &ImageDefaults, options: ContainerOptions, host: &Host) -> Result<Value> {
    let (_dir, root) = tree();
    let built = decided(image, &subject(options), host, root.as_fd())?;
    Ok(serde_json::from_str(&built.config)?)
}

fn list(value: &Value, pointer: &str) -> Vec<String> {
    let items = value.pointer(pointer).unwrap().as_array().unwrap();
    items
        .iter()
        .map(|item| item.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_spec_of_a_plain_run() {
    let spec = built(&image(), ContainerOptions::default(), &host()).unwrap();
    // Depends on the machine (a path for each processor), tested where it is made.
    let mut spec = spec;
    spec["linux"]["maskedPaths"] = json!("…");
    let seccomp = spec["linux"].as_object_mut().unwrap().remove("seccomp");
    assert!(seccomp.is_some(), "tested beside the profile");
    insta::assert_snapshot!(serde_json::to_string_pretty(&spec).unwrap());
}

#[test]
fn no_field_is_lost_or_added_on_the_way_through_the_crate() {
    let options = ContainerOptions {
        limits: Limits {
            memory: Some(64 << 20),
            nano_cpus: Some(500_000_000),
            pids: Some(10),
            ..Limits::default()
        },
        terminal: true,
        ..ContainerOptions::default()
    };
    let (_dir, root) = tree();
    let built = decided(&image(), &subject(options), &host(), root.as_fd()).unwrap();
    let text = &built.config;
    for name in [
        "\"umask\"",
        "\"additionalGids\"",
        "\"noNewPrivileges\"",
        "\"cgroupsPath\"",
        "\"quota\"",
        "\"period\"",
        "\"limit\"",
        "\"swap\"",
        "\"fileMode\"",
        "\"rootfsPropagation\"",
        "\"readonlyPaths\"",
        "\"ambient\"",
    ] {
        assert!(text.contains(name), "{name}");
    }
    for name in [
        "rlimits",
        "youki",
        "null",
        "annotations",
        "hooks",
        "oomScoreAdj",
    ] {
        assert!(!text.contains(&format!("\"{name}\"")), "{name}");
    }
    let plan = Plan::parse(text).unwrap();
    assert_eq!(plan.hostname, "0123456789ab");
}

#[test]
fn the_hostname_is_the_ids_start_unless_asked() {
    let long = "x".repeat(64);
    for (asked, network, expected) in [
        (None, Network::Bridge, "0123456789ab"),
        (Some(""), Network::None, "0123456789ab"),
        (Some("box.example"), Network::Bridge, "box.example"),
        (None, Network::Host, "machine"),
        (Some("box"), Network::Host, "box"),
        (Some(&*long), Network::Bridge, &*long),
    ] {
        let options = ContainerOptions {
            hostname: asked.map(str::to_owned),
            namespaces: Namespaces {
                network,
                ..Namespaces::default()
            },
            ..ContainerOptions::default()
        };
        let spec = built(&image(), options, &host()).unwrap();
        assert_eq!(spec["hostname"], expected);
        assert!(list(&spec, "/process/env").contains(&format!("HOSTNAME={expected}")));
    }
}

#[test]
fn the_hosts_network_is_not_left() {
    let options = ContainerOptions {
        namespaces: Namespaces {
            network: Network::Host,
            ..Namespaces::default()
        },
        ..ContainerOptions::default()
    };
    let spec = built(&image(), options, &host()).unwrap();
    let namespaces = json!([
        { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }, { "type": "cgroup" },
    ]);
    assert_eq!(spec["linux"]["namespaces"], namespaces);
}

#[test]
fn the_working_directory_is_the_users_then_the_images() {
    for (image_directory, flag, expected) in [
        ("", None, "/"),
        ("/app", None, "/app"),
        ("/app", Some(""), "/app"),
        ("/app", Some("/x/../y/"), "/y"),
    ] {
        let image = ImageDefaults {
            working_directory: image_directory.to_owned(),
            ..image()
        };
        let options = ContainerOptions {
            working_directory: flag.map(str::to_owned),
            ..ContainerOptions::default()
        };
        assert_eq!(
            built(&image, options, &host()).unwrap()["process"]["cwd"],
            expected
        );
    }
}

#[test]
fn the_user_is_the_flags_then_the_images() {
    let image = ImageDefaults {
        user: "alice".to_owned(),
        ..image()
    };
    for (flag, uid, groups, home) in [
        (None, 1000, json!([10, 100]), "/home/alice"),
        (Some(""), 1000, json!([10, 100]), "/home/alice"),
        (Some("0"), 0, json!([0]), "/root"),
        (Some("7:8"), 7, json!([8]), "/"),
    ] {
        let options = ContainerOptions {
            user: flag.map(|user| user.parse().unwrap()),
            ..ContainerOptions::default()
        };
        let spec = built(&image, options, &host()).unwrap();
        assert_eq!(spec["process"]["user"]["uid"], uid);
        assert_eq!(spec["process"]["user"]["additionalGids"], groups);
        assert!(list(&spec, "/process/env").contains(&format!("HOME={home}")));
        let effective = list(&spec, "/process/capabilities/effective");
        assert_eq!(effective.is_empty(), uid != 0);
        assert_eq!(list(&spec, "/process/capabilities/bounding").len(), 14);
    }
}

#[test]
fn privileged_hides_nothing() {
    let options = ContainerOptions {
        security: Security {
            privileged: true,
            capabilities_dropped: vec!["ALL".parse().unwrap()],
            ..Security::default()
        },
        ..ContainerOptions::default()
    };
    let spec = built(&image(), options, &host()).unwrap();
    assert!(list(&spec, "/linux/maskedPaths").is_empty());
    assert!(list(&spec, "/linux/readonlyPaths").is_empty());
    assert_eq!(list(&spec, "/process/capabilities/effective").len(), 41);
    assert_eq!(
        spec["linux"]["resources"]["devices"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(spec["linux"]["namespaces"].as_array().unwrap().len(), 6);
}

#[test]
fn an_ordinary_user_has_no_nodes_and_no_place_in_the_hierarchy() {
    let host = Host {
        mapping: Some(Mapping {
            users: 1,
            groups: 1,
            own_user: 0,
            own_group: 0,
        }),
        ..host()
    };
    let spec = built(&image(), ContainerOptions::default(), &host).unwrap();
    assert_eq!(spec["linux"]["devices"], json!([]));
    assert_eq!(spec["linux"]["resources"], json!({}));
    assert_eq!(spec["process"]["user"]["additionalGids"], json!([]));
    let path = spec["linux"]["cgroupsPath"].as_str().unwrap();
    assert!(path.starts_with("ddock/0123"), "{path}");
}

#[test]
fn a_missing_source_is_made_last_and_noted() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("new/data");
    let volume = format!("{}:/data", source.display());
    let mut options = ContainerOptions {
        files: Files {
            mounts: vec![parse_volume(&volume).unwrap()],
            ..Files::default()
        },
        user: Some("nobody".parse().unwrap()),
        ..ContainerOptions::default()
    };
    let (_image, root) = tree();
    let built = |options| decided(&image(), &subject(options), &host(), root.as_fd());
    assert!(built(options.clone()).is_err());
    assert!(!source.exists(), "a run that is refused leaves nothing");

    options.user = None;
    let built = built(options).unwrap();
    assert!(source.is_dir());
    let note = format!(
        "`{}` did not exist: an empty directory was made there",
        source.display()
    );
    assert_eq!(built.notes, [note]);
}

/// Runs the bundle of a container made of busybox under runc, and returns what it printed.
fn under_runc(number: u8, options: ContainerOptions) -> String {
    let dir = tempfile::tempdir().unwrap();
    let rootfs = dir.path().join("rootfs");
    for name in ["bin", "etc", "proc", "sys", "dev"] {
        fs_err::create_dir_all(rootfs.join(name)).unwrap();
    }
    fs_err::copy("/usr/bin/busybox", rootfs.join("bin/busybox")).unwrap();
    symlink("busybox", rootfs.join("bin/sh")).unwrap();
    fs_err::write(
        rootfs.join("etc/passwd"),
        "alice:x:1000:100::/home/alice:\n",
    )
    .unwrap();
    let root = open(&rootfs, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();

    let id = format!("{number}{:063x}", std::process::id());
    let subject = Subject {
        options,
        id: id.clone(),
        directory: dir.path().to_owned(),
        ..Subject::default()
    };
    let host = Host::detect(None).unwrap();
    let built = decided(&ImageDefaults::default(), &subject, &host, root.as_fd()).unwrap();
    fs_err::write(dir.path().join("config.json"), &built.config).unwrap();
    for file in built.files {
        fs_err::write(dir.path().join(file.name), file.content).unwrap();
    }
    let mut runc = std::process::Command::new("runc");
    runc.arg("run").arg("--bundle").arg(dir.path()).arg(&id);
    let output = runc
        .output()
        .expect("runc and busybox-static are installed");
    let text = [output.stdout, output.stderr].concat();
    format!("{}{}", String::from_utf8(text).unwrap(), output.status)
}

#[test]
fn runc_runs_our_bundle() {
    let dir = tempfile::tempdir().unwrap();
    fs_err::write(dir.path().join("file"), "from the host\n").unwrap();
    let script = "busybox hostname; busybox cat /etc/hostname /data/file; busybox id; pwd; echo $HOME $A; umask
busybox grep Cap /proc/self/status
(echo x > /data/file) 2>&1; (echo x > /root-is-read-only) 2>&1; echo x > /scratch/file; busybox cat /dev/null; busybox ls /dev; exit 3";
    let options = ContainerOptions {
        command: ["sh", "-c", script].map(str::to_owned).into(),
        environment: Environment {
            set: vec![("A".to_owned(), Some("b c".to_owned()))],
            ..Environment::default()
        },
        hostname: Some("box".to_owned()),
        working_directory: Some("/new/directory".to_owned()),
        files: Files {
            read_only: true,
            mounts: vec![
                parse_volume(&format!("{}:/data:ro", dir.path().display())).unwrap(),
                parse_tmpfs("/scratch:size=1m").unwrap(),
            ],
            ..Files::default()
        },
        limits: Limits {
            memory: Some(64 << 20),
            nano_cpus: Some(500_000_000),
            pids: Some(50),
            ..Limits::default()
        },
        ..ContainerOptions::default()
    };
    insta::assert_snapshot!(under_runc(1, options));
}

#[test]
fn runc_runs_a_privileged_bundle_of_another_user() {
    let devices = devices::of_host().unwrap();
    let device = devices
        .iter()
        .find(|device| !devices::default().contains(device));
    let device = device
        .expect("there are other devices on any host")
        .path
        .display();
    let script = format!(
        "busybox id; pwd; echo $HOME; busybox grep -E 'Cap(Prm|Eff)' /proc/self/status
busybox mount | busybox grep ' /proc/'; busybox test -e {device} && echo the host has it"
    );
    let options = ContainerOptions {
        command: ["sh".to_owned(), "-c".to_owned(), script].into(),
        user: Some("alice".parse().unwrap()),
        security: Security {
            privileged: true,
            ..Security::default()
        },
        namespaces: Namespaces {
            network: Network::Host,
            ..Namespaces::default()
        },
        hostname: Some("box".to_owned()),
        ..ContainerOptions::default()
    };
    insta::assert_snapshot!(under_runc(2, options));
}
