//! `ddock inspect`: Docker's JSON, for scripts.

mod container_document;
mod image_document;

use crate::cli::failure::Told;
use crate::cli::{networks, output, volumes};
use crate::container;
use crate::engine::image::references;
use crate::engine::place;
use crate::image::{self, Image};
use crate::reference::ParseError;
use crate::store::{NotFound, Store};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use image_document::{View, describe};
use serde_json::Value;
use std::path::Path;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Look only for containers, images, networks or volumes
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    kind: Option<Kind>,
    /// Names, IDs or the beginnings of IDs
    #[arg(value_name = "NAME|ID", required = true)]
    names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ContainerArguments {
    /// Names, IDs or the beginnings of IDs
    #[arg(value_name = "CONTAINER", required = true)]
    names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ImageArguments {
    /// Names, IDs or the beginnings of IDs
    #[arg(value_name = "IMAGE", required = true)]
    names: Vec<String>,
}

/// `--type`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Container,
    Image,
    Network,
    Volume,
}

/// Prints what was found as one JSON array, then says what was not; of one name a container goes before an image, a network and
/// a volume.
pub(crate) fn run(arguments: &Arguments, root: &Path) -> Result<()> {
    inspect(&arguments.names, arguments.kind, root)
}

/// As [`run`], of containers only.
pub(crate) fn containers(arguments: &ContainerArguments, root: &Path) -> Result<()> {
    inspect(&arguments.names, Some(Kind::Container), root)
}

/// As [`run`], of images only.
pub(crate) fn images(arguments: &ImageArguments, root: &Path) -> Result<()> {
    inspect(&arguments.names, Some(Kind::Image), root)
}

fn inspect(names: &[String], kind: Option<Kind>, root: &Path) -> Result<()> {
    let store = place::existing(root)?;
    let find = |name: &str| {
        find(store.as_ref(), name, kind).with_context(|| format!("cannot inspect `{name}`"))
    };
    each(names, find, |name| missing_line(name, kind))
}

/// Prints what `find` finds by names as one JSON array, then says what is not there, a line each.
pub(crate) fn each(
    names: &[String],
    find: impl Fn(&str) -> Result<Option<Value>>,
    missing_line: impl Fn(&str) -> String,
) -> Result<()> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in names {
        match find(name)? {
            Some(object) => found.push(object),
            None => missing.push(missing_line(name)),
        }
    }
    output::print(&render(&found))?;
    if missing.is_empty() {
        return Ok(());
    }
    output::tell(&missing.concat());
    Err(Told(1).into())
}

fn find(store: Option<&Store>, name: &str, kind: Option<Kind>) -> Result<Option<Value>> {
    let is_for = |one: Kind| kind.is_none_or(|kind| kind == one);
    if let Some(store) = store {
        if is_for(Kind::Container)
            && let Some(record) = found(container::find(store, name))?
        {
            return Ok(Some(container_document::describe(&record)));
        }
        if is_for(Kind::Image)
            && let Some(image) = found(image::find(store, name))?
        {
            return describe_image(store, &image).map(Some);
        }
    }
    if is_for(Kind::Network)
        && let Some(network) = networks::look_up(store, name)?
    {
        return Ok(Some(network));
    }
    if is_for(Kind::Volume) {
        return volumes::look_up(store, name);
    }
    Ok(None)
}

/// Returns `None` for what is not there, and for what cannot be because nothing can have that name.
fn found<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is::<NotFound>() || error.is::<ParseError>() => Ok(None),
        Err(error) => Err(error),
    }
}

fn describe_image(store: &Store, image: &Image) -> Result<Value> {
    let config = image.config(store)?;
    Ok(describe(&View {
        id: image.id.clone(),
        tags: image.tags(store)?,
        repo_digests: references(&image.record.repo_digests),
        created: image.record.created,
        author: config.author,
        platform: image.record.platform.clone(),
        size: image.record.size,
        config: serde_json::to_value(config.config).context("describing its config")?,
        diff_ids: config.rootfs.diff_ids,
        lower_directories: image.lower_directories(store)?,
    }))
}

/// Docker's words: scripts look for them.
fn missing_line(name: &str, kind: Option<Kind>) -> String {
    let kind = match kind {
        None => "object",
        Some(Kind::Container) => "container",
        Some(Kind::Image) => "image",
        Some(Kind::Network) => "network",
        Some(Kind::Volume) => "volume",
    };
    format!("error: no such {kind}: {}\n", crate::human::printable(name))
}

/// Returns a JSON array with Docker's four spaces of indentation.
pub(crate) fn render(objects: &[Value]) -> String {
    use serde::Serialize as _;
    if objects.is_empty() {
        return "[]\n".to_owned();
    }
    let mut text = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, format);
    objects
        .serialize(&mut serializer)
        .expect("a JSON value can be written to memory");
    text.push(b'\n');
    String::from_utf8(text).expect("JSON is UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_answer_is_always_an_array() {
        assert_eq!(render(&[]), "[]\n");
        insta::assert_snapshot!(render(&[json!({"Id": "sha256:00", "RepoTags": []})]), @r#"
        [
            {
                "Id": "sha256:00",
                "RepoTags": []
            }
        ]
        "#);
    }

    #[test]
    fn what_is_missing_is_named_as_docker_names_it() {
        for (kind, line) in [
            (None, "error: no such object: x\n"),
            (Some(Kind::Image), "error: no such image: x\n"),
            (Some(Kind::Container), "error: no such container: x\n"),
        ] {
            assert_eq!(missing_line("x", kind), line);
        }
    }
}
