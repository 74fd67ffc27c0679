//! `run --preserve-fds`: descriptors of the caller that are the command's too.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::harness::ddock::{Ddock, output};
use crate::harness::image::busybox;
use crate::harness::user::User;

/// Returns `ddock ARGS`, to be started by a shell that opens descriptors by `redirections` first.
fn with(ddock: &Ddock, redirections: &str, args: &[&str]) -> Command {
    let ddock = ddock.command(args);
    let mut shell = Command::new("bash");
    shell
        .args(["-c", &format!("exec {redirections}; exec \"$@\""), "bash"])
        .arg(ddock.get_program())
        .args(ddock.get_args())
        .env_clear()
        .envs(
            ddock
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .stdin(Stdio::null());
    shell
}

#[test]
fn descriptors_from_three_on_are_the_commands_and_the_others_are_not() {
    for ddock in [Ddock::new(), Ddock::for_user(User::with_ranges())] {
        let image = ddock.pull(busybox());
        let answer = ddock.scratch().join("answer");
        let redirections = format!("3<<<question 4>{} 5</etc/passwd", answer.display());
        let script = "{ cat <&3; [ -e /proc/self/fd/5 ] || echo closed; } >&4";
        for flags in [
            &[][..],
            &["--init"],
            &["-t"],
            &["--init", "-t"],
            &["--explain"],
        ] {
            let mut args = vec!["run", "--rm", "--preserve-fds", "2"];
            args.extend(flags);
            args.extend([image.as_str(), "sh", "-c", script]);
            output(&mut with(&ddock, &redirections, &args)).exits(0);
            let found = fs_err::read_to_string(&answer).unwrap();
            assert_eq!(found, "question\nclosed\n", "{flags:?}");
        }
    }
}

#[test]
fn descriptors_are_handed_over_by_number() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "cat <&7; cat <&3; for n in 4 5; do [ -e /proc/self/fd/$n ] || echo closed; done";
    let args = [
        "run",
        "--rm",
        "--preserve-fds=1",
        "--preserve-fd",
        "7,3",
        &image,
        "sh",
        "-c",
        script,
    ];
    let redirections = "3<<<three 4<<<four 5<<<five 7<<<seven";
    let found = output(&mut with(&ddock, redirections, &args)).exits(0);
    assert_eq!(found.stdout, "seven\nthree\nclosed\nclosed\n");
}

/// Whoever reads from a descriptor that the command closed would wait for ever if anybody else still had it.
#[test]
fn nobody_but_the_command_keeps_a_descriptor_open() {
    let (ddock, image) = Ddock::with_busybox();
    for flags in [&[][..], &["--init"]] {
        let mut args = vec!["run", "--rm", "--preserve-fds=1"];
        args.extend(flags);
        args.extend([
            &image,
            "sh",
            "-c",
            "echo said >&3; exec 3>&-; exec sleep 1000",
        ]);
        let mut command = with(&ddock, "3>&1 1>/dev/null", &args);
        let mut client = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let mut pipe = client.stdout.take().unwrap();
        pipe.read_to_string(&mut said).unwrap();
        assert_eq!(
            (said.as_str(), client.try_wait().unwrap()),
            ("said\n", None)
        );
        ddock.ok(&["rm", "-f", "-a"]);
        client.wait().unwrap();
    }
}

#[test]
fn what_is_not_open_or_cannot_be_kept_is_refused() {
    let ddock = Ddock::new();
    output(&mut with(&ddock, "3</dev/null", &["run", "--preserve-fds=3", "x"]))
        .exits(125)
        .says("file descriptor 4 is not available - the preserve-fds option requires that file descriptors must be passed");
    output(&mut with(
        &ddock,
        "3</dev/null",
        &["run", "--preserve-fd=3,5", "x"],
    ))
    .exits(125)
    .says("file descriptor 5 is not available");
    ddock
        .run(&["run", "--preserve-fd=2", "x"])
        .exits(125)
        .says("--preserve-fd");
    ddock
        .run(&["run", "-d", "--preserve-fds=1", "x"])
        .exits(125)
        .says("conflicting options: cannot specify both --preserve-fds and --detach");
}
