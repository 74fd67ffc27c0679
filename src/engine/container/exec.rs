//! A command in a container that runs.

use crate::container::{self, Record, Status};
use crate::engine::container::prepare::spec_mapping;
use crate::engine::place;
use crate::fault::{Fault, Kind};
use crate::monitor::{self, End, Errand, Session};
use crate::options::{ExecOptions, UserName};
use crate::runtime::{self, CapabilityPlan, Command, Donor, Privilege, StartError, Visit};
use crate::spec::{self, Unmapped};
use crate::store::{NotFound, Store, container_config};
use crate::sys::program::Protected;
use crate::sys::userns::Mapping;
use anyhow::{Context, Result, ensure};
use rustix::thread::{CapabilitySet, capabilities};
use std::ffi::CString;
use std::os::fd::AsFd as _;
use std::path::Path;

/// Runs a command in the container that `name` names, of the store at `root`; returns when it has ended, or was left.
///
/// This process must have one thread; one that it starts becomes the command.
pub(crate) fn exec(
    name: &str,
    options: ExecOptions,
    session: Session,
    (root, program): (&Path, Protected),
    notify: &dyn Fn(&str),
) -> Result<End> {
    let mapping = place::mapping(root)?;
    if !Store::exists(root)? {
        return Err(NotFound::container(name).into());
    }
    let store = Store::open(root, &mapping.to_string())?;
    let record = container::find(&store, name)?;
    let host = hold(&record)?;
    let config = container_config(&store.container_directory(&record.id));
    let config = fs_err::read_to_string(config)?;
    let mut visit = Visit::parse(&config)
        .with_context(|| format!("reading the spec of container {}", record.id))?;
    mapping.join(host.pid())?;
    change(&mut visit.command, options, &host, &mapping)?;
    monitor::exec(&Errand {
        id: &record.id,
        visit: &visit,
        host: &host,
        privilege: Privilege {
            program,
            in_user_namespace: !mapping.is_root(),
            can_set_groups: !mapping.is_single(),
        },
        session,
        notify,
    })
}

/// Takes hold of the container's first process.
fn hold(record: &Record) -> Result<Donor> {
    let held = match record.status {
        Status::Running {
            pid, start_time, ..
        } => Donor::hold(pid, start_time)?,
        Status::Starting | Status::Created | Status::Exited { .. } | Status::Unknown => None,
    };
    held.ok_or_else(|| {
        let message = format!("container {} is not running", record.id);
        Fault::new(Kind::Conflict, message).into()
    })
}

/// Makes the container's own command the one that is asked for.
fn change(
    command: &mut Command,
    options: ExecOptions,
    host: &Donor,
    mapping: &Mapping,
) -> Result<()> {
    let homes = match options.user.filter(|name| !name.as_str().is_empty()) {
        Some(name) => become_user(command, &name, host, mapping)?,
        None => None,
    };
    let own = std::mem::take(&mut command.environment).into_iter();
    let own: Vec<String> = own.map(CString::into_string).collect::<Result<_, _>>()?;
    let homes = homes.as_ref();
    let homes = homes.map(|(own, user)| (own.as_str(), user.as_str()));
    let terminals = (command.terminal.is_some(), options.terminal);
    let environment = spec::environment_of_visitor(&own, &options.environment, homes, terminals);
    command.environment = texts(environment)?;
    command.arguments = texts(options.command)?;
    if let Some(directory) = options.directory {
        let shown = directory.display();
        ensure!(
            directory.is_absolute(),
            StartError::CommandNotExecutable(format!(
                "the working directory `{shown}` is not absolute"
            ))
        );
        command.directory = directory;
    }
    let size = || monitor::terminal_size().map_or((0, 0), |size| (size.ws_row, size.ws_col));
    command.terminal = options.terminal.then(size);
    if options.privileged {
        command.profile = None;
        command.capabilities.bounding = capabilities(None)?.permitted;
    }
    let own = match command.uid {
        0 => command.capabilities.bounding,
        // From setuid programs and file capabilities such a user gets what is in the bounding set.
        _ => CapabilitySet::empty(),
    };
    command.capabilities = CapabilityPlan {
        effective: own,
        permitted: own,
        ..command.capabilities
    };
    Ok(())
}

/// Makes it another user's, and returns where the container's own user is at home, and where that one is.
fn become_user(
    command: &mut Command,
    name: &UserName,
    host: &Donor,
    mapping: &Mapping,
) -> Result<Option<(String, String)>> {
    let root = runtime::root_of(host)?;
    let find = |name: &UserName| spec::find_visitor(name, root.as_fd(), spec_mapping(mapping));
    // As Docker's, which looks when the command is to be started.
    let user = find(name).map_err(|error| {
        if error.is::<Unmapped>() {
            return error;
        }
        StartError::CommandNotExecutable(format!("{error:#}")).into()
    })?;
    // That nothing is known any more of the container's own is no fault of the other's.
    let own = format!("{}:{}", command.uid, command.gid).parse::<UserName>();
    let own = own.and_then(|own| find(&own)).ok();
    (command.uid, command.gid, command.groups) = (user.uid, user.gid, user.groups);
    Ok(own.map(|own| (own.home, user.home)))
}

fn texts(texts: Vec<String>) -> Result<Vec<CString>> {
    let texts = texts.into_iter().map(CString::new);
    texts
        .collect::<Result<_, _>>()
        .context("a NUL in an argument or the environment")
}
