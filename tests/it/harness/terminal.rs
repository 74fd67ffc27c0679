//! A person at a terminal: a real PTY with a program in its foreground.

use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::harness::{DEADLINE, wait_for};

pub(crate) struct Terminal {
    screen: OwnedFd,
    line: OwnedFd,
    child: Child,
    seen: String,
    read_to: usize,
}

impl Terminal {
    /// Starts a command as the leader of a new session on a terminal of this size.
    pub(crate) fn start(command: &Command, rows: u16, columns: u16) -> Terminal {
        Terminal::start_with(command, rows, columns, (None, None))
    }

    /// As [`Terminal::start`], with another stdin or stdout.
    pub(crate) fn start_with(
        command: &Command,
        rows: u16,
        columns: u16,
        (stdin, stdout): (Option<Stdio>, Option<Stdio>),
    ) -> Terminal {
        let screen = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        rustix::pty::grantpt(&screen).unwrap();
        rustix::pty::unlockpt(&screen).unwrap();
        let name = rustix::pty::ptsname(&screen, Vec::new()).unwrap();
        let line = rustix::fs::open(
            name.as_c_str(),
            OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .unwrap();
        rustix::io::fcntl_setfd(&screen, rustix::io::FdFlags::CLOEXEC).unwrap();
        set_size(&screen, rows, columns);

        // setsid(1) makes its stdin the controlling terminal; it execs, so that the child is the command itself.
        let mut session = Command::new("setsid");
        if stdin.is_none() {
            session.arg("--ctty");
        }
        session.arg(command.get_program()).args(command.get_args());
        session.env_clear();
        for (key, value) in command.get_envs() {
            session.env(key, value.unwrap_or_default());
        }
        let on_line = || Stdio::from(line.try_clone().unwrap());
        let child = session
            .stdin(stdin.unwrap_or_else(on_line))
            .stdout(stdout.unwrap_or_else(on_line))
            .stderr(on_line())
            .spawn()
            .unwrap();
        Terminal {
            screen,
            line,
            child,
            seen: String::new(),
            read_to: 0,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Closes the terminal, as the end of a connection does; the program is left to itself.
    pub(crate) fn hang_up(&mut self) {
        let nowhere = || fs_err::File::open("/dev/null").unwrap().into_parts().0;
        (self.screen, self.line) = (nowhere().into(), nowhere().into());
    }

    pub(crate) fn send(&self, keys: &str) {
        let mut rest = keys.as_bytes();
        while !rest.is_empty() {
            let written = rustix::io::write(&self.screen, rest).unwrap();
            rest = &rest[written..];
        }
    }

    /// Reads until `text` appears after what was expected before; returns all up to its end.
    ///
    /// Carriage returns are left out: how many there are depends on which of two terminals is raw.
    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(at) = self.seen[self.read_to..].find(text) {
                let from = self.read_to;
                self.read_to += at + text.len();
                return self.seen[from..self.read_to].to_owned();
            }
            assert!(
                Instant::now() < end && self.read_more(),
                "no `{text}` on the screen; all of it:\n{}",
                self.seen
            );
        }
    }

    /// Reads what there is; false when nothing came for a second and the program ended.
    fn read_more(&mut self) -> bool {
        let mut poll = [PollFd::new(&self.screen, PollFlags::IN)];
        let second = Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        if rustix::event::poll(&mut poll, Some(&second)).unwrap() == 0 {
            return self.child.try_wait().unwrap().is_none();
        }
        let mut buffer = [0; 4096];
        match rustix::io::read(&self.screen, &mut buffer) {
            Ok(length) => {
                let text = String::from_utf8_lossy(&buffer[..length]);
                self.seen.extend(text.chars().filter(|c| *c != '\r'));
                length > 0
            }
            Err(_) => false, // EIO: the last process closed the terminal
        }
    }

    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        set_size(&self.screen, rows, columns);
    }

    /// Returns true when the terminal echoes and edits lines, as a shell left it.
    pub(crate) fn is_cooked(&self) -> bool {
        use rustix::termios::LocalModes;
        let modes = rustix::termios::tcgetattr(&self.line).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Waits until every key goes to the program.
    #[track_caller]
    pub(crate) fn expect_raw(&self) {
        wait_for("the terminal to be raw", || {
            (!self.is_cooked()).then_some(())
        });
    }

    /// Waits for the end and returns the exit code, or 128 + n for a signal.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let end = Instant::now() + DEADLINE;
        loop {
            // Drained all along: a full terminal would keep the program from ending.
            if let Some(status) = self.child.try_wait().unwrap() {
                while self.has_more() && self.read_more() {}
                return status
                    .code()
                    .unwrap_or_else(|| 128 + status.signal().unwrap());
            }
            assert!(
                Instant::now() < end,
                "it does not end; the screen:\n{}",
                self.seen
            );
            if self.has_more() {
                self.read_more();
            }
        }
    }

    fn has_more(&self) -> bool {
        let mut poll = [PollFd::new(&self.screen, PollFlags::IN)];
        let moment = Timespec {
            tv_sec: 0,
            tv_nsec: 10_000_000,
        };
        rustix::event::poll(&mut poll, Some(&moment)).unwrap() > 0
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn set_size(terminal: &OwnedFd, rows: u16, columns: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(terminal, size).unwrap();
}
