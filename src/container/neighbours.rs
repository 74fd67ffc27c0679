//! A container's neighbours: whom it can reach by name, because they run and are in a network of the user's with it.

use crate::container::record::Status;
use crate::container::{Container, is_looked_after, read, state_file};
use crate::network::{Asked, Attachment, Known};
use crate::store::Store;
use anyhow::Result;
use fs_err as fs;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// How many digits of an ID are a name.
const SHORT_ID: usize = 12;

/// What is known of containers, looked up anew each time.
pub(crate) struct Neighbours {
    store: Store,
    /// The container itself.
    own: Member,
    /// The others by ID, each as old as its record; none of one that does not run.
    others: HashMap<String, (Stamp, Option<Member>)>,
}

/// What tells one record from the next: each is a new file.
type Stamp = (u64, i64, i64, u64);

/// A container that runs, as far as it was written down.
struct Member {
    id: String,
    name: String,
    networks: Vec<Attachment>,
}

impl Member {
    /// Tells whether it is called so in a network.
    fn is_called(&self, name: &str, attachment: &Attachment) -> bool {
        let is_own = |name: &str| {
            let aliases = attachment.aliases.iter().map(String::as_str);
            [self.name.as_str(), &self.id[..SHORT_ID]]
                .into_iter()
                .chain(aliases)
                .any(|own| own.eq_ignore_ascii_case(name))
        };
        // A network's name may have dots, and so may a container's.
        let end = name.len().checked_sub(attachment.network.len() + 1);
        let in_network = end.and_then(|end| name.split_at_checked(end));
        let in_network = in_network.is_some_and(|(name, rest)| {
            let network = rest.strip_prefix('.').unwrap_or_default();
            network.eq_ignore_ascii_case(&attachment.network) && is_own(name)
        });
        in_network || is_own(name)
    }
}

impl Container {
    /// Returns whom this container can reach by name, which was just connected to `networks`: its record says so later.
    pub(crate) fn neighbours(&self, networks: Vec<Attachment>) -> Neighbours {
        Neighbours {
            store: self.store.clone(),
            own: Member {
                id: self.record.id.clone(),
                name: self.record.name.clone(),
                networks,
            },
            others: HashMap::new(),
        }
    }
}

impl Neighbours {
    /// Finds who is called so, or has the address: itself included; none if nobody is and has.
    pub(crate) fn find(&mut self, asked: Asked<'_>) -> Result<Option<Known>> {
        self.refresh()?;
        match asked {
            Asked::Name(name) => {
                let mut addresses = Vec::new();
                for (member, attachment) in self.shared() {
                    if member.is_called(name, attachment) && self.runs(member)? {
                        addresses.extend(addresses_of(attachment));
                    }
                }
                Ok((!addresses.is_empty()).then_some(Known::Addresses(addresses)))
            }
            Asked::Address(address) => {
                for (member, attachment) in self.shared() {
                    if addresses_of(attachment).any(|it| it == address) && self.runs(member)? {
                        let name = format!("{}.{}", member.name, attachment.network);
                        return Ok(Some(Known::Name(name)));
                    }
                }
                Ok(None)
            }
            Asked::Other => Ok(None),
        }
    }

    /// Tells whether this container may hear from outside: one that is in internal networks only may not.
    pub(crate) fn has_way_out(&self) -> bool {
        self.own.networks.iter().any(|network| !network.internal)
    }

    /// Returns all that are in a network of the user's with this container, each with how it is in that.
    fn shared(&self) -> impl Iterator<Item = (&Member, &Attachment)> {
        let others = self.others.values().filter_map(|(_, it)| it.as_ref());
        let members = [&self.own].into_iter().chain(others);
        let all = members.flat_map(|member| member.networks.iter().map(move |it| (member, it)));
        all.filter(|(_, attachment)| {
            let network = &attachment.network_id;
            let own = &self.own.networks;
            attachment.has_names() && own.iter().any(|it| it.network_id == *network)
        })
    }

    /// Tells whether a container runs still: its monitor may have died without a word.
    fn runs(&self, member: &Member) -> Result<bool> {
        if member.id == self.own.id {
            return Ok(true);
        }
        is_looked_after(&self.store.container_directory(&member.id))
    }

    /// Reads the records that are not those of the last time.
    fn refresh(&mut self) -> Result<()> {
        let mut before = std::mem::take(&mut self.others);
        for id in self.store.containers()? {
            let directory = self.store.container_directory(&id);
            let Some(stamp) = stamp(&directory)? else {
                continue;
            };
            let member = match before.remove(&id) {
                Some((known, member)) if known == stamp => member,
                _ if id != self.own.id => running(&directory)?,
                _ => {
                    if let Some(own) = running(&directory)? {
                        self.own = own;
                    }
                    None
                }
            };
            self.others.insert(id, (stamp, member));
        }
        Ok(())
    }
}

fn addresses_of(attachment: &Attachment) -> impl Iterator<Item = IpAddr> {
    let v6 = attachment.address6.map(|it| it.addr().into());
    [attachment.address.addr().into()].into_iter().chain(v6)
}

/// Returns what tells whether a container's record is another than before; none if it has none.
fn stamp(directory: &Path) -> Result<Option<Stamp>> {
    match fs::metadata(state_file(directory)) {
        Ok(it) => Ok(Some((it.ino(), it.mtime(), it.mtime_nsec(), it.size()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads who a container is, if it runs.
fn running(directory: &Path) -> Result<Option<Member>> {
    let Some(record) = read(directory)? else {
        return Ok(None);
    };
    Ok(
        matches!(record.status, Status::Running { .. }).then_some(Member {
            id: record.id,
            name: record.name,
            networks: record.networks,
        }),
    )
}
