//! Containers that are made, started, stopped and started again, by whichever process.

use serde_json::Value;

use crate::harness::ddock::Ddock;
use crate::harness::host::{parent_of, send_signal};
use crate::harness::image::busybox;
use crate::harness::network;
use crate::harness::user::User;
use crate::harness::wait_for;
use rustix::process::Signal;

fn status(ddock: &Ddock, name: &str) -> String {
    let document: Value = serde_json::from_str(&ddock.ok(&["inspect", name])).unwrap();
    let state = document.pointer("/0/State/Status").unwrap();
    state.as_str().unwrap().to_owned()
}

/// Returns the text of the container's `config.json`.
fn config(ddock: &Ddock, id: &str) -> String {
    let directory = ddock.root().join("v1/containers").join(id.trim());
    fs_err::read_to_string(directory.join("config.json")).unwrap()
}

#[test]
fn a_container_that_was_made_is_started_as_often_as_one_likes() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "echo started; echo x >> /kept; cat /kept | wc -l; exit 3";
    let id = ddock.ok(&["create", "--name", "box", &image, "sh", "-c", script]);
    assert_eq!(id.trim().len(), 64, "{id}");
    assert_eq!(status(&ddock, "box"), "created");
    let listed = ddock.ok(&["ps", "-a", "--no-trunc"]);
    assert!(
        listed.contains("Created") && listed.contains("sh -c"),
        "{listed}"
    );
    assert_eq!(ddock.ok(&["ps", "-q"]), "");
    for times in ["1", "2"] {
        let started = ddock.run(&["start", "-a", "box"]).exits(3);
        assert_eq!(started.stdout, format!("started\n{times}\n"));
        assert_eq!(status(&ddock, "box"), "exited");
    }
    assert_eq!(ddock.ok(&["logs", "box"]), "started\n1\nstarted\n2\n");
    ddock
        .run(&["start", "nobody"])
        .exits(1)
        .says("No such container: nobody");
    let several = ddock.run(&["start", "-a", "box", "box"]).exits(1);
    several.says("you cannot start and attach multiple containers at once");
    ddock.ok(&["rm", "box"]);
}

#[test]
fn a_container_that_was_made_stays_until_it_is_removed() {
    let (ddock, image) = Ddock::with_busybox();
    ddock.ok(&["create", "--name", "one", "--rm", &image, "true"]);
    ddock.ok(&["create", "--name", "two", &image, "absent"]);
    // Every command sweeps what dead monitors left.
    ddock.ok(&["ps"]);
    ddock.ok(&["run", "--rm", &image, "true"]);
    assert_eq!(status(&ddock, "one"), "created");
    // Docker's exit code, whatever failed.
    ddock.run(&["start", "two"]).exits(1).says("absent");
    assert_eq!(status(&ddock, "two"), "created");
    assert_eq!(ddock.ok(&["start", "one"]), "one\n");
    wait_for("the container to have gone with its command", || {
        let gone = ddock.run(&["inspect", "one"]);
        (gone.code == 1).then_some(())
    });
    ddock
        .run(&["create", "--name", "two", &image])
        .exits(125)
        .says("already in use");
    ddock
        .run(&["rmi", &image])
        .exits(1)
        .says("is using its referenced image");
    ddock.ok(&["rm", "two"]);
}

/// Flags of many kinds, one a word, that a start has to find again.
const FLAGS: &str = "-h inside -e A=1 -v /anonymous --tmpfs /t:size=1m --network own --network-alias other -m 64m --pids-limit 50 \
    --ulimit nofile=100:200 --cap-drop CHOWN --security-opt no-new-privileges --sysctl net.core.somaxconn=99 -w /w -u 7:8 \
    --add-host a:10.0.0.1 --init -p 127.0.0.1:0:80 --label a=b";

#[test]
fn a_container_starts_again_as_it_was_made() {
    network::enter_own();
    let (ddock, image) = Ddock::with_busybox();
    ddock.ok(&["network", "create", "--subnet", "10.91.7.0/24", "own"]);
    let volume = format!("{}:/data:ro", ddock.scratch().dir("data").display());
    let script =
        "trap 'exit 4' TERM; echo x >> /anonymous/file; echo ready; while :; do sleep 0.1; done";
    let mut run = vec!["run", "-d", "--name", "box", "-v", &volume];
    run.extend(FLAGS.split_whitespace());
    run.extend([&image, "sh", "-c", script]);
    let id = ddock.ok(&run);
    let ready = |times: usize| {
        wait_for("the command to be ready", || {
            let logged = ddock.ok(&["logs", "box"]);
            (logged.matches("ready").count() == times).then_some(())
        });
    };
    let describe = |pointer: &str| {
        let document: Value = serde_json::from_str(&ddock.ok(&["inspect", "box"])).unwrap();
        document[0].pointer(pointer).unwrap().clone()
    };
    ready(1);
    let kept = || {
        let address = describe("/NetworkSettings/Networks/own/IPAddress");
        (config(&ddock, &id), address, describe("/Mounts"))
    };
    let first = kept();
    // What runs already is left alone.
    assert_eq!(ddock.ok(&["start", "box"]), "box\n");
    assert_eq!(ddock.ok(&["stop", "box"]), "box\n");
    assert_eq!(describe("/State/ExitCode"), 4);
    assert_eq!(ddock.ok(&["start", "box"]), "box\n");
    ready(2);
    assert!(kept() == first, "it was started as another");
    assert_eq!(ddock.ok(&["restart", "-t", "3", "box"]), "box\n");
    ready(3);
    assert!(kept() == first, "it was restarted as another");
    assert_eq!(status(&ddock, "box"), "running");
    ddock.ok(&["rm", "-f", "-v", "box"]);
    ddock.ok(&["network", "rm", "own"]);
}

#[test]
fn an_ordinary_users_container_starts_again() {
    for user in [User::with_ranges(), User::without_ranges()] {
        let ddock = Ddock::for_user(user);
        let image = ddock.pull(busybox());
        let script = "echo x >> /kept; cat /kept | wc -l; hostname";
        let id = ddock.ok(&[
            "create",
            "--name",
            "box",
            "--network",
            "none",
            &image,
            "sh",
            "-c",
            script,
        ]);
        ddock.ok(&[
            "create",
            "--name",
            "second",
            "--network",
            "none",
            &image,
            "true",
        ]);
        for times in ["1", "2"] {
            let started = ddock.run(&["start", "-a", "box"]).exits(0);
            assert_eq!(started.stdout, format!("{times}\n{}\n", &id[..12]));
        }
        assert_eq!(ddock.ok(&["start", "box", "second"]), "box\nsecond\n");
        for name in ["box", "second"] {
            assert_eq!(ddock.ok(&["wait", name]), "0\n");
        }
        assert_eq!(ddock.ok(&["restart", "box", "second"]), "box\nsecond\n");
        assert_eq!(ddock.ok(&["wait", "box"]), "0\n");
        ddock.ok(&["rm", "-f", "box", "second"]);
    }
}

#[test]
fn what_lost_its_monitor_or_its_machine_starts_again() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "echo run >> /kept; cat /kept; exec sleep 1000000";
    let id = ddock.ok(&["run", "-d", "--name", "box", &image, "sh", "-c", script]);
    let pid = |ddock: &Ddock| {
        let document: Value = serde_json::from_str(&ddock.ok(&["inspect", "box"])).unwrap();
        let pid = document.pointer("/0/State/Pid").unwrap().as_u64().unwrap();
        u32::try_from(pid).unwrap()
    };
    send_signal(parent_of(pid(&ddock)), Signal::KILL);
    wait_for("the container to have ended", || {
        (status(&ddock, "box") == "exited").then_some(())
    });
    assert_eq!(ddock.ok(&["start", "box"]), "box\n");
    // As after a power cut: the record says that it runs, under another boot of the kernel.
    let directory = ddock.root().join("v1/containers").join(id.trim());
    let running = fs_err::read_to_string(directory.join("state.json")).unwrap();
    ddock.ok(&["kill", "box"]);
    let mut record: Value = serde_json::from_str(&running).unwrap();
    record["status"]["boot"] = "another".into();
    fs_err::write(directory.join("state.json"), record.to_string()).unwrap();
    fs_err::write(ddock.root().join("v1/alive").join(id.trim()), "").unwrap();
    assert_eq!(ddock.ok(&["start", "box"]), "box\n");
    wait_for("the third line", || {
        let logged = ddock.ok(&["logs", "box"]);
        logged.ends_with("run\nrun\nrun\n").then_some(())
    });
    ddock.ok(&["rm", "-f", "box"]);
}
