//! Signals by number, the real-time ones too, and the names that Docker gives them.
#![allow(unsafe_code, reason = "rustix and nix know no real-time signals")]

use nix::libc;
use nix::sys::signal::{SigHandler, Signal};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The first real-time signal as the C library counts, which keeps those before it to itself; Docker's number for every image.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// Returns the number of a signal given by name, with or without `SIG` and in any case, or by number.
pub(crate) fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let is_real_time = |number: &i32| (RTMIN..=RTMAX).contains(number);
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return offset(rest, '+').map(|n| RTMIN + n).filter(is_real_time);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return offset(rest, '-').map(|n| RTMAX - n).filter(is_real_time);
    }
    let named = match name {
        "CLD" => Some(Signal::SIGCHLD),
        "POLL" => Some(Signal::SIGIO),
        "IOT" => Some(Signal::SIGABRT),
        _ => format!("SIG{name}").parse().ok(),
    };
    named.map(|signal| signal as i32)
}

fn offset(text: &str, sign: char) -> Option<i32> {
    if text.is_empty() {
        return Some(0);
    }
    let digits = text.strip_prefix(sign)?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

/// Lets a write beyond the limit of a file's size be an error of that write, and not the end of the process (`setrlimit(2)`).
/// A command that is executed gets its own way back with all other signals.
pub(crate) fn outlive_file_size_limit() {
    // SAFETY: SIG_IGN is no handler: no code of ours runs in a signal.
    let ignored = unsafe { nix::sys::signal::signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
    ignored.expect("SIGXFSZ can be ignored");
}

/// Sends a signal to the process that `pidfd` names (`pidfd_send_signal(2)`); that it has ended already is no error.
pub(crate) fn send(pidfd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: no memory is passed: without an info the kernel makes up the one that kill(2) would.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            number,
            no_info,
            0,
        )
    };
    if result == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        error => Err(error),
    }
}

/// Tells whether this process ignores the signal, as its caller may have had it (`nohup`).
pub(crate) fn is_ignored(signal: Signal) -> io::Result<bool> {
    // SAFETY: sigaction is plain data, for which zero is valid.
    let mut found: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: a null action asks only for what there is, which is written to `found`.
    let result = unsafe { libc::sigaction(signal as i32, std::ptr::null(), &raw mut found) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(found.sa_sigaction == libc::SIG_IGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [
            ("9", Some(9)),
            ("KILL", Some(9)),
            ("SIGKILL", Some(9)),
            ("sigterm", Some(15)),
            ("Usr1", Some(10)),
            ("CLD", Some(17)),
            ("RTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-14", Some(50)),
            ("RTMAX", Some(64)),
            ("64", Some(64)),
            ("RTMIN+31", None),
            ("RTMIN-1", None),
            ("RTMIN+", None),
            ("0", None),
            ("65", None),
            ("-9", None),
            ("", None),
            ("SIG", None),
            ("SIGSIGKILL", None),
            ("HANGUP", None),
        ] {
            assert_eq!(parse(text), number, "{text}");
        }
    }
}
