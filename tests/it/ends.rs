//! What ends a client: whatever it is there for goes, and it goes too, and the container that runs for it.

use std::process::Stdio;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

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
    /// Likewise, while the container has nothing to say.
    ReaderOfNothing,
    /// Of stdin, a pipe.
    Writer,
    Terminal,
    /// The process group gets SIGHUP, and the terminal stays.
    HangUp,
    Monitor,
    Container,
}

use Loss::{Container, HangUp, Monitor, Reader, ReaderOfNothing, Terminal as Tty, Writer};

/// The flags of a container, the client that is beside it if it does not run in the foreground, and the client's exit code
/// for each loss. A container in the foreground ends with its client.
type Row = (
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static [(Loss, i32)]],
);

/// A client that is connected to the container's output. As Docker's it goes on with a command that says nothing more.
const ATTACHED: &[(Loss, i32)] = &[
    (Reader, 1),
    (Tty, 129),
    (HangUp, 129),
    (Monitor, 125),
    (Container, 137),
];

/// A reader that leaves ends who only shows as SIGPIPE does.
const FOLLOWING: &[(Loss, i32)] = &[
    (Reader, 141),
    (ReaderOfNothing, 141),
    (Tty, 129),
    (HangUp, 129),
    (Monitor, 0),
    (Container, 0),
];

const WAITING: &[(Loss, i32)] = &[(Tty, 129), (HangUp, 129), (Monitor, 125), (Container, 0)];

/// Its command ends with its input.
const FED: &[(Loss, i32)] = &[(Writer, 0)];

const ROWS: &[Row] = &[
    (&[], &[], &[ATTACHED]),
    (&["-t"], &[], &[ATTACHED]),
    (&["-i"], &[], &[ATTACHED, FED]),
    (&["-it"], &[], &[ATTACHED]),
    (&["--rm"], &[], &[ATTACHED]),
    (&["--rm", "-t"], &[], &[ATTACHED]),
    (&["--rm", "-i"], &[], &[ATTACHED, FED]),
    (&["--rm", "-it"], &[], &[ATTACHED]),
    (&["--rm", "-u", "1001"], &[], &[&[(Reader, 1)]]),
    (
        &["--rm", "-i", "-a", "stdin"],
        &[],
        &[&[(Tty, 129), (HangUp, 129)], FED],
    ),
    (&["-d"], &["attach", "--no-stdin"], &[ATTACHED]),
    (&["-d"], &["attach"], &[ATTACHED]),
    (&["-d", "-t"], &["attach"], &[ATTACHED]),
    (&["-d", "-i"], &["attach"], &[ATTACHED]),
    (&["-d", "-it"], &["attach"], &[ATTACHED]),
    (&["-d"], &["logs", "-f"], &[FOLLOWING]),
    (&["-d", "-i"], &["logs", "-f"], &[FOLLOWING]),
    (&["-d", "-it"], &["logs", "-f"], &[FOLLOWING]),
    (&["-d"], &["wait"], &[WAITING]),
    (&["-d", "-it"], &["wait"], &[WAITING]),
];

/// How soon a client ends: within two seconds where nothing else goes on; tests run side by side.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_client_ends_with_its_reader_its_terminal_or_its_container() {
    let (ddock, image) = Ddock::with_busybox();
    let cases: Vec<_> = ROWS
        .iter()
        .flat_map(|(flags, client, ends)| {
            let ends = ends.iter().copied().flatten();
            ends.map(move |end| (*flags, *client, *end))
        })
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
    let run = [
        &["run", "--name", &name],
        flags,
        &[image, "sh", "-c", script_for(loss), &mark],
    ]
    .concat();
    let is_foreground = client.is_empty();
    let command = if is_foreground {
        ddock.command(&run)
    } else {
        ddock.ok(&run);
        ddock.command(&[client, &[&name]].concat())
    };
    let (reader, to_reader) = std::io::pipe().unwrap();
    let (from_writer, writer) = std::io::pipe().unwrap();
    let stdout = matches!(loss, Reader | ReaderOfNothing).then(|| Stdio::from(to_reader));
    let stdin = (loss == Writer).then(|| Stdio::from(from_writer));
    let mut terminal = Terminal::start_with(&command, 24, 80, (stdin, stdout));
    drop(command);
    let of_container = wait_for(&case, || {
        processes_with(&mark)
            .into_iter()
            .find(|pid| name_of(*pid) == "sh")
    });
    let is_quiet = client == ["wait"] || flags.contains(&"stdin") || loss == Writer;
    match loss {
        Reader | ReaderOfNothing => {
            let mut said = [0; 4];
            std::io::Read::read_exact(&mut &reader, &mut said).unwrap();
        }
        // Everything is connected.
        _ if !is_quiet => drop(terminal.expect("said")),
        _ => wait_until_it_waits(terminal.pid()),
    }
    let client_pid = Pid::from_raw(i32::try_from(terminal.pid()).unwrap()).unwrap();
    let begun = Instant::now();
    match loss {
        Reader | ReaderOfNothing => drop(reader),
        Writer => drop(writer),
        Tty => terminal.hang_up(),
        HangUp => kill_process_group(client_pid, Signal::HUP).unwrap(),
        Monitor => kill(parent_of(of_container)),
        Container => kill(of_container),
    }
    assert_eq!(terminal.wait(), code, "{case}");
    let ends_along = is_foreground || matches!(loss, Monitor | Container);
    if ends_along {
        wait_for(&case, || processes_with(&mark).is_empty().then_some(()));
    }
    let taken = begun.elapsed();
    assert!(taken < SOON, "{case}: {taken:?}");
    if !ends_along {
        assert_ne!(processes_with(&mark), [0; 0], "{case}");
    }
    drop(ddock.run(&["rm", "-f", &name]));
}

fn script_for(loss: Loss) -> &'static str {
    match loss {
        Writer => "cat >/dev/null; exit 0",
        ReaderOfNothing => "trap '' HUP; echo said; sleep 1000; echo woke",
        _ => "trap '' HUP; while :; do echo said; sleep 0.05; done",
    }
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
