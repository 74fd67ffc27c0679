//! Interprets what the compiler makes, and the answers that come out.

use super::*;
use numbers::Machine;
use serde_json::{Value, json};

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = RET_ERRNO | 1;
const ENOSYS: u32 = RET_ERRNO | libc::ENOSYS.cast_unsigned();
const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;
const X32: u32 = abi::X32_BIT;

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

fn filter(rules: &Value, architectures: &[&str]) -> Filter {
    let seccomp = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": architectures.iter().map(|name| format!("SCMP_ARCH_{name}")).collect::<Value>(),
        "syscalls": rules,
    });
    Filter::compile(&seccomp.to_string()).unwrap()
}

fn compile(rules: &Value) -> Vec<Instruction> {
    filter(rules, &["X86_64", "X86", "X32"]).program
}

fn allow(names: &[&str], conditions: &[Value]) -> Value {
    json!({ "names": names, "action": "SCMP_ACT_ALLOW", "args": conditions })
}

fn is(index: usize, operator: &str, value: u64) -> Value {
    json!({ "index": index, "value": value, "op": format!("SCMP_CMP_{operator}") })
}

#[test]
fn numbers_are_each_machines_own() {
    let program = compile(&json!([
        allow(&["read", "execve", "no_such_call"], &[]),
        { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
    ]));
    for (machine, number, expected) in [
        (X86_64, 0, ALLOW),
        (X86_64, 1, EPERM),
        (X86_64, 59, ALLOW),
        (X86_64, 434, EPERM),
        (X86_64, 435, ENOSYS),
        (X86_64, 436, ENOSYS),
        (X86_64, X32, ALLOW),
        (X86_64, X32 + 59, EPERM),
        (X86_64, X32 + 520, ALLOW),
        (X86_64, X32 + 521, ENOSYS),
        (X86_64, u32::MAX, ENOSYS),
        (X86, 3, ALLOW),
        (X86, 0, EPERM),
        (X86, 11, ALLOW),
        (X86, 9999, ENOSYS),
        (0x1234, 0, RET_KILL_PROCESS),
    ] {
        let answer = run(&program, machine, number, [0; 6]);
        assert_eq!(answer, expected, "{machine:x} {number}");
    }
}

#[test]
fn what_is_not_covered_is_killed() {
    let program = filter(&json!([allow(&["read"], &[])]), &[]).program;
    assert_eq!(run(&program, X86_64, 0, [0; 6]), ALLOW);
    for (machine, number) in [(X86_64, X32), (X86_64, X32 + 600), (X86, 3)] {
        assert_eq!(run(&program, machine, number, [0; 6]), RET_KILL_PROCESS);
    }
}

#[test]
fn private_numbers_do_not_make_the_others_old() {
    let program = filter(&json!([allow(&["read", "set_tls"], &[])]), &["ARM"]).program;
    for (number, expected) in [
        (3, ALLOW),
        (2, EPERM),
        (4, ENOSYS),
        (PRIVATE + 5, ALLOW),
        (PRIVATE + 6, ENOSYS),
    ] {
        assert_eq!(
            run(&program, 0x4000_0028, number, [0; 6]),
            expected,
            "{number}"
        );
    }
}

#[test]
fn a_profile_that_allows_what_it_does_not_name_refuses_nothing_newer() {
    for (default, expected) in [
        ("ALLOW", ALLOW),
        ("LOG", 0x7ffc_0000),
        ("KILL_PROCESS", ENOSYS),
    ] {
        let seccomp = json!({
            "defaultAction": format!("SCMP_ACT_{default}"),
            "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_ERRNO" }],
        });
        let filter = Filter::compile(&seccomp.to_string()).unwrap();
        assert_eq!(run(&filter.program, X86_64, 500, [0; 6]), expected);
        assert_eq!(run(&filter.program, X86_64, 0, [0; 6]), EPERM);
    }
}

/// Values around which comparisons of 64 bits go wrong.
const INTERESTING: [u64; 10] = [
    0,
    1,
    5,
    6,
    7,
    0xffff_ffff,
    1 << 32,
    (1 << 32) + 6,
    (2 << 32) + 5,
    u64::MAX,
];

fn holds(operator: &str, argument: u64, value: u64) -> bool {
    match operator {
        "NE" => argument != value,
        "LT" => argument < value,
        "LE" => argument <= value,
        "EQ" => argument == value,
        "GE" => argument >= value,
        "GT" => argument > value,
        "MASKED_EQ" => argument & value == 0,
        other => panic!("{other}"),
    }
}

#[test]
fn arguments_are_compared_in_all_bits_they_have() {
    for value in INTERESTING {
        for operator in ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"] {
            // Alone it is found by its range, with another argument compared itself.
            let alone = compile(&json!([allow(&["read"], &[is(5, operator, value)])]));
            let with_another = [is(5, operator, value), is(4, "EQ", 9)];
            let with_another = compile(&json!([allow(&["read"], &with_another)]));
            for argument in INTERESTING {
                let expected = if holds(operator, argument, value) {
                    ALLOW
                } else {
                    EPERM
                };
                for program in [&alone, &with_another] {
                    let answer = run(program, X86_64, 0, [9, 9, 9, 9, 9, argument]);
                    assert_eq!(answer, expected, "{argument:#x} {operator} {value:#x}");
                }
                let (low, low_value) = (argument & 0xffff_ffff, value & 0xffff_ffff);
                let expected = if holds(operator, low, low_value) {
                    ALLOW
                } else {
                    EPERM
                };
                for (audit, number, argument) in [(X86, 3, low), (X86_64, X32, argument)] {
                    let answer = run(&with_another, audit, number, [9, 9, 9, 9, 9, argument]);
                    assert_eq!(
                        answer, expected,
                        "{argument:#x} {operator} {value:#x}, 32 bits"
                    );
                }
            }
        }
    }
}

#[test]
fn conditions_on_one_argument_are_rules_of_their_own() {
    let either = compile(&json!([allow(
        &["read"],
        &[is(0, "EQ", 1), is(0, "EQ", 2)]
    )]));
    let both = compile(&json!([allow(
        &["read"],
        &[is(0, "EQ", 1), is(1, "EQ", 2)]
    )]));
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

#[test]
fn a_rule_that_says_what_holds_anyway_hides_no_other() {
    let refused = json!({ "names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 });
    let program = compile(&json!([refused, allow(&["read"], &[is(0, "EQ", 1)])]));
    assert_eq!(run(&program, X86_64, 0, [1, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(run(&program, X86_64, 0, [2, 0, 0, 0, 0, 0]), EPERM);
}

#[test]
fn what_cannot_be_compiled_is_refused() {
    for (rule, said) in [
        (
            json!({ "names": ["read"], "action": "SCMP_ACT_NOTIFY" }),
            "SCMP_ACT_NOTIFY",
        ),
        (
            json!({ "names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 65_536 }),
            "65536",
        ),
        (allow(&["read"], &[is(6, "EQ", 0)]), "sixth"),
    ] {
        let seccomp = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
        let error = Filter::compile(&seccomp.to_string()).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
}

/// Of Docker's profile, the rules for everybody.
fn published() -> Value {
    let profile: Value =
        serde_json::from_str(include_str!("../../../tests/it/seccomp/moby.json")).unwrap();
    let rules = profile["syscalls"].as_array().unwrap().iter();
    let unconditional =
        |rule: &&Value| rule.get("includes").is_none() && rule.get("excludes").is_none();
    rules.filter(unconditional).cloned().collect()
}

/// What `rules` say about a call, word by word.
fn expected(rules: &Value, machine: Machine, number: u32, arguments: [u64; 6], last: u32) -> u32 {
    let names = |rule: &Value| {
        let mut names = rule["names"].as_array().unwrap().iter();
        names.any(|name| {
            let call = Call::find(name.as_str().unwrap());
            call.and_then(|call| call.number(machine)) == Some(number)
        })
    };
    let matches = |rule: &Value| {
        let mut conditions = rule["args"].as_array().into_iter().flatten();
        conditions.all(|condition| {
            let argument =
                arguments[usize::try_from(condition["index"].as_u64().unwrap()).unwrap()];
            let operator = condition["op"]
                .as_str()
                .unwrap()
                .trim_start_matches("SCMP_CMP_");
            holds(operator, argument, condition["value"].as_u64().unwrap())
        })
    };
    if rules
        .as_array()
        .unwrap()
        .iter()
        .any(|rule| names(rule) && matches(rule))
    {
        ALLOW
    } else if number > last {
        ENOSYS
    } else {
        EPERM
    }
}

#[test]
fn every_call_gets_what_dockers_profile_says() {
    let rules = published();
    let program = compile(&rules);
    for (machine, audit, offset) in [
        (Machine::X86_64, X86_64, 0),
        (Machine::X32, X86_64, X32),
        (Machine::X86, X86, 0),
    ] {
        let named = rules.as_array().unwrap().iter();
        let named = named.flat_map(|rule| rule["names"].as_array().unwrap());
        let calls = named.filter_map(|name| Call::find(name.as_str().unwrap())?.number(machine));
        let last = calls.max().unwrap();
        for number in 0..600 {
            for first in (0..48).chain([0x20000, 0x20008, 0xffff_ffff, 1 << 32, (1 << 32) + 8]) {
                let arguments = [first, 0, 0, 0, 0, 0];
                let answer = run(&program, audit, offset + number, arguments);
                let mut seen = arguments;
                seen[0] &= if machine.is_narrow() {
                    0xffff_ffff
                } else {
                    u64::MAX
                };
                let expected = expected(&rules, machine, number, seen, last);
                assert_eq!(answer, expected, "{machine:?} {number} {first:#x}");
                // What does not look at arguments need not be asked again.
                if !matches!(number, 41 | 135 | 136 | 359) {
                    break;
                }
            }
        }
    }
}

#[test]
fn the_program_is_short() {
    // What the kernel needs to load it grows with it: about 0.5 µs an instruction.
    let length = compile(&published()).len();
    assert!(length < 400, "{length} instructions");
}

#[test]
fn what_is_compiled_already_is_what_the_compiler_makes() {
    let made = Filter::make(&serde_json::from_str(compiled::PROFILE).unwrap()).unwrap();
    let taken = Filter::compile(compiled::PROFILE).unwrap();
    if made.program != taken.program {
        let path = std::env::temp_dir().join("program.bpf");
        fs_err::write(&path, compiled::to_bytes(&made.program)).unwrap();
        panic!(
            "src/runtime/seccomp/compiled/program.bpf is another: see {}",
            path.display()
        );
    }
    assert_eq!(made.flags, taken.flags);
}
