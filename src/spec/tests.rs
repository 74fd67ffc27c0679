//! The whole of a spec, and what the parts' tests share.

mod limits;
mod refused;

use super::*;
use crate::runtime::Plan;
use rustix::fs::{Mode, OFlags, open};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;

/// A machine with two processors, used by root, whose environment is `CALLER=of the tests` and `EMPTY=`.
pub(crate) fn host() -> Host {
    Host {
        mapping: None,
        cpus: 2,
        capabilities: (1 << 41) - 1,
        profile: Some("ddock-default"),
        hostname: "machine".to_owned(),
        ipv6: true,
        current_directory: Some("/here".into()),
        variable: |name| match name {
            "CALLER" => Some("of the tests".into()),
            "EMPTY" => Some("".into()),
            _ => None,
        },
        variables: || ["CALLER", "EMPTY"].map(str::to_owned).into(),
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

fn request() -> Request {
    Request {
        id: "0123456789abcdef".repeat(4),
        directory: "/store/containers/x".into(),
        ..Request::default()
    }
}

fn built(image: &ImageDefaults, request: &Request, host: &Host) -> Result<Value> {
    let (_dir, root) = tree();
    let built = build(image, request, host, root.as_fd())?;
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
    let spec = built(&image(), &request(), &host()).unwrap();
    // Depends on the machine (a path for each processor), tested where it is made.
    let mut spec = spec;
    spec["linux"]["maskedPaths"] = json!("…");
    let seccomp = spec["linux"].as_object_mut().unwrap().remove("seccomp");
    assert!(seccomp.is_some(), "tested beside the profile");
    insta::assert_snapshot!(serde_json::to_string_pretty(&spec).unwrap());
}

#[test]
fn no_field_is_lost_or_added_on_the_way_through_the_crate() {
    let request = Request {
        limits: Limits {
            memory: Some(64 << 20),
            nano_cpus: Some(500_000_000),
            pids: Some(10),
            ..Limits::default()
        },
        terminal: true,
        ..request()
    };
    let (_dir, root) = tree();
    let built = build(&image(), &request, &host(), root.as_fd()).unwrap();
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
        let request = Request {
            hostname: asked.map(str::to_owned),
            namespaces: Namespaces {
                network,
                ..Namespaces::default()
            },
            ..request()
        };
        let spec = built(&image(), &request, &host()).unwrap();
        assert_eq!(spec["hostname"], expected);
        assert!(list(&spec, "/process/env").contains(&format!("HOSTNAME={expected}")));
    }
    for bad in ["a b", "a\nb", &"x".repeat(65)] {
        let request = Request {
            hostname: Some(bad.to_owned()),
            ..request()
        };
        assert!(built(&image(), &request, &host()).is_err(), "{bad}");
    }
}

#[test]
fn the_hosts_network_is_not_left() {
    let request = Request {
        namespaces: Namespaces {
            network: Network::Host,
            ..Namespaces::default()
        },
        ..request()
    };
    let spec = built(&image(), &request, &host()).unwrap();
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
        let request = Request {
            working_directory: flag.map(str::to_owned),
            ..request()
        };
        assert_eq!(
            built(&image, &request, &host()).unwrap()["process"]["cwd"],
            expected
        );
    }
    let request = Request {
        working_directory: Some("app".to_owned()),
        ..request()
    };
    assert_eq!(
        built(&image(), &request, &host()).unwrap_err().to_string(),
        "the working directory 'app' is invalid, it needs to be an absolute path"
    );
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
        let request = Request {
            user: flag.map(str::to_owned),
            ..request()
        };
        let spec = built(&image, &request, &host()).unwrap();
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
    let request = Request {
        security: Security {
            privileged: true,
            capabilities_dropped: vec!["ALL".to_owned()],
            ..Security::default()
        },
        ..request()
    };
    let spec = built(&image(), &request, &host()).unwrap();
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
    let spec = built(&image(), &request(), &host).unwrap();
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
    let mut request = Request {
        files: Files {
            volumes: vec![format!("{}:/data", source.display())],
            ..Files::default()
        },
        user: Some("nobody".to_owned()),
        ..request()
    };
    let (_image, root) = tree();
    assert!(build(&image(), &request, &host(), root.as_fd()).is_err());
    assert!(!source.exists(), "a run that is refused leaves nothing");

    request.user = None;
    let built = build(&image(), &request, &host(), root.as_fd()).unwrap();
    assert!(source.is_dir());
    let note = format!(
        "`{}` did not exist: an empty directory was made there",
        source.display()
    );
    assert_eq!(built.notes, [note]);
}

/// Runs the bundle of a container made of busybox under runc, and returns what it printed.
fn under_runc(number: u8, request: Request) -> String {
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
    let request = Request {
        id: id.clone(),
        directory: dir.path().to_owned(),
        ..request
    };
    let host = Host::detect(None, None).unwrap();
    let built = build(&ImageDefaults::default(), &request, &host, root.as_fd()).unwrap();
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
    let request = Request {
        command: ["sh", "-c", script].map(str::to_owned).into(),
        environment: vec!["A=b c".to_owned()],
        hostname: Some("box".to_owned()),
        working_directory: Some("/new/directory".to_owned()),
        files: Files {
            read_only: true,
            volumes: vec![format!("{}:/data:ro", dir.path().display())],
            tmpfs: vec!["/scratch:size=1m".to_owned()],
            ..Files::default()
        },
        limits: Limits {
            memory: Some(64 << 20),
            nano_cpus: Some(500_000_000),
            pids: Some(50),
            ..Limits::default()
        },
        ..Request::default()
    };
    insta::assert_snapshot!(under_runc(1, request));
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
    let request = Request {
        command: ["sh".to_owned(), "-c".to_owned(), script].into(),
        user: Some("alice".to_owned()),
        security: Security {
            privileged: true,
            ..Security::default()
        },
        namespaces: Namespaces {
            network: Network::Host,
            ..Namespaces::default()
        },
        hostname: Some("box".to_owned()),
        ..Request::default()
    };
    insta::assert_snapshot!(under_runc(2, request));
}
