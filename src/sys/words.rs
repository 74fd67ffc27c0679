//! The words and the environment that this process was started with, as others see them.
#![allow(
    unsafe_code,
    reason = "the kernel shows this process's own memory, and the environment belongs to the C library"
)]

use anyhow::{Context, Result};
use std::env;
use std::ffi::{OsStr, OsString};

/// What a process that stays still needs of its environment: where programs are.
const KEPT: &str = "PATH";

/// Shows `title` in the place of this process's words, and nothing in the place of its environment, most of which it forgets.
///
/// `/proc/PID/cmdline` is open to every user, for as long as the process lives, and the words of `run` hold passwords. The
/// kernel shows a range of this process's memory; moving that takes `CAP_SYS_RESOURCE` (`PR_SET_MM`), writing to it nothing. A
/// title that is longer than the words were is cut. Needs a process with one thread; a child inherits it.
pub(crate) fn replace(title: &str) -> Result<()> {
    let [words, words_end, variables, variables_end] = places()?;
    let kept = env::var_os(KEPT);
    forget_environment(kept);
    if words < words_end {
        wipe(words, words_end - words);
        // The last byte stays zero: otherwise the kernel takes what follows for a part of the words (`get_mm_cmdline`).
        let length = title.len().min(words_end - words - 1);
        let place = std::ptr::with_exposed_provenance_mut::<u8>(words);
        // SAFETY: as in `wipe`, for the first `length` bytes of that range; the title lies elsewhere, on the heap or in
        // the program's file.
        unsafe { std::ptr::copy_nonoverlapping(title.as_ptr(), place, length) };
    }
    if variables < variables_end {
        wipe(variables, variables_end - variables);
    }
    Ok(())
}

/// Returns where the words begin and end, and where the environment does (`proc_pid_stat(5)`, fields 48 to 51).
fn places() -> Result<[usize; 4]> {
    let stat = fs_err::read_to_string("/proc/self/stat")?;
    // The command's name may hold spaces and parentheses: fields are counted from its end, where the third is the first.
    let (_, fields) = stat.rsplit_once(')').context("reading /proc/self/stat")?;
    let mut fields = fields.split_whitespace().skip(48 - 3);
    let mut next = || {
        let field = fields.next().and_then(|field| field.parse().ok());
        field.context("reading the places of the words in /proc/self/stat")
    };
    Ok([next()?, next()?, next()?, next()?])
}

/// Sets a variable of this process, for what it reads later and the processes it starts. To be called while it has one thread.
pub(crate) fn set_variable(name: &str, value: &OsStr) {
    // SAFETY: this process has one thread, so nobody reads the environment meanwhile.
    unsafe { env::set_var(name, value) };
}

fn forget_environment(kept: Option<OsString>) {
    // SAFETY: this process has one thread, so nobody reads the environment meanwhile, and Rust's `std` holds no pointer
    // into it between calls. What `environ` pointed at is not freed by this.
    unsafe {
        libc::clearenv();
    }
    if let Some(kept) = kept {
        // SAFETY: as above.
        unsafe { env::set_var(KEPT, kept) };
    }
}

/// Fills a range with zeros that the kernel laid out on the first stack at the exec.
fn wipe(from: usize, length: usize) {
    let place = std::ptr::with_exposed_provenance_mut::<u8>(from);
    // SAFETY: the kernel says that this range is this process's words or environment, which lie on its first stack, above all
    // frames, mapped and writable for the process's whole life. `std` and the C library keep pointers to the C strings in
    // there, which become empty ones; nothing here has a reference to them.
    unsafe { place.write_bytes(0, length) };
}
