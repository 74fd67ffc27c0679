//! `-v [SOURCE:]TARGET[:OPTIONS]`, as typed.

use crate::options::idmap::Idmap;
use crate::options::mount::{self, Below, Bind, Content, MountOptions, Propagation, Volume};
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
    propagation: Option<Propagation>,
    flags: Vec<String>,
    below: Below,
    idmap: Option<Idmap>,
}

/// Returns what a `-v` asks for.
pub(crate) fn parse(text: &str) -> Result<MountOptions> {
    let invalid = || format!("invalid volume specification: '{text}'");
    let fields: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match fields.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, mode] => (Some(*source), *target, *mode),
        _ => bail!(invalid()),
    };
    ensure!(source != Some("") && !target.is_empty(), invalid());
    let target = mount::target(Path::new(target)).with_context(invalid)?;
    let options = parse_options(mode).with_context(invalid)?;
    let (content, default) = content(source, &options).with_context(invalid)?;
    Ok(MountOptions {
        target,
        read_only: options.read_only,
        given: options.given,
        flags: options.flags,
        mode: if mode.is_empty() { default } else { mode }.to_owned(),
        content,
    })
}

/// Returns what is mounted, and what `inspect` shows as its mode if none was typed.
fn content(source: Option<&str>, options: &Options) -> Result<(Content, &'static str)> {
    let Some(source) = source else {
        return Ok((Content::Volume(Volume::anonymous()), ""));
    };
    if source.starts_with(['/', '.']) {
        ensure!(
            options.copy.is_none(),
            "a host directory is never copied to: `nocopy` and `copy` are for volumes"
        );
        let bind = Bind {
            source: source.into(),
            propagation: options.propagation.unwrap_or_default(),
            below: options.below,
            idmap: options.idmap.clone(),
            make: true,
        };
        return Ok((Content::Bind(bind), ""));
    }
    let name = source.parse()?;
    if let Some(propagation) = options.propagation {
        let word = propagation.word();
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
            options.idmap = Some(maps.map_or(Ok(Idmap::Owner), |(_, maps)| maps.parse())?);
            continue;
        }
        // Podman's way to say what is so anyway.
        let word = if word == "rbind" { continue } else { word };
        let mut all = mount::FLAGS.iter().chain(&OPTIONS);
        let known = all.find(|(option, _)| *option == word);
        let Some(&(option, kind)) = known.filter(|(_, kind)| !seen.contains(kind)) else {
            bail!("invalid mode: {mode}");
        };
        seen.push(kind);
        match kind {
            "owner" => options.given = true,
            "write" => options.read_only = option == "ro",
            COPY => options.copy = Some(option == "copy"),
            PROPAGATION => options.propagation = Some(option.parse()?),
            "below" => options.below = Below::Absent,
            "exec" | "suid" | "dev" => options.flags.push(option.to_owned()),
            _ => {}
        }
    }
    ensure!(
        !options.given || options.idmap.is_none(),
        mount::GIVEN_AND_MAPPED
    );
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(text: &str) -> (MountOptions, Bind) {
        let wanted = parse(text).unwrap();
        match wanted.content.clone() {
            Content::Bind(bind) => (wanted, bind),
            other => panic!("{other:?}"),
        }
    }

    fn volume(text: &str) -> (MountOptions, Volume) {
        let wanted = parse(text).unwrap();
        match wanted.content.clone() {
            Content::Volume(volume) => (wanted, volume),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sources_are_paths_and_made_if_they_are_missing() {
        for (text, source) in [("/a:/t", "/a"), ("./a:/t", "./a"), ("..:/t", "..")] {
            let (wanted, bind) = bind(text);
            assert_eq!(
                (bind.source, wanted.target),
                (source.into(), "/t".into()),
                "{text}"
            );
            assert!(bind.make);
        }
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
                (
                    wanted.read_only,
                    bind.propagation.word(),
                    wanted.flags.iter().map(String::as_str).collect::<Vec<_>>()
                ),
                (read_only, propagation, flags.to_vec()),
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
        assert_eq!(given.idmap, Some(maps.parse().unwrap()));
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
            assert_eq!(volume.name.as_ref().unwrap().as_str(), "data");
            assert_eq!(
                (wanted.mode.as_str(), wanted.read_only, volume.copy),
                (mode, read_only, copy),
                "{text}"
            );
        }
        let (wanted, volume) = volume("/data");
        assert_eq!((wanted.mode.as_str(), wanted.target), ("", "/data".into()));
        assert!(volume.name.is_none() && volume.copy);
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
                &format!("'/a:/t:U,idmap': {}", mount::GIVEN_AND_MAPPED),
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
