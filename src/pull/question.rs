//! Questions: what a registry is asked when nothing is pulled.

use crate::platform::Platform;
use crate::pull::{Event, notify, run, runtime};
use crate::reference::Reference;
use crate::registry::{Access, Client, Document, Manifest};
use anyhow::Result;

/// Returns all tags of the repository of `reference`, as the registry writes them: some may be no tags.
pub(crate) fn tags(
    reference: &Reference,
    access: &Access,
    events: &dyn Fn(Event),
) -> Result<Vec<String>> {
    let runtime = runtime()?;
    let notify = notify(events);
    let client = Client::new(reference, access, &notify)?;
    let tags = run(&runtime, async { Ok(client.tags().await?) });
    runtime.shutdown_background();
    tags
}

/// Returns what the registry serves for `reference`, byte by byte: any JSON, image or not. With a `platform`, the
/// manifest of the image for it.
pub(crate) fn manifest(
    reference: &Reference,
    platform: Option<&Platform>,
    access: &Access,
    events: &dyn Fn(Event),
) -> Result<Vec<u8>> {
    let runtime = runtime()?;
    let notify = notify(events);
    let client = Client::new(reference, access, &notify)?;
    let bytes = run(&runtime, async {
        let Some(platform) = platform else {
            return Ok(client.served(reference).await?.0);
        };
        let Document {
            manifest, bytes, ..
        } = client.manifest(reference).await?;
        let Manifest::Index(index) = manifest else {
            return Ok(bytes);
        };
        let entry = index.choose(platform)?;
        if let Some(bytes) = entry.inline()? {
            return Ok(bytes);
        }
        let name = reference.with_digest(entry.digest.clone());
        Ok(client.served(&name).await?.0)
    });
    runtime.shutdown_background();
    bytes
}
