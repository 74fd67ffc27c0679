//! The command line: what each command is called, and how it ends.

mod attach;
mod command_line;
mod containers;
mod control;
mod damage;
mod detach_keys;
mod failure;
mod images;
mod info;
mod inspect;
mod layer_limits;
mod login;
mod logs;
mod manifest;
mod names;
mod networks;
mod output;
mod port;
mod progress;
mod prompt;
mod prune_filter;
mod pull;
mod pull_flags;
mod reach;
mod reset;
mod rmi;
mod run;
mod system;
mod unimplemented;
mod unpack;
mod version;
mod volumes;

use crate::engine;
use crate::runtime;
use crate::sys::program::Protected;
use crate::sys::{caller, lock, program};
use anyhow::Result;
use clap::{ArgAction, Parser, Subcommand};
use command_line::Parsed;
use failure::{DDOCK_FAILED, NOT_EXECUTABLE};
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Pull images and run commands in containers, without a daemon
#[derive(Debug, Parser)]
#[command(
    name = "ddock",
    version,
    override_usage = "ddock [OPTIONS] COMMAND",
    disable_version_flag = true,
    subcommand_value_name = "COMMAND"
)]
struct Arguments {
    /// Directory of images and containers [default: /var/lib/ddock as root, else ~/.local/share/ddock]
    #[arg(long, env = "DDOCK_ROOT", value_name = "DIR", hide_env_values = true)]
    root: Option<PathBuf>,
    /// Print the version
    #[arg(short = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
// Deferred: clap makes the flags of the one command that is called, which is most of what parsing costs.
#[command(defer = true)]
enum Command {
    /// Run a command in a new container
    Run(Box<run::Arguments>),
    /// Download an image from a registry
    Pull(Box<pull::Arguments>),
    /// Log in to a registry
    Login(login::LoginArguments),
    /// Log out of a registry
    Logout(login::LogoutArguments),
    /// Show what a registry has under a name
    ManifestInspect(manifest::Arguments),
    /// List images
    Images(images::Arguments),
    /// Remove images
    Rmi(rmi::Arguments),
    /// List containers
    Ps(containers::ListArguments),
    /// Show which ports of a container are published, and where
    Port(port::Arguments),
    /// Remove containers
    Rm(containers::RemoveArguments),
    /// Show what a container's command wrote
    Logs(logs::Arguments),
    /// Connect this terminal, or these streams, to a container that runs
    Attach(attach::Arguments),
    /// Ask containers to end, and kill them if they do not
    Stop(control::StopArguments),
    /// Send containers a signal
    Kill(control::KillArguments),
    /// Wait until containers have ended, and print their exit codes
    Wait(control::WaitArguments),
    /// Show everything known about containers and images, as JSON
    Inspect(inspect::Arguments),
    /// Show what this machine offers and where things are kept
    Info(info::Arguments),
    /// Check that images are what was pulled, to the last file
    #[command(name = "system check")]
    SystemCheck(system::CheckArguments),
    /// Remove all containers, images, volumes and networks, and the directory they are kept in
    #[command(name = "system reset")]
    SystemReset(reset::Arguments),
    /// Connect a container that runs to a network
    #[command(name = "network connect")]
    NetworkConnect(networks::ConnectArguments),
    /// Disconnect a container that runs from a network
    #[command(name = "network disconnect")]
    NetworkDisconnect(networks::DisconnectArguments),
    /// Make a network
    #[command(name = "network create")]
    NetworkCreate(networks::CreateArguments),
    /// List networks
    #[command(name = "network ls")]
    NetworkList(networks::ListArguments),
    /// Show everything known about networks, as JSON
    #[command(name = "network inspect")]
    NetworkInspect(networks::InspectArguments),
    /// Remove networks
    #[command(name = "network rm")]
    NetworkRemove(networks::RemoveArguments),
    /// Remove networks that no container is in
    #[command(name = "network prune")]
    NetworkPrune(networks::PruneArguments),
    /// Make a volume
    #[command(name = "volume create")]
    VolumeCreate(volumes::CreateArguments),
    /// List volumes
    #[command(name = "volume ls")]
    VolumeList(volumes::ListArguments),
    /// Show everything known about volumes, as JSON
    #[command(name = "volume inspect")]
    VolumeInspect(volumes::InspectArguments),
    /// Remove volumes
    #[command(name = "volume rm")]
    VolumeRemove(volumes::RemoveArguments),
    /// Remove volumes that no container uses
    #[command(name = "volume prune")]
    VolumePrune(volumes::PruneArguments),
    /// Unpack one layer into a directory
    #[command(hide = true)]
    UnpackLayer(unpack::Arguments),
    /// Show the version
    Version,
}

/// Runs the command named by this process's arguments.
pub(crate) fn run() -> ExitCode {
    let words: Vec<_> = env::args_os().collect();
    if let Some(command) = runtime::init_for(words.iter().map(OsString::as_os_str)) {
        return code_of(runtime::reap(command));
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
    let arguments = match command_line::parse(words) {
        Ok(Parsed::Command(arguments)) => arguments,
        Ok(Parsed::Text(text)) => return finish(output::print(&text)),
        Err(refusal) => return failure::report(&refusal.into(), DDOCK_FAILED),
    };
    lock::on_waiting(|text| output::tell(&format!("ddock: {text}\n")));
    let root = match arguments.root.map_or_else(engine::default_root, Ok) {
        Ok(root) => root,
        Err(error) => return failure::report(&error, DDOCK_FAILED),
    };
    match arguments.command {
        Command::Run(arguments) => code_of(
            protected
                .map_or_else(program::protect, Ok)
                .and_then(|program| run::run(*arguments, &root, program)),
        ),
        Command::Pull(arguments) => finish(pull::run(&arguments, &root)),
        Command::Login(arguments) => finish(login::login(arguments)),
        Command::Logout(arguments) => finish(login::logout(&arguments)),
        Command::ManifestInspect(arguments) => finish(manifest::run(&arguments)),
        Command::Images(arguments) => finish(images::run(&arguments, &root)),
        Command::Rmi(arguments) => finish(rmi::run(&arguments, &root)),
        Command::Ps(arguments) => finish(containers::list(&arguments, &root)),
        Command::Port(arguments) => finish(port::run(&arguments, &root)),
        Command::Rm(arguments) => finish(containers::remove(&arguments, &root)),
        Command::Logs(arguments) => finish(logs::run(&arguments, &root)),
        Command::Attach(arguments) => match attach::run(&arguments, &root) {
            Ok(code) => ExitCode::from(code),
            Err(error) => failure::report(&error, 1),
        },
        Command::Stop(arguments) => finish(control::stop(&arguments, &root)),
        Command::Kill(arguments) => finish(control::kill(&arguments, &root)),
        Command::Wait(arguments) => finish(control::wait(&arguments, &root)),
        Command::Inspect(arguments) => finish(inspect::run(&arguments, &root)),
        Command::Info(arguments) => finish(info::run(&arguments, &root)),
        Command::SystemCheck(arguments) => finish(system::check(&arguments, &root)),
        Command::SystemReset(arguments) => finish(reset::run(&arguments, &root)),
        Command::NetworkConnect(arguments) => finish(networks::connect(&arguments, &root)),
        Command::NetworkDisconnect(arguments) => finish(networks::disconnect(&arguments, &root)),
        Command::NetworkCreate(arguments) => finish(networks::create(&arguments, &root)),
        Command::NetworkList(arguments) => finish(networks::list(&arguments, &root)),
        Command::NetworkInspect(arguments) => finish(networks::inspect(&arguments, &root)),
        Command::NetworkRemove(arguments) => finish(networks::remove(&arguments, &root)),
        Command::NetworkPrune(arguments) => finish(networks::prune(&arguments, &root)),
        Command::VolumeCreate(arguments) => finish(volumes::create(&arguments, &root)),
        Command::VolumeList(arguments) => finish(volumes::list(&arguments, &root)),
        Command::VolumeInspect(arguments) => finish(volumes::inspect(&arguments, &root)),
        Command::VolumeRemove(arguments) => finish(volumes::remove(&arguments, &root)),
        Command::VolumePrune(arguments) => finish(volumes::prune(&arguments, &root)),
        Command::UnpackLayer(arguments) => finish(unpack::run(&arguments)),
        Command::Version => finish(version::run()),
    }
}

/// Does nothing for a container whose command is this program, as the host has it.
fn refuse_container() -> ExitCode {
    output::tell(
        "ddock: the container's command leads to ddock's own program, which is not the container's to run\n",
    );
    ExitCode::from(NOT_EXECUTABLE)
}

fn code_of(result: Result<u8>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => failure::report(&error, DDOCK_FAILED),
    }
}

fn finish(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error, 1),
    }
}
