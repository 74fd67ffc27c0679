//! What ends a client: whatever it is there for goes, and it goes too, and the container that runs for it.

use std::process::Stdio;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::harness::ddock::Ddock;
use crate::harness::host::{name_of, parent_of, processes_with, send_signal, unique_seconds};
use crate::harness::terminal::Terminal;
use crate::harness::wait_for;

/// What goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// Of stdout, a pipe.
    Reader,
    Terminal,
    /// The process group gets SIGHUP, and the terminal stays.
    HangUp,
    Monitor,
    Container,
}

use Loss::{Container, HangUp, Monitor, Reader, Terminal as Tty};

/// The flags of a container, the client that is beside it if it does not run in the foreground, and the client's exit code
/// for each loss. A container in the foreground ends with its client.
type Row = (
    &'static [&'static str],
    &'static [&'static str],
    &'static [(Loss, i32)],
);

const ATTACHED: &[(Loss, i32)] = &[
    (Reader, 1),
    (Tty, 129),
    (HangUp, 129),
    (Monitor, 125),
    (Container, 137),
];

const ROWS: &[Row] = &[
    (&[], &[], ATTACHED),
    (&["--rm"], &[], ATTACHED),
    (&["--rm", "-i"], &[], ATTACHED),
    (&["--rm", "-t"], &[], ATTACHED),
    (&["-it"], &[], ATTACHED),
    (&["--rm", "-u", "1001"], &[], &[(Reader, 1)]),
    (
        &["--rm", "-i", "-a", "stdin"],
        &[],
        &[(Tty, 129), (HangUp, 129)],
    ),
    (&["-d"], &["attach", "--no-stdin"], ATTACHED),
    (&["-d", "-i"], &["attach"], ATTACHED),
    (&["-d", "-it"], &["attach"], ATTACHED),
    (
        &["-d"],
        &["logs", "-f"],
        // A reader that leaves is no failure of who only shows.
        &[
            (Reader, 0),
            (Tty, 129),
            (HangUp, 129),
            (Monitor, 0),
            (Container, 0),
        ],
    ),
    (
        &["-d"],
        &["wait"],
        &[(Tty, 129), (HangUp, 129), (Monitor, 125), (Container, 0)],
    ),
];

#[test]
fn a_client_ends_with_its_reader_its_terminal_or_its_container() {
    let (ddock, image) = Ddock::with_busybox();
    let cases: Vec<_> = ROWS
        .iter()
        .flat_map(|(flags, client, ends)| ends.iter().map(move |end| (*flags, *client, *end)))
        .collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((flags, client, end)) =
                    cases.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    try_case(&ddock, &image, flags, client, *end);
                }
            });
        }
    });
    assert_eq!(ddock.ok(&["ps", "-q"]), "");
}

/// Starts a container that says something all the time and its client, takes something away and looks at how that ends.
fn try_case(
    ddock: &Ddock,
    image: &str,
    flags: &[&str],
    client: &[&str],
    (loss, code): (Loss, i32),
) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let case = format!("{flags:?} {client:?} {loss:?}");
    let name = format!("it-{number}");
    // Of the container's first process, and of nothing else.
    let mark = format!("{}-{number}", unique_seconds());
    let script = "trap '' HUP; while :; do echo said; sleep 0.05; done";
    let run = [
        &["run", "--name", &name],
        flags,
        &[image, "sh", "-c", script, &mark],
    ]
    .concat();
    let is_foreground = client.is_empty();
    let command = if is_foreground {
        ddock.command(&run)
    } else {
        ddock.ok(&run);
        ddock.command(&[client, &[&name]].concat())
    };
    let (reader, writer) = std::io::pipe().unwrap();
    let stdout = (loss == Reader).then(|| Stdio::from(writer));
    let mut terminal = Terminal::start_with(&command, 24, 80, stdout);
    drop(command);
    let of_container = wait_for(&case, || {
        processes_with(&mark)
            .into_iter()
            .find(|pid| name_of(*pid) == "sh")
    });
    let is_quiet = client == ["wait"] || flags.contains(&"stdin");
    match loss {
        Reader => {
            let mut said = [0; 4];
            std::io::Read::read_exact(&mut &reader, &mut said).unwrap();
        }
        // Everything is connected.
        _ if !is_quiet => drop(terminal.expect("said")),
        _ => wait_until_it_waits(terminal.pid()),
    }
    let client_pid = Pid::from_raw(i32::try_from(terminal.pid()).unwrap()).unwrap();
    match loss {
        Reader => drop(reader),
        Tty => terminal.hang_up(),
        HangUp => kill_process_group(client_pid, Signal::HUP).unwrap(),
        Monitor => kill(parent_of(of_container)),
        Container => kill(of_container),
    }
    assert_eq!(terminal.wait(), code, "{case}");
    let ends_along = is_foreground || matches!(loss, Monitor | Container);
    if ends_along {
        wait_for(&case, || processes_with(&mark).is_empty().then_some(()));
    } else {
        assert_ne!(processes_with(&mark), [0; 0], "{case}");
    }
    drop(ddock.run(&["rm", "-f", &name]));
}

fn kill(pid: u32) {
    send_signal(pid, Signal::KILL);
}

/// A client that prints nothing is connected once it waits for its monitor.
fn wait_until_it_waits(pid: u32) {
    wait_for("the client to wait", || {
        let call = fs_err::read_to_string(format!("/proc/{pid}/wchan")).ok()?;
        (call.contains("poll") || call.contains("skb") || call.contains("unix")).then_some(())
    });
}
