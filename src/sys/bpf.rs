//! `bpf(2)`, as far as a device cgroup of v2 needs it: load a program, attach it to a cgroup.
#![allow(unsafe_code, reason = "bpf(2) has no safe wrapper")]

use rustix::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::io;

// linux/bpf.h, `enum bpf_cmd`, `bpf_prog_type`, `bpf_attach_type`: stable numbers that the libc crate lacks.
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
/// Programs of cgroups below may be added (a systemd in the container does), and all must agree.
const BPF_F_ALLOW_MULTI: u32 = 2;

/// One instruction, `struct bpf_insn` of linux/bpf.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub(crate) code: u8,
    /// Destination in the low half, source in the high half (on little-endian machines, the only ones ddock is built for).
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) immediate: i32,
}

const _: () = assert!(cfg!(target_endian = "little"));

/// The members of `union bpf_attr` that `BPF_PROG_LOAD` reads, up to the last one we set: the kernel takes the rest as zero.
#[repr(C)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
}

/// The members of `union bpf_attr` that `BPF_PROG_ATTACH` reads.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Loads a program that answers whether a cgroup may use a device: 1 for yes, 0 for EPERM.
///
/// EPERM without `CAP_BPF` and `CAP_NET_ADMIN` (or `CAP_SYS_ADMIN`) in the first user namespace;
/// EINVAL or ENOSYS if the kernel was built without it; EACCES if the verifier refuses the program.
pub(crate) fn load_device_program(program: &[Instruction]) -> io::Result<OwnedFd> {
    let load = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(program.len()).map_err(io::Error::other)?,
        instructions: program.as_ptr().addr() as u64,
        license: c"Apache-2.0".as_ptr().addr() as u64,
    };
    // SAFETY: the kernel reads `size` bytes of `load`, then `instruction_count` instructions and a
    // NUL-terminated string from the addresses in it; all three live until the call returns, and it keeps none.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const load,
            size_of::<Load>(),
        )
    };
    let program = RawFd::try_from(result).map_err(io::Error::other)?;
    if program < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a successful BPF_PROG_LOAD returns a new descriptor (close-on-exec) that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(program) })
}

/// Attaches a device program to a v2 cgroup, where it stays until the cgroup is removed.
pub(crate) fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
) -> io::Result<()> {
    let attach = Attach {
        target: cgroup.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: the kernel reads `size` bytes of `attach`, which lives until the call returns; it holds
    // two open descriptors and no address.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_ATTACH,
            &raw const attach,
            size_of::<Attach>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
