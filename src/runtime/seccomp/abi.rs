//! The ways to call the kernel that a filter covers.

use crate::runtime::seccomp::numbers::Machine;

/// A way to call the kernel, as a filter sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Abi {
    /// linux/audit.h, `AUDIT_ARCH_*`
    pub(super) audit: u32,
    /// What is added to its numbers.
    pub(super) offset: u32,
    pub(super) machine: Machine,
}

/// Tells x32 from x86-64, which have one architecture (asm/unistd.h, `__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 0x4000_0000;
pub(super) const AUDIT_X86_64: u32 = 0xc000_003e;

const X86_64: Abi = Abi {
    audit: AUDIT_X86_64,
    offset: 0,
    machine: Machine::X86_64,
};
const X32: Abi = Abi {
    audit: AUDIT_X86_64,
    offset: X32_BIT,
    machine: Machine::X32,
};
const X86: Abi = Abi {
    audit: 0x4000_0003,
    offset: 0,
    machine: Machine::X86,
};
const AARCH64: Abi = Abi {
    audit: 0xc000_00b7,
    offset: 0,
    machine: Machine::Aarch64,
};
const ARM: Abi = Abi {
    audit: 0x4000_0028,
    offset: 0,
    machine: Machine::Arm,
};

pub(super) const NATIVE: Abi = if cfg!(target_arch = "aarch64") {
    AARCH64
} else {
    X86_64
};

/// Returns the ABIs of `architectures`, the native one first: that is always there, as with libseccomp.
pub(super) fn abis(architectures: &[String]) -> Vec<Abi> {
    let mut abis = vec![NATIVE];
    for architecture in architectures {
        let abi = match architecture.as_str() {
            "SCMP_ARCH_X86_64" => X86_64,
            "SCMP_ARCH_X32" => X32,
            "SCMP_ARCH_X86" => X86,
            "SCMP_ARCH_AARCH64" => AARCH64,
            "SCMP_ARCH_ARM" => ARM,
            // No call of another machine can come.
            _ => continue,
        };
        if !abis.contains(&abi) {
            abis.push(abi);
        }
    }
    // By what the filter can tell first, then by number.
    abis.sort_by_key(|abi| (abi.audit != NATIVE.audit, abi.audit, abi.offset));
    abis
}
