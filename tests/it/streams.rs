//! The command's streams: every byte, in order, each where it belongs, however slow the other end is.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::chance::Chance;
use crate::harness::ddock::{Ddock, binary, output};

/// Sends `bytes` of noise through `cat` in a container, and fails the test unless they come back as they were;
/// both ends are slow now and then.
fn echo_slowly(ddock: &Ddock, flags: &[&str], image: &str, seed: u64, bytes: usize) {
    let mut args = vec!["run", "-i"];
    args.extend(flags);
    args.extend([image, "cat"]);
    let mut child = ddock
        .command(&args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (mut content, mut pace) = (Chance::new(seed), Chance::new(seed + 1));
            let mut left = bytes;
            while left > 0 {
                let noise = content.noise(left.min(1 << 16));
                stdin.write_all(&noise).unwrap();
                left -= noise.len();
                dawdle(&mut pace);
            }
        });
        let (mut content, mut pace) = (Chance::new(seed), Chance::new(seed + 2));
        let mut left = bytes;
        let mut received = vec![0; 1 << 16];
        while left > 0 {
            let expected = content.noise(left.min(1 << 16));
            let received = &mut received[..expected.len()];
            // In pieces of any size.
            let middle = pace.below(received.len());
            stdout.read_exact(&mut received[..middle]).unwrap();
            dawdle(&mut pace);
            stdout.read_exact(&mut received[middle..]).unwrap();
            assert!(
                received == expected,
                "{left} bytes before the end, {flags:?}, seed {seed}"
            );
            left -= expected.len();
        }
        assert_eq!(
            stdout.read(&mut received).unwrap(),
            0,
            "more than was sent, seed {seed}"
        );
    });
    assert_eq!(child.wait().unwrap().code(), Some(0), "seed {seed}");
}

/// Now and then takes its time, up to three milliseconds.
fn dawdle(pace: &mut Chance) {
    if pace.one_in(16) {
        std::thread::sleep(Duration::from_micros(pace.below(3000) as u64));
    }
}

/// Output goes straight to the reader, or through the monitor into a log as well.
const WAYS: [&[&str]; 2] = [
    &["--rm"],
    &["--log-driver", "local", "--log-opt", "max-size=1m"],
];

#[test]
fn slow_readers_and_writers_lose_no_byte() {
    let (ddock, image) = Ddock::with_busybox();
    for (seed, flags) in (1..).zip(WAYS) {
        echo_slowly(&ddock, flags, &image, seed, 8 << 20);
    }
}

#[test]
#[ignore = "long: many minutes"]
fn slow_readers_and_writers_lose_no_byte_of_gigabytes() {
    let (ddock, image) = Ddock::with_busybox();
    for seed in 0..200 {
        // Logging takes longer than everything else: a quarter of the runs do it.
        let flags = WAYS[usize::from(seed % 4 == 3)];
        echo_slowly(&ddock, flags, &image, 1000 + seed * 10, 100 << 20);
    }
}

#[test]
fn the_end_of_the_input_is_seen_and_what_follows_is_delivered() {
    let (ddock, image) = Ddock::with_busybox();
    for flags in WAYS {
        let mut args = vec!["run", "-i"];
        args.extend(flags);
        args.extend([
            &image,
            "sh",
            "-c",
            "cat; sleep 0.1; echo after; echo err >&2",
        ]);
        let output = ddock.feed(&args, b"hi\n").exits(0);
        assert_eq!(
            (&*output.stdout, &*output.stderr),
            ("hi\nafter\n", "err\n"),
            "{flags:?}"
        );
    }
}

#[test]
fn the_streams_are_never_mixed() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "for i in $(seq 300); do echo out$i; echo err$i >&2; done";
    for flags in WAYS {
        let mut args = vec!["run"];
        args.extend(flags);
        args.extend([&image, "sh", "-c", script]);
        let output = ddock.run(&args).exits(0);
        for (text, word) in [(output.stdout, "out"), (output.stderr, "err")] {
            let expected: Vec<String> = (1..=300)
                .map(|number| format!("{word}{number}\n"))
                .collect();
            assert_eq!(text, expected.concat(), "{flags:?}");
        }
    }
}

/// Runs a line of bash in which `$RUN` is `ddock run` with `flags`.
fn bash(ddock: &Ddock, flags: &[&str], script: &str) -> crate::harness::ddock::Output {
    let run = format!("{} run {}", binary().display(), flags.join(" "));
    let mut shell = Command::new("bash");
    shell
        .args(["-c", script])
        .env("DDOCK_ROOT", ddock.root())
        .env("RUN", run);
    output(shell.stdin(Stdio::null()))
}

#[test]
fn closed_streams_files_and_devices_are_fine() {
    let (ddock, image) = Ddock::with_busybox();
    let file = ddock.scratch().join("file");
    let file = file.to_str().unwrap();
    for flags in WAYS {
        for (script, code, stdout) in [
            ("$RUN -i IMAGE cat <&-", 0, ""),
            ("$RUN IMAGE echo x >&-", 0, ""),
            ("$RUN IMAGE sh -c 'echo x; exit 4' >/dev/null", 4, ""),
            (
                "$RUN IMAGE sh -c 'echo x; echo y >&2' >FILE 2>&1; sort FILE",
                0,
                "x\ny\n",
            ),
            (
                "echo 1 >FILE; $RUN IMAGE echo 2 >>FILE; cat FILE",
                0,
                "1\n2\n",
            ),
            ("echo in >FILE; $RUN -i IMAGE cat <FILE", 0, "in\n"),
            ("$RUN -i IMAGE cat </dev/null", 0, ""),
            (
                "$RUN IMAGE sh -c 'yes | head -c 300000' | head -n 1",
                0,
                "y\n",
            ),
        ] {
            let script = script.replace("IMAGE", &image).replace("FILE", file);
            let output = bash(&ddock, flags, &script);
            assert_eq!(
                (output.code, &*output.stdout),
                (code, stdout),
                "{flags:?} {script}"
            );
        }
        let script =
            format!("$RUN {image} sh -c 'echo x; echo x; echo after >&2; exit 7' >/dev/full");
        let output = bash(&ddock, flags, &script).exits(1);
        assert_eq!(
            output
                .stderr
                .matches("write /dev/stdout: no space left on device")
                .count(),
            1
        );
        output.says("after\n");
    }
}

#[test]
fn no_input_is_taken_that_the_command_does_not_read() {
    let (ddock, image) = Ddock::with_busybox();
    // The pipe itself is the command's input: what it leaves is there for who comes after.
    let script =
        format!("seq 10000 | ($RUN -i {image} head -n 0; cat) | sha256sum; seq 10000 | sha256sum");
    let output = bash(&ddock, &["--rm"], &script).exits(0);
    assert_eq!(output.lines()[0], output.lines()[1]);
}

#[test]
fn a_client_that_leaves_takes_no_output_along() {
    let (ddock, image) = Ddock::with_busybox();
    let script =
        "trap 'echo got INT' INT; echo ready; while [ ! -e /end ]; do sleep 0.02; done; echo end";
    let args = [
        "run",
        "--name",
        "apart",
        "--sig-proxy=false",
        &image,
        "sh",
        "-c",
        script,
    ];
    let mut client = ddock.command(&args).stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    client
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut ready)
        .unwrap();
    kill_process(Pid::from_child(&client), Signal::INT).unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(130));
    assert!(ddock.ok(&["ps"]).contains("apart"), "it runs on");
    ddock.ok(&["stop", "-t", "0", "apart"]);
    assert_eq!(ddock.ok(&["logs", "apart"]), "ready\n", "no signal came");
}

#[test]
fn only_the_streams_that_are_asked_for_are_attached() {
    let (ddock, image) = Ddock::with_busybox();
    let script = "echo out; echo err >&2; exit 3";
    for (stream, stdout, stderr) in [("stdout", "out\n", ""), ("STDERR", "", "err\n")] {
        let output = ddock
            .run(&["run", "--rm", "-a", stream, &image, "sh", "-c", script])
            .exits(3);
        assert_eq!((&*output.stdout, &*output.stderr), (stdout, stderr));
    }
    // Who only gives a command its input waits for its code.
    let script = "cat; sleep 0.1; exit 3";
    for flags in [&["--rm", "-i"][..], &["-i", "--name", "fed"], &["--rm"]] {
        let args = [
            &["run"],
            flags,
            &["-a", "stdin", &image, "sh", "-c", script],
        ]
        .concat();
        let output = ddock.feed(&args, b"read").exits(3);
        assert_eq!((&*output.stdout, &*output.stderr), ("", ""), "{flags:?}");
    }
    assert_eq!(ddock.ok(&["logs", "fed"]), "read");
    ddock
        .run(&["run", "-d", "-a", "stdout", &image, "true"])
        .exits(1)
        .says("conflicting options: cannot specify both --attach and --detach");
}

#[test]
fn a_terminal_as_output_alone_gets_every_byte() {
    let (ddock, image) = Ddock::with_busybox();
    for flags in WAYS {
        let mut args = vec!["run"];
        args.extend(flags);
        args.extend([&image, "seq", "20000"]);
        let mut terminal = crate::harness::terminal::Terminal::start(&ddock.command(&args), 24, 80);
        terminal.expect("\n19999\n20000\n");
        assert_eq!(terminal.wait(), 0);
    }
}

#[test]
fn a_reader_that_comes_late_finds_everything_and_nobody_waits_for_it() {
    let (ddock, image) = Ddock::with_busybox();
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let args = [
        "run",
        "--name",
        "stuck",
        &image,
        "sh",
        "-c",
        "yes | head -c 190000",
    ];
    let mut client = ddock
        .command(&args)
        .stdout(Stdio::from(write))
        .spawn()
        .unwrap();
    // Nobody reads; what fits into pipes is on its way, and the container has ended all the same.
    assert_eq!(
        ddock.ok(&["run", "--rm", &image, "echo", "other"]),
        "other\n"
    );
    crate::harness::wait_for("the container to be seen", || {
        ddock.ok(&["ps", "-a"]).contains("stuck").then_some(())
    });
    crate::harness::wait_for("the container to end", || {
        ddock.ok(&["ps", "-a"]).contains("Exited (0)").then_some(())
    });
    assert_eq!(ddock.ok(&["logs", "stuck"]).len(), 190_000);
    ddock.ok(&["rm", "stuck"]);
    let mut all = Vec::new();
    fs_err::File::from_parts(read.into(), "what the client wrote")
        .read_to_end(&mut all)
        .unwrap();
    assert_eq!(all.len(), 190_000);
    assert_eq!(client.wait().unwrap().code(), Some(0));
}
