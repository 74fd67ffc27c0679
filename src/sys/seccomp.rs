//! `seccomp(2)`: loads a filter of system calls into this process.
#![allow(unsafe_code, reason = "seccomp(2) has no safe wrapper")]

use std::io;

/// One instruction of classic BPF, `struct sock_filter` of linux/filter.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub(crate) code: u16,
    /// How many instructions to leave out if the comparison holds.
    pub(crate) if_true: u8,
    pub(crate) if_false: u8,
    pub(crate) operand: u32,
}

/// Loads `program`, which stays over every execve(2); `flags` are of seccomp(2).
///
/// EACCES without no-new-privileges and without `CAP_SYS_ADMIN` in the own user namespace; EINVAL if the kernel
/// refuses the program or has no filters.
pub(crate) fn load(program: &[Instruction], flags: libc::c_ulong) -> io::Result<()> {
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `Instruction` has the layout of `struct sock_filter`; the kernel reads `len` of them from an address
    // that lives until the call returns, and keeps a copy.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const filter,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
