//! A container's neighbours: whom it can reach by name, because they run and are in a network of the user's with it.
//!
//! The store leads from a name straight to who is called so (`store::members`): no other record is read, so that neither
//! the number of containers nor a damaged one of them matters to a question.

use crate::container::Container;
use crate::container::reading::read;
use crate::container::record::Status;
use crate::network::{Asked, Attachment, Known};
use crate::store::{Owner, Store, Word, container_state};
use anyhow::Result;
use fs_err as fs;
use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// How many digits of an ID are a name.
const SHORT_ID: usize = 12;

/// What is known of containers, looked up anew each time.
pub(crate) struct Neighbours {
    store: Store,
    /// The container itself.
    id: String,
    directory: PathBuf,
    networks: Vec<Attachment>,
    /// How old its record was when these were read.
    seen: Option<Stamp>,
}

/// What tells one record from the next: each is a new file.
type Stamp = (u64, i64, i64, u64);

impl Container {
    /// Has others find this container by its names and addresses in a network that it was just connected to.
    pub(crate) fn be_found(&self, attachment: &Attachment) -> Result<()> {
        if !attachment.has_names() {
            return Ok(());
        }
        let addresses: Vec<IpAddr> = addresses_of(attachment).collect();
        let said: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        let (id, name) = (&self.record.id, &self.record.name);
        let mut names = vec![name.as_str(), &id[..SHORT_ID]];
        names.extend(attachment.aliases.iter().map(String::as_str));
        let by_name = names.iter().map(|it| (Word::Name(it), said.join(" ")));
        let by_address = addresses
            .iter()
            .map(|it| (Word::Address(*it), name.clone()));
        let words: Vec<(Word<'_>, String)> = by_name.chain(by_address).collect();
        self.store.enter_words(id, &attachment.network_id, &words)
    }

    /// Returns whom this container can reach by name, which was just connected to `networks`: its record says so later.
    pub(crate) fn neighbours(&self, networks: Vec<Attachment>) -> Neighbours {
        Neighbours {
            store: self.store.clone(),
            id: self.record.id.clone(),
            directory: self.directory.clone(),
            networks,
            seen: None,
        }
    }
}

impl Neighbours {
    /// Finds who is called so, or has the address: itself included; none if nobody is and has.
    pub(crate) fn find(&mut self, asked: Asked<'_>) -> Result<Option<Known>> {
        self.refresh();
        match asked {
            Asked::Name(name) => {
                let mut addresses = Vec::new();
                for network in self.networks.iter().filter(|it| it.has_names()) {
                    for name in [Some(name), within(name, &network.network)]
                        .into_iter()
                        .flatten()
                    {
                        let said = self.living(network, Word::Name(name))?;
                        let said = said.iter().flat_map(|it| it.split(' '));
                        let found = said.filter_map(|it| it.parse().ok());
                        addresses.extend(found.collect::<Vec<IpAddr>>());
                    }
                }
                // Who has a network's name in its own is found twice.
                let mut seen = HashSet::new();
                addresses.retain(|address| seen.insert(*address));
                Ok((!addresses.is_empty()).then_some(Known::Addresses(addresses)))
            }
            Asked::Address(address) => {
                for network in self.networks.iter().filter(|it| it.has_names()) {
                    if let Some(name) = self.living(network, Word::Address(address))?.first() {
                        let name = format!("{name}.{}", network.network);
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
        self.networks.iter().any(|network| !network.internal)
    }

    /// Returns what is said of those that a word leads to, and that run still: a monitor may have died without a word.
    fn living(&self, network: &Attachment, word: Word<'_>) -> Result<Vec<String>> {
        let (mut living, mut failed) = (Vec::new(), None);
        for (id, said) in self.store.led_to(&network.network_id, word)? {
            let runs = id == self.id || {
                let owner = self.store.owner(&id).unwrap_or_else(|error| {
                    failed = Some(error);
                    Owner::Nobody
                });
                matches!(owner, Owner::Living(_))
            };
            if runs {
                living.push(said);
            }
        }
        // One that cannot be looked at is passed over for another of the name, and else is not the same as none.
        match failed {
            Some(error) if living.is_empty() => Err(error),
            _ => Ok(living),
        }
    }

    /// Reads the container's own record if that is another than the last time. What is damaged says nothing new.
    fn refresh(&mut self) {
        let Ok(Some(stamp)) = self.stamp() else {
            return;
        };
        if self.seen == Some(stamp) {
            return;
        }
        self.seen = Some(stamp);
        if let Some(record) = read(&self.store, &self.id)
            && let Status::Running { .. } = record.status
        {
            self.networks = record.networks;
        }
    }

    /// Returns what tells whether the container's record is another than before; none if it has none.
    fn stamp(&self) -> io::Result<Option<Stamp>> {
        match fs::metadata(container_state(&self.directory)) {
            Ok(it) => Ok(Some((it.ino(), it.mtime(), it.mtime_nsec(), it.size()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Returns what of a name stands before that of a network, if it ends in one: both may have dots.
fn within<'a>(name: &'a str, network: &str) -> Option<&'a str> {
    let end = name.len().checked_sub(network.len() + 1)?;
    let (name, rest) = name.split_at_checked(end)?;
    let rest = rest.strip_prefix('.')?;
    rest.eq_ignore_ascii_case(network).then_some(name)
}

fn addresses_of(attachment: &Attachment) -> impl Iterator<Item = IpAddr> {
    let v6 = attachment.address6.map(|it| it.addr().into());
    [attachment.address.addr().into()].into_iter().chain(v6)
}
