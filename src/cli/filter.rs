//! `--filter KEY=VALUE` of lists.

use crate::cli::failure::Refusal;
use crate::cli::prune_filter::has_label;
use std::collections::BTreeMap;
use std::str::FromStr;

/// One `--filter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    key: String,
    value: String,
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text
            .split_once('=')
            .ok_or("bad format of filter (expected name=value)")?;
        Ok(Self {
            key: key.trim().to_lowercase(),
            value: value.trim().to_owned(),
        })
    }
}

/// All that a list was asked for. Of several values of one key one is enough, but all labels are needed.
#[derive(Debug)]
pub(crate) struct Filters<'a>(&'a [Filter]);

impl<'a> Filters<'a> {
    /// Refuses keys that are not among the `known` ones, in Docker's words.
    pub(crate) fn new(filters: &'a [Filter], known: &[&str]) -> Result<Self, Refusal> {
        let unknown = filters.iter().find(|it| !known.contains(&it.key.as_str()));
        match unknown {
            Some(Filter { key, .. }) => Err(Refusal::new(format!("invalid filter '{key}'"))
                .hint(format!("there are {}", known.join(", ")))
                .code(1)),
            None => Ok(Self(filters)),
        }
    }

    pub(crate) fn values(&self, key: &str) -> impl Iterator<Item = &'a str> {
        let of_key = self.0.iter().filter(move |it| it.key == key);
        of_key.map(|it| it.value.as_str())
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.values(key).next().is_some()
    }

    /// Tells whether nobody asked about `key`, or one of the values fits.
    pub(crate) fn any(&self, key: &str, fits: impl FnMut(&str) -> bool) -> bool {
        !self.has(key) || self.values(key).any(fits)
    }

    /// Tells whether all labels that are asked for are there, each with its value if one is named.
    pub(crate) fn has_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.values("label")
            .all(|label| match label.split_once('=') {
                Some((key, value)) => has_label(labels, key, Some(value)),
                None => has_label(labels, label, None),
            })
    }

    /// Returns whether `key` is to be true or false, if that is asked.
    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>, Refusal> {
        let mut asked = None;
        for value in self.values(key) {
            let value = match value {
                "true" | "1" => true,
                "false" | "0" => false,
                _ => return Err(invalid(key, value)),
            };
            if asked.is_some_and(|asked| asked != value) {
                return Err(invalid(key, "true false"));
            }
            asked = Some(value);
        }
        Ok(asked)
    }
}

/// Returns the refusal of a value, in Docker's words.
pub(crate) fn invalid(key: &str, value: &str) -> Refusal {
    Refusal::new(format!("invalid filter '{key}={value}'")).code(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(texts: &[&str]) -> Vec<Filter> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn one_value_is_enough_and_all_labels_are_needed() {
        let given = filters(&["name=a", "NAME = b", "label=x", "label=y=1", "dangling=0"]);
        let filters = Filters::new(&given, &["name", "label", "dangling"]).unwrap();
        assert!(filters.any("name", |it| it == "b"));
        assert!(!filters.any("name", |it| it == "c"));
        assert!(filters.any("id", |_| false));
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            pairs.iter().map(owned).collect()
        };
        assert!(filters.has_labels(&labels(&[("x", ""), ("y", "1")])));
        assert!(!filters.has_labels(&labels(&[("x", ""), ("y", "2")])));
        assert_eq!(filters.boolean("dangling"), Ok(Some(false)));
    }

    #[test]
    fn what_is_wrong_is_refused_in_dockers_words() {
        assert!("name".parse::<Filter>().is_err());
        let given = filters(&["colour=red", "dangling=maybe"]);
        let refusal = Filters::new(&given, &["name"]).unwrap_err();
        assert_eq!(refusal.to_string(), "invalid filter 'colour'");
        let filters = Filters(&given);
        let refusal = filters.boolean("dangling").unwrap_err();
        assert_eq!(refusal.to_string(), "invalid filter 'dangling=maybe'");
    }
}
