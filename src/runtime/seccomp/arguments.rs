//! Answers that depend on a system call's arguments.

use crate::runtime::seccomp::assembler::{Assembler, Place, Test};
use crate::runtime::seccomp::profile::{Condition, Operator};
use crate::runtime::seccomp::tree::tree;

/// Offset of the first argument in `struct seccomp_data`; each has 8 bytes, the low half first.
const ARGUMENTS: u32 = 16;

/// What is answered if all conditions hold.
pub(super) type Rule<'a> = (&'a [Condition], u32);

/// Answers as the first rule whose conditions all hold, or else `otherwise`; if `is_narrow`, only the low halves of
/// arguments and values are looked at, as libseccomp does it for 32-bit machines.
pub(super) fn answer(
    code: &mut Assembler,
    rules: &[Rule<'_>],
    otherwise: u32,
    is_narrow: bool,
) -> Place {
    if let Some(index) = one_small_argument(rules) {
        return spectrum(code, index, rules, otherwise, is_narrow);
    }
    let mut next = code.answer(otherwise);
    for (conditions, action) in rules.iter().rev() {
        let mut place = code.answer(*action);
        for condition in conditions.iter().rev() {
            place = compare(code, condition, is_narrow, place, next);
        }
        next = place;
    }
    next
}

/// Returns the argument if all rules are about one, and compare it with 32-bit numbers by their order.
fn one_small_argument(rules: &[Rule<'_>]) -> Option<usize> {
    let mut indices = rules.iter().map(|(conditions, _)| match conditions {
        [only] if u32::try_from(only.value).is_ok() && only.op != Operator::MaskedEq => {
            Some(only.index)
        }
        _ => None,
    });
    let first = indices.next()??;
    indices.all(|index| index == Some(first)).then_some(first)
}

/// Finds the range that the argument's value belongs to: shorter than to compare it with one number after the other.
fn spectrum(
    code: &mut Assembler,
    index: usize,
    rules: &[Rule<'_>],
    otherwise: u32,
    is_narrow: bool,
) -> Place {
    let answer_to = |argument: u64| {
        let mut rules = rules.iter();
        let found = rules.find(|(conditions, _)| holds(&conditions[0], argument));
        found.map_or(otherwise, |(_, action)| *action)
    };
    let limits = rules.iter().flat_map(|(conditions, _)| {
        let value = conditions[0].value;
        [value, value + 1]
    });
    let mut starts: Vec<u32> = limits.filter_map(|limit| limit.try_into().ok()).collect();
    starts.push(0);
    starts.sort_unstable();
    let ranges = starts
        .iter()
        .map(|start| (*start, answer_to((*start).into())));
    let mut ranges: Vec<_> = ranges.collect();
    ranges.dedup_by_key(|(_, answer)| *answer);
    let small = tree(code, &ranges, &mut |code, answer| code.answer(*answer));
    let small = code.load(offset(index), small);
    if is_narrow {
        return small;
    }
    let large = code.answer(answer_to(1 << 32));
    let is_small = code.test(Test::Equal, 0, small, large);
    code.load(offset(index) + 4, is_small)
}

/// Tells whether a condition that is no mask holds.
fn holds(condition: &Condition, argument: u64) -> bool {
    let value = condition.value;
    match condition.op {
        Operator::Ne => argument != value,
        Operator::Lt => argument < value,
        Operator::Le => argument <= value,
        Operator::Eq => argument == value,
        Operator::Ge => argument >= value,
        Operator::Gt => argument > value,
        Operator::MaskedEq => argument & value == condition.value_two,
    }
}

/// Goes on at `yes` if the condition holds, else at `no`.
fn compare(
    code: &mut Assembler,
    condition: &Condition,
    is_narrow: bool,
    yes: Place,
    no: Place,
) -> Place {
    let at = offset(condition.index);
    let (value, second) = (condition.value, condition.value_two);
    let equal = |code: &mut Assembler, mask, wanted, yes, no| {
        let low = equal(code, at, word(mask, 0), word(wanted, 0), yes, no);
        if is_narrow {
            return low;
        }
        equal(code, at + 4, word(mask, 32), word(wanted, 32), low, no)
    };
    let above = |code: &mut Assembler, last, yes, no| {
        let low = code.test(last, word(value, 0), yes, no);
        let low = code.load(at, low);
        if is_narrow {
            return low;
        }
        let is_equal = code.test(Test::Equal, word(value, 32), low, no);
        let high = code.test(Test::Greater, word(value, 32), yes, is_equal);
        code.load(at + 4, high)
    };
    match condition.op {
        // The value is the mask, the second one what must be left.
        Operator::MaskedEq => equal(code, value, second, yes, no),
        Operator::Eq => equal(code, u64::MAX, value, yes, no),
        Operator::Ne => equal(code, u64::MAX, value, no, yes),
        Operator::Gt => above(code, Test::Greater, yes, no),
        Operator::Ge => above(code, Test::AtLeast, yes, no),
        Operator::Le => above(code, Test::Greater, no, yes),
        Operator::Lt => above(code, Test::AtLeast, no, yes),
    }
}

/// Compares the bits of `mask` in the half at offset `at`.
fn equal(code: &mut Assembler, at: u32, mask: u32, wanted: u32, yes: Place, no: Place) -> Place {
    let test = code.test(Test::Equal, wanted, yes, no);
    let masked = if mask == u32::MAX {
        test
    } else {
        code.keep(mask, test)
    };
    code.load(at, masked)
}

/// Six arguments at most: `Filter::compile` sees to it.
fn offset(index: usize) -> u32 {
    ARGUMENTS + 8 * u32::try_from(index).unwrap_or(0)
}

/// Returns the 32 bits of `value` from bit `shift` on.
#[expect(
    clippy::cast_possible_truncation,
    reason = "what does not fit is the other half"
)]
fn word(value: u64, shift: u32) -> u32 {
    (value >> shift) as u32
}
