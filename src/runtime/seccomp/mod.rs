//! Compiles `linux.seccomp` of the spec into a program of classic BPF.
//!
//! The program finds the architecture, then the system call by binary search over ranges of numbers with the same
//! answer, then compares arguments where an answer depends on them.

mod compare;
mod tables;

use crate::sys::seccomp::{self, Instruction};
use anyhow::{Context, Result, bail, ensure};
use compare::{ja, jump, load, ret};
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompFilterFlag as Flag,
};
use std::collections::BTreeMap;
use tables::{Abi, Table};

/// Offsets into `struct seccomp_data` (linux/seccomp.h).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// linux/seccomp.h, `SECCOMP_RET_*`: the low 16 bits are the action's data.
const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_ERRNO: u32 = 0x0005_0000;

/// A filter, compiled.
#[derive(Debug)]
pub(crate) struct Filter {
    program: Vec<Instruction>,
    flags: libc::c_ulong,
}

/// What a system call gets: the first rule whose arguments match, or else the default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Answer {
    rules: Vec<(Vec<LinuxSeccompArg>, u32)>,
    otherwise: u32,
}

impl Filter {
    /// Compiles `seccomp`; names that no table knows are left out, as libseccomp does.
    pub(crate) fn compile(seccomp: &LinuxSeccomp) -> Result<Self> {
        let default = action(seccomp.default_action(), seccomp.default_errno_ret())?;
        let abis = tables::abis(seccomp.architectures().as_deref().unwrap_or_default());
        let mut program = vec![load(ARCHITECTURE)];
        for machine in tables::machines(&abis) {
            let mut section = vec![load(NUMBER)];
            section.extend(search(&ranges(seccomp, &abis, machine, default)?));
            program.push(jump(compare::JEQ, machine, 1, 0));
            program.push(ja(section.len())?);
            program.extend(section);
        }
        program.push(ret(RET_KILL_PROCESS));
        Ok(Self {
            program,
            flags: flags(seccomp)?,
        })
    }

    pub(crate) fn load(&self) -> Result<()> {
        seccomp::load(&self.program, self.flags).context("loading the seccomp filter")
    }
}

fn flags(seccomp: &LinuxSeccomp) -> Result<libc::c_ulong> {
    let mut flags = 0;
    for flag in seccomp.flags().iter().flatten() {
        flags |= match flag {
            // One thread: there is none to synchronise with.
            Flag::SeccompFilterFlagTsync => 0,
            Flag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
            Flag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            other @ Flag::SeccompFilterFlagWaitKillableRecv => {
                bail!("the seccomp flag `{other}` is not there yet")
            }
        };
    }
    Ok(flags)
}

/// Returns the value that a filter returns for `action`; EPERM if it has no errno.
fn action(action: Action, errno: Option<u32>) -> Result<u32> {
    let data = errno.unwrap_or(libc::EPERM.cast_unsigned());
    ensure!(
        data <= 0xffff,
        "the errno {data} of a seccomp rule is out of range"
    );
    Ok(match action {
        Action::ScmpActKill | Action::ScmpActKillThread => 0,
        Action::ScmpActKillProcess => RET_KILL_PROCESS,
        Action::ScmpActTrap => 0x0003_0000,
        Action::ScmpActErrno => RET_ERRNO | data,
        Action::ScmpActTrace => 0x7ff0_0000 | data,
        Action::ScmpActLog => 0x7ffc_0000,
        Action::ScmpActAllow => 0x7fff_0000,
        Action::ScmpActNotify => bail!("the seccomp action `SCMP_ACT_NOTIFY` is not there yet"),
    })
}

/// Returns where each range of numbers of `machine` starts, and its answer; the first starts at 0.
fn ranges(
    seccomp: &LinuxSeccomp,
    abis: &[Abi],
    machine: u32,
    default: u32,
) -> Result<Vec<(u32, Answer)>> {
    let always = |otherwise| Answer {
        rules: Vec::new(),
        otherwise,
    };
    let mut ranges = vec![(0, always(RET_KILL_PROCESS))];
    for abi in abis.iter().filter(|abi| abi.machine == machine) {
        let answers = answers(seccomp, &Table::of(abi), default)?;
        push(&mut ranges, abi.offset, always(default));
        for (number, answer) in &answers {
            push(&mut ranges, abi.offset + number, answer.clone());
            push(&mut ranges, abi.offset + number + 1, always(default));
        }
        // A program that asks for a newer call must hear that there is none, and take the older (runc does the same).
        let last = answers.last_key_value().map_or(0, |(number, _)| *number);
        if default & 0xffff_0000 == RET_ERRNO {
            let missing = RET_ERRNO | libc::ENOSYS.cast_unsigned();
            push(&mut ranges, abi.offset + last + 1, always(missing));
        }
    }
    ranges.dedup_by(|later, earlier| later.1 == earlier.1);
    Ok(ranges)
}

fn push(ranges: &mut Vec<(u32, Answer)>, start: u32, answer: Answer) {
    ranges.pop_if(|(last, _)| *last == start);
    ranges.push((start, answer));
}

fn answers(seccomp: &LinuxSeccomp, table: &Table, default: u32) -> Result<BTreeMap<u32, Answer>> {
    let mut answers = BTreeMap::<u32, Answer>::new();
    for rule in seccomp.syscalls().iter().flatten() {
        let action = action(rule.action(), rule.errno_ret())?;
        let conditions = alternatives(rule.args().as_deref().unwrap_or_default())?;
        for number in rule.names().iter().filter_map(|name| table.number(name)) {
            let answer = answers.entry(number).or_insert_with(|| Answer {
                rules: Vec::new(),
                otherwise: default,
            });
            let found = conditions
                .iter()
                .map(|arguments| (arguments.clone(), action));
            answer.rules.extend(found);
        }
    }
    for answer in answers.values_mut() {
        // What holds whatever the arguments are leaves nothing to compare, as with libseccomp.
        if let Some((_, action)) = answer
            .rules
            .iter()
            .find(|(arguments, _)| arguments.is_empty())
        {
            answer.otherwise = *action;
            answer.rules.clear();
        }
    }
    Ok(answers)
}

/// All arguments must match, but several conditions on the same one are a rule each (runc and Docker do so).
fn alternatives(arguments: &[LinuxSeccompArg]) -> Result<Vec<Vec<LinuxSeccompArg>>> {
    ensure!(
        arguments.iter().all(|argument| argument.index() < 6),
        "a seccomp rule names an argument beyond the sixth"
    );
    let repeats = arguments.iter().enumerate().any(|(place, argument)| {
        arguments[..place]
            .iter()
            .any(|earlier| earlier.index() == argument.index())
    });
    Ok(if repeats {
        arguments.iter().map(|argument| vec![*argument]).collect()
    } else {
        vec![arguments.to_vec()]
    })
}

/// Finds the range that the number belongs to, and answers.
fn search(ranges: &[(u32, Answer)]) -> Vec<Instruction> {
    if let [(_, answer)] = ranges {
        return compare::answer(&answer.rules, answer.otherwise);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (below, above) = (search(low), search(high));
    let mut code = match u8::try_from(below.len()) {
        Ok(distance) => vec![jump(compare::JGE, high[0].0, distance, 0)],
        Err(_) => vec![
            jump(compare::JGE, high[0].0, 0, 1),
            compare::forward(below.len()),
        ],
    };
    code.extend(below);
    code.extend(above);
    code
}

#[cfg(test)]
mod tests;
