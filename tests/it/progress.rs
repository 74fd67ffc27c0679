//! What a pull shows: on a terminal, in a log, to a program.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::canned::{Canned, Reply};
use crate::harness::ddock::Ddock;
use crate::harness::image::{Image, ImageBuilder};
use crate::harness::terminal::Terminal;
use crate::harness::tree::Tree;

/// An image of this many layers.
fn layered(count: usize) -> Image {
    let layer = |number: usize| {
        let content: Vec<u8> = (0..20_000_u32)
            .map(|byte| (byte.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0])
            .collect();
        let name = format!("file-{number}");
        Tree::new().dir("./", 0o755).file(&name, 0o644, content)
    };
    (0..count)
        .fold(ImageBuilder::new(), |image, number| {
            image.layer(layer(number))
        })
        .build()
}

/// Serves `image`; the bodies of its blobs take this long.
fn paced(image: &Image, time: Duration) -> Canned {
    Canned::registry(image, move |request, mut reply| {
        if request.target.contains("/blobs/") && reply.body.len() > 1000 {
            reply.pace = Some((24, time / 24));
        }
        reply
    })
}

#[test]
fn a_log_of_a_slow_pull_has_a_line_in_five_seconds() {
    let registry = paced(&layered(3), Duration::from_secs(12));
    let begin = Instant::now();
    let stdout = Ddock::new().ok(&["pull", "--progress=plain", &registry.reference("test/x:1")]);
    let allowed = usize::try_from(begin.elapsed().as_secs() / 5).unwrap();
    let lines: Vec<&str> = stdout.lines().collect();
    let told = lines.iter().filter(|line| line.starts_with("Pulling: "));
    let told: Vec<_> = told.collect();
    assert!((1..=allowed).contains(&told.len()), "{stdout}");
    assert_eq!(lines.len(), told.len() + 4, "{stdout}");
    for line in told {
        let parts = ["% ", "kB/", "/s ", "s left, ", " of 3 layers"];
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
}

#[test]
fn thirty_layers_make_four_lines_if_they_are_quick() {
    let registry = paced(&layered(30), Duration::ZERO);
    let begin = Instant::now();
    let stdout = Ddock::new().ok(&["pull", &registry.reference("test/x:1")]);
    let allowed = 4 + usize::try_from(begin.elapsed().as_secs() / 5).unwrap();
    assert!(stdout.lines().count() <= allowed, "{stdout}");
}

#[test]
fn a_program_reads_every_state_and_the_end() {
    let image = layered(2);
    let registry = paced(&image, Duration::from_secs(1));
    let reference = registry.reference("test/x:1");
    let ddock = Ddock::new();
    let stdout = ddock.ok(&["pull", "--progress", "json", &reference]);
    let objects: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(objects[0]["id"], "1");
    assert_eq!(objects[0]["status"], "Pulling from test/x");
    for layer in image.layers() {
        let id = &layer["sha256:".len()..][..12];
        let of_layer: Vec<&Value> = objects.iter().filter(|o| o["id"] == *id).collect();
        let mut states: Vec<&str> = of_layer
            .iter()
            .filter_map(|o| o["status"].as_str())
            .collect();
        states.dedup();
        assert_eq!(
            states,
            [
                "Pulling fs layer",
                "Downloading",
                "Download complete",
                "Pull complete"
            ]
        );
        let last = of_layer.last().unwrap();
        assert_eq!(last["current"], last["total"], "{last}");
    }
    let end = objects.last().unwrap();
    assert_eq!(end["digest"], image.top().digest);
    assert_eq!(end["name"], reference);
    assert_eq!(
        end["status"],
        format!("Downloaded newer image for {reference}")
    );
    let again = ddock.ok(&["pull", "--progress", "json", &reference]);
    assert_eq!(again.lines().count(), 1, "{again}");
}

#[test]
fn none_is_only_how_it_ended() {
    let image = layered(1);
    let registry = paced(&image, Duration::ZERO);
    let reference = registry.reference("test/x");
    let stdout = Ddock::new().ok(&["pull", "--progress=none", &reference]);
    let digest = &image.top().digest;
    assert_eq!(
        stdout,
        format!(
            "Digest: {digest}\nStatus: Downloaded newer image for {reference}:latest\n{reference}:latest\n"
        )
    );
}

#[test]
fn bars_need_a_terminal() {
    Ddock::new()
        .run(&["pull", "--progress=tty", "x"])
        .exits(1)
        .says("`--progress tty` needs a terminal");
    Ddock::new()
        .run(&["pull", "--progress=fancy", "x"])
        .exits(125)
        .says("expected auto, tty, plain, json, none");
}

/// Returns the rows of a screen, this many columns wide, after `text`, which moves up, clears lines and draws again as
/// indicatif does. The terminal leaves carriage returns out, and there is one before every line that is cleared.
fn rows(text: &str, columns: usize) -> Vec<String> {
    let mut rows = vec![String::new()];
    let (mut row, mut column) = (0, 0);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\n' => {
                row += 1;
                column = 0;
                if row == rows.len() {
                    rows.push(String::new());
                }
            }
            '\u{1b}' => {
                assert_eq!(rest.next(), Some('['), "{text:?}");
                let mut number = String::new();
                while rest
                    .peek()
                    .is_some_and(|c| c.is_ascii_digit() || matches!(c, ';' | '?'))
                {
                    number.extend(rest.next());
                }
                let count: usize = number.parse().unwrap_or(1);
                match rest.next() {
                    Some('A') => row -= count.min(row),
                    Some('B') => row = (row + count).min(rows.len() - 1),
                    Some('K') => {
                        rows[row].clear();
                        column = 0;
                    }
                    Some('m' | 'l' | 'h' | 'G') => {}
                    other => panic!("{other:?} in {text:?}"),
                }
            }
            c => {
                // The last column is left only when there is more to write.
                if column == columns {
                    (row, column) = (row + 1, 0);
                    if row == rows.len() {
                        rows.push(String::new());
                    }
                }
                rows[row].truncate(column);
                rows[row].push(c);
                column += 1;
            }
        }
    }
    let rows = rows.into_iter().map(|row| row.trim_end().to_owned());
    rows.filter(|row| !row.is_empty()).collect()
}

#[test]
fn a_terminal_ends_with_a_line_a_layer_and_the_closing_lines() {
    let image = layered(3);
    let failed = std::sync::atomic::AtomicBool::new(false);
    let registry = Canned::registry(&image, move |request, mut reply| {
        if request.target.contains("/manifests/")
            && !failed.swap(true, std::sync::atomic::Ordering::Relaxed)
        {
            return Reply::new(503, "").header("Retry-After", "2");
        }
        if request.target.contains("/blobs/") && reply.body.len() > 1000 {
            reply.pace = Some((10, Duration::from_millis(100)));
        }
        reply
    });
    let reference = registry.reference("test/x:1");
    let ddock = Ddock::new();
    let mut command = ddock.command(&["pull", &reference]);
    command.env("TERM", "xterm");
    let mut terminal = Terminal::start(&command, 24, 100);
    let mut seen = terminal.expect("Retrying in 2 seconds");
    seen += &terminal.expect("Retrying in 1 second");
    seen += &terminal.expect(&format!("\n{reference}\n"));
    assert_eq!(terminal.wait(), 0);
    for shown in ["Waiting", "Downloading", "Total: ", "/s"] {
        assert!(seen.contains(shown), "{seen}");
    }
    let mut expected = vec!["1: Pulling from test/x".to_owned()];
    for layer in image.layers() {
        expected.push(format!(
            "{}: Pull complete",
            &layer["sha256:".len()..][..12]
        ));
    }
    expected.push(format!("Digest: {}", image.top().digest));
    expected.push(format!("Status: Downloaded newer image for {reference}"));
    expected.push(reference.clone());
    assert_eq!(rows(&seen, 100), expected, "{seen:?}");
}
