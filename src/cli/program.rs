//! The program: what this process was started for, and how it ends.

use crate::cli::command_line::{self, Parsed};
use crate::cli::failure::{self, DDOCK_FAILED, NOT_EXECUTABLE};
use crate::cli::{globals, name, output};
use crate::runtime;
use crate::sys::program::Protected;
use crate::sys::{caller, lock, program};
use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the command named by this process's arguments.
pub(crate) fn run() -> ExitCode {
    let words: Vec<_> = env::args_os().collect();
    name::remember(words.first().map(OsString::as_os_str));
    if let Some(command) = runtime::init_for(words.iter().map(OsString::as_os_str)) {
        return match runtime::reap(command) {
            Ok(code) => ExitCode::from(code),
            Err(error) => failure::report(&error, DDOCK_FAILED),
        };
    }
    let protected = match program::origin() {
        program::Origin::Protected(protected) => Some(protected),
        program::Origin::Container => return refuse_container(),
        program::Origin::Caller => None,
    };
    caller::leave();
    // Before the words are parsed, which would be done twice. What fails is tried again where it is needed.
    let early = protected.is_none() && command_line::is_run(&words);
    let protected = if early {
        program::protect().ok()
    } else {
        protected
    };
    obey(words, protected)
}

/// Runs the command that `words` name, in a process that is `protected` if it was foreseen that it must be.
fn obey(words: Vec<OsString>, protected: Option<Protected>) -> ExitCode {
    let mut call = match command_line::parse(words) {
        Ok(Parsed::Command(call)) => call,
        Ok(Parsed::Text(stream, text)) => {
            return match stream.write(&name::called(&text)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failure::report(&error, 1),
            };
        }
        Err(refusal) => return failure::report(&refusal.into(), DDOCK_FAILED),
    };
    lock::on_waiting(|text| output::tell(&format!("ddock: {text}\n")));
    if let Some(warning) = globals::warning() {
        output::tell(&warning);
    }
    call.protected = protected;
    (call.command.act)(call)
}

/// Does nothing for a container whose command is this program, as the host has it.
fn refuse_container() -> ExitCode {
    output::tell(
        "ddock: the container's command leads to ddock's own program, which is not the container's to run\n",
    );
    ExitCode::from(NOT_EXECUTABLE)
}
