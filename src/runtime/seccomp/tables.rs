//! The numbers of system calls, by architecture (the kernel's `unistd.h` files).

use oci_spec::runtime::Arch;
use std::collections::HashMap;

/// A way to call the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Abi {
    /// linux/audit.h, `AUDIT_ARCH_*`
    pub(super) machine: u32,
    /// What is added to its numbers.
    pub(super) offset: u32,
    names: &'static str,
}

const X86_64: Abi = Abi {
    machine: 0xc000_003e,
    offset: 0,
    names: include_str!("x86_64.txt"),
};
/// The machine of x86-64 with 32-bit pointers: `__X32_SYSCALL_BIT` tells them apart.
const X32: Abi = Abi {
    machine: 0xc000_003e,
    offset: 0x4000_0000,
    names: include_str!("x32.txt"),
};
const X86: Abi = Abi {
    machine: 0x4000_0003,
    offset: 0,
    names: include_str!("x86.txt"),
};
const AARCH64: Abi = Abi {
    machine: 0xc000_00b7,
    offset: 0,
    names: include_str!("aarch64.txt"),
};

const NATIVE: Abi = if cfg!(target_arch = "aarch64") {
    AARCH64
} else {
    X86_64
};

/// Returns the ABIs that a filter covers, by number; every other is killed, and the native is always there (libseccomp).
pub(super) fn abis(architectures: &[Arch]) -> Vec<Abi> {
    let mut abis = vec![NATIVE];
    for architecture in architectures {
        let abi = match architecture {
            Arch::ScmpArchX86_64 => X86_64,
            Arch::ScmpArchX32 => X32,
            Arch::ScmpArchX86 => X86,
            Arch::ScmpArchAarch64 => AARCH64,
            // No call of another machine can come.
            _ => continue,
        };
        if !abis.contains(&abi) {
            abis.push(abi);
        }
    }
    abis.sort_by_key(|abi| abi.offset);
    abis
}

/// Returns each machine once.
pub(super) fn machines(abis: &[Abi]) -> Vec<u32> {
    let mut machines: Vec<_> = abis.iter().map(|abi| abi.machine).collect();
    machines.sort_by_key(|machine| *machine != NATIVE.machine);
    machines.dedup();
    machines
}

pub(super) struct Table(HashMap<&'static str, u32>);

impl Table {
    pub(super) fn of(abi: &Abi) -> Self {
        let lines = abi.names.lines().filter_map(|line| line.split_once(' '));
        Self(
            lines
                .filter_map(|(name, number)| Some((name, number.parse().ok()?)))
                .collect(),
        )
    }

    pub(super) fn number(&self, name: &str) -> Option<u32> {
        self.0.get(name).copied()
    }
}
