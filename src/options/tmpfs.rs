//! `--tmpfs TARGET[:OPTIONS]`: which options there are, and which one wins.

use crate::options::mount::{self, Content, MountOptions};
use anyhow::{Context, Result, bail};
use std::path::Path;

/// What a tmpfs has unless the user says otherwise.
const DEFAULT: [&str; 4] = ["rw", "noexec", "nosuid", "nodev"];

/// Further flags, and the key under which they exclude each other.
const TIMES: [(&str, &str); 6] = [
    ("atime", "atime"),
    ("noatime", "atime"),
    ("relatime", "atime"),
    ("strictatime", "atime"),
    ("diratime", "diratime"),
    ("nodiratime", "diratime"),
];

/// Options with a value (tmpfs(5)).
const SETTINGS: [&str; 7] = [
    "size",
    "mode",
    "uid",
    "gid",
    "nr_inodes",
    "nr_blocks",
    "mpol",
];

/// Returns what a `--tmpfs` asks for.
pub(crate) fn parse(text: &str) -> Result<MountOptions> {
    let (target, mode) = text.split_once(':').unwrap_or((text, ""));
    let options = options(mode).with_context(|| format!("invalid `--tmpfs {text}`"))?;
    let target = mount::target(Path::new(target))?;
    Ok(MountOptions::plain(target, Content::Tmpfs(options)))
}

/// Returns the mount options of a tmpfs: the defaults, and the user's in their order, a later one replacing an earlier.
pub(crate) fn options(text: &str) -> Result<Vec<String>> {
    let mut options: Vec<(&str, &str)> = Vec::new();
    let wanted = text.split(',').filter(|option| !option.is_empty());
    for option in DEFAULT.into_iter().chain(wanted) {
        let Some(key) = key(option) else {
            bail!("there is no tmpfs option `{option}`");
        };
        options.retain(|(known, _)| *known != key);
        options.push((key, option));
    }
    let options = options.into_iter().map(|(_, option)| option.to_owned());
    Ok(options.collect())
}

/// Returns what an option is about, or none if there is no such option.
fn key(option: &str) -> Option<&str> {
    if let Some((name, value)) = option.split_once('=') {
        return (SETTINGS.contains(&name) && !value.is_empty()).then_some(name);
    }
    let mut flags = mount::FLAGS.iter().chain(&TIMES);
    let flag = flags.find(|(flag, _)| *flag == option);
    flag.map(|(_, key)| *key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_merged_with_the_defaults() {
        for (text, options) in [
            ("/t", "rw,noexec,nosuid,nodev"),
            ("/t/../t/:", "rw,noexec,nosuid,nodev"),
            ("/t:exec", "rw,nosuid,nodev,exec"),
            (
                "/t:ro,size=64m,mode=1777",
                "noexec,nosuid,nodev,ro,size=64m,mode=1777",
            ),
            ("/t:size=1m,size=2m", "rw,noexec,nosuid,nodev,size=2m"),
            ("/t:exec,noexec", "rw,nosuid,nodev,noexec"),
            ("/t:mpol=bind:0-1", "rw,noexec,nosuid,nodev,mpol=bind:0-1"),
        ] {
            let options = options.split(',').map(str::to_owned).collect();
            let expected = MountOptions::plain("/t".into(), Content::Tmpfs(options));
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn unknown_options_are_refused() {
        for option in [
            "bind",
            "shared",
            "size",
            "size=",
            "huge=always",
            "RO",
            "rw:x",
        ] {
            let text = format!("/t:{option}");
            assert_eq!(
                format!("{:#}", parse(&text).unwrap_err()),
                format!("invalid `--tmpfs {text}`: there is no tmpfs option `{option}`")
            );
        }
    }
}
