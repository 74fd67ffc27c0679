//! The flags of `ddock run` about namespaces: what the container shares with others.

use crate::network::Mac;
use crate::options::{Ipc, Namespaces, Network, Pid, UserNamespace};
use clap::Args;

#[derive(Debug, Args)]
#[command(next_help_heading = "Namespaces")]
pub(super) struct NamespaceFlags {
    /// Host name in the container [default: the first 12 digits of its ID]
    #[arg(short = 'h', long, value_name = "NAME")]
    pub(super) hostname: Option<String>,
    /// Domain name in the container
    #[arg(long, value_name = "NAME")]
    pub(super) domainname: Option<String>,
    /// Processes it sees: `private` (its own; the default), `host` or `container:NAME`
    #[arg(long, value_name = "MODE")]
    pid: Option<Pid>,
    /// Shared memory and queues: `private` (the default), `none`, `shareable`, `host` or `container:NAME`
    #[arg(long, value_name = "MODE")]
    ipc: Option<Ipc>,
    /// Host name: `private` (its own; the default) or `host`
    #[arg(long, value_name = "MODE", value_parser = uts)]
    uts: Option<bool>,
    /// What `/proc` and `/sys` tell of memory and processors: `limits` (the default) or `host`
    #[arg(long, value_name = "MODE", value_parser = proc)]
    proc: Option<bool>,
    /// User namespace: `host` (the default), or `keep-id[:uid=UID,gid=GID]`: an ordinary user is himself inside, not root
    #[arg(long, value_name = "MODE")]
    userns: Option<UserNamespace>,
    /// Cgroups it sees: `private` (its own; the default) or `host`
    #[arg(long, value_name = "MODE", value_parser = cgroupns)]
    cgroupns: Option<bool>,
    /// How it is isolated: `default` is all there is on Linux
    #[arg(long, value_name = "TECHNOLOGY", value_parser = isolation)]
    isolation: Option<()>,
}

impl NamespaceFlags {
    /// Returns what the container shares, in this network.
    pub(super) fn read(self, (network, mac): (Network, Option<Mac>)) -> Namespaces {
        Namespaces {
            network,
            mac,
            pid: self.pid.unwrap_or_default(),
            ipc: self.ipc.unwrap_or_default(),
            uts_of_host: self.uts.unwrap_or_default(),
            cgroup_of_host: self.cgroupns.unwrap_or_default(),
            proc_of_host: self.proc.unwrap_or_default(),
            user: self.userns.unwrap_or_default(),
        }
    }
}

fn uts(mode: &str) -> Result<bool, &'static str> {
    is_hosts(mode, "--uts: invalid UTS mode")
}

fn cgroupns(mode: &str) -> Result<bool, &'static str> {
    is_hosts(mode, "--cgroupns: invalid CGROUP mode")
}

/// Docker's words for what is refused.
fn is_hosts(mode: &str, error: &'static str) -> Result<bool, &'static str> {
    match mode {
        "" | "private" => Ok(false),
        "host" => Ok(true),
        _ => Err(error),
    }
}

fn proc(mode: &str) -> Result<bool, &'static str> {
    match mode {
        "limits" => Ok(false),
        "host" => Ok(true),
        _ => Err("--proc: expected `limits` or `host`"),
    }
}

/// Docker's words, which knows more of them on Windows.
fn isolation(technology: &str) -> Result<(), String> {
    if technology.is_empty() || technology.eq_ignore_ascii_case("default") {
        return Ok(());
    }
    Err(format!(
        "Invalid isolation: {technology:?} - linux only supports 'default'"
    ))
}
