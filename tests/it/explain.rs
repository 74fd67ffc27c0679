//! `run --explain` and `--dry-run`: a container that one can see through.

use crate::harness::ddock::Ddock;
use crate::harness::host::assert_nothing_left;
use serde_json::Value;

/// The names of the steps that `--explain=json` told, in order.
fn steps(stderr: &str) -> Vec<Value> {
    let steps = stderr.lines().map(serde_json::from_str);
    steps.collect::<Result<_, _>>().expect("lines of JSON")
}

fn named<'a>(steps: &'a [Value], name: &str) -> &'a Value {
    let found = steps.iter().find(|step| step["step"] == name);
    found.unwrap_or_else(|| panic!("no step `{name}` in {steps:#?}"))
}

#[test]
fn every_step_is_told_in_the_order_in_which_it_happens() {
    let (ddock, image) = Ddock::with_busybox();
    let words = ["run", "--rm", "--explain=json", "-h", "box", "-m", "64m"];
    let output = ddock.run(&[&words[..], &[&image, "sh", "-c", "echo out; exit 7"]].concat());
    let output = output.exits(7);
    assert_eq!(output.stdout, "out\n");
    let steps = steps(&output.stderr);
    let names: Vec<_> = steps.iter().map(|step| &step["step"]).collect();
    let order = [
        "image",
        "container",
        "root",
        "bundle",
        "monitor",
        "cgroup",
        "clone",
        "enter_cgroup",
        "session",
        "pivot",
        "mount",
        "devices",
        "hostname",
        "loopback",
        "hide",
        "directory",
        "capabilities",
        "user",
        "filter",
        "exec",
        "end",
        "clean_up",
    ];
    let mut at = 0;
    for name in order {
        // The monitor begins its work while the command line tells that it was forked.
        let from = if name == "cgroup" { 0 } else { at };
        let found = names[from..].iter().position(|found| *found == name);
        at = from + found.unwrap_or_else(|| panic!("`{name}` is not where it belongs: {names:?}"));
    }
    let limits = named(&steps, "cgroup")["values"].to_string();
    assert!(limits.contains("67108864"), "{limits}");
    assert_eq!(named(&steps, "hostname")["name"], "box");
    assert_eq!(named(&steps, "end")["status"], "exited with code 7");
    assert_eq!(named(&steps, "clean_up")["removed"], true);
    assert!(steps.iter().all(|step| step["microseconds"].is_u64()));
    let id = named(&steps, "container")["id"].as_str().unwrap();
    assert_nothing_left(&ddock, id);
}

#[test]
fn people_read_sentences_and_the_commands_output_stays_its_own() {
    let (ddock, image) = Ddock::with_busybox();
    let output = ddock.run(&["run", "--explain", "--rm", &image, "echo", "hello"]);
    let output = output.exits(0);
    assert_eq!(output.stdout, "hello\n");
    let output = output
        .says("it is process 1 inside, and sees only what it starts")
        .says("mounted /proc: the processes of its PID namespace, and no others (proc,nodev,noexec,nosuid")
        .says("becomes the command: echo hello")
        .says("the command exited with code 0");
    for line in output.stderr.lines() {
        let time = line.get(..11).unwrap_or_default();
        let is_time = time.ends_with(" ms") && time[..8].trim().parse::<f64>().is_ok();
        assert!(is_time || time.trim().is_empty(), "no time in `{line}`");
    }
}

#[test]
fn a_start_that_fails_is_told_up_to_where_it_failed() {
    let (ddock, image) = Ddock::with_busybox();
    let output = ddock.run(&["run", "--explain=json", "--rm", &image, "/absent"]);
    let output = output.exits(127);
    let told: Vec<_> = output
        .stderr
        .lines()
        .take_while(|line| line.starts_with('{'))
        .collect();
    let last: Value = serde_json::from_str(told.last().unwrap()).unwrap();
    assert_eq!(last["step"], "exec", "{}", output.stderr);
    assert!(output.stderr.contains("/absent"), "{}", output.stderr);
}

#[test]
fn a_dry_run_prints_the_bundle_and_changes_nothing() {
    let (ddock, image) = Ddock::with_busybox();
    let source = ddock.scratch().join("absent");
    let volume = format!("{}:/data", source.display());
    let output = ddock.run(&["run", "--dry-run", "-v", &volume, &image, "echo", "hello"]);
    let output = output.exits(0);
    let config: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(
        config["process"]["args"],
        serde_json::json!(["echo", "hello"])
    );
    assert_eq!(output.stderr, "");
    assert!(!source.exists());
    assert_eq!(ddock.ok(&["ps", "-aq"]), "");
    let cgroup = config["linux"]["cgroupsPath"].as_str().unwrap();
    assert_nothing_left(&ddock, cgroup.strip_prefix("/ddock/").unwrap());
}
