//! Stores whose user gets other IDs, and the end of a store.

use std::process::{Command, Stdio};

use crate::harness::ddock::{Ddock, Output, output};
use crate::harness::host::{assert_nothing_left, unique_seconds};
use crate::harness::image::busybox;
use crate::harness::scratch::command_succeeds;
use crate::harness::user::{User, edit_users};

/// Far from those that `useradd` grants.
const RANGE: &str = "700000000-700065535";

fn grant(user: &User) {
    edit_users(&format!(
        "usermod --add-subuids {RANGE} --add-subgids {RANGE} {}",
        user.name()
    ));
}

fn revoke(user: &User) {
    edit_users(&format!(
        "sed -i '/^{}:/d' /etc/subuid /etc/subgid",
        user.name()
    ));
}

/// Returns the command in the hint that begins with `beginning`.
fn hinted(refused: &Output, beginning: &str) -> String {
    let hint = refused.stderr.lines().find(|it| it.starts_with("hint: "));
    let mut quoted = hint.unwrap_or_default().split('`').skip(1).step_by(2);
    let command = quoted.find(|it| it.starts_with(beginning));
    command
        .unwrap_or_else(|| panic!("no `{beginning}` in {}", refused.text()))
        .to_owned()
}

/// Pastes a command with `sudo` into a shell of root.
fn paste(command: &str) {
    edit_users(command.strip_prefix("sudo ").expect("root's"));
}

/// Every command that opens a store works.
fn assert_all_work(ddock: &Ddock, image: &str) {
    ddock.ok(&["run", "--name", "kept", image, "true"]);
    for line in [
        "images",
        "info",
        "ps -a",
        "logs kept",
        "inspect kept",
        "wait kept",
        "volume create vol",
        "volume ls",
        "volume rm vol",
        "network create n",
        "network rm n",
        "system check",
        "rm kept",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        ddock.ok(&words);
    }
    ddock.pull(busybox());
}

#[test]
fn a_store_goes_on_under_its_own_ids() {
    let ddock = Ddock::for_user(User::temporary());
    let image = ddock.pull(busybox());
    let as_other = ["run", "--rm", "-u", "1000", &image, "true"];
    let refused = ddock.run(&as_other).exits(125);
    paste(&hinted(&refused, "sudo usermod "));

    assert_all_work(&ddock, &image);
    ddock.ok(&["info"]).find("`ddock system reset`").unwrap();
    let refused = ddock.run(&as_other).exits(125);
    let reset = hinted(&refused, "ddock --root ");
    let words = reset.split(' ').skip(1).chain(["--force"]);
    ddock.ok(&words.collect::<Vec<_>>());
    let image = ddock.pull(busybox());
    let as_other = ["run", "--rm", "-u", "1000", &image, "true"];
    ddock.ok(&as_other);

    // And the other way round.
    revoke(ddock.user());
    for words in [&["images"][..], &["info"], &["volume", "ls"]] {
        ddock.ok(words);
    }
    let refused = ddock.run(&["pull", "-q", &image]).exits(1);
    paste(&hinted(&refused, "sudo usermod "));
    assert_all_work(&ddock, &image);
    ddock.ok(&as_other);
}

#[test]
fn a_store_that_cannot_be_removed_whole_is_out_of_the_way() {
    let ddock = Ddock::for_user(User::temporary());
    grant(ddock.user());
    let image = ddock.pull(busybox());
    let script = "mkdir -p /d/x/y && chown -R 1000 /d/x";
    ddock.sh(&["-v", "data:/d"], &image, script);
    let seconds = unique_seconds();
    ddock.ok(&["run", "-d", &image, "sleep", &seconds]);
    revoke(ddock.user());

    let refused = ddock.run(&["system", "reset", "--force"]).exits(1);
    assert_nothing_left(&ddock, "no-such-container");
    let image = ddock.pull(busybox());
    ddock.sh(&[], &image, "true");
    paste(&hinted(&refused, "sudo rm -rf "));
    ddock.ok(&["system", "reset", "--force"]);
    assert!(!ddock.root().exists());
}

#[test]
fn a_store_with_nothing_in_it_takes_new_ids() {
    let ddock = Ddock::for_user(User::temporary());
    let image = ddock.pull(busybox());
    ddock.ok(&["rmi", &image]);
    grant(ddock.user());
    let image = ddock.pull(busybox());
    ddock.sh(&["-u", "1000"], &image, "true");
    ddock.ok(&["rmi", &image]);
    revoke(ddock.user());
    let image = ddock.pull(busybox());
    ddock.sh(&[], &image, "true");

    // One whose group is another one is told how to have the store's.
    let mut command = Command::new("setpriv");
    command
        .args([&format!("--reuid={}", ddock.user().uid), "--regid=100"])
        .args(["--clear-groups", "--inh-caps=-all", "--"])
        .args(ddock.command(&["run", &image, "true"]).get_args().skip(6))
        .env("DDOCK_ROOT", ddock.root());
    let refused = output(&mut command).exits(125).says("belongs to the group");
    let shell = hinted(&refused, "sg ");
    let group = shell.trim_start_matches("sg ").trim_start_matches("$(");
    let group = group.trim_end_matches(')');
    let name = command_succeeds(Command::new("sh").args(["-c", group]));
    assert_eq!(name.trim(), ddock.user().name());
}

#[test]
fn reset_removes_everything_and_nothing_else() {
    for ddock in [Ddock::new(), Ddock::for_user(User::with_ranges())] {
        let image = ddock.pull(busybox());
        ddock.ok(&["network", "create", "n"]);
        let script = "mkdir -p /d/x/y && chown -R 1000 /d/x && exec sleep 1000";
        let words = [
            "run", "-d", "-v", "data:/d", "--net", "n", &image, "sh", "-c", script,
        ];
        ddock.ok(&words);
        let asked = ddock.run(&["system", "reset"]).exits(1);
        asked.says("system reset was cancelled");
        assert_eq!(ddock.ok(&["ps", "-q"]).lines().count(), 1);

        let mut command = ddock.command(&["system", "reset"]);
        let agreed = command.stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut agreed.stdin.as_ref().unwrap(), b"y\n").unwrap();
        assert!(agreed.wait_with_output().unwrap().status.success());
        assert!(!ddock.root().exists());
        assert_nothing_left(&ddock, "no-such-container");
        let again = ddock.run(&["system", "reset", "-f"]).exits(0);
        again.says("there is no store");

        // What somebody else has in a store's place stays.
        let other = ddock.root().join("v1");
        fs_err::create_dir_all(&other).unwrap();
        fs_err::write(other.join("mine"), "").unwrap();
        ddock
            .run(&["system", "reset", "-f"])
            .exits(1)
            .says("no ddock store");
        assert!(other.join("mine").exists());
    }
}
