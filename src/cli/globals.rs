//! The flags before the command: where the store is, and what Docker's client has there.

use crate::cli::failure::Refusal;
use crate::cli::name;
use crate::sys::words;
use clap::Args;
use std::env;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(args_override_self = true)]
#[expect(clippy::struct_excessive_bools, reason = "flags are booleans")]
pub(super) struct Globals {
    /// Directory of images and containers [default: /var/lib/ddock as root, else ~/.local/share/ddock]
    #[arg(long, env = "DDOCK_ROOT", value_name = "DIR", hide_env = true)]
    pub(super) root: Option<PathBuf>,
    /// Directory of Docker's `config.json`, for log-ins [default: ~/.docker]
    #[arg(long, value_name = "DIR")]
    config: Option<PathBuf>,
    /// As Docker has it: there is only `default`
    #[arg(short, long, value_name = "NAME")]
    context: Option<String>,
    /// As Docker has it: there is no daemon that would say more
    #[arg(short = 'D', long)]
    debug: bool,
    /// As Docker has it: there is only `unix:///var/run/docker.sock`, by which this machine is meant
    #[arg(short = 'H', long, value_name = "SOCKET")]
    host: Vec<String>,
    /// As Docker has it (debug, info, warn, error, fatal)
    #[arg(short, long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// As Docker has it: `false` is all there is without a daemon
    #[arg(long)]
    tls: bool,
    #[arg(long, hide = true, value_name = "FILE")]
    tlscacert: Option<PathBuf>,
    #[arg(long, hide = true, value_name = "FILE")]
    tlscert: Option<PathBuf>,
    #[arg(long, hide = true, value_name = "FILE")]
    tlskey: Option<PathBuf>,
    #[arg(long, hide = true)]
    tlsverify: bool,
    /// Print the version
    #[arg(short, long)]
    pub(super) version: bool,
}

/// Those that have a value, which may be the next word.
pub(super) const WITH_VALUES: &[&str] = &[
    "--root",
    "--config",
    "--context",
    "-c",
    "--host",
    "-H",
    "--log-level",
    "-l",
    "--tlscacert",
    "--tlscert",
    "--tlskey",
];

impl Globals {
    /// Does what Docker's flags can have done, and refuses the rest by name.
    pub(super) fn obey(&self) -> Result<(), Refusal> {
        if let Some(level) = &self.log_level
            && !is_level(level)
        {
            let refusal = Refusal::new(format!("Unable to parse logging level: {level}"));
            return Err(refusal.code(1));
        }
        if let Some(host) = self.host.iter().find(|host| !is_here(host)) {
            return Err(nobody(&format!("--host {host}")));
        }
        if let Some(context) = self.context.as_ref().filter(|it| *it != "default") {
            let refusal = Refusal::new(format!("context \"{context}\" does not exist"));
            let hint = "there is only `default`: containers run where ddock is called";
            return Err(refusal.hint(hint).code(1));
        }
        for (flag, is_given) in [("--tls", self.tls), ("--tlsverify", self.tlsverify)] {
            if is_given {
                return Err(nobody(flag));
            }
        }
        if let Some(directory) = &self.config {
            words::set_variable("DOCKER_CONFIG", directory.as_os_str());
        }
        Ok(())
    }
}

fn is_level(text: &str) -> bool {
    let levels = [
        "panic", "fatal", "error", "warn", "warning", "info", "debug", "trace",
    ];
    levels.contains(&text.to_lowercase().as_str())
}

fn nobody(flag: &str) -> Refusal {
    Refusal::new(format!(
        "`{flag}` is not there: ddock has no daemon that it could ask elsewhere"
    ))
    .hint("call it on the machine where the containers are to run")
    .code(1)
}

/// Tells whether a socket is the one of this machine's own Docker, in whose stead this program stands.
fn is_here(socket: &str) -> bool {
    let own =
        env::var("XDG_RUNTIME_DIR").map(|directory| format!("unix://{directory}/docker.sock"));
    matches!(
        socket,
        "" | "unix://" | "unix:///var/run/docker.sock" | "unix:///run/docker.sock"
    ) || own.is_ok_and(|own| own == socket)
}

/// Returns what is to be said to somebody whose variables lead Docker's client elsewhere.
pub(super) fn warning() -> Option<String> {
    if !name::is_docker() {
        return None;
    }
    let host = env::var("DOCKER_HOST").ok().filter(|host| !is_here(host));
    let context = env::var("DOCKER_CONTEXT").ok();
    let context = context.filter(|context| !matches!(context.as_str(), "" | "default"));
    let host = host.map(|host| format!("DOCKER_HOST={host}"));
    let what = host.or(context.map(|context| format!("DOCKER_CONTEXT={context}")))?;
    Some(format!(
        "WARNING: {what} means nothing to ddock: containers run on this machine\n"
    ))
}
