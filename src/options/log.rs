//! `--log-driver` and `--log-opt`: what becomes of what the command writes.

use crate::human;
use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// What becomes of what the command writes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) driver: Driver,
    pub(crate) rotation: Rotation,
}

/// `--log-driver`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Driver {
    #[default]
    JsonFile,
    /// The same file, rotated by default.
    Local,
    None,
}

impl FromStr for Driver {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "json-file" | "" => Ok(Self::JsonFile),
            "local" => Ok(Self::Local),
            "none" => Ok(Self::None),
            other => bail!(
                "`--log-driver {other}` is not there yet: there are `json-file`, `local` and `none`"
            ),
        }
    }
}

/// When a log goes on in a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rotation {
    /// Bytes of one file; without a number there is one file for ever.
    pub(crate) max_size: Option<u64>,
    /// How many files are kept, the one that is written among them.
    pub(crate) max_files: u32,
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            max_size: None,
            max_files: 1,
        }
    }
}

/// One `--log-opt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogOption {
    MaxSize(Option<u64>),
    MaxFile(u32),
}

impl FromStr for LogOption {
    type Err = anyhow::Error;

    fn from_str(option: &str) -> Result<Self> {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let bad = |expected| -> Result<Self> {
            bail!("invalid value `{value}` for `--log-opt {key}`: expected {expected}")
        };
        match key {
            "max-size" if value == "-1" => Ok(Self::MaxSize(None)),
            "max-size" => match human::parse_bytes(value).filter(|size| *size > 0) {
                Some(size) => Ok(Self::MaxSize(Some(size))),
                None => bad("a size such as `10m`"),
            },
            "max-file" => match value.parse() {
                Ok(count @ 1..=999) => Ok(Self::MaxFile(count)),
                _ => bad("a number from 1 to 999"),
            },
            _ => bail!("unknown log opt '{key}': there are `max-size` and `max-file`"),
        }
    }
}

impl Log {
    pub(crate) fn new(driver: Driver, options: &[LogOption]) -> Result<Self> {
        let mut rotation = match driver {
            // Docker's numbers.
            Driver::Local => Rotation {
                max_size: Some(20 << 20),
                max_files: 5,
            },
            Driver::JsonFile | Driver::None => Rotation::default(),
        };
        let mut files = None;
        for option in options {
            match *option {
                LogOption::MaxSize(size) => rotation.max_size = size,
                LogOption::MaxFile(count) => files = Some(count),
            }
        }
        ensure!(
            rotation.max_size.is_some() || files.is_none_or(|files| files < 2),
            "`--log-opt max-file` needs `max-size`: without it no second file is ever begun"
        );
        rotation.max_files = files.unwrap_or(rotation.max_files);
        Ok(Self { driver, rotation })
    }
}
