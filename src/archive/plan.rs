//! What is in an archive: its images, read from Docker's `manifest.json` or else from the image layout's `index.json`.

use crate::archive::form::{self, DOCKER_MANIFEST, Descriptor, DockerImage, Document, INDEX, NAME};
use crate::archive::parts::{Part, Parts};
use crate::digest::{Digest, Hasher};
use crate::human;
use crate::image::ImageConfig;
use crate::platform::Platform;
use crate::reference::Reference;
use anyhow::{Context, Result, bail, ensure};

/// Bytes of the largest manifest, index and config, as for a pull.
const MAX_MANIFEST: u64 = 4 << 20;
const MAX_CONFIG: u64 = 8 << 20;

/// Indexes inside one another.
const MAX_DEPTH: usize = 4;

/// An image of the archive, not yet verified but for its config and manifest.
#[derive(Debug)]
pub(super) struct Planned {
    /// As it is in the archive; Docker's archives have none.
    pub(super) manifest: Option<Vec<u8>>,
    pub(super) id: Digest,
    pub(super) config: Vec<u8>,
    pub(super) parsed: ImageConfig,
    /// Base first.
    pub(super) layers: Vec<PlannedLayer>,
    pub(super) names: Vec<Reference>,
}

#[derive(Debug)]
pub(super) struct PlannedLayer {
    pub(super) diff_id: Digest,
    /// What its bytes in the archive must be, where the archive says so.
    pub(super) digest: Option<Digest>,
    pub(super) media_type: Option<String>,
    pub(super) part: Part,
}

/// Returns the images of an archive, of those for several platforms the one for `platform`, or this machine.
pub(super) fn plan(parts: &Parts, platform: Option<&Platform>) -> Result<Vec<Planned>> {
    let planned = if let Some(part) = parts.get(DOCKER_MANIFEST)? {
        docker(parts, part).with_context(|| format!("reading `{DOCKER_MANIFEST}`"))?
    } else if let Some(part) = parts.get(INDEX)? {
        layout(parts, part, platform).with_context(|| format!("reading `{INDEX}`"))?
    } else {
        bail!("it is no archive of images: it has neither `{DOCKER_MANIFEST}` nor `{INDEX}`");
    };
    let fits = |planned: &Planned| {
        platform.is_none_or(|wanted| wanted.rank(&planned.parsed.platform()).is_some())
    };
    let is_empty = planned.is_empty();
    let planned: Vec<Planned> = planned.into_iter().filter(fits).collect();
    if let Some(platform) = platform {
        ensure!(
            is_empty || !planned.is_empty(),
            "the archive has no image for the platform `{platform}`"
        );
    }
    Ok(planned)
}

fn docker(parts: &Parts, manifest: &Part) -> Result<Vec<Planned>> {
    let images: Vec<DockerImage> = serde_json::from_slice(&manifest.bytes(MAX_MANIFEST)?)?;
    let mut planned = Vec::new();
    for image in images {
        let config = parts.need(&image.config)?.bytes(MAX_CONFIG);
        let config = config.context("reading the image's config")?;
        let parsed = ImageConfig::parse(&config)?;
        let layers = image
            .layers
            .iter()
            .map(|name| Ok((parts.need(name)?.clone(), None)));
        let layers = join(&parsed, layers.collect::<Result<_>>()?)?;
        let names = image.repo_tags.unwrap_or_default();
        planned.push(Planned {
            manifest: None,
            id: Digest::of(&config),
            config,
            parsed,
            layers,
            names: names
                .iter()
                .map(|name| named(name))
                .collect::<Result<_>>()?,
        });
    }
    Ok(planned)
}

fn layout(parts: &Parts, index: &Part, platform: Option<&Platform>) -> Result<Vec<Planned>> {
    let index: Document = serde_json::from_slice(&index.bytes(MAX_MANIFEST)?)?;
    let mut planned: Vec<Planned> = Vec::new();
    for descriptor in index.manifests.unwrap_or_default() {
        let names = match descriptor.annotations.get(NAME) {
            Some(name) => vec![named(name)?],
            // What is only a tag names no repository, and some tools put whole names there.
            None => descriptor
                .annotations
                .get(form::TAG)
                .filter(|name| name.contains(['/', ':']))
                .map(|name| named(name))
                .transpose()?
                .into_iter()
                .collect(),
        };
        let Some(image) = image(parts, &descriptor, platform, MAX_DEPTH)? else {
            continue;
        };
        match planned.iter_mut().find(|known| known.id == image.id) {
            Some(known) => known.names.extend(names),
            None => planned.push(Planned { names, ..image }),
        }
    }
    Ok(planned)
}

/// Returns the image that a descriptor leads to; `None` if there is none for the platform.
fn image(
    parts: &Parts,
    descriptor: &Descriptor,
    platform: Option<&Platform>,
    depth: usize,
) -> Result<Option<Planned>> {
    let bytes = verified(parts, descriptor, MAX_MANIFEST)?;
    let document: Document = serde_json::from_slice(&bytes)
        .with_context(|| format!("reading the manifest `{}`", descriptor.digest.short()))?;
    if let Some(manifests) = document.manifests {
        ensure!(
            depth > 0,
            "it has an index in an index in an index, and so on"
        );
        let host = Platform::host();
        let wanted = platform.unwrap_or(&host);
        let rank = |it: &&Descriptor| {
            let platform = it.platform.as_ref()?.platform();
            wanted.rank(&platform)
        };
        let only = (manifests.len() == 1).then(|| &manifests[0]);
        let fitting = manifests.iter().filter(|it| rank(it).is_some());
        let best = fitting.min_by_key(|it| rank(it)).or(only);
        return best.map_or(Ok(None), |best| image(parts, best, platform, depth - 1));
    }
    let (Some(config), Some(layers)) = (document.config, document.layers) else {
        bail!("`{}` is no manifest of an image", descriptor.digest.short());
    };
    let bytes_of_config = verified(parts, &config, MAX_CONFIG)?;
    let parsed = ImageConfig::parse(&bytes_of_config)?;
    let layers = layers.into_iter().map(|layer| {
        let part = parts.need(&form::blob(&layer.digest))?.clone();
        Ok((part, Some(layer)))
    });
    Ok(Some(Planned {
        layers: join(&parsed, layers.collect::<Result<_>>()?)?,
        manifest: Some(bytes),
        id: config.digest,
        config: bytes_of_config,
        parsed,
        names: Vec::new(),
    }))
}

/// Reads a small blob and holds it against its digest.
fn verified(parts: &Parts, descriptor: &Descriptor, most: u64) -> Result<Vec<u8>> {
    let name = form::blob(&descriptor.digest);
    let bytes = parts.need(&name)?.bytes(most)?;
    let mut hasher = Hasher::new(descriptor.digest.algorithm());
    hasher.update(&bytes);
    let found = hasher.finish();
    ensure!(
        found == descriptor.digest,
        "`{name}` is {found}, not what it is called"
    );
    Ok(bytes)
}

/// Joins the layers of a manifest with their diff IDs.
fn join(
    config: &ImageConfig,
    layers: Vec<(Part, Option<Descriptor>)>,
) -> Result<Vec<PlannedLayer>> {
    let diff_ids = &config.rootfs.diff_ids;
    ensure!(
        layers.len() == diff_ids.len(),
        "the image has {} layers, and its config names {}",
        layers.len(),
        diff_ids.len()
    );
    let planned = |((part, descriptor), diff_id): ((Part, Option<Descriptor>), &Digest)| {
        let (digest, media_type) = match descriptor {
            Some(Descriptor {
                digest, media_type, ..
            }) => (Some(digest), Some(media_type)),
            None => (None, None),
        };
        PlannedLayer {
            diff_id: diff_id.clone(),
            digest,
            media_type,
            part,
        }
    };
    Ok(layers.into_iter().zip(diff_ids).map(planned).collect())
}

fn named(name: &str) -> Result<Reference> {
    let reference: Reference = name
        .parse()
        .with_context(|| format!("the name `{}`", human::printable(name)))?;
    ensure!(
        reference.digest().is_none(),
        "the name `{}` has a digest",
        human::printable(name)
    );
    Ok(reference)
}
