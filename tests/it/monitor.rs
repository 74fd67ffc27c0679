//! A monitor among others: whoever knocks at its door, a machine that shuts down, orphans, and what `ps` shows of it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, recv, sendmsg, socket_with,
};
use rustix::process::Signal;

use crate::harness::chance::Chance;
use crate::harness::ddock::{Ddock, binary, finished_child, output};
use crate::harness::host::{
    parent_of, processes_with, send_signal, unique_seconds, wait_for_process,
};
use crate::harness::user::User;
use crate::harness::wait_for;

/// Connects to the door of a container's monitor.
fn knock(ddock: &Ddock, id: &str) -> OwnedFd {
    let directory: PathBuf = ddock.root().join("v1/containers").join(id);
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let place = open(&directory, flags, Mode::empty()).unwrap();
    let address =
        SocketAddrUnix::new(format!("/proc/self/fd/{}/attach", place.as_raw_fd())).unwrap();
    let kind = SocketType::SEQPACKET;
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    connect(&socket, &address).unwrap();
    socket
}

/// Sends without waiting; an error tells that the monitor has closed the connection, or takes no more.
fn say(socket: &OwnedFd, words: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = descriptor.into_iter().collect();
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, &[std::io::IoSlice::new(words)], &mut control, flags).map(drop)
}

/// Says each time something else that no client says, with things that no client sends, and leaves.
fn talk_nonsense(ddock: &Ddock, id: &str) {
    let odd = |path: &str, flags| open(path, flags | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let descriptors: Vec<OwnedFd> = vec![
        odd("/dev/null", OFlags::PATH),
        odd("/", OFlags::RDONLY),
        odd("/etc/passwd", OFlags::RDONLY),
        odd("/dev/full", OFlags::WRONLY),
        one.into(),
        std::io::pipe().unwrap().0.into(),
    ];
    let words = [
        r#"{"Signal":65}"#,
        r#"{"Signal":-1}"#,
        r#"{"Signal":2147483647}"#,
        r#"{"Output":"stdout"}"#,
        r#"{"Output":"stderr"}"#,
        r#"{"Change":{"Disconnect":{"network":"none"}}}"#,
        r#""Attach""#,
        r#""Switch""#,
        "",
    ];
    let mut chance = Chance::new(7);
    for _ in 0..300 {
        let socket = knock(ddock, id);
        let mut said = chance.pick(&words).as_bytes().to_vec();
        match chance.below(3) {
            0 => said.truncate(chance.below(said.len() + 1)),
            1 => {
                said = (0..chance.below(300))
                    .map(|_| chance.next().to_le_bytes()[0])
                    .collect();
            }
            _ => {}
        }
        let at = chance.below(2 * descriptors.len());
        say(&socket, &said, descriptors.get(at).map(OwnedFd::as_fd)).ok();
    }
}

#[test]
fn nothing_that_comes_to_the_door_ends_the_container() {
    let seconds = unique_seconds();
    let (ddock, image) = Ddock::with_busybox();
    // Few descriptors, so that a hundred clients are too many.
    let script = format!(
        "ulimit -n 64; exec {} run -d --name host --network none {image} sleep {seconds}",
        binary().display()
    );
    let mut shell = Command::new("bash");
    shell.args(["-c", &script]).env("DDOCK_ROOT", ddock.root());
    let id = output(&mut shell).exits(0).stdout.trim_end().to_owned();
    wait_for_process("sleep", &seconds);

    talk_nonsense(&ddock, &id);
    // Too many are told so, and the place is free again when they have left.
    let crowd: Vec<OwnedFd> = (0..100).map(|_| knock(&ddock, &id)).collect();
    let mut buffer = [0; 100];
    let (_, length) = recv(
        crowd.last().unwrap(),
        &mut buffer[..],
        rustix::net::RecvFlags::empty(),
    )
    .unwrap();
    assert_eq!(&buffer[..length], br#"{"Failed":"too many clients"}"#);
    drop(crowd);
    // Who asks and never reads is shut out once nothing more can be told.
    let silent = knock(&ddock, &id);
    wait_for("the monitor to lose its patience", || {
        matches!(
            say(&silent, br#""Attach""#, None),
            Err(Errno::PIPE | Errno::CONNRESET)
        )
        .then_some(())
    });
    assert_eq!(processes_with(&seconds).len(), 1);
    ddock.ok(&["kill", "host"]);
    assert_eq!(ddock.ok(&["wait", "host"]), "137\n");
}

#[test]
fn a_machine_that_shuts_down_stops_containers() {
    let (ddock, image) = Ddock::with_busybox();
    for (flags, script, code) in [
        (
            &["--stop-signal", "USR1"][..],
            "trap 'exit 7' USR1; trap 'exit 8' TERM",
            "7",
        ),
        (&["--stop-timeout", "1"], "trap : TERM", "137"),
        (&["--stop-timeout", "-1"], "trap 'exit 9' TERM", "9"),
    ] {
        let mark = format!("{}-{code}", unique_seconds());
        let script = format!("{script}; echo ready; while :; do sleep 0.02; done");
        let args = [
            &["run", "-d", "--network", "none", "--name", &mark],
            flags,
            &[&image, "sh", "-c", &script, &mark],
        ];
        ddock.ok(&args.concat());
        wait_for("the command to be ready", || {
            (ddock.ok(&["logs", &mark]) == "ready\n").then_some(())
        });
        let client = ddock
            .command(&["wait", &mark])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        send_signal(parent_of(wait_for_process("sh", &mark)), Signal::TERM);
        let waited = finished_child(client).stdout;
        assert!(
            waited.is_empty() || waited == format!("{code}\n"),
            "{waited}"
        );
        let recorded = format!("Exited ({code})");
        wait_for("the end", || {
            ddock.ok(&["ps", "-a"]).contains(&recorded).then_some(())
        });
    }
}

#[test]
fn a_monitor_shows_nothing_of_its_caller_and_outlives_what_it_watches() {
    let seconds = unique_seconds();
    let (ddock, image) = Ddock::with_busybox();
    let secret = format!("sesame{seconds}");
    let args = [
        "run",
        "-d",
        "--name",
        "quiet",
        "--network",
        "none",
        "-e",
        &format!("PASSWORD={secret}"),
        &image,
        "sleep",
        &seconds,
    ];
    let id = output(ddock.command(&args).env("TOKEN", &secret))
        .exits(0)
        .stdout;
    let command = wait_for_process("sleep", &seconds);
    let monitor = parent_of(command);
    let of_monitor =
        |file: &str| fs_err::read_to_string(format!("/proc/{monitor}/{file}")).unwrap();
    let words = of_monitor("cmdline");
    assert_eq!(
        words.trim_end_matches('\0'),
        format!("ddock: monitor of {} (quiet)", &id[..12])
    );
    assert_eq!(of_monitor("environ").trim_end_matches('\0'), "");
    // Root may lack the right to that.
    let own = fs_err::read_to_string("/proc/self/status").unwrap();
    let rights = own
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:\t"))
        .unwrap();
    let may_lower = u64::from_str_radix(rights, 16).unwrap() & (1 << 24) != 0;
    let score = |pid: u32| fs_err::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    assert!(
        !may_lower || score(monitor) == "-999\n",
        "{}",
        score(monitor)
    );
    assert_ne!(score(command), "-999\n");
    ddock.ok(&["rm", "-f", "quiet"]);
}

#[test]
fn a_users_monitor_reaps_the_orphans_that_it_adopts() {
    let seconds = unique_seconds();
    let ddock = Ddock::for_user(User::with_ranges());
    let image = ddock.pull(crate::harness::image::busybox());
    let script = format!(
        "for i in $(seq 50); do (sh -c 'true & exec true' &); done; wait; echo done; exec sleep {seconds}"
    );
    ddock.ok(&[
        "run",
        "-d",
        "--name",
        "many",
        "--network",
        "none",
        "--pid",
        "host",
        &image,
        "sh",
        "-c",
        &script,
    ]);
    let monitor = parent_of(wait_for_process("sleep", &seconds));
    wait_for("the orphans to be reaped", || {
        let children =
            fs_err::read_to_string(format!("/proc/{monitor}/task/{monitor}/children")).unwrap();
        (children.split_whitespace().count() == 1).then_some(())
    });
    ddock.ok(&["rm", "-f", "many"]);
}
