//! Questions: what a registry is asked when nothing is pulled.

use crate::platform::Platform;
use crate::pull::{Event, indexes, notify, run, runtime};
use crate::reference::Reference;
use crate::registry::{Access, Client};
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
        let served = client.manifest(reference).await?;
        let found = indexes::find(None, &client, reference, served, platform).await?;
        Ok(found.image.bytes)
    });
    runtime.shutdown_background();
    bytes
}
