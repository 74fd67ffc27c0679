//! The flags of `ddock run` about namespaces: what the container shares with others.

use crate::cli::failure::Refusal;
use crate::cli::run::UserNamespace;
use crate::network::Mac;
use crate::spec::{Donor, Ipc, Namespaces, Network, Pid};
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
    pid: Option<String>,
    /// Shared memory and queues: `private` (the default), `none`, `shareable`, `host` or `container:NAME`
    #[arg(long, value_name = "MODE")]
    ipc: Option<String>,
    /// Host name: `private` (its own; the default) or `host`
    #[arg(long, value_name = "MODE")]
    uts: Option<String>,
    /// What `/proc` and `/sys` tell of memory and processors: `limits` (the default) or `host`
    #[arg(long, value_name = "MODE")]
    proc: Option<String>,
    /// User namespace: `host` (the default), or `keep-id[:uid=UID,gid=GID]`: an ordinary user is himself inside, not root
    #[arg(long, value_name = "MODE")]
    userns: Option<String>,
    /// Cgroups it sees: `private` (its own; the default) or `host`
    #[arg(long, value_name = "MODE")]
    cgroupns: Option<String>,
    /// How it is isolated: `default` is all there is on Linux
    #[arg(long, value_name = "TECHNOLOGY")]
    isolation: Option<String>,
}

impl NamespaceFlags {
    pub(super) fn user_namespace(&self) -> Result<UserNamespace, Refusal> {
        let invalid = || Refusal::new("--userns: invalid USER mode");
        let mode = self.userns.as_deref().unwrap_or_default();
        let (mode, options) = mode.split_once(':').unwrap_or((mode, ""));
        match mode {
            "" | "host" if options.is_empty() => return Ok(UserNamespace::Default),
            "keep-id" => {}
            "auto" | "nomap" | "private" | "ns" | "container" => {
                return Err(Refusal::new(format!("`--userns {mode}` is not there yet")));
            }
            _ => return Err(invalid()),
        }
        let (mut uid, mut gid) = (None, None);
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let (name, number) = option.split_once('=').ok_or_else(invalid)?;
            let number = number.parse::<i32>().ok().and_then(|it| it.try_into().ok());
            *match name {
                "uid" => &mut uid,
                "gid" => &mut gid,
                _ => return Err(invalid()),
            } = Some(number.ok_or_else(invalid)?);
        }
        Ok(UserNamespace::KeepId(uid, gid))
    }
}

impl NamespaceFlags {
    /// Returns what the container shares, in this network. Docker's words for what it refuses too.
    pub(super) fn read(
        &self,
        (network, mac): (Network, Option<Mac>),
    ) -> Result<Namespaces, Refusal> {
        let flags = self;
        let refuse = |message: &str| Err(Refusal::new(message));
        check_isolation(flags.isolation.as_deref())?;
        let pid = match (flags.pid.as_deref(), donor(flags.pid.as_deref())) {
            (_, Some(donor)) if !donor.name.is_empty() => Pid::Container(donor),
            (None | Some("" | "private"), _) => Pid::Private,
            (Some("host"), _) => Pid::Host,
            _ => return refuse("--pid: invalid PID mode"),
        };
        let ipc = match (flags.ipc.as_deref(), donor(flags.ipc.as_deref())) {
            (_, Some(donor)) if !donor.name.is_empty() => Ipc::Container(donor),
            (None | Some("" | "private"), _) => Ipc::Private,
            (Some("none"), _) => Ipc::None,
            (Some("shareable"), _) => Ipc::Shareable,
            (Some("host"), _) => Ipc::Host,
            (Some(other), _) => return refuse(&format!("Invalid IPC mode: {other}")),
        };
        let is_hosts = |mode: Option<&str>, error| match mode {
            None | Some("" | "private") => Ok(false),
            Some("host") => Ok(true),
            Some(_) => Err(Refusal::new(error)),
        };
        let uts_of_host = is_hosts(flags.uts.as_deref(), "--uts: invalid UTS mode")?;
        let cgroup_of_host =
            is_hosts(flags.cgroupns.as_deref(), "--cgroupns: invalid CGROUP mode")?;
        let proc_of_host = match flags.proc.as_deref() {
            None | Some("limits") => false,
            Some("host") => true,
            Some(_) => return refuse("--proc: expected `limits` or `host`"),
        };
        if flags.hostname.is_some() && uts_of_host {
            return refuse("conflicting options: hostname and the UTS mode");
        }
        if flags.domainname.is_some() && uts_of_host {
            return refuse("conflicting options: domainname and the UTS mode");
        }
        if flags.hostname.is_some() && matches!(network, Network::Container(_)) {
            return refuse("conflicting options: hostname and the network mode");
        }
        Ok(Namespaces {
            network,
            mac,
            pid,
            ipc,
            uts_of_host,
            cgroup_of_host,
            proc_of_host,
        })
    }
}

/// Docker's words, which knows more of them on Windows.
fn check_isolation(technology: Option<&str>) -> Result<(), Refusal> {
    match technology {
        Some(other) if !other.is_empty() && !other.eq_ignore_ascii_case("default") => {
            Err(Refusal::new(format!(
                "Invalid isolation: {other:?} - linux only supports 'default'"
            )))
        }
        _ => Ok(()),
    }
}

/// Returns the container that `container:NAME` names.
fn donor(mode: Option<&str>) -> Option<Donor> {
    let name = mode?.strip_prefix("container:")?;
    Some(Donor {
        name: name.to_owned(),
        ..Donor::default()
    })
}
