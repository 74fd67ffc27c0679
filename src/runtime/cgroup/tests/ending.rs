//! The end of a cgroup and of all that is in it.

use super::*;
use std::io::Read as _;

/// Returns a shell in the cgroup that has said `ready`.
fn start(cgroup: &Cgroup, script: &str) -> Child {
    let entrance = cgroup.entrance().unwrap();
    let mut child = shell(&entrance, script)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 6];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut said)
        .unwrap();
    assert_eq!(&said, b"ready\n");
    child
}

#[test]
fn everything_in_it_is_killed_and_nothing_is_left() {
    let devices = DEFAULT_DEVICES.to_vec();
    let cgroup = create(&Limits {
        pids: Pids::AtMost(100),
        devices,
        ..Limits::default()
    });
    let script = "sleep 1000 & sleep 1000 & (sleep 1000 & sleep 1000 & wait) & echo ready; wait";
    let mut child = start(&cgroup.0, script);
    let path = &cgroup.0.path;
    let found = Cgroup::open(path).unwrap();
    assert!(!found.hierarchies.is_empty());
    assert_eq!(found.hierarchies.len(), cgroup.0.hierarchies.len());
    found.kill(DEATH).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    found.remove(REMOVAL).unwrap();
    assert!(!exists(path));
}

#[test]
fn what_the_container_made_below_is_ended_too() {
    let cgroup = create(&Limits::default());
    let below = cgroup.0.hierarchies[0].directory.join("a/b");
    fs_err::create_dir_all(&below).unwrap();
    let script = format!(
        "echo 0 > {}/cgroup.procs; echo ready; sleep 1000; true",
        below.display()
    );
    let mut child = start(&cgroup.0, &script);
    cgroup.0.kill(DEATH).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    drop(cgroup);
    assert!(!below.exists());
}
