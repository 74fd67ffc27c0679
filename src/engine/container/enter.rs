//! What there has to be before a container is made or started: what it comes to on this machine, and the user namespace and
//! the store that it lives in.

use crate::engine::container::donors::Donors;
use crate::engine::container::peers::Peers;
use crate::engine::container::prepare::spec_mapping;
use crate::engine::place;
use crate::options::{ContainerOptions, Network, UserName, UserNamespace};
use crate::spec::{Host, Settled};
use crate::store::Store;
use crate::sys::userns::Mapping;
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;

/// What was decided without an image, before anything is pulled, made or removed.
pub(crate) struct Groundwork {
    pub(crate) mapping: Mapping,
    host: Host,
    settled: Settled,
}

/// The place in which a container is made and started. This process is in the container's user namespace, if it has one.
pub(crate) struct Entered {
    pub(crate) store: Store,
    pub(crate) mapping: Mapping,
    pub(super) host: Host,
    pub(super) settled: Settled,
    /// The running containers whose namespaces it joins.
    pub(super) donors: Donors,
    /// Of an ordinary user's container that is to be in networks of his.
    pub(super) peers: Option<Peers>,
    /// Who it runs as if nobody says: with `--userns=keep-id` the caller, not the image's user.
    pub(super) default_user: Option<UserName>,
}

impl Groundwork {
    /// Refuses what this machine, or this user, cannot have.
    pub(crate) fn lay(options: &ContainerOptions, root: &Path) -> Result<Self> {
        let mapping = place::mapping(root)?;
        let host = Host::detect(spec_mapping(&mapping))?;
        let settled = Settled::choose(options, &host)?;
        Ok(Self {
            mapping,
            host,
            settled,
        })
    }

    /// Finds the containers that are to be joined, and enters the user namespace: theirs, if there are any. The store is
    /// opened if it was not `found`.
    pub(crate) fn enter(
        self,
        options: &ContainerOptions,
        root: &Path,
        found: Option<Store>,
        is_dry: bool,
    ) -> Result<Entered> {
        let mut mapping = self.mapping;
        let namespaces = &options.namespaces;
        let donors = Donors::find(namespaces, root, &mapping.to_string())?;
        let peers = match &namespaces.network {
            Network::Named(networks) if !mapping.is_root() && !is_dry => {
                ensure!(
                    namespaces.user == UserNamespace::Default,
                    "conflicting options: --userns=keep-id and networks of yours, whose containers share a user namespace in which you are root"
                );
                let first = networks[0].network.as_str();
                Some(Peers::find(root, &mapping.to_string(), first)?)
            }
            _ => None,
        };
        let peer = peers.as_ref().and_then(Peers::process);
        let company = donors.process(peer)?;
        if let (Some(_), Some(process)) = (&peers, company) {
            // The first in the user's networks brings them all into its user namespace.
            ensure!(
                mapping.is_root_inside(process)?,
                "the container to join was started with --userns=keep-id, and containers in networks of yours share a user namespace in which you are root"
            );
        }
        let default_user = enter(&mut mapping, company, namespaces.user)?;
        Ok(Entered {
            store: found.map_or_else(|| Store::open(root, &mapping.to_string()), Ok)?,
            mapping,
            host: self.host,
            settled: self.settled,
            donors,
            peers,
            default_user,
        })
    }
}

/// Enters the user namespace of `company`, or a new one; returns who the container runs as if nobody says.
fn enter(
    mapping: &mut Mapping,
    company: Option<u32>,
    wanted: UserNamespace,
) -> Result<Option<UserName>> {
    match (company, wanted) {
        (None, UserNamespace::Default) => mapping.enter()?,
        (Some(process), UserNamespace::Default) => mapping.join(process)?,
        (Some(_), UserNamespace::KeepId(..)) => bail!(
            "conflicting options: --userns=keep-id and joining a container, which has a user namespace of its own"
        ),
        (None, UserNamespace::KeepId(uid, gid)) => {
            let own = mapping
                .own()
                .context("keep-id is only supported in rootless mode")?;
            let (uid, gid) = (uid.unwrap_or(own.0), gid.unwrap_or(own.1));
            mapping.keep(uid, gid);
            mapping.enter()?;
            return Ok(Some(format!("{uid}:{gid}").parse()?));
        }
    }
    Ok(None)
}
