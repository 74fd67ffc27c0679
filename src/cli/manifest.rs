//! `ddock manifest inspect`: what a registry serves for a name. Nothing is stored, and no store is needed.

use crate::cli::output;
use crate::cli::reach::Reach;
use crate::human;
use crate::platform::Platform;
use crate::pull::{self, Event};
use crate::reference::Reference;
use crate::registry::{Access, Given};
use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize as _;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};
use std::io::{self, Write as _};

#[derive(Debug, Args, PartialEq, Eq)]
#[command(override_usage = "ddock manifest inspect [OPTIONS] NAME[:TAG|@DIGEST]")]
pub(crate) struct Arguments {
    /// Show the manifest of the image for this platform instead of the index
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Print the very bytes that the registry serves
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    reach: Reach,
    /// What to ask for
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,
}

/// Asks the registry and prints its answer.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let context = || format!("cannot inspect `{}`", arguments.name);
    let reference: Reference = arguments.name.parse().with_context(context)?;
    let platform = arguments.platform.as_ref();
    let access = Access::gather(&reference, &Given::default(), arguments.reach.flags())
        .with_context(context)?;
    let bytes = pull::manifest(&reference, platform, &access, &tell).with_context(context)?;
    if arguments.raw {
        return output::print_bytes(&bytes);
    }
    let document = serde_json::from_slice(&bytes)
        .map_err(|error| anyhow::anyhow!("{}", human::printable(&error.to_string())))
        .context("the registry's answer is no JSON")
        .with_context(context)?;
    output::print_bytes(&pretty(&document).context("writing JSON")?)
}

fn tell(event: Event) {
    match event {
        Event::Note(text) => output::tell(&format!("{}\n", human::printable(&text))),
        Event::Waiting { why, wait } => output::tell(&format!(
            "{}; retrying in {} s\n",
            human::printable(&why),
            wait.as_secs().max(1)
        )),
        Event::Started { .. } | Event::Layer { .. } | Event::Kept(_) => {}
    }
}

/// Returns `document` indented as Docker's `manifest inspect` does it: lists by three spaces, images by a tab.
fn pretty(document: &Value) -> io::Result<Vec<u8>> {
    let is_index = document.get("manifests").is_some();
    let indent: &[u8] = if is_index { b"   " } else { b"\t" };
    let mut bytes = Vec::new();
    let formatter = PrettyFormatter::with_indent(indent);
    document.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))?;
    bytes.write_all(b"\n")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn indents_are_dockers() {
        let text = |document| String::from_utf8(pretty(&document).unwrap()).unwrap();
        assert_eq!(
            text(json!({"manifests": []})),
            "{\n   \"manifests\": []\n}\n"
        );
        assert_eq!(
            text(json!({"layers": [1]})),
            "{\n\t\"layers\": [\n\t\t1\n\t]\n}\n"
        );
    }
}
