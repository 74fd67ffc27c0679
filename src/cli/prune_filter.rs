//! `--filter` of the commands that remove what nothing uses.

use crate::human;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeMap;
use std::str::FromStr;

/// One `--filter` of a prune: all must take what is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PruneFilter {
    /// Whether it is to have the label, its key, and its value.
    Label(bool, String, Option<String>),
    /// Made before this time.
    Until(DateTime<Utc>),
}

impl FromStr for PruneFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
        // `label!=KEY` is split before its `=`.
        match key {
            "label" | "label!" => {
                let (name, value) = match value.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (value, None),
                };
                Ok(Self::Label(key == "label", name.to_owned(), value))
            }
            "until" => moment(value)
                .map(Self::Until)
                .ok_or_else(|| format!("`{value}` is neither a time nor a duration such as `24h`")),
            _ => Err(format!("there is no filter `{key}`")),
        }
    }
}

/// Reads a time, or how long ago it was.
pub(crate) fn moment(text: &str) -> Option<DateTime<Utc>> {
    if let Some(ago) = human::parse_duration(text) {
        return Utc::now().checked_sub_signed(TimeDelta::from_std(ago).ok()?);
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.to_utc());
    }
    DateTime::from_timestamp(text.parse().ok()?, 0)
}

impl PruneFilter {
    /// Tells whether what has these labels and was made then may go. What says no time was made before any.
    pub(crate) fn accepts(
        &self,
        labels: &BTreeMap<String, String>,
        created: Option<DateTime<Utc>>,
    ) -> bool {
        match self {
            Self::Label(wanted, key, value) => has_label(labels, key, value.as_deref()) == *wanted,
            Self::Until(time) => created.is_none_or(|created| created < *time),
        }
    }
}

/// Tells whether a label is there, with this value if one is asked for.
pub(crate) fn has_label(labels: &BTreeMap<String, String>, key: &str, value: Option<&str>) -> bool {
    let found = labels.get(key);
    found.is_some_and(|found| value.is_none_or(|value| value == found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_dockers() {
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        for (text, expected) in [
            ("label=a", true),
            ("label=a=b", true),
            ("label=a=c", false),
            ("label!=a", false),
            ("label!=a=c", true),
            ("label!=b", true),
            ("until=1h", false),
            ("until=2100-01-01T00:00:00Z", true),
            ("until=1000000000", false),
        ] {
            let filter: PruneFilter = text.parse().unwrap();
            assert_eq!(
                filter.accepts(&labels, Some(Utc::now())),
                expected,
                "{text}"
            );
        }
        for text in ["label", "until=x", "bogus=1"] {
            assert!(text.parse::<PruneFilter>().is_err(), "{text}");
        }
    }
}
