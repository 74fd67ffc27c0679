//! `run --init`: an init as PID 1.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::ddock::{Ddock, binary};
use crate::harness::host::{processes_with, unique_seconds, wait_for_process};
use crate::harness::terminal::Terminal;
use crate::harness::user::User;
use crate::harness::wait_for;

#[test]
fn the_command_is_a_child_and_its_status_is_passed_on() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "cat /proc/1/cmdline | tr '\\0' ' '; echo; echo $PPID; exit 7";
    let output = ddock
        .run(&["run", "--rm", "--init", &image, "sh", "-c", script])
        .exits(7);
    assert_eq!(output.lines(), ["ddock-init 2 ", "1"]);
    ddock
        .run(&["run", "--rm", "--init", &image, "sh", "-c", "kill -9 $$"])
        .exits(137);
    ddock
        .run(&["run", "--rm", "--init", &image, "absent"])
        .exits(127)
        .says("absent");
    ddock
        .run(&["run", "--rm", "--init", &image, "/etc"])
        .exits(126);
    ddock
        .run(&["run", "--rm", "--init", "-u", "1000", &image, "id", "-u"])
        .exits(0);
    assert_eq!(ddock.containers(), [""; 0]);
}

#[test]
fn no_zombies_stay_and_nothing_of_the_host_is_seen() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "for i in $(seq 500); do (sleep 0.01 &) ; done; sleep 1; \
        cat /proc/[0-9]*/stat 2>/dev/null | grep -c ' Z '; tr '\\0' '\\n' </proc/1/environ | wc -l; \
        ls /proc/1/fd | wc -l";
    let stdout = ddock.sh(&["--init"], &image, script);
    // 0, 1, 2, its signals and the command.
    assert_eq!(stdout, "0\n0\n5\n");
}

#[test]
fn signals_end_a_command_that_does_not_handle_them() {
    for (signal, code) in [
        (Signal::INT, 130),
        (Signal::TERM, 143),
        (Signal::HUP, 129),
        (Signal::USR1, 138),
    ] {
        let seconds = unique_seconds();
        let (ddock, image) = Ddock::with_busybox();
        let mut client = ddock
            .command(&["run", "--rm", "--init", &image, "sleep", &seconds])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        wait_for_process("sleep", &seconds);
        kill_process(Pid::from_child(&client), signal).unwrap();
        assert_eq!(client.wait().unwrap().code(), Some(code), "{signal:?}");
    }
}

#[test]
fn a_broken_pipe_ends_the_client_and_the_command() {
    let (ddock, image) = Ddock::with_busybox();
    for flags in [&["--rm"][..], &[], &["--rm", "--log-driver", "none"]] {
        let mut args = vec!["run", "--init"];
        args.extend(flags);
        args.extend([&image, "yes"]);
        let mut client = ddock.command(&args);
        let mut client = client.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = [0; 2];
        let mut stdout = client.stdout.take().unwrap();
        std::io::Read::read_exact(&mut stdout, &mut line).unwrap();
        drop(stdout);
        // Docker's code for it, or the command's, which the kernel tells first where that pipe is the command's own.
        let code = client.wait().unwrap().code();
        let is_own = flags.contains(&"--rm");
        assert!(
            code == Some(1) || is_own && code == Some(141),
            "{flags:?} {code:?}"
        );
        wait_for("the container to end", || {
            ddock.ok(&["ps", "-q"]).is_empty().then_some(())
        });
    }
}

#[test]
fn job_control_works_in_a_shell_under_the_init() {
    let seconds = unique_seconds();
    let (ddock, image) = Ddock::with_busybox();
    let command = ddock.command(&["run", "--rm", "-it", "--init", &image, "sh"]);
    let mut terminal = Terminal::start(&command, 24, 80);
    terminal.expect("# ");
    terminal.send(&format!("sleep {seconds}\r"));
    wait_for("sleep to run", || {
        (processes_with(&seconds).len() == 1).then_some(())
    });
    terminal.send("\u{1a}");
    terminal.expect("Stopped");
    terminal.expect("# ");
    terminal.send("fg\r");
    terminal.expect("fg\n");
    terminal.expect(&seconds);
    terminal.send("\u{3}");
    terminal.expect("# ");
    wait_for("sleep to end", || {
        processes_with(&seconds).is_empty().then_some(())
    });
    terminal.send("exit 3\r");
    assert_eq!(terminal.wait(), 3);
}

#[test]
fn an_init_works_for_ordinary_users() {
    for user in [User::with_ranges(), User::without_ranges()] {
        let ddock = Ddock::for_user(user);
        let image = ddock.pull(crate::harness::image::busybox());
        ddock
            .run(&["run", "--rm", "--init", &image, "sh", "-c", "exit 9"])
            .exits(9);
    }
}

#[test]
fn the_program_of_an_init_cannot_be_written_from_inside() {
    let (ddock, image) = Ddock::with_busybox();
    let before = fs_err::read(binary()).unwrap();
    // Emptied first, which the file's being executed would not be the first to forbid.
    let script = "echo x > /proc/1/exe; chmod 4777 /proc/1/exe; true";
    for flags in [&[][..], &["--privileged"], &["--cap-add", "ALL"]] {
        let words = [
            &["run", "--rm", "--init"],
            flags,
            &[&image, "sh", "-c", script],
        ]
        .concat();
        let output = ddock.run(&words).exits(0);
        assert_eq!(
            output.stderr.matches("Read-only file system").count(),
            2,
            "{}",
            output.text()
        );
    }
    assert!(fs_err::read(binary()).unwrap() == before);
}
