//! `ddock images`.

mod filter;

use crate::cli::{failure, output};
use crate::digest::Digest;
use crate::engine::image::{View, list};
use crate::human;
use crate::reference::Reference;
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use clap::Args;
use filter::{Filter, Named};
use std::path::Path;

/// The zero of Go's clock, in seconds since 1970: the first second of the year 1.
const ZERO: i64 = -62_135_596_800;

#[derive(Debug, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags are booleans")]
pub(crate) struct Arguments {
    /// Show untagged images too
    #[arg(short, long)]
    all: bool,
    /// Show IDs only
    #[arg(short, long)]
    quiet: bool,
    /// Show whole IDs
    #[arg(long)]
    no_trunc: bool,
    /// Show the digests that registries know the images by
    #[arg(long)]
    digests: bool,
    /// Show only images with `dangling=BOOL`, `reference=PATTERN`, `label=KEY[=VALUE]`, `before=IMAGE` or `since=IMAGE`
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// Show only images of this name
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<Named>,
}

/// Lists images, the newest first.
pub(crate) fn run(arguments: &Arguments, root: &Path) -> Result<()> {
    let with_labels = arguments.filter.iter().any(Filter::is_on_labels);
    let images = list(root, with_labels, &failure::note).context("cannot list images")?;
    output::print(&render(arguments, images, Utc::now()))
}

/// What one line of the list shows. A name without a tag has a digest.
struct Row<'a> {
    image: &'a View,
    name: Option<&'a Reference>,
}

fn render(arguments: &Arguments, mut images: Vec<View>, now: DateTime<Utc>) -> String {
    images.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
    let rows = images
        .iter()
        .filter(|image| {
            arguments
                .filter
                .iter()
                .all(|filter| filter.accepts(image, &images))
        })
        .flat_map(|image| rows(arguments, image));
    if arguments.quiet {
        return rows
            .map(|row| id(arguments, &row.image.id) + "\n")
            .collect();
    }
    let mut header = vec!["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"];
    if arguments.digests {
        header.insert(2, "DIGEST");
    }
    let mut table = vec![header.into_iter().map(str::to_owned).collect()];
    table.extend(rows.map(|row| cells(arguments, &row, now)));
    human::table(&table)
}

/// Returns a row for each tag that was asked for. An image without a tag has a row for each
/// of its repositories, and is shown only if it was asked for.
fn rows<'a>(arguments: &Arguments, image: &'a View) -> Vec<Row<'a>> {
    let is_asked_for = |name: &&Reference| {
        arguments.name.as_ref().is_none_or(|asked| asked.is(name))
            && arguments
                .filter
                .iter()
                .all(|filter| filter.accepts_name(name))
    };
    let asks_for_untagged = arguments.all
        || arguments.name.is_some()
        || arguments.filter.iter().any(Filter::asks_for_untagged);
    let mut names: Vec<&Reference> = image.tags.iter().filter(is_asked_for).collect();
    names.sort_by_key(|name| name.familiar());
    if image.tags.is_empty() && asks_for_untagged {
        names.extend(image.repo_digests.iter().filter(is_asked_for));
        let asks_for_names =
            arguments.name.is_some() || arguments.filter.iter().any(Filter::is_on_names);
        if image.repo_digests.is_empty() && !asks_for_names {
            return vec![Row { image, name: None }];
        }
    }
    names
        .into_iter()
        .map(|name| Row {
            image,
            name: Some(name),
        })
        .collect()
}

fn cells(arguments: &Arguments, row: &Row<'_>, now: DateTime<Utc>) -> Vec<String> {
    let none = || "<none>".to_owned();
    let mut cells = vec![
        row.name.map_or_else(none, Reference::familiar_name),
        row.name
            .and_then(Reference::tag)
            .map_or_else(none, str::to_owned),
    ];
    if arguments.digests {
        let same_repository = |digest: &&Reference| {
            row.name
                .is_some_and(|name| name.familiar_name() == digest.familiar_name())
        };
        let digest = row.image.repo_digests.iter().find(same_repository);
        let digest = digest.and_then(Reference::digest);
        cells.push(digest.map_or_else(none, ToString::to_string));
    }
    let created = row.image.created;
    cells.push(id(arguments, &row.image.id));
    // Builders write that where they do not know, or do not say.
    let created = created.filter(|created| created.timestamp() != ZERO);
    cells.push(created.map_or_else(|| "N/A".to_owned(), |created| human::ago(created, now)));
    cells.push(human::size(row.image.size, 3));
    cells
}

fn id(arguments: &Arguments, id: &Digest) -> String {
    if arguments.no_trunc {
        id.to_string()
    } else {
        id.short().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    pub(super) fn image(content: &str, tags: &[&str], day: u32) -> View {
        View {
            id: Digest::of(content.as_bytes()),
            tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
            repo_digests: Vec::new(),
            created: format!("2026-01-{day:02}T00:00:00Z").parse().ok(),
            size: 78_100_000,
            labels: BTreeMap::new(),
        }
    }

    fn images() -> Vec<View> {
        let with_digest = |mut image: View, repository: &str| {
            let repository: Reference = repository.parse().unwrap();
            image.repo_digests = vec![repository.with_digest(Digest::of(b"index"))];
            image
        };
        vec![
            with_digest(
                image("a", &["ubuntu:24.04", "ubuntu", "localhost:5000/a/b:1"], 9),
                "ubuntu",
            ),
            with_digest(image("b", &[], 8), "debian"),
            image("c", &[], 7),
            View {
                created: None,
                ..image("d", &["java:8"], 1)
            },
        ]
    }

    fn shown(arguments: &str) -> String {
        use clap::{Args as _, FromArgMatches as _};
        let words = arguments.split_whitespace();
        let matches = Arguments::augment_args(clap::Command::new("images").no_binary_name(true))
            .try_get_matches_from(words)
            .unwrap();
        let now = "2026-01-10T00:00:00Z".parse().unwrap();
        render(
            &Arguments::from_arg_matches(&matches).unwrap(),
            images(),
            now,
        )
    }

    #[test]
    fn the_table_is_dockers_old_one() {
        insta::assert_snapshot!(shown(""), @r"
        REPOSITORY           TAG       IMAGE ID       CREATED        SIZE
        localhost:5000/a/b   1         ca978112ca1b   24 hours ago   78.1MB
        ubuntu               24.04     ca978112ca1b   24 hours ago   78.1MB
        ubuntu               latest    ca978112ca1b   24 hours ago   78.1MB
        java                 8         18ac3e7343f0   N/A            78.1MB
        ");
    }

    #[test]
    fn a_date_of_zero_is_none() {
        let now = "2026-01-10T00:00:00Z".parse().unwrap();
        for (created, shown) in [
            ("0001-01-01T00:00:00Z", " N/A "),
            ("0001-01-01T00:00:00.5Z", " N/A "),
            ("1970-01-01T00:00:00Z", " 56 years ago "),
        ] {
            let image = View {
                created: created.parse().ok(),
                ..image("a", &["zero:1"], 1)
            };
            let table = render(&Arguments::default(), vec![image], now);
            assert!(table.contains(shown), "{created}: {table}");
        }
    }

    #[test]
    fn untagged_images_are_shown_when_asked_for() {
        insta::assert_snapshot!(shown("-a --digests"), @r"
        REPOSITORY           TAG       DIGEST                                                                    IMAGE ID       CREATED        SIZE
        localhost:5000/a/b   1         <none>                                                                    ca978112ca1b   24 hours ago   78.1MB
        ubuntu               24.04     sha256:1bc04b5291c26a46d918139138b992d2de976d6851d0893b0476b85bfbdfc6e6   ca978112ca1b   24 hours ago   78.1MB
        ubuntu               latest    sha256:1bc04b5291c26a46d918139138b992d2de976d6851d0893b0476b85bfbdfc6e6   ca978112ca1b   24 hours ago   78.1MB
        debian               <none>    sha256:1bc04b5291c26a46d918139138b992d2de976d6851d0893b0476b85bfbdfc6e6   3e23e8160039   2 days ago     78.1MB
        <none>               <none>    <none>                                                                    2e7d2c03a950   3 days ago     78.1MB
        java                 8         <none>                                                                    18ac3e7343f0   N/A            78.1MB
        ");
        insta::assert_snapshot!(shown("-q -f dangling=true"), @r"
        3e23e8160039
        2e7d2c03a950
        ");
    }

    #[test]
    fn a_name_must_match_exactly() {
        insta::assert_snapshot!(shown("ubuntu"), @r"
        REPOSITORY   TAG       IMAGE ID       CREATED        SIZE
        ubuntu       24.04     ca978112ca1b   24 hours ago   78.1MB
        ubuntu       latest    ca978112ca1b   24 hours ago   78.1MB
        ");
        assert_eq!(shown("-q ubuntu:latest"), "ca978112ca1b\n");
        assert_eq!(shown("-q docker.io/library/ubuntu:24.04"), "ca978112ca1b\n");
        assert_eq!(shown("-q debian"), "3e23e8160039\n");
        assert_eq!(shown("-q jav"), "");
        assert_eq!(shown("-q ubunt*"), "");
    }

    #[test]
    fn ids_are_whole_without_truncation_and_one_for_each_tag() {
        let id = Digest::of(b"a");
        assert_eq!(shown("-q --no-trunc ubuntu"), format!("{id}\n{id}\n"));
    }
}
