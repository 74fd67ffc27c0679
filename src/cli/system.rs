//! `ddock system check`.

use crate::cli::damage::check_records;
use crate::cli::failure::{self, Told};
use crate::cli::output::{self, Stream};
use crate::cli::progress::{Mode, Progress, Style};
use crate::cli::pull as cli_pull;
use crate::cli::reach::Reach;
use crate::engine::place;
use crate::image::{self, Image, Part};
use crate::pull;
use crate::reference::Reference;
use crate::registry::{Access, Given};
use crate::store::{NotFound, Store};
use crate::unpack::{self, Fault, Finding};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

#[derive(Debug, Args, PartialEq, Eq)]
pub(crate) struct CheckArguments {
    /// Fetch what is damaged again and put it in place, while containers run on the rest
    #[arg(short, long)]
    repair: bool,
    #[command(flatten)]
    reach: Reach,
    /// Which images: names or IDs; all if none is named
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

/// What is wrong, by part.
type Findings = BTreeMap<Part, Vec<Finding>>;

/// An image, and what the user calls it.
struct Named {
    name: String,
    image: Image,
    /// Where it can be fetched again, and how; filled only if that is to be done.
    origins: Vec<(Reference, Access)>,
}

/// Connections to the registry at the same time, as for a pull.
const JOBS: usize = 6;

/// Compares images with their digests, down to each file; tells what is wrong on stdout, a line each.
pub(crate) fn check(arguments: &CheckArguments, root: &Path) -> Result<()> {
    let context = "cannot check images";
    let (mut images, mut right) = match place::existing(root).context(context)? {
        Some(store) => {
            let (images, mut right) = chosen(&store, &arguments.images).context(context)?;
            if arguments.images.is_empty() {
                right &= check_records(&store).context(context)?;
            }
            (images, right)
        }
        None if arguments.images.is_empty() => return summary(&[], &Findings::new(), true),
        None => return Err(NotFound::image(&arguments.images[0])).context(context),
    };
    if arguments.repair {
        // Before the namespace is entered: there, everybody is root.
        for named in &mut images {
            named.origins = origins(&named.image, &arguments.reach).context(context)?;
        }
    }
    let (store, mapping) = place::enter(root).context(context)?;
    let unpacking = cli_pull::unpacking(&mapping).context(context)?;
    let parts: BTreeSet<Part> = images
        .iter()
        .flat_map(|named| named.image.parts())
        .collect();
    let mut findings = image::check(&store, &parts, &unpacking).context(context)?;
    output::print(&lines(&store, &images, &findings))?;
    if arguments.repair && !findings.is_empty() {
        for named in &images {
            let repaired = repair(&store, named, &mut findings, &unpacking);
            let repaired = repaired.with_context(|| format!("cannot repair `{}`", named.name));
            repaired.unwrap_or_else(|error| {
                failure::tell(&error);
                right = false;
            });
        }
    }
    summary(&images, &findings, right)
}

/// Returns the images that were named, or all; and whether all could be read.
fn chosen(store: &Store, names: &[String]) -> Result<(Vec<Named>, bool)> {
    let name = |image: &Image, tags: &[Reference]| {
        tags.first()
            .map_or_else(|| image.id.short().to_owned(), Reference::familiar)
    };
    if names.is_empty() {
        let listing = image::list(store)?;
        for damage in &listing.damaged {
            failure::tell(damage);
        }
        let images = listing.images.into_iter();
        let images = images.map(|(image, tags)| Named {
            name: name(&image, &tags),
            image,
            origins: Vec::new(),
        });
        return Ok((images.collect(), listing.damaged.is_empty()));
    }
    let mut images = Vec::new();
    for asked in names {
        let image = image::find(store, asked)?;
        if !images
            .iter()
            .any(|named: &Named| named.image.id == image.id)
        {
            let name = name(&image, &image.tags(store)?);
            let origins = Vec::new();
            images.push(Named {
                name,
                image,
                origins,
            });
        }
    }
    Ok((images, true))
}

/// Returns the names under which registries served an image, and how those are reached.
fn origins(image: &Image, reach: &Reach) -> Result<Vec<(Reference, Access)>> {
    let origins = image.record.repo_digests.iter();
    let access = |origin: &String| {
        let reference: Reference = origin.parse()?;
        let access = Access::gather(&reference, &Given::default(), reach.flags())?;
        Ok((reference, access))
    };
    origins.map(access).collect()
}

/// Returns a line for each finding of each image: `IMAGE DIGEST damaged|missing|added SUBJECT: WHAT`.
fn lines(store: &Store, images: &[Named], findings: &Findings) -> String {
    let mut text = String::new();
    for Named { name, image, .. } in images {
        // One that went meanwhile took its parts with it.
        if matches!(Image::open(store, image.id.clone()), Ok(None)) {
            continue;
        }
        for part in image.parts() {
            let id = part.digest().short();
            for Finding {
                fault,
                subject,
                what,
            } in findings.get(&part).into_iter().flatten()
            {
                writeln!(text, "{name} {id} {fault} {subject}: {what}")
                    .expect("writing to a string cannot fail");
            }
        }
    }
    text
}

/// Fetches what of an image is damaged again, and takes what is right now out of the findings.
fn repair(
    store: &Store,
    named: &Named,
    findings: &mut Findings,
    unpacking: &unpack::Options,
) -> Result<()> {
    let damaged = |findings: &Findings| -> BTreeSet<Part> {
        let parts = named.image.parts().into_iter();
        parts.filter(|part| findings.contains_key(part)).collect()
    };
    let record = &named.image.record;
    let mut failure = None;
    for (reference, access) in &named.origins {
        let parts = damaged(findings);
        if parts.is_empty() {
            return Ok(());
        }
        condemn(store, &named.image, &parts)?;
        let progress = Progress::new(Style::new(Stream::Stderr, Mode::Auto, false)?);
        let tell = |event| progress.event(event);
        let request = pull::Request {
            reference,
            platform: Some(&record.platform),
            access,
            unpacking,
            jobs: JOBS,
            retry: pull::Retry::default(),
        };
        if let Err(error) = pull::pull(store, &request, &tell) {
            failure = Some(error);
            continue;
        }
        // What makes layers fit is asked after as soon as they are right.
        let mut again = parts.clone();
        again.extend(named.image.chains().map(Part::Chain));
        let still = image::check(store, &again, unpacking)?;
        for part in parts {
            if !still.contains_key(&part) {
                findings.remove(&part);
                let (name, id) = (&named.name, part.digest().short());
                output::print(&format!("{name} {id} repaired\n"))?;
            }
        }
        findings.extend(still);
    }
    match failure {
        _ if damaged(findings).is_empty() => Ok(()),
        Some(error) => Err(error),
        None if record.repo_digests.is_empty() => bail!("no registry is known to have it"),
        None => bail!("what came in its stead is damaged as well"),
    }
}

/// Lets the next pull replace what is damaged of an image, and what was made for layers that are damaged.
fn condemn(store: &Store, image: &Image, damaged: &BTreeSet<Part>) -> Result<()> {
    let lock = store.exclusive()?;
    for part in damaged {
        if let Part::Layer(diff_id) = part {
            store.condemn_layer(&lock, diff_id)?;
        }
    }
    for chain in image.chains() {
        if damaged.iter().any(|part| chain.depends_on(part)) {
            store.condemn_chain(&lock, &chain.id)?;
        }
    }
    Ok(())
}

/// Tells on stderr what all of it comes to, and fails with 1 if something is wrong.
fn summary(images: &[Named], findings: &Findings, right: bool) -> Result<()> {
    let parts: BTreeSet<Part> = images
        .iter()
        .flat_map(|named| named.image.parts())
        .collect();
    let layers = parts.iter().filter(|part| matches!(part, Part::Layer(_)));
    let checked = format!(
        "{}, {}",
        plural(images.len(), "image"),
        plural(layers.count(), "layer")
    );
    if findings.is_empty() && right {
        output::tell(&format!("checked {checked}: all right\n"));
        return Ok(());
    }
    let count = |fault| {
        let all = findings.values().flatten();
        all.filter(|finding| finding.fault == fault).count()
    };
    output::tell(&format!(
        "checked {checked}: {} damaged, {} missing, {} added\n",
        count(Fault::Damaged),
        count(Fault::Missing),
        count(Fault::Added)
    ));
    Err(Told(1).into())
}

fn plural(count: usize, word: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {word}{s}")
}
