//! Sizes, times, lists and tables, as people read and write them.

use chrono::{DateTime, Utc};
use std::collections::BTreeSet;
use std::time::Duration;
use unicode_width::UnicodeWidthStr;

/// Reads a boolean as Go's `strconv.ParseBool` does, which Docker's flags and options go through.
pub(crate) fn parse_boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Returns `bytes` in decimal units with at most `digits` significant digits: `29.7MB`.
pub(crate) fn size(bytes: u64, digits: usize) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    #[expect(clippy::cast_precision_loss, reason = "a few digits are shown")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let whole = if value >= 100.0 {
        3
    } else if value >= 10.0 {
        2
    } else {
        1
    };
    let number = format!("{value:.*}", digits.saturating_sub(whole));
    let number = if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        &number
    };
    format!("{number}{}", UNITS[unit])
}

/// Returns the bytes meant by `64m`, `1.5g`, `512` or `10MiB`: base 1024, as Docker's limits have them.
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let split = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(split);
    let power = match unit.trim().trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let value: f64 = number.parse().ok()?;
    let bytes = value * 1024_f64.powi(power);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked: positive, and below 2^63"
    )]
    (bytes.is_finite() && (0.0..9.2e18).contains(&bytes)).then_some(bytes as u64)
}

/// Returns the numbers meant by a list such as `0-2,7`, as the kernel writes lists of processors; `None` if it is none.
pub(crate) fn parse_numbers(text: &str) -> Option<BTreeSet<u32>> {
    // More processors than Linux can be built for; a list of billions would take memory for nothing.
    const LIMIT: u32 = 8192;
    let number = |text: &str| -> Option<u32> {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|&n| is_number && n < LIMIT)
    };
    let mut numbers = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// Returns how long ago `then` was, in Docker's words: `3 seconds ago`, `About an hour ago`.
pub(crate) fn ago(then: DateTime<Utc>, now: DateTime<Utc>) -> String {
    format!(
        "{} ago",
        duration(now.signed_duration_since(then).num_seconds())
    )
}

/// Returns a length of time in Docker's words (docker/go-units `HumanDuration`).
pub(crate) fn duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// Returns the time meant by `1h30m`, `2.5s` or `100ms`: numbers with units, one after the other, as Go has them.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (digits, tail) = rest.split_at(number);
        let unit = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += digits.parse::<f64>().ok()? * scale;
        rest = tail;
    }
    let duration = Duration::try_from_secs_f64(seconds).ok();
    duration.filter(|_| !text.is_empty())
}

/// The narrowest column, with the space that follows it, in cells: Docker's.
const COLUMN: usize = 10;

/// Spaces between columns at least: Docker's.
const GAP: usize = 3;

/// Returns rows as an aligned table, byte for byte as Docker prints them.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            let widest = cells.map(|cell| cell.width()).max().unwrap_or(0);
            (widest + GAP).max(COLUMN)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        for (number, (cell, width)) in row.iter().zip(&widths).enumerate() {
            text.push_str(cell);
            // Nothing is to be aligned after the last.
            if number + 1 < row.len() {
                text.extend(std::iter::repeat_n(' ', width - cell.width()));
            }
        }
        text.push('\n');
    }
    text
}

/// Returns untrusted text with control characters escaped, so that it cannot speak to a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = escaped.is_none().then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_numbers_are_read_as_the_kernel_writes_them() {
        for (text, expected) in [
            ("0", Some(vec![0])),
            ("0-2,7", Some(vec![0, 1, 2, 7])),
            ("3,1,1", Some(vec![1, 3])),
            ("", None),
            ("1-0", None),
            ("-1", None),
            ("1,", None),
            ("0-4:2", None),
            ("+1", None),
            ("0-4294967295", None),
        ] {
            let found = parse_numbers(text);
            assert_eq!(found.map(Vec::from_iter), expected, "{text}");
        }
    }

    #[test]
    fn sizes_are_decimal() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (29_740_000, "29.74MB"),
            (170_400_000, "170.4MB"),
            (1_234_567_890, "1.235GB"),
        ] {
            assert_eq!(size(bytes, 4), text);
        }
        assert_eq!(size(170_400_000, 3), "170MB");
    }

    #[test]
    fn limits_are_binary() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("64m", 64 << 20),
            ("1.5G", 3 << 29),
            ("10MiB", 10 << 20),
            ("2kb", 2048),
        ] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for bad in ["", "m", "-1", "1x", "1e3", "9999999p", "1..5m", "nan"] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_use_dockers_words() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (180, "3 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (86_400 * 3, "3 days"),
            (86_400 * 21, "3 weeks"),
            (86_400 * 90, "3 months"),
            (86_400 * 365 * 3, "3 years"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("a\u{1b}[31mé\n"), "a\\u{1b}[31mé\\n");
    }
}
