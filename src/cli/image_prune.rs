//! `ddock image prune`.

use crate::cli::prune_filter::PruneFilter;
use crate::cli::{failure, output, prompt};
use crate::engine::image::{Pruned, View, prune};
use crate::human;
use anyhow::{Context, Result};
use clap::Args;
use std::path::Path;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Remove all images that no container was made from, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Remove only what fits: label=KEY[=VALUE], label!=KEY[=VALUE], until=TIME or until=DURATION
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<PruneFilter>,
}

/// Removes images that nobody needs, and what dead operations left.
pub(crate) fn run(arguments: &Arguments, root: &Path) -> Result<()> {
    if !arguments.force {
        prompt::confirm(warning(arguments.all), "image prune")?;
    }
    let fits = |view: &View| {
        let mut filters = arguments.filter.iter();
        filters.all(|filter| filter.accepts(&view.labels, view.created))
    };
    let pruned =
        prune(root, arguments.all, &fits, &failure::note).context("cannot remove images")?;
    output::print(&render(&pruned))?;
    output::print(&format!(
        "Total reclaimed space: {}\n",
        human::size(pruned.reclaimed, 4)
    ))
}

fn warning(all: bool) -> &'static str {
    if all {
        "This will remove all images without at least one container associated to them."
    } else {
        "This will remove all dangling images."
    }
}

/// Returns what went, in Docker's words, with an empty line at the end; nothing if nothing went.
pub(crate) fn render(pruned: &Pruned) -> String {
    if pruned.removed.is_empty() {
        return String::new();
    }
    // As `rmi` says it, in small letters.
    let lines = pruned.removed.iter().map(ToString::to_string);
    let lines = lines.map(|line| format!("{}{}\n", line[..1].to_lowercase(), &line[1..]));
    format!("Deleted Images:\n{}\n", lines.collect::<String>())
}
