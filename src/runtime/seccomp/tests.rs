//! Interprets what the compiler makes, and the answers that come out.

use super::*;
use serde_json::json;

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = RET_ERRNO | 1;
const ENOSYS: u32 = RET_ERRNO | libc::ENOSYS.cast_unsigned();
const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;

/// Interprets the instructions that the compiler emits, as the kernel does (`linux/bpf_common.h`).
fn run(program: &[Instruction], machine: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(number.to_le_bytes());
    data.extend(machine.to_le_bytes());
    data.extend([0; 8]);
    data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
    let (mut place, mut value) = (0_usize, 0_u32);
    loop {
        let Instruction {
            code,
            if_true,
            if_false,
            operand,
        } = program[place];
        place += 1;
        let is_true = match code {
            0x20 => {
                let at = operand as usize;
                value = u32::from_le_bytes(data[at..at + 4].try_into().unwrap());
                continue;
            }
            0x54 => {
                value &= operand;
                continue;
            }
            0x05 => {
                place += operand as usize;
                continue;
            }
            0x06 => return operand,
            0x15 => value == operand,
            0x25 => value > operand,
            0x35 => value >= operand,
            other => panic!("instruction {other:#x}"),
        };
        place += usize::from(if is_true { if_true } else { if_false });
    }
}

fn compile(rules: &serde_json::Value) -> Vec<Instruction> {
    let seccomp = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules,
    });
    let seccomp: LinuxSeccomp = serde_json::from_value(seccomp).unwrap();
    Filter::compile(&seccomp).unwrap().program
}

#[test]
fn numbers_are_each_machines_own() {
    let program = compile(&json!([
        { "names": ["read", "execve", "no_such_call"], "action": "SCMP_ACT_ALLOW" },
        { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
    ]));
    for (machine, number, expected) in [
        (X86_64, 0, ALLOW),
        (X86_64, 1, EPERM),
        (X86_64, 59, ALLOW),
        (X86_64, 434, EPERM),
        (X86_64, 435, ENOSYS),
        (X86_64, 436, ENOSYS),
        (X86_64, 0x4000_0000, ALLOW),
        (X86_64, 0x4000_0000 + 59, EPERM),
        (X86_64, 0x4000_0000 + 520, ALLOW),
        (X86_64, u32::MAX, ENOSYS),
        (X86, 3, ALLOW),
        (X86, 0, EPERM),
        (X86, 11, ALLOW),
        (X86, 9999, ENOSYS),
        (0x1234, 0, RET_KILL_PROCESS),
    ] {
        assert_eq!(
            run(&program, machine, number, [0; 6]),
            expected,
            "{machine:x} {number}"
        );
    }
}

#[test]
fn arguments_are_compared_in_all_64_bits() {
    let interesting = [
        0,
        1,
        5,
        6,
        7,
        u64::from(u32::MAX),
        1 << 32,
        (1 << 32) + 6,
        (2 << 32) + 5,
        u64::MAX,
    ];
    for value in interesting {
        for argument in interesting {
            for (operator, holds) in [
                ("NE", argument != value),
                ("LT", argument < value),
                ("LE", argument <= value),
                ("EQ", argument == value),
                ("GE", argument >= value),
                ("GT", argument > value),
                ("MASKED_EQ", argument & value == 0),
            ] {
                let condition =
                    json!({ "index": 5, "value": value, "op": format!("SCMP_CMP_{operator}") });
                let program = compile(
                    &json!([{ "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [condition] }]),
                );
                let answer = run(&program, X86_64, 0, [9, 9, 9, 9, 9, argument]);
                let expected = if holds { ALLOW } else { EPERM };
                assert_eq!(answer, expected, "{argument:#x} {operator} {value:#x}");
            }
        }
    }
}

#[test]
fn conditions_on_one_argument_are_rules_of_their_own() {
    let is = |index, value| json!({ "index": index, "value": value, "op": "SCMP_CMP_EQ" });
    let rule = |arguments: &[serde_json::Value]| {
        compile(&json!([{ "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": arguments }]))
    };
    let either = rule(&[is(0, 1), is(0, 2)]);
    let both = rule(&[is(0, 1), is(1, 2)]);
    for (arguments, by_either, by_both) in [
        ([1, 2], ALLOW, ALLOW),
        ([2, 2], ALLOW, EPERM),
        ([1, 1], ALLOW, EPERM),
        ([3, 2], EPERM, EPERM),
    ] {
        let arguments = [arguments[0], arguments[1], 0, 0, 0, 0];
        assert_eq!(
            run(&either, X86_64, 0, arguments),
            by_either,
            "{arguments:?}"
        );
        assert_eq!(run(&both, X86_64, 0, arguments), by_both, "{arguments:?}");
    }
}
