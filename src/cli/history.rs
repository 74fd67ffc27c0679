//! `ddock history`.

use crate::cli::output;
use crate::engine::image::{Step, history};
use crate::human;
use anyhow::{Context, Result};
use chrono::{DateTime, SecondsFormat, Utc};
use clap::{ArgAction, Args};
use std::path::Path;

/// How much of a command the list shows.
const COMMAND_WIDTH: usize = 45;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Show sizes and times for people; `--human=false` for programs
    #[arg(short = 'H', long, default_value_t = true, action = ArgAction::SetTrue)]
    human: bool,
    /// Show IDs only
    #[arg(short, long)]
    quiet: bool,
    /// Show whole IDs and commands
    #[arg(long)]
    no_trunc: bool,
    /// Which image: its name, its ID or the beginning of that
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// Lists the steps by which an image was made, the last one first.
pub(crate) fn run(arguments: &Arguments, root: &Path) -> Result<()> {
    let image = &arguments.image;
    let steps = history(root, image).with_context(|| format!("cannot show `{image}`"))?;
    output::print(&render(arguments, &steps, Utc::now()))
}

fn render(arguments: &Arguments, steps: &[Step], now: DateTime<Utc>) -> String {
    let id = |step: &Step| match &step.id {
        None => "<missing>".to_owned(),
        Some(id) if arguments.no_trunc => id.to_string(),
        Some(id) => id.short().to_owned(),
    };
    if arguments.quiet {
        return steps.iter().map(|step| id(step) + "\n").collect();
    }
    let created = |step: &Step| match step.created {
        None => "N/A".to_owned(),
        Some(created) if arguments.human => human::ago(created, now),
        Some(created) => created.to_rfc3339_opts(SecondsFormat::Secs, true),
    };
    let size = |step: &Step| {
        if arguments.human {
            human::size(step.size, 3)
        } else {
            step.size.to_string()
        }
    };
    let header = if arguments.human {
        ["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]
    } else {
        ["IMAGE", "CREATED AT", "CREATED BY", "SIZE", "COMMENT"]
    };
    let mut table = vec![header.map(str::to_owned).to_vec()];
    table.extend(steps.iter().map(|step| {
        vec![
            id(step),
            created(step),
            command(&step.created_by, arguments.no_trunc),
            size(step),
            human::printable(&step.comment),
        ]
    }));
    human::table(&table)
}

/// Returns a command on one line, shortened with `…` unless `whole`.
fn command(text: &str, whole: bool) -> String {
    let line = text.replace('\t', " ");
    let line = if whole || line.chars().count() <= COMMAND_WIDTH {
        line
    } else {
        line.chars().take(COMMAND_WIDTH - 1).chain(['…']).collect()
    };
    human::printable(&line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn shown(human: bool, quiet: bool, no_trunc: bool) -> String {
        let step = |id, day: u32, created_by: &str, size| Step {
            id,
            created: format!("2026-01-{day:02}T00:00:00Z").parse().ok(),
            created_by: created_by.to_owned(),
            size,
            comment: "by hand".to_owned(),
        };
        let steps = [
            step(Some(Digest::of(b"a")), 9, "CMD [\"bash\"]", 0),
            step(
                None,
                8,
                "/bin/sh -c #(nop)\tADD file:0123456789abcdef in / and more",
                78_100_000,
            ),
        ];
        let arguments = Arguments {
            human,
            quiet,
            no_trunc,
            image: String::new(),
        };
        let now = "2026-01-10T00:00:00Z".parse().unwrap();
        render(&arguments, &steps, now)
    }

    #[test]
    fn the_table_is_dockers() {
        insta::assert_snapshot!(shown(true, false, false), @r#"
        IMAGE          CREATED        CREATED BY                                      SIZE      COMMENT
        ca978112ca1b   24 hours ago   CMD ["bash"]                                    0B        by hand
        <missing>      2 days ago     /bin/sh -c #(nop) ADD file:0123456789abcdef …   78.1MB    by hand
        "#);
        insta::assert_snapshot!(shown(false, false, true), @r#"
        IMAGE                                                                     CREATED AT             CREATED BY                                                  SIZE       COMMENT
        sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb   2026-01-09T00:00:00Z   CMD ["bash"]                                                0          by hand
        <missing>                                                                 2026-01-08T00:00:00Z   /bin/sh -c #(nop) ADD file:0123456789abcdef in / and more   78100000   by hand
        "#);
        assert_eq!(shown(true, true, false), "ca978112ca1b\n<missing>\n");
    }
}
