//! `ddock images`.

mod filter;

use crate::cli::filter::Filter;
use crate::cli::listing::Listing;
use crate::cli::{failure, output};
use crate::digest::Digest;
use crate::engine::image::{View, list};
use crate::human;
use crate::reference::Reference;
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use clap::Args;
use filter::{Named, Wanted};
use serde_json::{Value, json};
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
    /// Show only images that fit: dangling=BOOL, reference=PATTERN, label=KEY[=VALUE], before=IMAGE, since=IMAGE, until=TIME
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// Show so: `table`, `table TEMPLATE`, `json` or a template of Go's, such as `{{.Repository}}:{{.Tag}}`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show only images of this name
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<Named>,
}

/// What `images` can show: Docker's columns.
const LISTING: Listing = Listing {
    columns: &[
        ("Containers", "CONTAINERS"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedSince", "CREATED"),
        ("Digest", "DIGEST"),
        ("ID", "IMAGE ID"),
        ("Repository", "REPOSITORY"),
        ("SharedSize", "SHARED SIZE"),
        ("Size", "SIZE"),
        ("Tag", "TAG"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("VirtualSize", "SIZE"),
    ],
    table: &["Repository", "Tag", "ID", "CreatedSince", "Size"],
    quiet: "ID",
};

/// Those of the table with `--digests`.
const WITH_DIGESTS: &[&str] = &["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"];

/// Lists images, the newest first.
pub(crate) fn run(arguments: &Arguments, root: &Path) -> Result<()> {
    let wanted = Wanted::new(&arguments.filter)?;
    let images = list(root, wanted.is_on_labels(), &failure::note).context("cannot list images")?;
    wanted.check(&images)?;
    output::print(&render(arguments, &wanted, images, Utc::now())?)
}

/// What one line of the list shows. A name without a tag has a digest.
struct Row<'a> {
    image: &'a View,
    name: Option<&'a Reference>,
}

fn render(
    arguments: &Arguments,
    wanted: &Wanted<'_>,
    mut images: Vec<View>,
    now: DateTime<Utc>,
) -> Result<String> {
    images.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
    let rows = images.iter().filter(|image| wanted.accepts(image, &images));
    let rows = rows.flat_map(|image| rows_of(arguments, wanted, image));
    let rows: Vec<Value> = rows.map(|row| fields(arguments, &row, now)).collect();
    let table = if arguments.digests {
        WITH_DIGESTS
    } else {
        LISTING.table
    };
    LISTING.render(arguments.format.as_deref(), arguments.quiet, table, &rows)
}

/// Returns a row for each tag that was asked for. An image without a tag has a row for each
/// of its repositories, and is shown only if it was asked for.
fn rows_of<'a>(arguments: &Arguments, wanted: &Wanted<'_>, image: &'a View) -> Vec<Row<'a>> {
    let is_asked_for = |name: &&Reference| {
        arguments.name.as_ref().is_none_or(|asked| asked.is(name)) && wanted.accepts_name(name)
    };
    let asks_for_untagged =
        arguments.all || arguments.name.is_some() || wanted.dangling == Some(true);
    let mut names: Vec<&Reference> = image.tags.iter().filter(is_asked_for).collect();
    names.sort_by_key(|name| name.familiar());
    if image.tags.is_empty() && asks_for_untagged {
        names.extend(image.repo_digests.iter().filter(is_asked_for));
        let asks_for_names = arguments.name.is_some() || wanted.is_on_names();
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

/// Returns all that a template can ask for, as Docker's command line has it: texts.
fn fields(arguments: &Arguments, row: &Row<'_>, now: DateTime<Utc>) -> Value {
    let none = || "<none>".to_owned();
    let repository = row.name.map(Reference::familiar_name);
    let same_repository =
        |digest: &&Reference| repository.as_ref() == Some(&digest.familiar_name());
    let digest = row.image.repo_digests.iter().find(same_repository);
    let digest = digest.and_then(Reference::digest);
    let tag = row.name.and_then(Reference::tag).map(str::to_owned);
    // Builders write the clock's zero where they do not know, or do not say.
    let created = row
        .image
        .created
        .filter(|created| created.timestamp() != ZERO);
    let at = row.image.created.unwrap_or(DateTime::UNIX_EPOCH);
    let unknown = || "N/A".to_owned();
    let size = human::size(row.image.size, 3);
    json!({
        "Containers": unknown(),
        "CreatedAt": at.format("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        "CreatedSince": created.map_or_else(unknown, |created| human::ago(created, now)),
        "Digest": digest.map_or_else(none, ToString::to_string),
        "ID": id(arguments, &row.image.id),
        "Repository": repository.clone().unwrap_or_else(none),
        "SharedSize": unknown(),
        "Size": size,
        "Tag": tag.unwrap_or_else(none),
        "UniqueSize": unknown(),
        "VirtualSize": size,
    })
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
        let arguments = Arguments::from_arg_matches(&matches).unwrap();
        let wanted = Wanted::new(&arguments.filter).unwrap();
        render(&arguments, &wanted, images(), now).unwrap()
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
            let wanted = Wanted::new(&[]).unwrap();
            let table = render(&Arguments::default(), &wanted, vec![image], now).unwrap();
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
        assert_eq!(
            shown("--format {{.Repository}}:{{.Tag}} ubuntu:24.04"),
            "ubuntu:24.04\n"
        );
        assert_eq!(
            shown("--format json ubuntu:24.04"),
            "{\"Containers\":\"N/A\",\"CreatedAt\":\"2026-01-09 00:00:00 +0000 UTC\",\"CreatedSince\":\"24 hours ago\",\"Digest\":\"sha256:1bc04b5291c26a46d918139138b992d2de976d6851d0893b0476b85bfbdfc6e6\",\"ID\":\"ca978112ca1b\",\"Repository\":\"ubuntu\",\"SharedSize\":\"N/A\",\"Size\":\"78.1MB\",\"Tag\":\"24.04\",\"UniqueSize\":\"N/A\",\"VirtualSize\":\"78.1MB\"}\n"
        );
    }

    #[test]
    fn ids_are_whole_without_truncation_and_one_for_each_tag() {
        let id = Digest::of(b"a");
        assert_eq!(shown("-q --no-trunc ubuntu"), format!("{id}\n{id}\n"));
    }
}
