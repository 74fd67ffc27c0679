//! Rights: what a process has no need of any more is given up, for good.

use crate::sys::seccomp::{self, Instruction};
use anyhow::{Context, Result};
use nix::libc;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities,
    set_no_new_privs,
};

/// What a process still needs.
pub(crate) struct Needs {
    pub(crate) capabilities: CapabilitySet,
    /// System calls beside those of a loop that computes and ends (`ALWAYS`).
    pub(crate) calls: &'static [libc::c_long],
    /// It opens files and directories, to read them.
    pub(crate) reads_files: bool,
}

/// Gives up all capabilities, privileges of programs to be executed, and system calls but `needs`: what is not in there
/// fails with EPERM from now on. Needs a process with one thread.
///
/// Root without capabilities owns root's files still; that is why files can only be opened to be read, if at all.
pub(crate) fn give_up_rights(needs: &Needs) -> Result<()> {
    // Without it a filter takes CAP_SYS_ADMIN, and with it nothing that could be executed has more rights.
    set_no_new_privs(true).context("setting no_new_privs")?;
    let own = capabilities(None).context("reading the capabilities")?;
    let kept = own.permitted & needs.capabilities;
    clear_ambient_capability_set().context("clearing the ambient capabilities")?;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).context("giving up capabilities")?;
    match seccomp::load(&program(needs), 0) {
        // A kernel without filters.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        other => other.context("loading the seccomp filter"),
    }
}

/// What any process of ours may do: memory, time, signals' return, closing, waiting for events, ending.
#[rustfmt::skip]
const ALWAYS: &[libc::c_long] = &[
    libc::SYS_epoll_pwait, libc::SYS_clock_gettime, libc::SYS_close, libc::SYS_epoll_ctl, libc::SYS_getrandom,
    libc::SYS_read, libc::SYS_write, libc::SYS_brk, libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mremap,
    libc::SYS_mprotect, libc::SYS_madvise, libc::SYS_futex, libc::SYS_rt_sigreturn, libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction, libc::SYS_sigaltstack, libc::SYS_restart_syscall, libc::SYS_sched_yield,
    libc::SYS_ppoll, libc::SYS_getpid, libc::SYS_gettid, libc::SYS_exit, libc::SYS_exit_group,
    #[cfg(target_arch = "x86_64")] libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")] libc::SYS_poll,
];

/// What comes with reading files, beside opening them.
#[rustfmt::skip]
const READING: &[libc::c_long] = &[
    libc::SYS_statx, libc::SYS_newfstatat, libc::SYS_fstat, libc::SYS_getdents64, libc::SYS_readlinkat,
    libc::SYS_lseek, libc::SYS_fcntl, libc::SYS_flock, libc::SYS_pread64,
    #[cfg(target_arch = "x86_64")] libc::SYS_stat,
    #[cfg(target_arch = "x86_64")] libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")] libc::SYS_readlink,
];

/// Calls that open files, with the place of their flags among the arguments.
const OPENING: &[(libc::c_long, u32)] = &[
    (libc::SYS_openat, 2),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, 1),
];

/// Flags with which more than reading is possible.
const NOT_READING: u32 =
    (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | TMPFILE).cast_unsigned();

/// `O_TMPFILE` without `O_DIRECTORY`, which reading a directory has too.
const TMPFILE: libc::c_int = libc::O_TMPFILE & !libc::O_DIRECTORY;

// linux/bpf_common.h: class, size or operation, and mode or source.
const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Offsets into `struct seccomp_data` (linux/seccomp.h).
const NUMBER: u32 = 0;
const MACHINE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// linux/audit.h, `AUDIT_ARCH_*`: numbers of calls mean this machine's.
const OWN: u32 = if cfg!(target_arch = "aarch64") {
    0xc000_00b7
} else {
    0xc000_003e
};

const ALLOW: Instruction = step(RETURN, 0x7fff_0000, 0, 0);
const REFUSE: Instruction = step(RETURN, 0x0005_0000 | libc::EPERM.cast_unsigned(), 0, 0);

const fn step(code: u16, operand: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction {
        code,
        if_true,
        if_false,
        operand,
    }
}

/// Returns the filter: a list, because the compiler of profiles is for containers, and forty comparisons are as quick as
/// its tree.
fn program(needs: &Needs) -> Vec<Instruction> {
    let reading = if needs.reads_files { READING } else { &[] };
    let opening = if needs.reads_files { OPENING } else { &[] };
    let calls = [ALWAYS, needs.calls, reading].concat();
    let mut program = vec![
        step(LOAD, MACHINE, 0, 0),
        step(EQUAL, OWN, 1, 0),
        REFUSE,
        step(LOAD, NUMBER, 0, 0),
    ];
    for (call, flags) in opening {
        program.push(step(EQUAL, number(*call), 0, 4));
        // The lower half of the argument, which is the first on little-endian machines.
        program.push(step(LOAD, ARGUMENTS + 8 * flags, 0, 0));
        program.push(step(ANY_BIT, NOT_READING, 0, 1));
        program.extend([REFUSE, ALLOW]);
    }
    for call in calls {
        program.push(step(EQUAL, number(call), 0, 1));
        program.push(ALLOW);
    }
    program.push(REFUSE);
    program
}

fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).expect("numbers of calls are small")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::seccomp::Instruction;

    /// Runs the program as the kernel would.
    fn answer(
        program: &[Instruction],
        machine: u32,
        call: libc::c_long,
        arguments: [u32; 3],
    ) -> bool {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let Instruction {
                code,
                operand,
                if_true,
                if_false,
            } = program[at];
            let holds = match code {
                LOAD => {
                    loaded = match operand {
                        NUMBER => number(call),
                        MACHINE => machine,
                        offset => arguments[((offset - ARGUMENTS) / 8) as usize],
                    };
                    at += 1;
                    continue;
                }
                RETURN => return operand == ALLOW.operand,
                EQUAL => loaded == operand,
                _ => loaded & operand != 0,
            };
            at += 1 + usize::from(if holds { if_true } else { if_false });
        }
    }

    #[test]
    fn only_what_is_needed_passes() {
        let reads = program(&Needs {
            capabilities: CapabilitySet::empty(),
            calls: &[libc::SYS_sendto],
            reads_files: true,
        });
        let serves = program(&Needs {
            capabilities: CapabilitySet::empty(),
            calls: &[libc::SYS_sendto],
            reads_files: false,
        });
        let directory = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
        for (call, flags, passes) in [
            (libc::SYS_sendto, 0, [true, true]),
            (libc::SYS_close, 0, [true, true]),
            (libc::SYS_flock, 0, [true, false]),
            (libc::SYS_openat, libc::O_RDONLY, [true, false]),
            (libc::SYS_openat, directory, [true, false]),
            (libc::SYS_openat, libc::O_WRONLY, [false, false]),
            (libc::SYS_openat, libc::O_RDWR, [false, false]),
            (libc::SYS_openat, libc::O_TRUNC, [false, false]),
            (libc::SYS_openat, libc::O_CREAT, [false, false]),
            (libc::SYS_openat, libc::O_TMPFILE, [false, false]),
            (libc::SYS_openat2, 0, [false, false]),
            (libc::SYS_execve, 0, [false, false]),
            (libc::SYS_clone, 0, [false, false]),
            (libc::SYS_setns, 0, [false, false]),
            (libc::SYS_ptrace, 0, [false, false]),
            (libc::SYS_unlinkat, 0, [false, false]),
        ] {
            let arguments = [0, 0, flags.cast_unsigned()];
            let said = [&reads, &serves].map(|it| answer(it, OWN, call, arguments));
            assert_eq!(said, passes, "{call} {flags}");
            assert!(!answer(&reads, OWN + 1, call, arguments));
        }
    }
}
