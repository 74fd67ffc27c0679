//! Which devices a container may use, as lines for v1 and as a BPF program for v2.

use crate::sys::bpf::Instruction;
use std::fmt::{self, Display};

/// Block or character device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Block,
    Character,
    /// Both.
    All,
}

/// What a rule is about: a union of the three below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access(u8);

impl Access {
    // The bits of BPF_DEVCG_ACC_* in linux/bpf.h.
    pub(crate) const MKNOD: Self = Self(1);
    pub(crate) const READ: Self = Self(2);
    pub(crate) const WRITE: Self = Self(4);
    pub(crate) const ALL: Self = Self(7);

    /// Returns the access that `rwm` or a part of it stands for (runtime-spec config-linux.md, "Allowed Device list"); `None` for other letters.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        text.chars()
            .try_fold(Self(0), |access, letter| match letter {
                'r' => Some(access.and(Self::READ)),
                'w' => Some(access.and(Self::WRITE)),
                'm' => Some(access.and(Self::MKNOD)),
                _ => None,
            })
    }

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// One rule of an ordered list, in which the last rule that mentions an access decides it.
/// What no rule mentions is as it is outside, so a list that is to shut begins with [`DeviceRule::DENY_ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceRule {
    pub(crate) allow: bool,
    pub(crate) kind: Kind,
    /// `None` for every one.
    pub(crate) major: Option<u32>,
    /// `None` for every one.
    pub(crate) minor: Option<u32>,
    pub(crate) access: Access,
}

impl DeviceRule {
    pub(crate) const DENY_ALL: Self = Self {
        allow: false,
        kind: Kind::All,
        major: None,
        minor: None,
        access: Access::ALL,
    };

    #[cfg(test)]
    /// Returns the rule that opens a character device; `minor` is `None` for all of its major number.
    pub(crate) const fn character(major: u32, minor: Option<u32>) -> Self {
        Self {
            allow: true,
            kind: Kind::Character,
            major: Some(major),
            minor,
            access: Access::ALL,
        }
    }

    #[cfg(test)]
    const fn mknod(kind: Kind) -> Self {
        Self {
            allow: true,
            kind,
            major: None,
            minor: None,
            access: Access::MKNOD,
        }
    }

    /// Returns whether this rule decides every access to every device.
    fn decides_all(&self) -> bool {
        *self
            == Self {
                allow: self.allow,
                ..Self::DENY_ALL
            }
    }
}

/// What a container may use unless it asks for more: Docker's list (moby `oci/defaults.go`), with runc's `/dev/net/tun`.
/// Nodes may be made, which opens nothing: package managers unpack them.
#[cfg(test)]
pub(crate) const DEFAULT: [DeviceRule; 13] = [
    DeviceRule::DENY_ALL,
    DeviceRule::mknod(Kind::Character),
    DeviceRule::mknod(Kind::Block),
    DeviceRule::character(1, Some(3)),    // null
    DeviceRule::character(1, Some(5)),    // zero
    DeviceRule::character(1, Some(7)),    // full
    DeviceRule::character(1, Some(8)),    // random
    DeviceRule::character(1, Some(9)),    // urandom
    DeviceRule::character(5, Some(0)),    // tty
    DeviceRule::character(5, Some(1)),    // console
    DeviceRule::character(5, Some(2)),    // ptmx
    DeviceRule::character(136, None),     // pts/*
    DeviceRule::character(10, Some(200)), // net/tun
];

/// Returns whether a list denies anything: one that does not needs no cgroup.
pub(crate) fn restrict(rules: &[DeviceRule]) -> bool {
    let last = rules.iter().rposition(DeviceRule::decides_all);
    rules[last.unwrap_or(0)..].iter().any(|rule| !rule.allow)
}

/// Returns what to write for a rule, one write a line, into `devices.allow` or `devices.deny`
/// (kernel documentation, cgroup-v1/devices.rst). `a` resets the whole list, so it stands only for the rules that do.
pub(crate) fn lines(rule: &DeviceRule) -> Vec<String> {
    if rule.decides_all() {
        return vec!["a".to_owned()];
    }
    let kinds: &[char] = match rule.kind {
        Kind::Block => &['b'],
        Kind::Character => &['c'],
        Kind::All => &['b', 'c'],
    };
    let number = |number: Option<u32>| number.map_or("*".to_owned(), |n| n.to_string());
    let (major, minor) = (number(rule.major), number(rule.minor));
    kinds
        .iter()
        .map(|kind| format!("{kind} {major}:{minor} {}", rule.access))
        .collect()
}

impl Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in [(Self::READ, "r"), (Self::WRITE, "w"), (Self::MKNOD, "m")] {
            if self.0 & bit.0 != 0 {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

// Instruction codes (kernel documentation, bpf/standardization/instruction-set.rst): class, operation and source in one byte.
const LOAD_WORD: u8 = 0x61; // dst = *(u32 *)(src + offset)
const MOVE: u8 = 0xb7; // dst = immediate
const MOVE_REGISTER: u8 = 0xbf; // dst = src
const AND: u8 = 0x57; // dst &= immediate
const SHIFT_RIGHT: u8 = 0x77; // dst >>= immediate
const JUMP_IF_NOT_EQUAL: u8 = 0x55; // if dst != immediate, skip offset instructions
const JUMP_IF_EQUAL: u8 = 0x15; // if dst == immediate, skip offset instructions
const EXIT: u8 = 0x95; // return r0

// Registers.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1; // struct bpf_cgroup_dev_ctx: u32 access_type (access << 16 | type), major, minor
const TYPE: u8 = 2;
const UNDECIDED: u8 = 3; // accesses that were asked for and that no later rule has allowed
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: u32) -> Instruction {
    Instruction {
        code,
        registers: source << 4 | destination,
        offset,
        immediate: immediate.cast_signed(),
    }
}

/// Returns the program that enforces `rules`.
///
/// It goes through them from the last to the first, because the last one decides: an allowing rule
/// strikes its accesses off what was asked for and ends with yes when nothing is left, a denying
/// rule ends with no when one of its accesses is left.
pub(crate) fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, TYPE, CONTEXT, 0, 0),
        instruction(MOVE_REGISTER, UNDECIDED, TYPE, 0, 0),
        instruction(AND, TYPE, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, UNDECIDED, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        if rule.decides_all() {
            // What follows would be unreachable, which the verifier refuses.
            program.extend(answer(rule.allow));
            return program;
        }
        program.extend(test(rule));
    }
    program.extend(answer(true));
    program
}

fn answer(allow: bool) -> [Instruction; 2] {
    [
        instruction(MOVE, ANSWER, 0, 0, u32::from(allow)),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}

/// Returns the instructions for one rule: conditions that skip the rest, then the verdict.
fn test(rule: &DeviceRule) -> Vec<Instruction> {
    let access = u32::from(rule.access.0);
    let mut verdict = if rule.allow {
        vec![
            instruction(AND, UNDECIDED, 0, 0, !access),
            instruction(JUMP_IF_NOT_EQUAL, UNDECIDED, 0, 2, 0),
        ]
    } else {
        vec![
            instruction(MOVE_REGISTER, SCRATCH, UNDECIDED, 0, 0),
            instruction(AND, SCRATCH, 0, 0, access),
            instruction(JUMP_IF_EQUAL, SCRATCH, 0, 2, 0),
        ]
    };
    verdict.extend(answer(rule.allow));
    let kind = match rule.kind {
        Kind::Block => Some(1),
        Kind::Character => Some(2),
        Kind::All => None,
    };
    let conditions = [(TYPE, kind), (MAJOR, rule.major), (MINOR, rule.minor)];
    // Last first, because each jumps over all that follows it.
    let mut instructions = verdict;
    for (register, value) in conditions.into_iter().rev() {
        if let Some(value) = value {
            let skip =
                i16::try_from(instructions.len()).expect("a rule has ten instructions at most");
            instructions.insert(0, instruction(JUMP_IF_NOT_EQUAL, register, 0, skip, value));
        }
    }
    instructions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_written_as_the_kernel_reads_them() {
        let some = DeviceRule {
            kind: Kind::All,
            major: Some(8),
            access: Access::parse("mr").unwrap(),
            ..DeviceRule::DENY_ALL
        };
        for (rule, expected) in [
            (DeviceRule::DENY_ALL, vec!["a"]),
            (DeviceRule::character(136, None), vec!["c 136:* rwm"]),
            (DeviceRule::mknod(Kind::Block), vec!["b *:* m"]),
            (some, vec!["b 8:* rm", "c 8:* rm"]),
        ] {
            assert_eq!(lines(&rule), expected);
        }
        assert_eq!(Access::parse("rx"), None);
    }

    #[test]
    fn a_list_that_ends_up_open_restricts_nothing() {
        let open = DeviceRule {
            allow: true,
            ..DeviceRule::DENY_ALL
        };
        let tun = DeviceRule::character(10, Some(200));
        for (rules, expected) in [
            (vec![], false),
            (vec![tun], false),
            (vec![DeviceRule::DENY_ALL], true),
            (vec![DeviceRule::DENY_ALL, open], false),
            (
                vec![
                    open,
                    DeviceRule {
                        allow: false,
                        ..tun
                    },
                ],
                true,
            ),
            (DEFAULT.to_vec(), true),
        ] {
            assert_eq!(restrict(&rules), expected, "{rules:?}");
        }
    }
}
