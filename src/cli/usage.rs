//! `ddock system df`.

use crate::cli::containers::{image, state};
use crate::cli::{failure, output};
use crate::engine::system::{ImageUse, Usage, usage};
use crate::human;
use crate::reference::Reference;
use anyhow::{Context, Result};
use chrono::Utc;
use clap::Args;
use std::path::Path;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Show each image, container and volume
    #[arg(short, long)]
    verbose: bool,
}

/// Shows what takes the store's space, and how much of it nothing needs.
pub(crate) fn run(arguments: &Arguments, root: &Path) -> Result<()> {
    let usage = usage(root, &failure::note).context("cannot add up what is here")?;
    output::print(&if arguments.verbose {
        details(&usage)
    } else {
        summary(&usage)
    })
}

/// Docker's table. What arrived of images that are not here yet has a line of its own, if there is any.
fn summary(usage: &Usage) -> String {
    let sum = |sizes: &mut dyn Iterator<Item = u64>| sizes.sum::<u64>();
    let header = ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"];
    let mut table = vec![header.map(str::to_owned).to_vec()];
    let mut add = |kind: &str, total: usize, active: usize, size: u64, reclaimable: u64| {
        let (size, reclaimable) = (human::size(size, 4), reclaimable_of(reclaimable, size));
        table.push(vec![
            kind.to_owned(),
            total.to_string(),
            active.to_string(),
            size,
            reclaimable,
        ]);
    };
    let used = usage
        .images
        .iter()
        .filter(|image| image.containers > 0)
        .count();
    add(
        "Images",
        usage.images.len(),
        used,
        usage.layers,
        usage.unused_layers,
    );
    let all = sum(&mut usage.containers.iter().map(|(_, size)| *size));
    let stopped = sum(&mut usage.stopped().map(|(_, size)| *size));
    let running = usage.containers.len() - usage.stopped().count();
    add("Containers", usage.containers.len(), running, all, stopped);
    let all = sum(&mut usage.volumes.iter().map(|volume| volume.size));
    let free = usage.volumes.iter().filter(|volume| volume.containers == 0);
    let used = usage
        .volumes
        .iter()
        .filter(|volume| volume.containers > 0)
        .count();
    add(
        "Local Volumes",
        usage.volumes.len(),
        used,
        all,
        sum(&mut free.map(|it| it.size)),
    );
    add("Build Cache", 0, 0, 0, 0);
    if !usage.partials.is_empty() {
        let size = sum(&mut usage.partials.iter().copied());
        add("Downloads", usage.partials.len(), 0, size, size);
    }
    human::table(&table)
}

fn reclaimable_of(bytes: u64, all: u64) -> String {
    let size = human::size(bytes, 4);
    match (bytes * 100).checked_div(all) {
        Some(share) => format!("{size} ({share}%)"),
        None => size,
    }
}

/// Docker's three tables.
fn details(usage: &Usage) -> String {
    let now = Utc::now();
    let header = [
        "REPOSITORY",
        "TAG",
        "IMAGE ID",
        "CREATED",
        "SIZE",
        "SHARED SIZE",
        "UNIQUE SIZE",
        "CONTAINERS",
    ];
    let mut images = vec![header.map(str::to_owned).to_vec()];
    images.extend(usage.images.iter().flat_map(|image| {
        let created = image
            .view
            .created
            .map_or("N/A".to_owned(), |then| human::ago(then, now));
        let further = [
            image.view.id.short().to_owned(),
            created,
            human::size(image.view.size, 4),
            human::size(image.shared, 4),
            human::size(image.unique, 4),
            image.containers.to_string(),
        ];
        let row = move |[name, tag]: [String; 2]| [vec![name, tag], further.to_vec()].concat();
        names(image).into_iter().map(row)
    }));
    let header = [
        "CONTAINER ID",
        "IMAGE",
        "LOCAL VOLUMES",
        "SIZE",
        "CREATED",
        "STATUS",
        "NAMES",
    ];
    let mut containers = vec![header.map(str::to_owned).to_vec()];
    containers.extend(usage.containers.iter().map(|(record, size)| {
        vec![
            record.id.get(..12).unwrap_or(&record.id).to_owned(),
            human::printable(&image(&record.origin)),
            record.volumes.len().to_string(),
            human::size(*size, 4),
            human::ago(record.created, now),
            state(&record.status).to_owned(),
            record.name.clone(),
        ]
    }));
    let mut volumes = vec![["VOLUME NAME", "LINKS", "SIZE"].map(str::to_owned).to_vec()];
    volumes.extend(usage.volumes.iter().map(|volume| {
        let (name, links) = (volume.name.to_string(), volume.containers.to_string());
        vec![name, links, human::size(volume.size, 4)]
    }));
    format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}",
        human::table(&images),
        human::table(&containers),
        human::table(&volumes)
    )
}

/// Returns the repositories and tags of an image.
fn names(image: &ImageUse) -> Vec<[String; 2]> {
    let tag = |name: &Reference| {
        [
            name.familiar_name(),
            name.tag().unwrap_or("<none>").to_owned(),
        ]
    };
    if image.view.tags.is_empty() {
        return vec![["<none>".to_owned(), "<none>".to_owned()]];
    }
    image.view.tags.iter().map(tag).collect()
}
