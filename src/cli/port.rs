//! `ddock port`.

use crate::cli::output;
use crate::container::{self, Record, Status};
use crate::engine::place;
use crate::network::Port;
use crate::store::NotFound;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::path::Path;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Which container: its name, its ID or the beginning of that
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Show only where this port of the container's is published
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<Port>,
}

/// Shows where a container's ports are published, as Docker prints it.
pub(crate) fn run(arguments: &Arguments, root: &Path) -> Result<()> {
    let name = &arguments.container;
    let Some(store) = place::enter_existing(root).context("cannot show ports")? else {
        return Err(NotFound::container(name).into());
    };
    let record = container::find(&store, name)?;
    output::print(&render(&record, arguments.port)?)
}

fn render(record: &Record, port: Option<Port>) -> Result<String> {
    let mut ports = match record.status {
        Status::Running { .. } => record.ports.clone(),
        Status::Starting | Status::Created | Status::Exited { .. } | Status::Unknown => Vec::new(),
    };
    ports.sort_unstable();
    let Some(port) = port else {
        let lines = ports.iter();
        let lines = lines.map(|it| format!("{} -> {}\n", it.container, it.host));
        return Ok(lines.collect::<Vec<_>>().concat());
    };
    let wanted = ports.iter().filter(|it| it.container == port);
    let lines: Vec<String> = wanted.map(|it| format!("{}\n", it.host)).collect();
    if lines.is_empty() {
        bail!("no public port '{port}' published for {}", record.name);
    }
    Ok(lines.concat())
}
