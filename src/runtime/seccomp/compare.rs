//! Instructions of classic BPF, and comparisons of 64-bit arguments made of them.

use crate::sys::seccomp::Instruction;
use anyhow::{Context, Result};
use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator as Operator};

// linux/bpf_common.h: class, size or operation, and mode or source.
const LD_ABS: u16 = 0x20;
const AND: u16 = 0x54;
const JA: u16 = 0x05;
pub(super) const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
pub(super) const JGE: u16 = 0x35;
const RET: u16 = 0x06;

/// Offset of the first argument in `struct seccomp_data`; each has 8 bytes.
const ARGUMENTS: u32 = 16;

/// Stands for the way to the next rule until it is known how far that is.
const FAIL: u8 = u8::MAX;

fn plain(code: u16, operand: u32) -> Instruction {
    jump(code, operand, 0, 0)
}

pub(super) fn jump(code: u16, operand: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction {
        code,
        if_true,
        if_false,
        operand,
    }
}

pub(super) fn load(offset: u32) -> Instruction {
    plain(LD_ABS, offset)
}

pub(super) fn ret(value: u32) -> Instruction {
    plain(RET, value)
}

pub(super) fn ja(distance: usize) -> Result<Instruction> {
    let distance = u32::try_from(distance).context("the seccomp filter is too long")?;
    Ok(plain(JA, distance))
}

/// As `ja`, for what cannot be that long: a program of more than 4096 instructions is refused when it is loaded.
pub(super) fn forward(distance: usize) -> Instruction {
    plain(JA, u32::try_from(distance).unwrap_or(u32::MAX))
}

/// Returns the action of the first rule whose arguments all match, or else `otherwise`.
pub(super) fn answer(rules: &[(Vec<LinuxSeccompArg>, u32)], otherwise: u32) -> Vec<Instruction> {
    let mut code = Vec::new();
    for (arguments, action) in rules {
        let mut rule: Vec<_> = arguments.iter().flat_map(compare).collect();
        rule.push(ret(*action));
        let end = rule.len();
        for (place, instruction) in rule.iter_mut().enumerate() {
            // Six arguments have 36 instructions at most.
            let distance = u8::try_from(end - place - 1).unwrap_or(FAIL);
            for way in [&mut instruction.if_true, &mut instruction.if_false] {
                if *way == FAIL {
                    *way = distance;
                }
            }
        }
        code.extend(rule);
    }
    code.push(ret(otherwise));
    code
}

/// Compares the high half, then the low one; goes on behind itself if the condition holds, and to `FAIL` if not.
fn compare(argument: &LinuxSeccompArg) -> Vec<Instruction> {
    let offset = ARGUMENTS + 8 * u32::try_from(argument.index()).unwrap_or(0);
    let (low, high) = (load(offset), load(offset + 4));
    let (value, value_high) = halves(argument.value());
    let (datum, datum_high) = halves(argument.value_two().unwrap_or(0));
    // `skip` leaves out the two instructions for the low half.
    let skip = 2;
    let greater = |last: u16| {
        vec![
            high,
            jump(JGT, value_high, skip + 1, 0),
            jump(JEQ, value_high, 0, FAIL),
            low,
            jump(last, value, 0, FAIL),
        ]
    };
    let less = |last: u16| {
        vec![
            high,
            jump(JGT, value_high, FAIL, 0),
            jump(JEQ, value_high, 0, skip),
            low,
            jump(last, value, FAIL, 0),
        ]
    };
    match argument.op() {
        Operator::ScmpCmpEq => vec![
            high,
            jump(JEQ, value_high, 0, FAIL),
            low,
            jump(JEQ, value, 0, FAIL),
        ],
        Operator::ScmpCmpNe => vec![
            high,
            jump(JEQ, value_high, 0, skip),
            low,
            jump(JEQ, value, FAIL, 0),
        ],
        Operator::ScmpCmpGt => greater(JGT),
        Operator::ScmpCmpGe => greater(JGE),
        Operator::ScmpCmpLt => less(JGE),
        Operator::ScmpCmpLe => less(JGT),
        // The first value is the mask, the second what must be left.
        Operator::ScmpCmpMaskedEq => vec![
            high,
            plain(AND, value_high),
            jump(JEQ, datum_high, 0, FAIL),
            low,
            plain(AND, value),
            jump(JEQ, datum, 0, FAIL),
        ],
    }
}

/// Returns the low and the high half.
#[expect(
    clippy::cast_possible_truncation,
    reason = "what does not fit is the high half"
)]
fn halves(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}
