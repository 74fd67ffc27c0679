//! Which of a container's ports others are to reach, and where.

use crate::network::{Port, Publication};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Which of the container's ports others can reach, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Publish {
    /// `-p`, in order.
    pub(crate) publications: Vec<Publication>,
    /// `-P`: whatever is exposed and not published, at free ports.
    pub(crate) all: bool,
    /// `--expose`, in order.
    pub(crate) exposed: Vec<Port>,
}

/// One `-p`, which may be about a range.
#[derive(Debug, Clone)]
pub(crate) struct Publications(pub(crate) Vec<Publication>);

impl FromStr for Publications {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Publication::parse(text).map(Self)
    }
}

/// One `--expose`, which may be about a range.
#[derive(Debug, Clone)]
pub(crate) struct Ports(pub(crate) Vec<Port>);

impl FromStr for Ports {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Port::range(text).map(Self)
    }
}
