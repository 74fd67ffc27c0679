//! Platforms: the operating system, architecture and variant an image is made for.

use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};
use std::str::FromStr;
use thiserror::Error;

/// Why a string is not a platform.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("invalid platform `{}`: expected OS[/ARCH[/VARIANT]], for example `linux/arm64`", .0.escape_debug())]
pub(crate) struct ParseError(String);

/// A platform in normal form (containerd's rules: `x86_64` is `amd64`, `arm64/v8` is `arm64`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Platform {
    pub(crate) os: String,
    pub(crate) architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

impl Platform {
    /// Returns the platform made of these words, in normal form.
    pub(crate) fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            os => os.to_owned(),
        };
        let variant = variant.map(str::to_ascii_lowercase).unwrap_or_default();
        let (architecture, variant) = match architecture.to_ascii_lowercase().as_str() {
            "x86_64" | "x86-64" | "amd64" => ("amd64".to_owned(), variant),
            "i386" | "i486" | "i586" | "i686" | "x86" | "386" => ("386".to_owned(), String::new()),
            "aarch64" | "arm64" => ("arm64".to_owned(), variant),
            "armhf" => ("arm".to_owned(), "v7".to_owned()),
            "armel" => ("arm".to_owned(), "v6".to_owned()),
            other => (other.to_owned(), variant),
        };
        let variant = match (architecture.as_str(), variant.as_str()) {
            ("amd64", "v1") | ("arm64", "8" | "v8") => String::new(),
            ("arm", "" | "7") => "v7".to_owned(),
            ("arm", "5" | "6" | "8") => format!("v{variant}"),
            _ => variant,
        };
        Self {
            os,
            architecture,
            variant: (!variant.is_empty()).then_some(variant),
        }
    }

    /// Returns the platform of this machine; its variant is the best that its processor runs.
    pub(crate) fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, host_variant())
    }

    /// Returns how well an image made for `offered` runs where this platform is wanted: `None`
    /// if it does not, else a rank of which the lowest is best (behaviour of containerd's `platforms.Only`).
    pub(crate) fn rank(&self, offered: &Self) -> Option<usize> {
        if self.os != offered.os {
            return None;
        }
        let same = self.architecture == offered.architecture;
        let level = |platform: &Self, default| variant_level(platform).unwrap_or(default);
        match (self.architecture.as_str(), offered.architecture.as_str()) {
            ("amd64", "amd64") => step_down(level(self, 10), level(offered, 10)),
            ("amd64", "386") => Some(1000),
            ("arm64", "arm64") => {
                let (wanted, there) = (level(self, 80), level(offered, 80));
                if wanted >= 90 && there < 90 {
                    // Armv9.x contains Armv8.(x+5).
                    return step_down(wanted - 5, there).map(|rank| rank + 100);
                }
                step_down(wanted, there)
            }
            ("arm64", "arm") => step_down(80, level(offered, 70)).map(|rank| rank + 500),
            ("arm", "arm") => step_down(level(self, 70), level(offered, 70)),
            _ => (same && self.variant == offered.variant).then_some(0),
        }
    }
}

/// Returns `v8.2` as 82; `None` if there is no variant, or one that is no number.
fn variant_level(platform: &Platform) -> Option<usize> {
    let version = platform.variant.as_deref()?.strip_prefix('v')?;
    let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
    Some(major.parse::<usize>().ok()? * 10 + minor.parse::<usize>().ok()?)
}

fn step_down(wanted: usize, offered: usize) -> Option<usize> {
    wanted.checked_sub(offered)
}

#[cfg(target_arch = "x86_64")]
fn host_variant() -> Option<&'static str> {
    // The micro-architecture levels of the x86-64 psABI.
    let v2 = is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("popcnt");
    let v3 = v2
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("fma");
    let v4 = v3
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl");
    if v4 {
        Some("v4")
    } else if v3 {
        Some("v3")
    } else {
        v2.then_some("v2")
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn host_variant() -> Option<&'static str> {
    None
}

impl FromStr for Platform {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let is_word = |word: &&str| {
            !word.is_empty()
                && word
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        };
        let words: Vec<&str> = text.split('/').collect();
        if !words.iter().all(is_word) {
            return Err(ParseError(text.to_owned()));
        }
        match *words.as_slice() {
            ["linux"] => Ok(Self::host()),
            // A lone word is an architecture if it is no operating system that we know.
            [os @ ("windows" | "darwin" | "macos" | "freebsd")] => {
                Ok(Self::new(os, std::env::consts::ARCH, None))
            }
            [architecture] => Ok(Self::new("linux", architecture, None)),
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(ParseError(text.to_owned())),
        }
    }
}

impl Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_normalised() {
        for (text, normal) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("Linux/ARM64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
            ("macos/arm64", "darwin/arm64"),
            ("arm64", "linux/arm64"),
        ] {
            assert_eq!(platform(text).to_string(), normal, "{text}");
        }
        for bad in ["", "linux/", "linux/a/b/c", "linux/a b"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    /// The offers in the order in which `wanted` prefers them; what it cannot run is left out.
    fn preferred<'a>(wanted: &str, offers: &[&'a str]) -> Vec<&'a str> {
        let mut ranked: Vec<_> = offers
            .iter()
            .filter_map(|offer| Some((platform(wanted).rank(&platform(offer))?, *offer)))
            .collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, offer)| offer).collect()
    }

    #[test]
    fn the_best_variant_comes_first_and_newer_ones_never() {
        let offers = [
            "linux/386",
            "linux/amd64",
            "linux/amd64/v3",
            "linux/amd64/v4",
            "windows/amd64",
        ];
        assert_eq!(
            preferred("linux/amd64/v3", &offers),
            ["linux/amd64/v3", "linux/amd64", "linux/386"]
        );
        assert_eq!(
            preferred("linux/amd64", &offers),
            ["linux/amd64", "linux/386"]
        );
        let arm = [
            "linux/arm/v5",
            "linux/arm/v6",
            "linux/arm/v7",
            "linux/arm64",
        ];
        assert_eq!(
            preferred("linux/arm64", &arm),
            [
                "linux/arm64",
                "linux/arm/v7",
                "linux/arm/v6",
                "linux/arm/v5"
            ]
        );
        assert_eq!(
            preferred("linux/arm/v6", &arm),
            ["linux/arm/v6", "linux/arm/v5"]
        );
        assert_eq!(
            preferred(
                "linux/arm64/v9.1",
                &["linux/arm64/v8.7", "linux/arm64/v8.6", "linux/arm64/v9"]
            ),
            ["linux/arm64/v9", "linux/arm64/v8.6"]
        );
        assert_eq!(
            preferred("linux/riscv64", &["linux/amd64", "linux/riscv64"]),
            ["linux/riscv64"]
        );
    }
}
