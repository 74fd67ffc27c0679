//! Names of volumes: what a text must be to be one.

use crate::store::lock::random_name;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};
use std::str::FromStr;
use thiserror::Error;

/// The longest name of a file (`NAME_MAX`, `path_resolution(7)`).
const LONGEST_NAME: usize = 255;

/// The name of a volume: safe to be the name of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct VolumeName(String);

/// Why a text is no name of a volume. The words are Docker's.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum VolumeNameError {
    #[error("volume name is too short, names should be at least two alphanumeric characters")]
    TooShort,
    #[error("volume name is too long, names have at most {LONGEST_NAME} characters")]
    TooLong,
    #[error(
        "\"{0}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. \
         If you intended to pass a host directory, use absolute path, or `./{0}`"
    )]
    Invalid(String),
}

impl VolumeName {
    /// Returns a name for a volume that nobody named: 64 hex digits.
    pub(crate) fn random() -> Self {
        Self(random_name() + &random_name())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VolumeName {
    type Err = VolumeNameError;

    fn from_str(text: &str) -> Result<Self, VolumeNameError> {
        let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let begins = text.starts_with(|first: char| first.is_ascii_alphanumeric());
        if text.len() == 1 {
            return Err(VolumeNameError::TooShort);
        }
        if text.len() > LONGEST_NAME {
            return Err(VolumeNameError::TooLong);
        }
        if !begins || !text.bytes().all(is_fine) {
            return Err(VolumeNameError::Invalid(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for VolumeName {
    type Error = VolumeNameError;

    fn try_from(text: String) -> Result<Self, VolumeNameError> {
        text.parse()
    }
}

impl From<VolumeName> for String {
    fn from(name: VolumeName) -> Self {
        name.0
    }
}

impl Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_files_in_one_directory() {
        for name in [
            "ab",
            "a.b",
            "A_-0",
            &"x".repeat(255),
            &VolumeName::random().0,
        ] {
            assert_eq!(name.parse::<VolumeName>().unwrap().as_str(), name);
        }
        assert_eq!("a".parse::<VolumeName>(), Err(VolumeNameError::TooShort));
        let long = "x".repeat(256).parse::<VolumeName>();
        assert_eq!(long, Err(VolumeNameError::TooLong));
        for name in ["", "..", ".a", "-a", "a/b", "a b", "a\nb", "\u{e4}b"] {
            let refused = name.parse::<VolumeName>();
            assert_eq!(refused, Err(VolumeNameError::Invalid(name.to_owned())));
        }
    }
}
