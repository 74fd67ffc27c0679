//! Backtraces, which ddock does without: the program that users get has neither the tables by which a stack is unwound nor
//! names, and without the tables whoever asks for a backtrace ends the process.
#![allow(
    unsafe_code,
    reason = "changing the environment is safe only with one thread"
)]

use std::backtrace::Backtrace;
use std::env;

/// Decides it for the errors of this process, whose caller may have set this one or `RUST_BACKTRACE`.
const VARIABLE: &str = "RUST_LIB_BACKTRACE";

/// Has no error of this process take a backtrace, whatever the caller's environment says, and leaves that as it is: a container
/// may be given it. To be called first of all, before there is a second thread.
///
/// The standard library asks the environment once, at the first backtrace (`std::backtrace`, "Environment Variables").
pub(crate) fn never() {
    let callers = env::var_os(VARIABLE);
    let is_asked_for = callers.is_some() || env::var_os("RUST_BACKTRACE").is_some();
    if cfg!(debug_assertions) || !is_asked_for {
        return;
    }
    // SAFETY: nobody else may read or write the environment meanwhile (environ(7)): this process has one thread.
    unsafe { env::set_var(VARIABLE, "0") };
    drop(Backtrace::capture());
    match callers {
        // SAFETY: as above.
        Some(value) => unsafe { env::set_var(VARIABLE, value) },
        // SAFETY: as above.
        None => unsafe { env::remove_var(VARIABLE) },
    }
}
