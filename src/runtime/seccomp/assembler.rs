//! Assembles classic BPF from its end: what a jump leads to is always there already.

use crate::sys::seccomp::Instruction;

// linux/bpf_common.h: class, size or operation, and mode or source.
const LD_ABS: u16 = 0x20;
const AND: u16 = 0x54;
const JA: u16 = 0x05;
const RET: u16 = 0x06;

/// What is compared with an operand, to choose between two ways.
#[derive(Debug, Clone, Copy)]
#[repr(u16)]
pub(super) enum Test {
    Equal = 0x15,
    Greater = 0x25,
    AtLeast = 0x35,
}

/// An instruction that can be led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(usize);

#[derive(Debug, Default)]
pub(super) struct Assembler {
    backwards: Vec<Instruction>,
    /// Where each value is returned, the last place of each last.
    returns: Vec<(u32, Place)>,
}

impl Assembler {
    /// Returns what was assembled; it starts with what came last.
    pub(super) fn finish(mut self) -> Vec<Instruction> {
        self.backwards.reverse();
        self.backwards
    }

    /// Ends with `value`; all that is near enough shares one instruction.
    pub(super) fn answer(&mut self, value: u32) -> Place {
        let mut known = self.returns.iter().rev();
        if let Some((_, place)) = known.find(|(known, _)| *known == value)
            && self.short(*place).is_some()
        {
            return *place;
        }
        let place = self.push(RET, value, 0, 0);
        self.returns.push((value, place));
        place
    }

    /// Loads the 32-bit word at `offset` of `struct seccomp_data`, and goes on at `then`.
    pub(super) fn load(&mut self, offset: u32, then: Place) -> Place {
        self.follow(LD_ABS, offset, then)
    }

    /// Keeps the bits of `mask` of what was loaded, and goes on at `then`.
    pub(super) fn keep(&mut self, mask: u32, then: Place) -> Place {
        self.follow(AND, mask, then)
    }

    /// Goes on at `yes` or `no`, as what was loaded compares with `operand`.
    pub(super) fn test(&mut self, test: Test, operand: u32, yes: Place, no: Place) -> Place {
        // What the test cannot reach it reaches by a jump beside it; one such moves the other out of reach at worst.
        let (mut yes, mut no) = (yes, no);
        while self.short(yes).is_none() || self.short(no).is_none() {
            let far = if self.short(yes).is_none() {
                &mut yes
            } else {
                &mut no
            };
            *far = self.jump(*far);
        }
        let (if_true, if_false) = (self.short(yes), self.short(no));
        self.push(
            test as u16,
            operand,
            if_true.unwrap_or(0),
            if_false.unwrap_or(0),
        )
    }

    fn follow(&mut self, code: u16, operand: u32, then: Place) -> Place {
        if self.distance(then) > 0 {
            self.jump(then);
        }
        self.push(code, operand, 0, 0)
    }

    fn jump(&mut self, to: Place) -> Place {
        // A program of more than 4096 instructions is refused when it is loaded.
        let distance = u32::try_from(self.distance(to)).unwrap_or(u32::MAX);
        self.push(JA, distance, 0, 0)
    }

    fn push(&mut self, code: u16, operand: u32, if_true: u8, if_false: u8) -> Place {
        self.backwards.push(Instruction {
            code,
            if_true,
            if_false,
            operand,
        });
        Place(self.backwards.len() - 1)
    }

    /// How many instructions the next one would have to leave out to come to `place`.
    fn distance(&self, place: Place) -> usize {
        self.backwards.len() - 1 - place.0
    }

    fn short(&self, place: Place) -> Option<u8> {
        u8::try_from(self.distance(place)).ok()
    }
}
