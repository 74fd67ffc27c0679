//! Limits of a single process, `--ulimit`, as config.json's `process.rlimits`.

use crate::human::printable;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// The names that Docker has for them (docker/go-units, `ulimit.go`).
const NAMES: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Returns the limits that were asked for, `TYPE=SOFT[:HARD]`; of two of one type the last one counts.
pub(crate) fn build(texts: &[String]) -> Result<Vec<Value>> {
    let mut limits: Vec<(&str, Value)> = Vec::new();
    for text in texts {
        let (name, limit) = parse(text)?;
        limits.retain(|(other, _)| *other != name);
        limits.push((name, limit));
    }
    limits.sort_by_key(|(name, _)| *name);
    Ok(limits.into_iter().map(|(_, limit)| limit).collect())
}

fn parse(text: &str) -> Result<(&str, Value)> {
    let shown = printable(text);
    let Some((name, values)) = text.split_once('=') else {
        bail!("invalid ulimit argument: {shown}: expected TYPE=SOFT[:HARD]");
    };
    ensure!(
        NAMES.contains(&name),
        "invalid ulimit type: {}: expected one of {}",
        printable(name),
        NAMES.join(", ")
    );
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    ensure!(
        !hard.contains(':'),
        "too many limit value arguments - {}, can only have up to two, `soft[:hard]`",
        printable(values)
    );
    let number = |text: &str| match text {
        // Unlimited (getrlimit(2), RLIM_INFINITY).
        "-1" => Some(u64::MAX),
        _ => text.parse().ok(),
    };
    let context =
        || format!("invalid ulimit argument: {shown}: a limit is a number, or -1 for none");
    let soft = number(soft).with_context(context)?;
    let hard = number(hard).with_context(context)?;
    ensure!(
        soft <= hard,
        "ulimit soft limit must be less than or equal to hard limit: {}",
        printable(values).replace(':', " > ")
    );
    let kind = format!("RLIMIT_{}", name.to_uppercase());
    Ok((name, json!({ "type": kind, "soft": soft, "hard": hard })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(texts: &[&str]) -> Result<Vec<Value>> {
        let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
        build(&texts)
    }

    #[test]
    fn one_value_is_both_and_minus_one_is_no_limit() {
        let limit =
            |kind: &str, soft: u64, hard: u64| json!({ "type": kind, "soft": soft, "hard": hard });
        for (texts, expected) in [
            (&[][..], vec![]),
            (&["nofile=10"], vec![limit("RLIMIT_NOFILE", 10, 10)]),
            (&["core=0:-1"], vec![limit("RLIMIT_CORE", 0, u64::MAX)]),
            (
                &["nproc=5:6", "core=-1", "nproc=7:8"],
                vec![
                    limit("RLIMIT_CORE", u64::MAX, u64::MAX),
                    limit("RLIMIT_NPROC", 7, 8),
                ],
            ),
        ] {
            assert_eq!(built(texts).unwrap(), expected);
        }
    }

    #[test]
    fn bad_limits_are_refused_in_dockers_words() {
        for (text, expected) in [
            ("nofile", "invalid ulimit argument: nofile"),
            ("bogus=5", "invalid ulimit type: bogus"),
            ("NOFILE=5", "invalid ulimit type: NOFILE"),
            ("as=5", "invalid ulimit type: as"),
            ("nofile=x", "invalid ulimit argument: nofile=x"),
            ("nofile=", "invalid ulimit argument: nofile="),
            ("nofile=-2", "invalid ulimit argument: nofile=-2"),
            (
                "nofile=10:5",
                "ulimit soft limit must be less than or equal to hard limit: 10 > 5",
            ),
            (
                "core=-1:0",
                "ulimit soft limit must be less than or equal to hard limit: -1 > 0",
            ),
            (
                "nofile=1:2:3",
                "too many limit value arguments - 1:2:3, can only have up to two, `soft[:hard]`",
            ),
        ] {
            let error = built(&[text]).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
