//! How many system calls a command makes: a cost that is the same on a busy machine.

use std::process::Command;

use crate::harness::ddock::output;
use crate::harness::scratch::Scratch;

/// System calls of a command and all its processes, and `strace`'s table of them.
pub(crate) struct Calls {
    pub(crate) number: usize,
    pub(crate) table: String,
}

impl Calls {
    /// Runs `command` to its end, which must be a success.
    pub(crate) fn of(command: &Command) -> Calls {
        let scratch = Scratch::new();
        let counts = scratch.path().join("counts");
        let mut strace = Command::new("strace");
        // A build for debugging asks of each descriptor whether it is open, before it closes it.
        strace.args(["-f", "-c", "-e", "trace=!fcntl", "-o"]);
        strace.arg(&counts);
        strace.arg(command.get_program()).args(command.get_args());
        strace.env_clear();
        for (name, value) in command.get_envs() {
            strace.env(name, value.unwrap());
        }
        output(&mut strace).exits(0);
        let table = fs_err::read_to_string(&counts).unwrap();
        let total = table.lines().last().unwrap();
        assert!(total.ends_with("total"), "{table}");
        // % time, seconds, usecs/call, calls, errors, `total`
        let number = total.split_whitespace().nth(3).unwrap().parse().unwrap();
        Calls { number, table }
    }

    /// Fails if there are more than `most`.
    #[track_caller]
    pub(crate) fn at_most(&self, most: usize, what: &str) {
        let Calls { number, table } = self;
        assert!(
            *number <= most,
            "{what}: {number} system calls, at most {most}\n{table}"
        );
    }
}
