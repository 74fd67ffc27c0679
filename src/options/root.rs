//! What a container's root is to be made from.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};
use std::path::PathBuf;

/// What a container's root is to be made from, as the user names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Root {
    /// An image, by any of its names.
    Image(String),
    /// A directory of the host: `--rootfs`
    Directory {
        path: PathBuf,
        /// `:O`: what the container changes goes over it, and not into it.
        covered: bool,
    },
}

impl Default for Root {
    fn default() -> Self {
        Self::Image(String::new())
    }
}

impl Root {
    /// Reads `DIRECTORY[:O]`. As podman has it, a colon before anything else is part of the name.
    pub(crate) fn directory(text: &str) -> Result<Self> {
        let (path, covered) = match text.rsplit_once(':') {
            Some((path, "O")) => (path, true),
            Some((path, option)) if option == "idmap" || option.starts_with("idmap=") => {
                bail!("`--rootfs {path}:{option}` is not there yet")
            }
            _ => (text, false),
        };
        let path = path.into();
        Ok(Self::Directory { path, covered })
    }
}

impl Display for Root {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(name) => formatter.write_str(name),
            Self::Directory { path, .. } => path.display().fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_option_is_taken_off_the_name() {
        for (text, path, covered) in [
            ("/a", "/a", false),
            ("a/b:O", "a/b", true),
            ("/a:X", "/a:X", false),
            ("/a:O:O", "/a:O", true),
            ("/a:O/b", "/a:O/b", false),
        ] {
            let path = path.into();
            let expected = Root::Directory { path, covered };
            assert_eq!(Root::directory(text).unwrap(), expected, "{text}");
        }
        let refusal = Root::directory("/a:idmap=uids=0-1-1").unwrap_err();
        assert!(refusal.to_string().contains("not there yet"), "{refusal}");
    }
}
