//! `--ulimit TYPE=SOFT[:HARD]`: a limit of each process.

use crate::human::printable;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

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

/// A limit of each process (setrlimit(2)); `u64::MAX` is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ulimit {
    /// One of [`NAMES`].
    pub(crate) name: String,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

impl FromStr for Ulimit {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let shown = printable(text);
        let (name, values) = text.split_once('=').with_context(|| {
            format!("invalid ulimit argument: {shown}: expected TYPE=SOFT[:HARD]")
        })?;
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
        Ok(Self {
            name: name.to_owned(),
            soft,
            hard,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_both_and_minus_one_is_no_limit() {
        for (text, name, soft, hard) in [
            ("nofile=10", "nofile", 10, 10),
            ("core=0:-1", "core", 0, u64::MAX),
            ("core=-1", "core", u64::MAX, u64::MAX),
            ("nproc=5:6", "nproc", 5, 6),
        ] {
            let name = name.to_owned();
            let expected = Ulimit { name, soft, hard };
            assert_eq!(text.parse::<Ulimit>().unwrap(), expected);
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
            let error = text.parse::<Ulimit>().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
