//! `-v SOURCE:TARGET[:OPTIONS]`: host paths to mount, as typed.

use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};

/// A path of the host to mount in the container.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bind {
    /// Absolute; neither symlinks nor `..` are resolved.
    pub(crate) source: PathBuf,
    /// Absolute, as typed.
    pub(crate) target: PathBuf,
    /// With all that is mounted below it.
    pub(crate) read_only: bool,
    pub(crate) propagation: &'static str,
}

/// Words after the second colon and what they are about: of each kind there can be one.
/// Labels (`z`, `Z`), copying and consistency mean nothing to a bind mount here; Docker's users write them all the same.
const OPTIONS: [(&str, &str); 14] = [
    ("ro", "write"),
    ("rw", "write"),
    ("z", "label"),
    ("Z", "label"),
    ("nocopy", "copy"),
    ("consistent", "consistency"),
    ("cached", "consistency"),
    ("delegated", "consistency"),
    ("private", PROPAGATION),
    ("rprivate", PROPAGATION),
    ("shared", PROPAGATION),
    ("rshared", PROPAGATION),
    ("slave", PROPAGATION),
    ("rslave", PROPAGATION),
];

const PROPAGATION: &str = "propagation";

/// Returns what a `-v` asks for. `current_directory` is where a source that starts with a dot begins.
pub(crate) fn parse(text: &str, current_directory: Option<&Path>) -> Result<Bind> {
    let invalid = || format!("invalid volume specification: '{text}'");
    let fields: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match fields.as_slice() {
        [target] if target.starts_with('/') => bail!(
            "anonymous volumes are not there yet: `-v {target}` needs a host directory, as in `-v ./data:{target}`"
        ),
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => bail!(invalid()),
    };
    ensure!(!source.is_empty() && !target.is_empty(), invalid());
    ensure!(
        target.starts_with('/'),
        "{}: invalid mount path: '{target}' mount path must be absolute",
        invalid()
    );
    let (read_only, propagation) = parse_options(options).with_context(invalid)?;
    Ok(Bind {
        source: absolute(source, current_directory).with_context(invalid)?,
        target: target.into(),
        read_only,
        propagation,
    })
}

/// Returns whether the mount is read-only, and how mounts below it spread.
fn parse_options(options: &str) -> Result<(bool, &'static str)> {
    let (mut read_only, mut propagation) = (false, "rprivate");
    let mut seen = Vec::new();
    for word in options.split(',').filter(|word| !word.is_empty()) {
        let known = OPTIONS.iter().find(|(option, _)| *option == word);
        let Some(&(option, kind)) = known.filter(|(_, kind)| !seen.contains(kind)) else {
            bail!("invalid mode: {options}");
        };
        seen.push(kind);
        read_only |= option == "ro";
        if kind == PROPAGATION {
            propagation = option;
        }
    }
    Ok((read_only, propagation))
}

fn absolute(source: &str, current_directory: Option<&Path>) -> Result<PathBuf> {
    if source.starts_with('/') {
        return Ok(source.into());
    }
    if source.starts_with('.') {
        let directory = current_directory.context("the current directory was deleted")?;
        // Collecting drops the dots that stand for nothing. `..` is for the kernel: what is before it may be a symlink.
        return Ok(directory.join(source).components().collect());
    }
    ensure!(
        !source.contains('/'),
        "\"{source}\" includes invalid characters for a local volume name. \
         If you intended to pass a host directory, use absolute path, or `./{source}`"
    );
    bail!(
        "named volumes are not there yet: for a host directory write `./{source}` or an absolute path"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Bind> {
        super::parse(text, Some(Path::new("/here")))
    }

    #[test]
    fn sources_become_absolute() {
        for (text, source) in [
            ("/a:/t", "/a"),
            ("/a/../b/:/t", "/a/../b/"),
            ("./a:/t", "/here/a"),
            (".:/t", "/here"),
            ("..:/t", "/here/.."),
            ("../a/./b:/t", "/here/../a/b"),
            (".hidden:/t", "/here/.hidden"),
        ] {
            let bind = parse(text).unwrap();
            assert_eq!(
                (bind.source, bind.target),
                (source.into(), "/t".into()),
                "{text}"
            );
        }
        assert!(super::parse("./a:/t", None).is_err());
        assert!(super::parse("/a:/t", None).is_ok());
    }

    #[test]
    fn options_are_dockers() {
        for (options, read_only, propagation) in [
            ("", false, "rprivate"),
            ("rw", false, "rprivate"),
            ("ro", true, "rprivate"),
            ("ro,z", true, "rprivate"),
            ("Z,rslave,ro", true, "rslave"),
            ("shared", false, "shared"),
            ("cached,nocopy", false, "rprivate"),
        ] {
            let bind = parse(&format!("/a:/t:{options}")).unwrap();
            assert_eq!(
                (bind.read_only, bind.propagation),
                (read_only, propagation),
                "{options}"
            );
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let invalid = "invalid volume specification: ";
        for (text, error) in [
            ("", format!("{invalid}''")),
            ("relative", format!("{invalid}'relative'")),
            (":/t", format!("{invalid}':/t'")),
            ("/a:", format!("{invalid}'/a:'")),
            ("/a:/t:ro:x", format!("{invalid}'/a:/t:ro:x'")),
            (
                "/a:t",
                format!("{invalid}'/a:t': invalid mount path: 't' mount path must be absolute"),
            ),
            (
                "/data:ro",
                format!(
                    "{invalid}'/data:ro': invalid mount path: 'ro' mount path must be absolute"
                ),
            ),
            ("/a:/t:rx", format!("{invalid}'/a:/t:rx': invalid mode: rx")),
            (
                "/a:/t:ro,rw",
                format!("{invalid}'/a:/t:ro,rw': invalid mode: ro,rw"),
            ),
            (
                "/a:/t:ro,ro",
                format!("{invalid}'/a:/t:ro,ro': invalid mode: ro,ro"),
            ),
        ] {
            assert_eq!(format!("{:#}", parse(text).unwrap_err()), error);
        }
    }

    #[test]
    fn volumes_are_refused_by_name() {
        for (text, words) in [
            ("/data", "anonymous volumes are not there yet"),
            ("data:/data", "named volumes are not there yet"),
            ("a/b:/data", "\"a/b\" includes invalid characters"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(words), "{error}");
        }
    }
}
