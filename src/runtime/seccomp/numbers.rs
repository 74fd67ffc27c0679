//! The numbers of system calls on each machine, read from a list when this is compiled.

/// One line a call, sorted by name: its number on each [`Machine`] in their order, `-` where it does not exist.
///
/// From the kernel's `unistd.h` files; `moby.json` beside the tests names no call of these machines that is missing here.
const LIST: &str = include_str!("numbers.txt");

/// A way to call the kernel that has numbers of its own, in the order of the list's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Machine {
    X86_64,
    /// x86-64 with pointers of 32 bits.
    X32,
    X86,
    Aarch64,
    Arm,
}

impl Machine {
    /// Tells whether an argument has 32 bits: whatever is above them is not the caller's (x32) or is not there.
    pub(super) fn is_narrow(self) -> bool {
        matches!(self, Self::X32 | Self::X86 | Self::Arm)
    }
}

const MACHINES: usize = 5;
const MISSING: u32 = u32::MAX;

/// A system call; its name is a part of the list, so that the table needs no relocation when the program starts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    start: u16,
    length: u8,
    numbers: [u32; MACHINES],
}

static CALLS: [Call; count(LIST.as_bytes())] = read(LIST.as_bytes());

impl Call {
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        let found = CALLS.binary_search_by(|call| call.name().cmp(name));
        found.ok().map(|place| &CALLS[place])
    }

    fn name(&self) -> &'static str {
        let start = usize::from(self.start);
        &LIST[start..start + usize::from(self.length)]
    }

    pub(super) fn number(&self, machine: Machine) -> Option<u32> {
        let number = self.numbers[machine as usize];
        (number != MISSING).then_some(number)
    }
}

const fn count(list: &[u8]) -> usize {
    let (mut at, mut lines) = (0, 0);
    while at < list.len() {
        lines += (list[at] == b'\n') as usize;
        at += 1;
    }
    lines
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the list has a few kilobytes; `the_list_is_sorted_and_whole` reads it back"
)]
const fn read<const COUNT: usize>(list: &[u8]) -> [Call; COUNT] {
    let empty = Call {
        start: 0,
        length: 0,
        numbers: [MISSING; MACHINES],
    };
    let mut calls = [empty; COUNT];
    let (mut at, mut line) = (0, 0);
    while line < COUNT {
        let start = at;
        while list[at] != b' ' {
            at += 1;
        }
        calls[line].start = start as u16;
        calls[line].length = (at - start) as u8;
        let mut column = 0;
        while column < MACHINES {
            // Over the blank before the number, and after the last one over the end of the line.
            at += 1;
            while !matches!(list[at], b' ' | b'\n') {
                if list[at] != b'-' {
                    let so_far = calls[line].numbers[column];
                    let so_far = if so_far == MISSING { 0 } else { so_far };
                    calls[line].numbers[column] = so_far * 10 + (list[at] - b'0') as u32;
                }
                at += 1;
            }
            column += 1;
        }
        at += 1;
        line += 1;
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_whole() {
        let names: Vec<_> = CALLS.iter().map(Call::name).collect();
        assert!(names.is_sorted_by(|one, next| one < next));
        let lines: Vec<String> = CALLS
            .iter()
            .map(|call| {
                let numbers = call.numbers.map(|number| match number {
                    MISSING => "-".to_owned(),
                    number => number.to_string(),
                });
                format!("{} {}\n", call.name(), numbers.join(" "))
            })
            .collect();
        assert_eq!(lines.concat(), LIST);
    }

    #[test]
    fn the_numbers_are_the_kernels() {
        use Machine::{Aarch64, Arm, X32, X86, X86_64};
        for (name, machine, number) in [
            ("read", X86_64, Some(0)),
            ("execve", X32, Some(520)),
            ("socketcall", X86, Some(102)),
            ("socketcall", X86_64, None),
            ("openat", Aarch64, Some(56)),
            ("set_tls", Arm, Some(0x000f_0005)),
            ("file_setattr", X86_64, Some(469)),
        ] {
            assert_eq!(Call::find(name).unwrap().number(machine), number, "{name}");
        }
        assert!(Call::find("no_such_call").is_none() && Call::find("").is_none());
        // What this program was compiled with, from headers of its own.
        for (name, number) in [
            ("statx", libc::SYS_statx),
            ("clone3", libc::SYS_clone3),
            ("ioctl", libc::SYS_ioctl),
        ] {
            let native = crate::runtime::seccomp::abi::NATIVE.machine;
            assert_eq!(
                Call::find(name).unwrap().number(native).map(i64::from),
                Some(number)
            );
        }
    }
}
