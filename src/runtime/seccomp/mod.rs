//! Compiles `linux.seccomp` of the spec into a program of classic BPF.
//!
//! The program finds the architecture, then the system call by binary search over ranges of numbers with the same
//! answer, then looks at arguments where an answer depends on them.

mod abi;
mod arguments;
mod assembler;
mod compiled;
mod numbers;
mod profile;
mod tree;

pub(crate) use compiled::PROFILE as COMPILED_PROFILE;

use crate::sys::seccomp::{self, Instruction};
use abi::Abi;
use anyhow::{Context, Result, bail, ensure};
use assembler::{Assembler, Place, Test};
use numbers::Call;
use profile::{Action, Condition, Flag, Profile};
use tree::tree;

/// Offsets into `struct seccomp_data` (linux/seccomp.h).
const NUMBER: u32 = 0;
const AUDIT: u32 = 4;

/// linux/seccomp.h, `SECCOMP_RET_*`: the low 16 bits are the action's data.
const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const MISSING: u32 = RET_ERRNO | libc::ENOSYS.cast_unsigned();

/// From here on numbers are the machine's own (asm/unistd.h, `__ARM_NR_BASE`): a call above is none the newer for it.
const PRIVATE: u32 = 0x000f_0000;

/// A filter, compiled.
#[derive(Debug)]
pub(crate) struct Filter {
    program: Vec<Instruction>,
    flags: libc::c_ulong,
}

impl Filter {
    /// Compiles the text of a profile; names that no machine has are left out, as libseccomp does.
    pub(crate) fn compile(text: &str) -> Result<Self> {
        if cfg!(target_arch = "x86_64") && text == compiled::PROFILE {
            return Ok(Self {
                program: compiled::program(),
                flags: 0,
            });
        }
        Self::make(&serde_json::from_str(text)?)
    }

    fn make(profile: &Profile) -> Result<Self> {
        let default = action(profile.default_action, profile.default_errno_ret)?;
        let rules = Rules::of(profile, default)?;
        let architectures = &profile.architectures;
        if let Some(other) = architectures
            .iter()
            .find(|it| !it.starts_with("SCMP_ARCH_"))
        {
            bail!("`{other}` is no architecture");
        }
        let abis = abi::abis(architectures);
        let mut code = Assembler::default();
        let mut next = code.answer(RET_KILL_PROCESS);
        for abis in abis.chunk_by(|one, other| one.audit == other.audit).rev() {
            let ranges = rules.ranges(abis);
            let search = tree(&mut code, &ranges, &mut |code, answer| {
                rules.emit(code, answer)
            });
            let search = code.load(NUMBER, search);
            next = code.test(Test::Equal, abis[0].audit, search, next);
        }
        code.load(AUDIT, next);
        Ok(Self {
            program: code.finish(),
            flags: flags(profile),
        })
    }

    /// Returns how many instructions it has.
    pub(crate) fn length(&self) -> usize {
        self.program.len()
    }

    pub(crate) fn load(&self) -> Result<()> {
        seccomp::load(&self.program, self.flags).context("loading the seccomp filter")
    }
}

fn flags(profile: &Profile) -> libc::c_ulong {
    let flags = profile.flags.iter().map(|flag| match flag {
        // One thread: there is none to synchronise with.
        Flag::Tsync => 0,
        Flag::Log => libc::SECCOMP_FILTER_FLAG_LOG,
        Flag::SpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    });
    flags.fold(0, |flags, flag| flags | flag)
}

/// Returns the value that a filter returns for `action`; EPERM if it has no errno.
fn action(action: Action, errno: Option<u32>) -> Result<u32> {
    let data = errno.unwrap_or(libc::EPERM.cast_unsigned());
    ensure!(
        data <= 0xffff,
        "the errno {data} of a seccomp rule is out of range"
    );
    Ok(match action {
        Action::KillThread => 0,
        Action::KillProcess => RET_KILL_PROCESS,
        Action::Trap => 0x0003_0000,
        Action::Errno => RET_ERRNO | data,
        Action::Trace => 0x7ff0_0000 | data,
        Action::Log => 0x7ffc_0000,
        Action::Allow => 0x7fff_0000,
    })
}

/// Tells what calls get that the profile could not know of: a program that asks for a newer call must hear that there
/// is none, and take the older (runc does the same).
fn newer(default: Action) -> bool {
    // What is allowed, or decided by a tracer, goes to the kernel, which knows best.
    !matches!(default, Action::Allow | Action::Log | Action::Trace)
}

/// The rules of a spec, found by their calls.
struct Rules {
    list: Vec<Rule>,
    /// Each call with the place of a rule that names it, in the rules' order.
    named: Vec<(&'static Call, usize)>,
    default: u32,
    refuses_newer: bool,
}

struct Rule {
    /// Any of these must hold, each with all its conditions; none: always.
    alternatives: Vec<Vec<Condition>>,
    action: u32,
}

/// What a system call gets: as the first of these rules that holds, or else the last word.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    rules: Vec<usize>,
    /// Whether only the low halves of arguments are compared.
    is_narrow: bool,
    otherwise: u32,
}

impl Rules {
    fn of(profile: &Profile, default: u32) -> Result<Self> {
        let mut rules = Self {
            list: Vec::new(),
            named: Vec::new(),
            default,
            refuses_newer: newer(profile.default_action),
        };
        for rule in &profile.syscalls {
            let calls = rule.names.iter().filter_map(|name| Call::find(name));
            let place = rules.list.len();
            rules.named.extend(calls.map(|call| (call, place)));
            rules.list.push(Rule {
                alternatives: alternatives(&rule.args)?,
                action: action(rule.action, rule.errno_ret)?,
            });
        }
        Ok(rules)
    }

    /// Returns where each range of numbers starts, and its answer, for ABIs of one architecture.
    fn ranges(&self, abis: &[Abi]) -> Vec<(u32, Answer)> {
        let mut ranges = Vec::new();
        for abi in abis {
            self.add(*abi, &mut ranges);
        }
        // Without rules of its own, x32 is another architecture.
        if let [only] = abis
            && only.audit == abi::AUDIT_X86_64
        {
            push(&mut ranges, abi::X32_BIT, Answer::always(RET_KILL_PROCESS));
        }
        ranges.dedup_by(|later, earlier| later.1 == earlier.1);
        ranges
    }

    fn add(&self, abi: Abi, ranges: &mut Vec<(u32, Answer)>) {
        let named = self.named.iter();
        let mut calls: Vec<(u32, usize)> = named
            .filter_map(|(call, rule)| Some((call.number(abi.machine)?, *rule)))
            .collect();
        calls.sort_unstable();
        let mut common = calls.iter().filter(|(number, _)| *number < PRIVATE);
        let last = common.next_back().map(|(number, _)| *number);
        let unnamed = |number| match last {
            Some(last) if number > last && self.refuses_newer => Answer::always(MISSING),
            _ => Answer::always(self.default),
        };
        push(ranges, abi.offset, unnamed(0));
        for calls in calls.chunk_by(|one, other| one.0 == other.0) {
            let number = calls[0].0;
            push(ranges, abi.offset + number, self.answer(calls, abi));
            push(ranges, abi.offset + number + 1, unnamed(number + 1));
        }
    }

    fn answer(&self, calls: &[(u32, usize)], abi: Abi) -> Answer {
        // A rule that does what is done anyway is none (runc).
        let rules = calls.iter().map(|(_, rule)| *rule);
        let rules = rules.filter(|rule| self.list[*rule].action != self.default);
        let mut answer = Answer::always(self.default);
        for rule in rules {
            // What holds whatever the arguments are leaves nothing to compare, as with libseccomp.
            if self.list[rule].alternatives.is_empty() {
                return Answer::always(self.list[rule].action);
            }
            answer.rules.push(rule);
            answer.is_narrow = abi.machine.is_narrow();
        }
        answer
    }

    fn emit(&self, code: &mut Assembler, answer: &Answer) -> Place {
        let rules = answer.rules.iter().map(|rule| &self.list[*rule]);
        let rules: Vec<arguments::Rule<'_>> = rules
            .flat_map(|rule| {
                let alternatives = rule.alternatives.iter();
                alternatives.map(|conditions| (conditions.as_slice(), rule.action))
            })
            .collect();
        let otherwise = answer.otherwise;
        arguments::answer(code, &rules, otherwise, answer.is_narrow)
    }
}

impl Answer {
    fn always(otherwise: u32) -> Self {
        Self {
            rules: Vec::new(),
            is_narrow: false,
            otherwise,
        }
    }
}

fn push(ranges: &mut Vec<(u32, Answer)>, start: u32, answer: Answer) {
    ranges.pop_if(|(last, _)| *last == start);
    ranges.push((start, answer));
}

/// All arguments must match, but several conditions on the same one are a rule each (runc and Docker do so).
fn alternatives(conditions: &[Condition]) -> Result<Vec<Vec<Condition>>> {
    ensure!(
        conditions.iter().all(|condition| condition.index < 6),
        "a seccomp rule names an argument beyond the sixth"
    );
    let repeats = conditions.iter().enumerate().any(|(place, condition)| {
        let mut earlier = conditions[..place].iter();
        earlier.any(|earlier| earlier.index == condition.index)
    });
    Ok(match conditions {
        [] => Vec::new(),
        _ if repeats => conditions
            .iter()
            .map(|condition| vec![*condition])
            .collect(),
        _ => vec![conditions.to_vec()],
    })
}

#[cfg(test)]
mod tests;
