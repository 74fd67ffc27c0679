//! `ddock ps --filter`: Docker's filters.

use crate::cli::failure::Refusal;
use crate::cli::filter::{Filter, Filters, invalid};
use crate::container::{self, Record, Status};
use crate::digest::Digest;
use crate::image;
use crate::network::{Attachment, Port};
use crate::reference::Reference;
use crate::store::Store;
use anyhow::Result;
use chrono::{DateTime, Utc};
use regex_lite::Regex;
use std::ops::RangeInclusive;

const KNOWN: &[&str] = &[
    "id",
    "name",
    "label",
    "exited",
    "status",
    "ancestor",
    "before",
    "since",
    "volume",
    "network",
    "publish",
    "expose",
    "health",
    "is-task",
    "isolation",
];

const STATES: &[&str] = &[
    "created",
    "restarting",
    "running",
    "removing",
    "paused",
    "exited",
    "dead",
];

/// What containers must be like to be shown.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    filters: Filters<'a>,
    ids: Vec<Regex>,
    names: Vec<Regex>,
    codes: Vec<u8>,
    ancestors: Vec<Ancestor<'a>>,
    before: Option<DateTime<Utc>>,
    since: Option<DateTime<Utc>>,
    published: Vec<Ports>,
    exposed: Vec<Ports>,
    is_task: Option<bool>,
}

/// `ancestor=`: an image's name as it was given, and the ID that it stands for now.
#[derive(Debug)]
struct Ancestor<'a> {
    name: &'a str,
    id: Option<Digest>,
}

/// `8000-8080/tcp`
#[derive(Debug)]
struct Ports(RangeInclusive<u16>, String);

impl<'a> Wanted<'a> {
    /// Checks what was asked for; containers and images that it names are looked up in the `store`.
    pub(super) fn new(filters: &'a [Filter], store: Option<&Store>) -> Result<Self> {
        let filters = Filters::new(filters, KNOWN)?;
        for state in filters.values("status") {
            if !STATES.contains(&state) {
                return Err(invalid("status", state).into());
            }
        }
        let patterns = |key: &str| -> Result<Vec<Regex>, Refusal> {
            let pattern = |text: &str| Regex::new(text).map_err(|_| invalid(key, text));
            filters.values(key).map(pattern).collect()
        };
        let ports = |key: &str| -> Result<Vec<Ports>, Refusal> {
            let read = |text: &str| Ports::read(text).ok_or_else(|| invalid(key, text));
            filters.values(key).map(read).collect()
        };
        let code = |text: &str| text.parse().map_err(|_| invalid("exited", text));
        let created = |key: &str| -> Result<Option<DateTime<Utc>>> {
            let Some(name) = filters.values(key).last() else {
                return Ok(None);
            };
            let store = store.ok_or_else(|| crate::store::NotFound::container(name))?;
            Ok(Some(container::find(store, name)?.created))
        };
        let ancestor = |name| Ancestor {
            name,
            id: store
                .and_then(|store| image::find(store, name).ok())
                .map(|image| image.id),
        };
        Ok(Self {
            ids: patterns("id")?,
            names: patterns("name")?,
            codes: filters
                .values("exited")
                .map(code)
                .collect::<Result<_, _>>()?,
            ancestors: filters.values("ancestor").map(ancestor).collect(),
            before: created("before")?,
            since: created("since")?,
            published: ports("publish")?,
            exposed: ports("expose")?,
            is_task: filters.boolean("is-task")?,
            filters,
        })
    }

    /// Tells whether containers that do not run are asked for.
    pub(super) fn is_on_status(&self) -> bool {
        self.filters.has("status")
    }

    pub(super) fn accepts(&self, it: &Record) -> bool {
        let any = |patterns: &[Regex], text: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.is_match(text))
        };
        // Docker's names have a slash before them, which a pattern may have or not.
        let is_named = any(&self.names, &it.name) || any(&self.names, &format!("/{}", it.name));
        let code = match it.status {
            Status::Exited { code, .. } => Some(code),
            _ => None,
        };
        is_named
            && any(&self.ids, &it.id)
            && self.filters.has_labels(&it.labels)
            && self
                .filters
                .any("status", |state| state == super::list::state(&it.status))
            && (self.codes.is_empty() || code.is_some_and(|code| self.codes.contains(&code)))
            && (self.ancestors.is_empty() || self.ancestors.iter().any(|image| image.is_of(it)))
            && self.before.is_none_or(|time| it.created < time)
            && self.since.is_none_or(|time| it.created > time)
            && self.filters.any("volume", |text| has_mount(it, text))
            && self.filters.any("network", |text| is_in(it, text))
            && self.filters.any("health", |state| state == "none")
            && self.is_task != Some(true)
            && (self.published.is_empty()
                || it
                    .ports
                    .iter()
                    .any(|port| self.published.iter().any(|it| it.has(port.container))))
            && (self.exposed.is_empty()
                || exposed(it).any(|port| self.exposed.iter().any(|it| it.has(port))))
    }
}

impl Ancestor<'_> {
    fn is_of(&self, container: &Record) -> bool {
        let Some(image) = container.origin.image() else {
            return false;
        };
        let asked = self.name.parse::<Reference>();
        let named = match &container.origin {
            container::Origin::Image { image_name, .. } => image_name.parse::<Reference>(),
            _ => return false,
        };
        self.id.as_ref() == Some(image)
            || asked.is_ok_and(|asked| named.is_ok_and(|named| named == asked))
    }
}

impl Ports {
    fn read(text: &str) -> Option<Self> {
        let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        Some(Self(
            first.parse().ok()?..=last.parse().ok()?,
            protocol.to_owned(),
        ))
    }

    fn has(&self, port: Port) -> bool {
        self.0.contains(&port.number) && self.1 == port.protocol.to_string()
    }
}

/// What is published is exposed too.
fn exposed(container: &Record) -> impl Iterator<Item = Port> {
    let published = container.ports.iter().map(|port| port.container);
    container.exposed.iter().copied().chain(published)
}

/// Tells whether a volume of this name is mounted, or anything at this place.
fn has_mount(container: &Record, text: &str) -> bool {
    let mut mounts = container.mounts.iter();
    mounts.any(|mount| {
        let name = mount.volume.as_ref().map(ToString::to_string);
        name.as_deref() == Some(text)
            || mount.target.as_os_str() == text
            || mount.volume.is_none() && mount.source.as_os_str() == text
    })
}

/// Tells whether a container is in the network of this name, or whose ID begins so.
fn is_in(container: &Record, text: &str) -> bool {
    let has_id = |it: &Attachment| !text.is_empty() && it.network_id.starts_with(text);
    let mut networks = container.networks.iter();
    networks.any(|it| it.network == *text || has_id(it))
}
