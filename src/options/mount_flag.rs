//! `--mount KEY=VALUE,…`, as typed.

use crate::human;
use crate::options::idmap::Idmap;
use crate::options::mount::{
    self, Below, Bind, Content, ImageMount, MountOptions, Propagation, Volume,
};
use crate::options::{pair::Pair, tmpfs};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// Every key, with Docker's other spellings of it.
const KEYS: [(&str, &[&str]); 20] = [
    ("type", &[]),
    ("source", &["src"]),
    ("target", &["dst", "destination"]),
    ("readonly", &["ro"]),
    ("consistency", &[]),
    ("bind-propagation", &[]),
    ("bind-nonrecursive", &[]),
    ("bind-recursive", &[]),
    ("bind-create-src", &[]),
    ("idmap", &[]),
    ("chown", &["u"]),
    ("volume-nocopy", &[]),
    ("volume-subpath", &[]),
    ("volume-label", &[]),
    ("volume-driver", &[]),
    ("volume-opt", &[]),
    ("tmpfs-size", &[]),
    ("tmpfs-mode", &[]),
    ("image-subpath", &[]),
    ("subpath", &[]),
];

/// Keys that stand for `true` without a value.
const SWITCHES: [&str; 5] = [
    "readonly",
    "bind-nonrecursive",
    "bind-create-src",
    "volume-nocopy",
    "chown",
];

/// What was given, by key; a later value replaces an earlier one, but labels gather.
struct Fields {
    values: BTreeMap<&'static str, String>,
    labels: BTreeMap<String, String>,
}

/// Returns what a `--mount` asks for.
pub(crate) fn parse(text: &str) -> Result<MountOptions> {
    let fields = Fields::parse(text)
        .and_then(|fields| fields.check().map(|()| fields))
        .with_context(|| format!("invalid argument \"{text}\" for `--mount`"))?;
    let kind = fields.get("type").unwrap_or("volume");
    fields
        .options(kind)
        .with_context(|| format!("invalid mount config for type \"{kind}\""))
}

impl Fields {
    fn parse(text: &str) -> Result<Self> {
        let mut fields = Self {
            values: BTreeMap::new(),
            labels: BTreeMap::new(),
        };
        ensure!(!text.is_empty(), "value is empty");
        for field in split(text)? {
            let (name, value) = match field.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (field.as_str(), None),
            };
            let name = name.to_ascii_lowercase();
            let known = KEYS
                .iter()
                .find(|(key, others)| *key == name || others.contains(&&*name));
            let key = known.map(|(key, _)| *key);
            let value = match (key, value) {
                (Some(_), Some(value)) => value,
                (Some(key), None) if SWITCHES.contains(&key) || key == "idmap" => "true",
                (_, None) => bail!("invalid field '{field}' must be a key=value pair"),
                (None, Some(_)) => bail!("unexpected key '{name}' in '{field}'"),
            };
            let key = key.unwrap_or_default();
            if key == "volume-label" {
                let Pair { key, value } = value.parse()?;
                fields.labels.insert(key, value);
            }
            if SWITCHES.contains(&key) && human::parse_boolean(value).is_none() {
                bail!("invalid value for {name}: {value}");
            }
            fields.values.insert(key, value.to_owned());
        }
        Ok(fields)
    }

    /// Refuses options of another type of mount.
    fn check(&self) -> Result<()> {
        let kind = self.get("type").unwrap_or("volume");
        for prefix in ["bind", "volume", "tmpfs", "image"] {
            let is_its = |key: &&str| key.split_once('-').is_some_and(|(word, _)| word == prefix);
            ensure!(
                kind == prefix || !self.values.keys().any(&is_its),
                "cannot mix '{prefix}-*' options with mount type '{kind}'"
            );
        }
        ensure!(
            kind == "bind" || self.get("idmap").is_none(),
            "cannot mix 'idmap' with mount type '{kind}'"
        );
        ensure!(
            matches!(kind, "bind" | "volume") || self.get("chown").is_none(),
            "cannot mix 'chown' with mount type '{kind}'"
        );
        ensure!(
            !self.is_set("chown") || self.get("idmap").is_none(),
            mount::GIVEN_AND_MAPPED
        );
        ensure!(self.get("target").is_some(), "target is required");
        Ok(())
    }

    fn options(&self, kind: &str) -> Result<MountOptions> {
        let target = Path::new(self.get("target").unwrap_or_default());
        let target = mount::target(target)?;
        let (content, mode) = match kind {
            "bind" => (Content::Bind(self.bind()?), ""),
            "volume" => (Content::Volume(self.volume()?), "z"),
            "tmpfs" => (Content::Tmpfs(self.tmpfs()?), ""),
            "image" => (Content::Image(self.image()?), ""),
            "npipe" | "cluster" | "devpts" | "ramfs" | "glob" | "artifact" => {
                bail!("mounts of this type are not there")
            }
            _ => bail!("mount type unknown"),
        };
        Ok(MountOptions {
            target,
            read_only: self.is_set("readonly"),
            given: self.is_set("chown"),
            flags: Vec::new(),
            mode: mode.to_owned(),
            content,
        })
    }

    fn bind(&self) -> Result<Bind> {
        let source = PathBuf::from(self.source()?);
        ensure!(
            source.is_absolute() || self.source()?.starts_with('.'),
            "invalid mount path: '{}' mount path must be absolute",
            source.display()
        );
        let propagation = self.get("bind-propagation");
        let propagation = propagation.map_or(Ok(Propagation::default()), str::parse)?;
        let recursive = self.get("bind-recursive").unwrap_or("enabled");
        let needs = |what, is_given| -> Result<()> {
            ensure!(
                is_given,
                "option 'bind-recursive={recursive}' requires '{what}' to be specified in conjunction"
            );
            Ok(())
        };
        let below = match recursive {
            "enabled" | "true" | "1" if self.is_set("bind-nonrecursive") => Below::Absent,
            "enabled" | "true" | "1" => Below::Alike,
            "disabled" | "false" | "0" => Below::Absent,
            "writable" => {
                needs("readonly", self.is_set("readonly"))?;
                Below::Writable
            }
            "readonly" => {
                needs("readonly", self.is_set("readonly"))?;
                needs(
                    "bind-propagation=rprivate",
                    propagation == Propagation::Rprivate && self.get("bind-propagation").is_some(),
                )?;
                Below::Alike
            }
            other => bail!(
                "invalid value for bind-recursive: {other} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
            ),
        };
        Ok(Bind {
            source,
            propagation,
            below,
            idmap: self.idmap()?,
            make: self.is_set("bind-create-src"),
        })
    }

    fn idmap(&self) -> Result<Option<Idmap>> {
        match self.get("idmap") {
            None => Ok(None),
            Some(text) => match human::parse_boolean(text) {
                Some(is_set) => Ok(is_set.then_some(Idmap::Owner)),
                None => text.parse().map(Some),
            },
        }
    }

    fn volume(&self) -> Result<Volume> {
        let driver = self.get("volume-driver").unwrap_or("local");
        ensure!(
            matches!(driver, "local" | ""),
            "there is no volume driver `{driver}`: ddock has `local` alone"
        );
        if let Some(option) = self.get("volume-opt") {
            bail!("the volume option `{option}` is not there: mount it on the host, and bind that");
        }
        let mut volume = match self.get("source") {
            Some(name) if !name.is_empty() => Volume::named(name.parse()?),
            _ => Volume::anonymous(),
        };
        volume.copy = !self.is_set("volume-nocopy");
        volume.subpath = self.subpath("volume-subpath")?;
        volume.labels.clone_from(&self.labels);
        ensure!(
            volume.subpath.is_none() || volume.name.is_some(),
            "must not set Subpath when using anonymous volumes"
        );
        Ok(volume)
    }

    fn tmpfs(&self) -> Result<Vec<String>> {
        ensure!(
            self.get("source").is_none(),
            "field Source must not be specified"
        );
        let mut options = Vec::new();
        if let Some(text) = self.get("tmpfs-size") {
            let size = human::parse_bytes(text)
                .with_context(|| format!("invalid value for tmpfs-size: {text}"))?;
            options.push(format!("size={size}"));
        }
        if let Some(text) = self.get("tmpfs-mode") {
            let mode = u32::from_str_radix(text, 8)
                .ok()
                .filter(|mode| *mode <= 0o7777);
            let mode = mode.with_context(|| format!("invalid value for tmpfs-mode: {text}"))?;
            options.push(format!("mode={mode:o}"));
        }
        if self.is_set("readonly") {
            options.push("ro".to_owned());
        }
        tmpfs::options(&options.join(","))
    }

    fn image(&self) -> Result<ImageMount> {
        Ok(ImageMount {
            name: self.source()?.to_owned(),
            subpath: self.subpath("image-subpath")?,
        })
    }

    fn source(&self) -> Result<&str> {
        let source = self.get("source").filter(|source| !source.is_empty());
        source.context("field Source must not be empty")
    }

    /// Returns a path below the source. The kernel keeps it there; this is for the words.
    fn subpath(&self, key: &str) -> Result<Option<PathBuf>> {
        let Some(text) = self.get(key).or_else(|| self.get("subpath")) else {
            return Ok(None);
        };
        let path = Path::new(text);
        let is_below = path
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        ensure!(
            is_below && !text.is_empty(),
            "subpath must be a relative path within the {}: `{text}`",
            key.split('-').next().unwrap_or_default()
        );
        Ok(Some(path.to_owned()))
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    fn is_set(&self, key: &str) -> bool {
        self.get(key)
            .and_then(human::parse_boolean)
            .unwrap_or(false)
    }
}

/// Splits a line of CSV (RFC 4180): fields between commas; one that begins with `"` ends with the next single one.
fn split(text: &str) -> Result<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let mut field = String::new();
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = quoted;
            loop {
                let (part, after) = rest
                    .split_once('"')
                    .context("a quoted field has no end: `\"` is missing")?;
                field.push_str(part);
                rest = after;
                match rest.strip_prefix('"') {
                    Some(more) => {
                        field.push('"');
                        rest = more;
                    }
                    None => break,
                }
            }
            ensure!(
                rest.is_empty() || rest.starts_with(','),
                "a quoted field goes on after its `\"`"
            );
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field.push_str(&rest[..end]);
            ensure!(
                !field.contains('"'),
                "bare \" in non-quoted-field `{field}`: quote all of it, key and value"
            );
            rest = &rest[end..];
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return Ok(fields),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_commas() {
        for (text, fields) in [
            ("a=1,b", &["a=1", "b"][..]),
            ("\"a=1,2\",b", &["a=1,2", "b"]),
            ("\"a=\"\"x\"\"\"", &["a=\"x\""]),
            ("a,,", &["a", "", ""]),
        ] {
            assert_eq!(split(text).unwrap(), fields, "{text}");
        }
        for text in ["a=\"x\"", "\"a", "\"a\"b"] {
            assert!(split(text).is_err(), "{text}");
        }
    }

    fn bind(text: &str) -> (Bind, bool) {
        let wanted = parse(&format!("type=bind,dst=/t,{text}")).unwrap();
        match wanted.content {
            Content::Bind(bind) => (bind, wanted.read_only),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sources_are_paths_with_all_they_may_have() {
        for (text, source) in [
            ("src=/a:b", "/a:b"),
            ("source=./a", "./a"),
            ("SRC=..", ".."),
            ("\"src=/a,b\"", "/a,b"),
        ] {
            assert_eq!(bind(text).0.source, Path::new(source), "{text}");
        }
        assert!(!bind("src=/a").0.make);
        assert!(bind("src=/a,bind-create-src").0.make);
    }

    #[test]
    fn owners_are_mapped_as_podman_writes_it() {
        let given = "uids=0-1-2;gids=3-4-5".parse().unwrap();
        for (text, expected) in [
            ("ro", None),
            ("idmap", Some(Idmap::Owner)),
            ("idmap=true", Some(Idmap::Owner)),
            ("idmap=false", None),
            ("idmap=uids=0-1-2;gids=3-4-5", Some(given)),
        ] {
            assert_eq!(bind(&format!("src=/a,{text}")).0.idmap, expected, "{text}");
        }
    }

    #[test]
    fn binds_are_dockers() {
        for (text, expected) in [
            ("consistency=cached", (false, "rprivate", Below::Alike)),
            ("readonly", (true, "rprivate", Below::Alike)),
            ("ro=false", (false, "rprivate", Below::Alike)),
            ("bind-propagation=rslave", (false, "rslave", Below::Alike)),
            ("bind-nonrecursive", (false, "rprivate", Below::Absent)),
            (
                "bind-recursive=disabled",
                (false, "rprivate", Below::Absent),
            ),
            (
                "ro,bind-recursive=writable",
                (true, "rprivate", Below::Writable),
            ),
            (
                "ro,bind-recursive=readonly,bind-propagation=rprivate",
                (true, "rprivate", Below::Alike),
            ),
        ] {
            let (bind, read_only) = bind(&format!("src=/a,{text}"));
            let found = (read_only, bind.propagation.word(), bind.below);
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn volumes_tmpfs_and_images_are_dockers() {
        let volume = |text: &str| match parse(text).unwrap().content {
            Content::Volume(volume) => volume,
            other => panic!("{other:?}"),
        };
        let found = volume(
            "source=data,target=/t,volume-nocopy,volume-label=a=b,volume-label=c,volume-subpath=x/y",
        );
        assert_eq!(found.name.unwrap().as_str(), "data");
        assert!(!found.copy);
        assert_eq!(found.subpath.as_deref(), Some(Path::new("x/y")));
        assert_eq!(found.labels.get("a").map(String::as_str), Some("b"));
        assert_eq!(found.labels.get("c").map(String::as_str), Some(""));
        assert!(
            volume("type=volume,dst=/t,volume-driver=local")
                .name
                .is_none()
        );
        let tmpfs = parse("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770,ro").unwrap();
        let options = [
            "noexec",
            "nosuid",
            "nodev",
            "size=1048576",
            "mode=1770",
            "ro",
        ];
        assert_eq!(
            tmpfs.content,
            Content::Tmpfs(options.map(str::to_owned).to_vec())
        );
        let image = parse("type=image,src=alpine:3,dst=/t,image-subpath=etc").unwrap();
        let expected = ImageMount {
            name: "alpine:3".to_owned(),
            subpath: Some("etc".into()),
        };
        assert_eq!(image.content, Content::Image(expected));
    }

    /// What is wrong, and with which text.
    const REFUSED: &str = r#"value is empty|
unexpected key 'bogus' in 'bogus=1'|bogus=1
invalid field 'rw' must be a key=value pair|type=bind,rw
target is required|type=bind,src=/a
invalid mount config for type "bind": field Source must not be empty|type=bind,dst=/t
invalid mount config for type "foo": mount type unknown|type=foo,dst=/t
field Source must not be specified|type=tmpfs,src=/a,dst=/t
invalid value for readonly: maybe|type=bind,src=/a,dst=/t,readonly=maybe
invalid value for tmpfs-mode: 9|type=tmpfs,dst=/t,tmpfs-mode=9
invalid value for tmpfs-size: zz|type=tmpfs,dst=/t,tmpfs-size=zz
cannot mix 'volume-*' options with mount type 'bind'|type=bind,src=/a,dst=/t,volume-nocopy
cannot mix 'bind-*' options with mount type 'volume'|dst=/t,bind-propagation=shared
cannot mix 'idmap' with mount type 'tmpfs'|type=tmpfs,dst=/t,idmap
invalid mount path: 't' mount path must be absolute|type=bind,src=/a,dst=t
invalid mount path: 'a' mount path must be absolute|type=bind,src=a,dst=/t
invalid propagation mode: foo|type=bind,src=/a,dst=/t,bind-propagation=foo
requires 'readonly'|type=bind,src=/a,dst=/t,bind-recursive=writable
requires 'bind-propagation=rprivate'|type=bind,src=/a,dst=/t,ro,bind-recursive=readonly
invalid value for bind-recursive: x|type=bind,src=/a,dst=/t,bind-recursive=x
"a/b" includes invalid characters for a local volume name|src=a/b,dst=/t
subpath must be a relative path within the volume|src=data,dst=/t,volume-subpath=../x
must not set Subpath when using anonymous volumes|dst=/t,volume-subpath=x
there is no volume driver `nfs`|src=data,dst=/t,volume-driver=nfs
the volume option `type=nfs` is not there|src=data,dst=/t,volume-opt=type=nfs"#;

    #[test]
    fn what_makes_no_sense_is_refused_in_dockers_words() {
        for line in REFUSED.lines() {
            let (words, text) = line.split_once('|').unwrap();
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
