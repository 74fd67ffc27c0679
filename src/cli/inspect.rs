//! `ddock inspect`: Docker's JSON, for scripts.

mod container_document;
mod image_document;

use crate::cli::failure::{self, Refusal, Told};
use crate::cli::{listing, networks, output, volumes};
use crate::container;
use crate::engine::image::references;
use crate::engine::place;
use crate::image::{self, Image};
use crate::reference::ParseError;
use crate::store::{NotFound, Store};
use anyhow::{Context, Result};
use clap::Args;
use image_document::{View, describe};
use serde_json::Value;
use std::path::Path;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Look only for a container, an image, a network or a volume
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Show so: `json`, or a template of Go's such as `{{.State.Running}}`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Tell how large a container's changes are
    #[arg(short, long)]
    size: bool,
    /// Names, IDs or the beginnings of IDs
    #[arg(value_name = "NAME|ID", required = true)]
    names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ContainerArguments {
    /// Show so: `json`, or a template of Go's such as `{{.State.Running}}`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Tell how large a container's changes are
    #[arg(short, long)]
    size: bool,
    /// Names, IDs or the beginnings of IDs
    #[arg(value_name = "CONTAINER", required = true)]
    names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ImageArguments {
    /// Show so: `json`, or a template of Go's such as `{{.Config.Cmd}}`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Names, IDs or the beginnings of IDs
    #[arg(value_name = "IMAGE", required = true)]
    names: Vec<String>,
}

/// Docker's kinds of objects: those that there are here, and those of a swarm.
const KINDS: &[&str] = &[
    "container",
    "image",
    "network",
    "volume",
    "node",
    "plugin",
    "secret",
    "service",
    "task",
];

/// What is looked for.
#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    kind: Option<&'a str>,
    size: bool,
}

/// Prints what was found as one JSON array, then says what was not; of one name a container goes before an image, a network and
/// a volume.
pub(crate) fn run(arguments: &Arguments, root: &Path) -> Result<()> {
    let kind = arguments.kind.as_deref();
    if let Some(kind) = kind.filter(|kind| !KINDS.contains(kind)) {
        let message = format!("\"{kind}\" is not a valid value for --type");
        return Err(Refusal::new(message).code(1).into());
    }
    let size = arguments.size;
    inspect(
        &arguments.names,
        arguments.format.as_deref(),
        Wanted { kind, size },
        root,
    )
}

/// As [`run`], of containers only.
pub(crate) fn containers(arguments: &ContainerArguments, root: &Path) -> Result<()> {
    let wanted = Wanted {
        kind: Some("container"),
        size: arguments.size,
    };
    inspect(&arguments.names, arguments.format.as_deref(), wanted, root)
}

/// As [`run`], of images only.
pub(crate) fn images(arguments: &ImageArguments, root: &Path) -> Result<()> {
    let wanted = Wanted {
        kind: Some("image"),
        size: false,
    };
    inspect(&arguments.names, arguments.format.as_deref(), wanted, root)
}

fn inspect(names: &[String], format: Option<&str>, wanted: Wanted<'_>, root: &Path) -> Result<()> {
    let store = place::existing(root)?;
    let find = |name: &str| {
        find(store.as_ref(), name, wanted).with_context(|| format!("cannot inspect `{name}`"))
    };
    each(names, format, find, |name| missing_line(name, wanted.kind))
}

/// Prints what `find` finds by names as one JSON array, or each by the user's template, then says what is not there, a line each.
pub(crate) fn each(
    names: &[String],
    format: Option<&str>,
    find: impl Fn(&str) -> Result<Option<Value>>,
    missing_line: impl Fn(&str) -> String,
) -> Result<()> {
    // A template that cannot be read is 64 here, as with Docker.
    let template = format.map(|format| listing::template(format).map_err(|it| it.code(64)));
    let template = template.transpose()?;
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    let mut lines = String::new();
    for name in names {
        match (find(name)?, &template) {
            (None, _) => wrong.push(missing_line(name)),
            (Some(object), None) => found.push(object),
            (Some(object), Some(template)) => match listing::fill(template, &object) {
                Ok(text) => lines += &(text + "\n"),
                Err(refusal) => wrong.push(failure::render(&refusal.into())),
            },
        }
    }
    output::print(&match template {
        None => render(&found),
        // As Docker does.
        Some(_) if lines.is_empty() => "\n".to_owned(),
        Some(_) => lines,
    })?;
    if wrong.is_empty() {
        return Ok(());
    }
    output::tell(&wrong.concat());
    Err(Told(1).into())
}

fn find(store: Option<&Store>, name: &str, wanted: Wanted<'_>) -> Result<Option<Value>> {
    let is_for = |one: &str| wanted.kind.is_none_or(|kind| kind == one);
    if let Some(store) = store {
        if is_for("container")
            && let Some(record) = found(container::find(store, name))?
        {
            let mut document = container_document::describe(&record);
            if wanted.size {
                let image = record
                    .origin
                    .image()
                    .map(|id| Image::open(store, id.clone()));
                let below = image
                    .transpose()?
                    .flatten()
                    .map_or(0, |image| image.record.size);
                let own = store.container_size(&record.id);
                document["SizeRw"] = own.into();
                document["SizeRootFs"] = (own + below).into();
            }
            return Ok(Some(document));
        }
        if is_for("image")
            && let Some(image) = found(image::find(store, name))?
        {
            return describe_image(store, &image).map(Some);
        }
    }
    if is_for("network")
        && let Some(network) = networks::look_up(store, name)?
    {
        return Ok(Some(network));
    }
    if is_for("volume") {
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
fn missing_line(name: &str, kind: Option<&str>) -> String {
    let kind = kind.unwrap_or("object");
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
            (Some("image"), "error: no such image: x\n"),
            (Some("container"), "error: no such container: x\n"),
        ] {
            assert_eq!(missing_line("x", kind), line);
        }
    }
}
