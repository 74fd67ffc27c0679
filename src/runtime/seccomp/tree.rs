//! Search trees of classic BPF over ranges of numbers.

use crate::runtime::seccomp::assembler::{Assembler, Place, Test};

/// Finds the range that what was loaded belongs to, and goes on at the place that `leaf` makes for it.
///
/// Each range goes to where the next one starts; the first starts at 0.
pub(super) fn tree<T>(
    code: &mut Assembler,
    ranges: &[(u32, T)],
    leaf: &mut impl FnMut(&mut Assembler, &T) -> Place,
) -> Place {
    if let [(_, only)] = ranges {
        return leaf(code, only);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let above = tree(code, high, leaf);
    let below = tree(code, low, leaf);
    code.test(Test::AtLeast, high[0].0, above, below)
}
