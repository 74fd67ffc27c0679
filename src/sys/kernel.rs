//! System calls that neither rustix nor nix wraps.
#![allow(unsafe_code, reason = "these calls have no safe wrapper")]

use nix::libc;
use nix::sched::CloneFlags;
use rustix::io::{FdFlags, fcntl_setfd};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Marks every descriptor above 2 to be closed by the next exec (`close_range(2)`).
pub(crate) fn close_descriptors_on_exec() -> io::Result<()> {
    // SAFETY: only sets flags of descriptors; no memory is passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3_u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })
}

/// Closes every descriptor above 2 but the `kept`, which are open: others may look at what this process holds.
///
/// Whatever owns one of the others must not be used any more.
pub(crate) fn close_descriptors_but(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let numbers = kept.iter().map(|kept| kept.as_raw_fd().cast_unsigned());
    let kept: BTreeSet<u32> = numbers.collect();
    let mut first = 3;
    for last in kept.into_iter().chain([u32::MAX]) {
        if first < last {
            let end = if last == u32::MAX { last } else { last - 1 };
            // SAFETY: no memory is passed; the caller answers for what is closed.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, end, 0) })?;
        }
        first = first.max(last.saturating_add(1));
    }
    Ok(())
}

/// Closes every descriptor above 2 that this process was given when it was executed: all of its own
/// close on exec, as whoever gave them must have left that out.
pub(crate) fn close_inherited_descriptors() -> io::Result<()> {
    let mut inherited = Vec::new();
    for entry in fs_err::read_dir("/proc/self/fd")? {
        let number = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(number) = number.filter(|number: &libc::c_int| *number > 2) else {
            continue;
        };
        if is_inherited(number) {
            inherited.push(number);
        }
    }
    for number in inherited {
        // SAFETY: nothing in this process owns it: what does closes on exec.
        unsafe { libc::close(number) };
    }
    Ok(())
}

/// Takes the descriptors with these numbers, above 2, that this process was given when it was executed, and lets the next
/// exec close them; the first that it was not given is the error. To be called once, and not after
/// [`close_inherited_descriptors`].
pub(crate) fn take_inherited(numbers: &BTreeSet<RawFd>) -> Result<Vec<OwnedFd>, RawFd> {
    numbers
        .iter()
        .map(|&number| {
            if !is_inherited(number) {
                return Err(number);
            }
            // SAFETY: nothing in this process owns it: what does closes on exec. From here on this one does too, and in a
            // set each number is there once.
            let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
            fcntl_setfd(&descriptor, FdFlags::CLOEXEC).map_err(|_| number)?;
            Ok(descriptor)
        })
        .collect()
}

/// Tells whether `number` is a descriptor that does not close on exec, as none of this process's own does.
fn is_inherited(number: RawFd) -> bool {
    // SAFETY: only asks for flags; a number that is no descriptor gives an error.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// Closes every descriptor above 2 but `kept` (`close_range(2)`).
///
/// For a new process that never goes back to the code which owns the others.
pub(crate) fn close_all_but(kept: &[RawFd]) -> io::Result<()> {
    let mut kept: Vec<u32> = kept.iter().map(|fd| fd.cast_unsigned()).collect();
    kept.sort_unstable();
    let mut first = 3_u32;
    for end in kept.into_iter().chain([u32::MAX]) {
        if first < end {
            // SAFETY: no memory is passed. Whoever owns the descriptors does not run in this process any more,
            // which the caller sees to.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, end - 1, 0) })?;
        }
        first = end.saturating_add(1).max(first);
    }
    Ok(())
}

/// Has the C library give each block of a megabyte and more back to the kernel when it is freed (`mallopt(3)`). It would
/// otherwise learn from the first one to keep them, for each thread that had one: windows of zstd streams are 8 MiB.
pub(crate) fn give_large_blocks_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no memory is passed; it sets a number that malloc(3) reads. If it refuses, more is kept.
    let _ = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20) };
}

/// Gives memory that was freed back to the kernel (`malloc_trim(3)`), where the C library keeps it otherwise, and the pages
/// of the stack that deeper calls left behind.
pub(crate) fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: frees pages that no allocation uses; no memory is passed.
    unsafe {
        libc::malloc_trim(0);
    }
    give_stack_back();
}

/// Bytes of the stack that are looked at for pages to give back: what parsing the command line takes, with reserve.
const DEEPEST: usize = 512 << 10;

/// Bytes of the stack that stay: what this call and those that follow it soon need.
const NEAR: usize = 16 << 10;

#[inline(never)]
fn give_stack_back() {
    let here = 0_u8;
    let here = std::ptr::addr_of!(here) as usize;
    let page = rustix::param::page_size();
    let end = here.saturating_sub(NEAR) / page * page;
    let start = end.saturating_sub(DEEPEST);
    // SAFETY: the stack grows down, so nothing that is alive lies so far below this frame, and no handler of a signal is set
    // that could run there. Only a process of one thread comes here: below its stack the kernel leaves a megabyte free
    // (`stack_guard_gap`). Pages that are not mapped are passed over, which is ENOMEM (madvise(2)).
    unsafe {
        libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED);
    }
}

/// What to change of a mount (`mount_setattr(2)`): `MOUNT_ATTR_*` bits and one `MS_*` propagation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MountAttributes {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
}

/// Changes the attributes of a mount, and with `recursive` of all below it, at once.
pub(crate) fn mount_setattr(
    mount: BorrowedFd<'_>,
    recursive: bool,
    change: MountAttributes,
) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: change.set,
        attr_clr: change.clear,
        propagation: change.propagation,
        userns_fd: 0,
    };
    set_attributes(mount, recursive, &attributes)
}

/// Makes a mount, and with `recursive` all below it, show the owners of files as the user namespace `ids` maps them.
///
/// The mount must be attached nowhere (`mount_setattr(2)`, "ID-mapped mounts").
pub(crate) fn map_mount(
    mount: BorrowedFd<'_>,
    recursive: bool,
    ids: BorrowedFd<'_>,
) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: ids.as_raw_fd().cast_unsigned().into(),
    };
    set_attributes(mount, recursive, &attributes)
}

fn set_attributes(
    mount: BorrowedFd<'_>,
    recursive: bool,
    attributes: &libc::mount_attr,
) -> io::Result<()> {
    let recursive = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, and `attributes` is valid for reads of its size.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            std::ptr::from_ref(attributes),
            size_of::<libc::mount_attr>(),
        )
    })
}

/// Returns which kind of namespace an open file of `/proc/PID/ns` is (`ioctl_ns(2)`, `NS_GET_NSTYPE`).
pub(crate) fn namespace_type(file: BorrowedFd<'_>) -> io::Result<CloneFlags> {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: this request takes no argument; any other kind of file refuses it.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
    check(kind.into())?;
    Ok(CloneFlags::from_bits_retain(kind))
}

/// Makes this process one of the machine's own kind, at random addresses (personality(2)); whatever the kernel does not
/// know, nobody can have set.
pub(crate) fn reset_personality() {
    // SAFETY: sets this process's execution domain; no memory is passed. `PER_LINUX` is 0.
    unsafe { libc::personality(0) };
}

/// Makes this process one that shares the processors' time with others by their nice values (sched(7)).
pub(crate) fn reset_scheduler() -> io::Result<()> {
    let parameter = libc::c_int::from(0_u8);
    // SAFETY: the kernel's sched_param is one int, which is valid for reads. By the system call, as musl's wrapper does nothing.
    check(unsafe {
        libc::syscall(
            libc::SYS_sched_setscheduler,
            0,
            libc::SCHED_OTHER,
            &raw const parameter,
        )
    })
}

/// Lets the input and output of this process go by its nice value (`ioprio_set(2)`).
pub(crate) fn reset_io_priority() -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    // SAFETY: only numbers are passed; a class and a priority of 0 are none.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, 0) })
}

/// Lets this process have memory wherever it runs (`set_mempolicy(2)`).
pub(crate) fn reset_memory_policy() -> io::Result<()> {
    const MPOL_DEFAULT: libc::c_int = 0;
    // SAFETY: a null mask of no length names no nodes, which this policy wants.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, MPOL_DEFAULT, 0_usize, 0_usize) })
}

/// Gives this process a session keyring of its own (`keyctl_join_session_keyring(3)`).
pub(crate) fn join_new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring; no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0_usize) })
}

/// Brings the loopback interface of this network namespace up (netdevice(7)).
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: ifreq is plain data, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = IFF_UP;
    // SAFETY: SIOCSIFFLAGS reads an ifreq with a name that ends in NUL, and flags.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into())
}

const IFF_UP: libc::c_short = 1;

/// Gives every signal its default action and unblocks all (what execve(2) would pass on otherwise).
pub(crate) fn reset_signals() -> io::Result<()> {
    const LAST: libc::c_int = 64; // _NSIG of the kernel
    for signal in (1..=LAST).filter(|signal| !matches!(*signal, libc::SIGKILL | libc::SIGSTOP)) {
        default_action(signal)?;
    }
    nix::sys::signal::SigSet::empty().thread_set_mask()?;
    Ok(())
}

/// Sees to it that children that end can be waited for: a caller that ignores SIGCHLD passes that
/// on, and then the kernel reaps them at once (wait(2), "Linux notes").
pub(crate) fn keep_ended_children() -> io::Result<()> {
    default_action(libc::SIGCHLD)
}

/// By the system call: the C library keeps two signals to itself, which a caller may ignore all the same.
fn default_action(signal: libc::c_int) -> io::Result<()> {
    // The kernel's own struct, not the C library's: SIG_DFL, no flags, no restorer, an empty mask.
    let default = [0_u64; 4];
    // SAFETY: `default` is valid for reads of the kernel's struct sigaction, which is no longer than
    // this on any architecture; SIG_DFL is no handler, so no code of ours runs in a signal.
    check(unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            default.as_ptr(),
            std::ptr::null_mut::<libc::c_void>(),
            size_of::<u64>(),
        )
    })
}

/// Replaces this process by `program`; returns only if that failed (execve(2)).
pub(crate) fn execute(
    program: &CString,
    arguments: &[CString],
    environment: &[CString],
) -> io::Error {
    match nix::unistd::execve(program, arguments, environment) {
        Err(error) => error.into(),
        Ok(never) => match never {},
    }
}
