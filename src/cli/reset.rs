//! `ddock system reset`: rids a user of all that is his.

use crate::cli::{output, prompt};
use crate::container::{self, network_of};
use crate::engine::place;
use crate::fault::{Fault, Kind};
use crate::monitor;
use crate::network;
use crate::store::Store;
use crate::sys::userns::Mapping;
use anyhow::{Context, Result};
use clap::Args;
use std::path::Path;

#[derive(Debug, Args, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// Ends all containers and removes the store with everything in it. What the user keeps elsewhere stays, as logins do.
pub(crate) fn run(arguments: &Arguments, root: &Path) -> Result<()> {
    let root = &std::path::absolute(root).context("finding the store")?;
    let context = || format!("cannot remove the store `{}`", root.display());
    if !Store::remains(root).with_context(context)? {
        output::tell(&format!("there is no store `{}`\n", root.display()));
        return Ok(());
    }
    // What is not ours is refused before anybody is asked.
    let mapping = place::recorded(root, &Mapping::of_caller()).with_context(context)?;
    let store = place::existing(root).with_context(context)?;
    if !arguments.force {
        let warning = format!(
            "This will remove all containers, images, volumes and networks, and the store `{}` itself.",
            root.display()
        );
        prompt::confirm(&warning, "system reset")?;
    }
    let can_enter = mapping.lacking().is_none();
    if can_enter {
        mapping.enter().with_context(context)?;
    }
    if let Some(store) = store {
        end_all(&store, &mapping, can_enter).with_context(context)?;
    }
    match Store::remove(root) {
        // Files of IDs that this user could have once.
        Err(error) if !can_enter => {
            let message = format!("{}: {error:#}", context());
            let fault = Fault::new(Kind::Forbidden, message).hint(format!(
                "nothing uses what is left; root can remove it: `sudo rm -rf {}/.removed-*`",
                root.display()
            ));
            Err(fault.into())
        }
        removed => removed.with_context(context),
    }
}

/// Ends what runs. Networks of root's are links of this machine and its rules; an ordinary user's end with his containers.
fn end_all(store: &Store, mapping: &Mapping, can_enter: bool) -> Result<()> {
    let containers = if can_enter {
        container::list(store)?
    } else {
        container::records(store)?
    };
    for record in containers {
        container::end(store, &record, monitor::kill)?;
    }
    if mapping.is_root() {
        for network in store.networks()? {
            network_of(&network).unmake(&network::Lock::take()?)?;
        }
    }
    Ok(())
}
