//! Who the command runs as, as `--user` and `--group-add` name users and groups.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// The largest ID there is: larger ones are negative to programs that know IDs as signed.
pub(crate) const LARGEST: u32 = 0x7fff_ffff;

/// `NAME|UID[:GROUP|GID]`, whose numbers are IDs; names are looked up in the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct UserName(String);

impl UserName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        for part in text.split(':').take(2) {
            parse_number(part)?;
        }
        Ok(Self(text.to_owned()))
    }
}

/// A group by its name or ID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct GroupName(String);

impl GroupName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GroupName {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        ensure!(
            text != "keep-groups",
            "`--group-add keep-groups` is not there: the caller's own groups stay outside"
        );
        parse_number(text)?;
        Ok(Self(text.to_owned()))
    }
}

/// Returns the number that `text` is, or none if it is a name. A number out of range is refused, never taken for a name.
pub(crate) fn parse_number(text: &str) -> Result<Option<u32>> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let number = text.parse().ok().filter(|&number| number <= LARGEST);
    ensure!(
        number.is_some(),
        "uids and gids must be in range 0-{LARGEST}, `{text}` is not"
    );
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_a_range_and_names_have_none() {
        for (text, is_right) in [
            ("0", true),
            ("alice:users", true),
            ("7:2147483647", true),
            ("2147483648", false),
            ("0:-1", false),
            ("-1", false),
        ] {
            assert_eq!(text.parse::<UserName>().is_ok(), is_right, "{text}");
        }
        assert!("99999999999".parse::<GroupName>().is_err());
        assert!("keep-groups".parse::<GroupName>().is_err());
    }
}
