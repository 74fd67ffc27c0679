//! `-v [SOURCE:]TARGET[:OPTIONS]`, as typed.

use crate::spec::idmap::Idmap;
use crate::spec::wanted::{self, Below, Bind, Content, Volume, Wanted};
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;

/// Words after the second colon besides a mount's flags, and what they are about: of each kind there can be one.
/// Labels (`z`, `Z`) and consistency mean nothing here; Docker's users write them all the same.
const OPTIONS: [(&str, &str); 15] = [
    ("z", "label"),
    ("Z", "label"),
    ("nocopy", COPY),
    ("copy", COPY),
    ("consistent", "consistency"),
    ("cached", "consistency"),
    ("delegated", "consistency"),
    ("private", PROPAGATION),
    ("rprivate", PROPAGATION),
    ("shared", PROPAGATION),
    ("rshared", PROPAGATION),
    ("slave", PROPAGATION),
    ("rslave", PROPAGATION),
    ("bind", "below"),
    ("U", "owner"),
];

/// Podman's, which changes more than the mount.
const ELSEWHERE: [(&str, &str); 1] = [("O", "mount a copy instead")];

const PROPAGATION: &str = "propagation";
const COPY: &str = "copy";

/// Options, sorted by what they are about.
#[derive(Debug, Default)]
struct Options {
    read_only: bool,
    given: bool,
    copy: Option<bool>,
    propagation: Option<&'static str>,
    flags: Vec<&'static str>,
    below: Below,
    idmap: Option<Idmap>,
}

/// Returns what a `-v` asks for. `directory` is where a source that starts with a dot begins.
pub(crate) fn parse(text: &str, directory: Option<&Path>) -> Result<Wanted> {
    let invalid = || format!("invalid volume specification: '{text}'");
    let fields: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match fields.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, mode] => (Some(*source), *target, *mode),
        _ => bail!(invalid()),
    };
    ensure!(source != Some("") && !target.is_empty(), invalid());
    let target = wanted::target(Path::new(target)).with_context(invalid)?;
    let options = parse_options(mode).with_context(invalid)?;
    let (content, default) = content(source, &options, directory).with_context(invalid)?;
    Ok(Wanted {
        target,
        read_only: options.read_only,
        given: options.given,
        flags: options.flags,
        mode: if mode.is_empty() { default } else { mode }.to_owned(),
        content,
    })
}

/// Returns what is mounted, and what `inspect` shows as its mode if none was typed.
fn content(
    source: Option<&str>,
    options: &Options,
    directory: Option<&Path>,
) -> Result<(Content, &'static str)> {
    let Some(source) = source else {
        return Ok((Content::Volume(Volume::anonymous()), ""));
    };
    if source.starts_with(['/', '.']) {
        ensure!(
            options.copy.is_none(),
            "a host directory is never copied to: `nocopy` and `copy` are for volumes"
        );
        let bind = Bind {
            source: wanted::absolute(source, directory)?,
            propagation: options.propagation.unwrap_or("rprivate"),
            below: options.below,
            idmap: options.idmap.clone(),
            make: true,
        };
        return Ok((Content::Bind(bind), ""));
    }
    let name = source.parse()?;
    if let Some(word) = options.propagation {
        bail!("`{word}` is for host directories, and `{name}` is a volume");
    }
    ensure!(
        options.idmap.is_none(),
        "`idmap` is for host directories, and `{name}` is a volume"
    );
    let volume = Volume {
        copy: options.copy.unwrap_or(true),
        ..Volume::named(name)
    };
    Ok((Content::Volume(volume), "z"))
}

fn parse_options(mode: &str) -> Result<Options> {
    let mut options = Options::default();
    let mut seen = Vec::new();
    for word in mode.split(',').filter(|word| !word.is_empty()) {
        let name = word.split('=').next().unwrap_or_default();
        if let Some((_, instead)) = ELSEWHERE.iter().find(|(option, _)| *option == name) {
            bail!("the option `{word}` is not there yet: {instead}");
        }
        if name == "idmap" && !seen.contains(&name) {
            seen.push("idmap");
            let maps = word.split_once('=');
            options.idmap = Some(maps.map_or(Ok(Idmap::Owner), |(_, maps)| Idmap::parse(maps))?);
            continue;
        }
        // Podman's way to say what is so anyway.
        let word = if word == "rbind" { continue } else { word };
        let mut all = wanted::FLAGS.iter().chain(&OPTIONS);
        let known = all.find(|(option, _)| *option == word);
        let Some(&(option, kind)) = known.filter(|(_, kind)| !seen.contains(kind)) else {
            bail!("invalid mode: {mode}");
        };
        seen.push(kind);
        match kind {
            "owner" => options.given = true,
            "write" => options.read_only = option == "ro",
            COPY => options.copy = Some(option == "copy"),
            PROPAGATION => options.propagation = Some(option),
            "below" => options.below = Below::Absent,
            "exec" | "suid" | "dev" => options.flags.push(option),
            _ => {}
        }
    }
    ensure!(
        !options.given || options.idmap.is_none(),
        wanted::GIVEN_AND_MAPPED
    );
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Wanted> {
        super::parse(text, Some(Path::new("/here")))
    }

    fn bind(text: &str) -> (Wanted, Bind) {
        let wanted = parse(text).unwrap();
        match wanted.content.clone() {
            Content::Bind(bind) => (wanted, bind),
            other => panic!("{other:?}"),
        }
    }

    fn volume(text: &str) -> (Wanted, Volume) {
        let wanted = parse(text).unwrap();
        match wanted.content.clone() {
            Content::Volume(volume) => (wanted, volume),
            other => panic!("{other:?}"),
        }
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
            let (wanted, bind) = bind(text);
            assert_eq!(
                (bind.source, wanted.target),
                (source.into(), "/t".into()),
                "{text}"
            );
            assert!(bind.make);
        }
        assert!(super::parse("./a:/t", None).is_err());
        assert!(super::parse("/a:/t", None).is_ok());
    }

    #[test]
    fn options_are_dockers_and_podmans() {
        for (options, read_only, propagation, flags) in [
            ("", false, "rprivate", &[][..]),
            ("rw", false, "rprivate", &[]),
            ("ro", true, "rprivate", &[]),
            ("ro,z", true, "rprivate", &[]),
            ("Z,rslave,ro", true, "rslave", &[]),
            ("shared", false, "shared", &[]),
            ("cached", false, "rprivate", &[]),
            ("rbind,noexec,suid", false, "rprivate", &["noexec", "suid"]),
        ] {
            let (wanted, bind) = bind(&format!("/a:/t:{options}"));
            assert_eq!(
                (wanted.read_only, bind.propagation, wanted.flags.as_slice()),
                (read_only, propagation, flags),
                "{options}"
            );
            assert_eq!(wanted.mode, options);
            assert_eq!(bind.below, Below::Alike);
        }
        assert_eq!(bind("/a:/t:bind").1.below, Below::Absent);
    }

    #[test]
    fn owners_are_mapped_as_podman_writes_it() {
        assert_eq!(bind("/a:/t:ro").1.idmap, None);
        let (wanted, plain) = bind("/a:/t:ro,idmap");
        assert_eq!((wanted.read_only, plain.idmap), (true, Some(Idmap::Owner)));
        let maps = "uids=0-1000-1#5-6-2;gids=0-1-1";
        let (_, given) = bind(&format!("/a:/t:idmap={maps},ro"));
        assert_eq!(given.idmap, Some(Idmap::parse(maps).unwrap()));
    }

    #[test]
    fn files_are_given_if_that_is_asked_for() {
        for (text, given) in [("/a:/t", false), ("/a:/t:U", true), ("data:/t:ro,U", true)] {
            assert_eq!(parse(text).unwrap().given, given, "{text}");
        }
    }

    #[test]
    fn a_bare_word_is_a_volume_and_a_target_alone_one_without_a_name() {
        for (text, mode, read_only, copy) in [
            ("data:/t", "z", false, true),
            ("data:/t:ro", "ro", true, true),
            ("data:/t:nocopy,z", "nocopy,z", false, false),
        ] {
            let (wanted, volume) = volume(text);
            assert_eq!(volume.name.as_str(), "data");
            assert!(!volume.anonymous);
            assert_eq!(
                (wanted.mode.as_str(), wanted.read_only, volume.copy),
                (mode, read_only, copy),
                "{text}"
            );
        }
        let (wanted, volume) = volume("/data");
        assert_eq!((wanted.mode.as_str(), wanted.target), ("", "/data".into()));
        assert!(volume.anonymous && volume.copy);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let invalid = "invalid volume specification: ";
        let absolute = "mount path must be absolute";
        for (text, error) in [
            ("", "''"),
            (":/t", "':/t'"),
            ("/a:", "'/a:'"),
            ("/a:/t:ro:x", "'/a:/t:ro:x'"),
            (
                "data",
                &format!("'data': invalid mount path: 'data' {absolute}"),
            ),
            (
                "/a:t",
                &format!("'/a:t': invalid mount path: 't' {absolute}"),
            ),
            (
                "/data:ro",
                &format!("'/data:ro': invalid mount path: 'ro' {absolute}"),
            ),
            ("/a:/t:rx", "'/a:/t:rx': invalid mode: rx"),
            ("/a:/t:ro,rw", "'/a:/t:ro,rw': invalid mode: ro,rw"),
            ("/a:/t:ro,ro", "'/a:/t:ro,ro': invalid mode: ro,ro"),
            (
                "/a:/t:nocopy",
                "'/a:/t:nocopy': a host directory is never copied to: `nocopy` and `copy` are for volumes",
            ),
            (
                "data:/t:shared",
                "'data:/t:shared': `shared` is for host directories, and `data` is a volume",
            ),
            (
                "/a:/t:U,idmap",
                &format!("'/a:/t:U,idmap': {}", wanted::GIVEN_AND_MAPPED),
            ),
            (
                "data:/t:idmap",
                "'data:/t:idmap': `idmap` is for host directories, and `data` is a volume",
            ),
            (
                "/a:/t:idmap,idmap",
                "'/a:/t:idmap,idmap': invalid mode: idmap,idmap",
            ),
            (
                "/a:/t:O",
                "'/a:/t:O': the option `O` is not there yet: mount a copy instead",
            ),
            (
                "a:/t",
                "'a:/t': volume name is too short, names should be at least two alphanumeric characters",
            ),
        ] {
            let refused = format!("{:#}", parse(text).unwrap_err());
            assert_eq!(refused, format!("{invalid}{error}"));
        }
        let refused = format!("{:#}", parse("a/b:/t").unwrap_err());
        assert!(
            refused.contains("\"a/b\" includes invalid characters"),
            "{refused}"
        );
    }
}
