//! The profile that most containers have, with its program: to compile it takes a third of a millisecond, at every start.
//!
//! The compiler stays what decides: a test holds the program against what it makes of the profile.

use crate::sys::seccomp::Instruction;

/// `linux.seccomp` of a container with the default capabilities on x86-64, laid out as it stands in `config.json`.
pub(crate) const PROFILE: &str = include_str!("compiled/profile.json").trim_ascii_end();

/// Instructions of 8 bytes each, as in memory (linux/filter.h, `struct sock_filter`), little-endian.
const PROGRAM: &[u8] = include_bytes!("compiled/program.bpf");

pub(super) fn program() -> Vec<Instruction> {
    let instructions = PROGRAM.as_chunks().0.iter();
    instructions
        .map(
            |[code @ .., if_true, if_false, a, b, c, d]: &[u8; 8]| Instruction {
                code: u16::from_le_bytes(*code),
                if_true: *if_true,
                if_false: *if_false,
                operand: u32::from_le_bytes([*a, *b, *c, *d]),
            },
        )
        .collect()
}

#[cfg(test)]
pub(super) fn to_bytes(program: &[Instruction]) -> Vec<u8> {
    let bytes = program.iter().flat_map(|instruction| {
        let [a, b, c, d] = instruction.operand.to_le_bytes();
        let [low, high] = instruction.code.to_le_bytes();
        [
            low,
            high,
            instruction.if_true,
            instruction.if_false,
            a,
            b,
            c,
            d,
        ]
    });
    bytes.collect()
}
