//! Containers' records: what is damaged of one stops nobody else, and can be put right; ends are true.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::ddock::{Ddock, output};
use crate::harness::host::{cgroups, processes_with, unique_seconds, wait_for_process};
use crate::harness::wait_for;

/// What may become of a file.
type Damage = (&'static str, fn(&Path));

const DAMAGE: [Damage; 7] = [
    ("empty", |path| fs_err::write(path, "").unwrap()),
    ("missing", |path| fs_err::remove_file(path).unwrap()),
    ("garbage", |path| fs_err::write(path, b"\0\xff{{").unwrap()),
    ("cut off", |path| {
        let text = fs_err::read(path).unwrap();
        let text = text.trim_ascii_end();
        fs_err::write(path, &text[..text.len() / 2]).unwrap();
    }),
    ("a directory", |path| {
        fs_err::remove_file(path).unwrap();
        fs_err::create_dir_all(path.join("below")).unwrap();
    }),
    ("a pipe", |path| {
        fs_err::remove_file(path).unwrap();
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    }),
    ("a link to nothing", |path| {
        fs_err::remove_file(path).unwrap();
        symlink("/nonexistent/x", path).unwrap();
    }),
];

fn containers(ddock: &Ddock) -> PathBuf {
    ddock.root().join("v1/containers")
}

/// Kills the monitor of the container whose first process this is.
fn kill_monitor(pid: u32) {
    let status = fs_err::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t"));
    let parent = Pid::from_raw(parent.unwrap().parse().unwrap()).unwrap();
    kill_process(parent, Signal::KILL).unwrap();
}

/// Runs `run -d`, and returns the ID.
fn start(ddock: &Ddock, args: &[&str]) -> String {
    let id = ddock.ok(&[&["run", "-d"], args].concat());
    id.trim_end().to_owned()
}

#[test]
fn a_damaged_container_stops_no_command_and_can_be_removed() {
    let seconds = unique_seconds();
    let (ddock, image) = Ddock::with_busybox();
    ddock
        .run(&["run", "--name", "three", &image, "sh", "-c", "exit 3"])
        .exits(3);
    start(&ddock, &["--name", "alpha", &image, "sleep", &seconds]);
    for file in ["state.json", "holds", "volumes", "config.json", "log"] {
        for (damage, harm) in DAMAGE {
            let case = format!("{file} is {damage}");
            ddock.ok(&["run", "--name", "beta", "-v", "kept:/v", &image, "true"]);
            let all = ddock.containers();
            let id = all.first().unwrap().as_str();
            harm(&containers(&ddock).join(id).join(file));

            let begun = Instant::now();
            let listed = ddock.run(&["ps", "-a", "-q", "--no-trunc"]).exits(0);
            assert!(listed.stdout.contains(id), "{case}: {}", listed.text());
            assert_eq!(ddock.ok(&["wait", "three"]), "3\n", "{case}");
            ddock.ok(&["run", "--rm", &image, "true"]);
            ddock.ok(&["inspect", id]);
            // Nobody can tell what it needs: all stays.
            ddock.ok(&["volume", "prune", "-af"]);
            assert_eq!(ddock.ok(&["volume", "ls", "-q"]), "kept\n", "{case}");
            let checked = ddock.run(&["system", "check"]);
            if file == "state.json" {
                assert_eq!(checked.code, 1, "{case}: {}", checked.text());
                checked.says(&id[..12]);
                assert!(ddock.ok(&["ps", "-a"]).contains("Dead"), "{case}");
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{case}");
            ddock.ok(&["rm", "-f", &id[..12]]);
            assert!(!ddock.containers().iter().any(|it| it == id), "{case}");
            assert!(!ddock.root().join("v1/names/beta").exists(), "{case}");
        }
    }
    assert!(ddock.ok(&["ps"]).contains("alpha"), "it runs on");
    ddock.ok(&["rm", "-f", "alpha", "three"]);
}

#[test]
fn a_living_container_with_a_damaged_record_is_ended_through_its_monitor() {
    let seconds = unique_seconds();
    let (ddock, image) = Ddock::with_busybox();
    for (damage, harm) in DAMAGE {
        let id = start(&ddock, &["--name", "blind", &image, "sleep", &seconds]);
        harm(&containers(&ddock).join(&id).join("state.json"));
        ddock.run(&["rm", &id]).exits(1).says("is running");
        ddock.ok(&["rm", "-f", &id]);
        assert_eq!(ddock.containers(), [""; 0], "{damage}");
        assert_eq!(processes_with(&seconds), [0; 0], "{damage}");
    }
}

#[test]
fn what_a_newer_ddock_wrote_is_read_as_far_as_it_is_understood() {
    let (ddock, image) = Ddock::with_busybox();
    ddock.ok(&["run", "--name", "new", &image, "true"]);
    let id = ddock.containers().remove(0);
    let path = containers(&ddock).join(&id).join("state.json");
    let text = fs_err::read_to_string(&path).unwrap();
    let newer = text.replacen("\"status\":\"exited\"", "\"status\":\"hibernating\"", 1);
    assert_ne!(newer, text);
    fs_err::write(&path, newer).unwrap();
    let listed = ddock.ok(&["ps", "-a"]);
    assert!(
        listed.contains("Dead") && listed.contains("new") && listed.contains(&image),
        "{listed}"
    );
    ddock
        .run(&["wait", "new"])
        .exits(125)
        .says("nobody saw how the container ended");
    ddock.ok(&["rm", "new"]);
    assert!(!ddock.root().join("v1/names/new").exists());
}

#[test]
fn damaged_volumes_networks_tags_and_facts_stop_no_command_and_are_put_right() {
    let registry = crate::harness::registry::Registry::start();
    let ddock = Ddock::new();
    let busybox = crate::harness::image::busybox().build();
    let image = registry.push("test/image:latest", &busybox);
    ddock.ok(&["pull", "-q", &image]);
    ddock.ok(&["network", "create", "net"]);
    let store = ddock.root().join("v1");
    let tag = store
        .join("refs")
        .join(image.replace("/test/image:", "/test/image/_tags/"));
    let facts = fs_err::read(store.join("facts.json")).unwrap();
    for (damage, harm) in DAMAGE {
        drop(fs_err::remove_dir_all(store.join("facts.json")));
        drop(fs_err::remove_file(store.join("facts.json")));
        fs_err::write(store.join("facts.json"), &facts).unwrap();
        ddock.ok(&["volume", "create", "data"]);
        harm(&store.join("volumes/data/volume.json"));
        harm(&store.join("networks/net.json"));
        harm(&store.join("facts.json"));
        harm(&tag);
        for command in [
            &["ps", "-a"][..],
            &["images"],
            &["info"],
            &["volume", "ls"],
            &["volume", "inspect", "data"],
            &["network", "ls"],
            &["volume", "prune", "-f"],
            &["network", "prune", "-f"],
        ] {
            let said = ddock.run(command);
            assert!(said.code == 0, "{damage}, {command:?}: {}", said.text());
        }
        assert_eq!(ddock.ok(&["volume", "ls", "-q"]), "data\n", "{damage}");
        // What is not there is no network.
        if !["missing", "a link to nothing"].contains(&damage) {
            ddock.run(&["network", "inspect", "net"]).exits(1);
            let hint = "`ddock network rm net` removes it";
            ddock
                .run(&["run", "--rm", "--network", "net", &image, "true"])
                .exits(125);
            ddock.run(&["network", "ls"]).says(hint);
            ddock.ok(&["network", "rm", "net"]);
        }
        ddock.ok(&["network", "create", "net"]);
        ddock.ok(&["volume", "rm", "data"]);
        // As the hint says.
        ddock.ok(&["pull", "-q", &image]);
        ddock.ok(&["run", "--rm", "--pull", "never", &image, "true"]);
    }
}

#[test]
fn a_damaged_tag_goes_by_name_and_a_damaged_mapping_is_mended_as_the_hint_says() {
    let (ddock, image) = Ddock::with_busybox();
    let store = ddock.root().join("v1");
    let tag = image.replace("/test/image:", "/test/image/_tags/");
    let tag = store.join("refs").join(tag);
    // A tag goes by name, too.
    fs_err::write(&tag, "").unwrap();
    ddock.ok(&["rmi", &image]);
    ddock.run(&["images"]).exits(0);

    fs_err::write(store.join("mapping"), "").unwrap();
    let said = ddock
        .run(&["ps"])
        .exits(1)
        .says("does not say who owns the files");
    let cure = said
        .stderr
        .split('`')
        .find(|word| word.starts_with("echo "))
        .unwrap();
    output(Command::new("sh").args(["-c", cure])).exits(0);
    ddock.ok(&["ps"]);
}

#[test]
fn what_cannot_be_ended_keeps_nobody_else() {
    let seconds = unique_seconds();
    let (ddock, image) = Ddock::with_busybox();
    let id = start(&ddock, &["--name", "stuck", &image, "sleep", &seconds]);
    let pid = wait_for_process("sleep", &seconds);
    let frozen = Frozen::new(pid);
    kill_monitor(pid);
    wait_for("the monitor to die", || {
        let said = ddock.run(&["ps", "-a"]);
        said.stderr.contains("has lost its monitor").then_some(())
    });
    for command in [
        &["run", "--rm", &image, "true"][..],
        &["volume", "ls"],
        &["ps", "-a"],
    ] {
        let begun = Instant::now();
        ddock.ok(command);
        assert!(begun.elapsed() < Duration::from_secs(3), "{command:?}");
    }
    drop(frozen);
    ddock.ok(&["rm", "-f", "stuck"]);
    assert_eq!(
        (cgroups(&id).len(), processes_with(&seconds)),
        (0, Vec::new())
    );
}

/// A cgroup whose only process is frozen until this is dropped.
struct Frozen(PathBuf);

impl Frozen {
    fn new(pid: u32) -> Self {
        let path = PathBuf::from(format!("/sys/fs/cgroup/freezer/ddock-test-{pid}"));
        fs_err::create_dir(&path).unwrap();
        fs_err::write(path.join("cgroup.procs"), pid.to_string()).unwrap();
        fs_err::write(path.join("freezer.state"), "FROZEN").unwrap();
        wait_for("the process to be frozen", || {
            let state = fs_err::read_to_string(path.join("freezer.state")).unwrap();
            (state.trim() == "FROZEN").then_some(())
        });
        Self(path)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        fs_err::write(self.0.join("freezer.state"), "THAWED").unwrap();
        wait_for("the cgroup to be empty", || {
            fs_err::remove_dir(&self.0).ok()
        });
    }
}

#[test]
fn rm_ends_what_a_dead_monitor_left() {
    let seconds = unique_seconds();
    let (ddock, image) = Ddock::with_busybox();
    let script = format!("sleep {seconds} & sleep {seconds}");
    for flags in [&[][..], &["--pid", "host"], &["--init"]] {
        let args = [flags, &["--name", "left", &image, "sh", "-c", &script]].concat();
        let id = start(&ddock, &args);
        let pid = wait_for("the command to run", || {
            let running = processes_with(&seconds);
            (running.len() >= 2).then_some(())?;
            let inspected = ddock.ok(&["inspect", "left"]);
            let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
            u32::try_from(inspected[0]["State"]["Pid"].as_u64()?).ok()
        });
        kill_monitor(pid);
        // `rm` by name sweeps nothing before.
        ddock.ok(&["rm", "-f", "left"]);
        assert_eq!(processes_with(&seconds), [0; 0], "{flags:?}");
        assert_eq!(cgroups(&id), [""; 0], "{flags:?}");
        assert_eq!(ddock.containers(), [""; 0], "{flags:?}");
    }
}

#[test]
fn the_end_of_a_container_whose_monitor_is_killed_is_told_by_everyone() {
    let seconds = unique_seconds();
    let (ddock, image) = Ddock::with_busybox();
    for (flags, code, printed) in [(&[][..], 125, ""), (&["--rm"], 125, "")] {
        let args = [flags, &["--name", "mute", &image, "sleep", &seconds]].concat();
        start(&ddock, &args);
        let wait = ddock
            .command(&["wait", "mute"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = wait_for_process("sleep", &seconds);
        let descriptors = format!("/proc/{}/fd", wait.id());
        wait_for("`wait` to be connected", || {
            let mut open = fs_err::read_dir(&descriptors).unwrap();
            let is_socket = |entry: std::io::Result<fs_err::DirEntry>| {
                let target = entry.and_then(|entry| fs_err::read_link(entry.path()));
                target.is_ok_and(|target| target.to_str().unwrap().starts_with("socket:"))
            };
            open.any(is_socket).then_some(())
        });
        kill_monitor(pid);
        let waited = crate::harness::ddock::finished_child(wait);
        assert_eq!(
            (waited.code, &*waited.stdout),
            (code, printed),
            "{flags:?}: {}",
            waited.text()
        );
        if flags.is_empty() {
            // Without a sweep before.
            assert!(ddock.ok(&["inspect", "mute"]).contains("\"exited\""));
            ddock.ok(&["rm", "mute"]);
        }
        assert_eq!(ddock.containers(), [""; 0]);
        assert_eq!(processes_with(&seconds), [0; 0]);
    }
}

#[test]
fn a_full_disk_takes_no_exit_code() {
    let ddock = Ddock::with_little_space("24m");
    let image = ddock.pull(crate::harness::image::busybox());
    let root = ddock.root().parent().unwrap().to_owned();
    let script = "read a; echo line; exit 7";
    let mut attached = ddock.command(&["run", "-i", "--name", "fg", &image, "sh", "-c", script]);
    let mut attached = attached
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    start(
        &ddock,
        &["-i", "--name", "bg", &image, "sh", "-c", "sleep 1000"],
    );
    wait_for("the first one to run", || {
        ddock.ok(&["ps"]).contains("fg").then_some(())
    });
    let wait = ddock
        .command(&["wait", "bg"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();

    let filler = root.join("filler");
    fs_err::write(&filler, vec![1; 64 << 20]).unwrap_err();
    let mut stdin = attached.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"x\n").unwrap();
    drop(stdin);
    let ended = crate::harness::ddock::finished_child(attached);
    assert_eq!(ended.code, 7, "{}", ended.text());
    ddock.ok(&["kill", "bg"]);
    assert_eq!(crate::harness::ddock::finished_child(wait).stdout, "137\n");
    assert_eq!(ddock.ok(&["wait", "fg", "bg"]), "7\n137\n");
    let listed = ddock.ok(&["ps", "-a"]);
    assert!(
        listed.contains("Exited (7)") && listed.contains("Exited (137)"),
        "{listed}"
    );
    ddock.ok(&["rm", "fg", "bg"]);
}

/// Gives the store a thousand containers that ended, and one more.
fn with_a_thousand(ddock: &Ddock, image: &str) {
    ddock.ok(&["run", "--name", "first", image, "true"]);
    let id = ddock.containers().remove(0);
    let (all, state) = (
        containers(ddock),
        containers(ddock).join(&id).join("state.json"),
    );
    let text = fs_err::read_to_string(state).unwrap();
    for number in 0..1000_u32 {
        let id = format!("{number:064x}");
        fs_err::create_dir_all(all.join(&id).join("upper")).unwrap();
        fs_err::write(all.join(&id).join("holds"), "").unwrap();
        fs_err::write(
            all.join(&id).join("state.json"),
            text.replace("first", &format!("n{number}")),
        )
        .unwrap();
    }
}

#[test]
fn a_sweep_finds_the_dead_among_many_that_ended() {
    let seconds = unique_seconds();
    let (ddock, image) = Ddock::with_busybox();
    with_a_thousand(&ddock, &image);
    let all = containers(&ddock);
    let id = start(
        &ddock,
        &["--rm", "--name", "lost", &image, "sleep", &seconds],
    );
    kill_monitor(wait_for_process("sleep", &seconds));
    wait_for("the container to die", || {
        processes_with(&seconds).is_empty().then_some(())
    });
    ddock.ok(&["run", "--rm", &image, "true"]);
    assert!(!all.join(&id).exists() && !ddock.root().join("v1/names/lost").exists());
}

#[test]
fn a_list_reads_each_record_once_and_sweeps_names() {
    let (ddock, image) = Ddock::with_busybox();
    with_a_thousand(&ddock, &image);
    // What of the list costs is what is read of each, once; and names without containers go with it.
    symlink("f".repeat(64), ddock.root().join("v1/names/stale")).unwrap();
    for number in 0..1000 {
        symlink(
            "e".repeat(64),
            ddock.root().join(format!("v1/names/stale-{number}")),
        )
        .unwrap();
    }
    let counts = ddock.scratch().path().join("counts");
    let list = ddock.command(&["ps", "-a"]);
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-c", "-e", "trace=!fcntl", "-o"])
        .arg(&counts);
    strace
        .arg(list.get_program())
        .args(list.get_args())
        .env("DDOCK_ROOT", ddock.root());
    output(&mut strace).exits(0);
    assert!(!ddock.root().join("v1/names/stale").exists());
    output(&mut strace).exits(0);
    let table = fs_err::read_to_string(&counts).unwrap();
    let calls: usize = table
        .lines()
        .last()
        .unwrap()
        .split_whitespace()
        .nth(3)
        .unwrap()
        .parse()
        .unwrap();
    assert!(calls < 4 * 1001 + 500, "{table}");
}

#[test]
fn a_store_of_before_has_its_containers_swept() {
    let seconds = unique_seconds();
    let (ddock, image) = Ddock::with_busybox();
    let id = start(
        &ddock,
        &["--rm", "--name", "old", &image, "sleep", &seconds],
    );
    let pid = wait_for_process("sleep", &seconds);
    // As it was before there was `alive/`, and records had a boot.
    fs_err::remove_dir_all(ddock.root().join("v1/alive")).unwrap();
    let state = containers(&ddock).join(&id).join("state.json");
    let text = fs_err::read_to_string(&state).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
    let status = record["status"].as_object_mut().unwrap();
    status.remove("boot").unwrap();
    fs_err::write(&state, record.to_string()).unwrap();
    assert!(ddock.ok(&["ps"]).contains("old"));
    kill_monitor(pid);
    wait_for("the container to die", || {
        processes_with(&seconds).is_empty().then_some(())
    });
    ddock.ok(&["run", "--rm", &image, "true"]);
    assert!(!containers(&ddock).join(id).exists());
}

#[test]
fn a_torn_log_hides_only_what_was_torn() {
    let (ddock, image) = Ddock::with_busybox();
    ddock.ok(&["run", "--name", "torn", &image, "sh", "-c", "seq 3"]);
    let id = ddock.containers().remove(0);
    let log = containers(&ddock).join(id).join("log");
    let text = fs_err::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let half = &lines[1][..20];
    for (torn, shown, says) in [
        (
            format!("{}\n{half}{}\n{}\n", lines[0], lines[1], lines[2]),
            "1\n2\n3\n",
            "passed over 20B",
        ),
        (
            format!("{}\n\0\0\0\n{}\n", lines[0], lines[2]),
            "1\n3\n",
            "passed over 4B",
        ),
        (
            format!("{}\n{}\n{half}", lines[0], lines[1]),
            "1\n2\n",
            "passed over 20B",
        ),
        (
            format!("{}\n{}", "x".repeat(3 << 20), text),
            "1\n2\n3\n",
            "passed over 3.1",
        ),
    ] {
        fs_err::write(&log, torn).unwrap();
        for flags in [&[][..], &["-f"], &["--since", "1h"]] {
            let said = ddock.run(&[&["logs"], flags, &["torn"]].concat()).exits(0);
            assert_eq!(said.stdout, shown, "{flags:?}");
            said.says(says);
        }
        assert_eq!(
            ddock.ok(&["logs", "-n", "1", "torn"]),
            shown[shown.len() - 2..]
        );
    }
}

#[test]
fn the_end_of_a_large_log_is_read_from_its_end() {
    let (ddock, image) = Ddock::with_busybox();
    ddock.ok(&["run", "--name", "long", &image, "sh", "-c", "seq 3"]);
    let id = ddock.containers().remove(0);
    let log = containers(&ddock).join(id).join("log");
    let text = fs_err::read_to_string(&log).unwrap();
    // A hole reads as bytes that are no entry, and costs no disk.
    let file = fs_err::OpenOptions::new().write(true).open(&log).unwrap();
    file.set_len(4 << 30).unwrap();
    drop(file);
    let mut file = fs_err::OpenOptions::new().append(true).open(&log).unwrap();
    std::io::Write::write_all(&mut file, format!("\n{text}").as_bytes()).unwrap();
    let begun = Instant::now();
    assert_eq!(ddock.ok(&["logs", "-n", "2", "long"]), "2\n3\n");
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}
