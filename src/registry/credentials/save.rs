//! Keeping: the file or helper where `login` puts credentials and `logout` takes them away.

use crate::registry::credentials::file::Configuration;
use crate::registry::credentials::secret::Secret;
use crate::registry::credentials::{helper, key, sources};
use crate::sys::file;
use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use serde::Serialize as _;
use serde_json::ser::PrettyFormatter;
use serde_json::{Map, Serializer, Value};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A file of credentials that may be changed.
#[derive(Debug)]
pub(crate) struct Keyring {
    path: PathBuf,
}

/// Who keeps a password.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Keeper {
    /// The file at this path, in the clear.
    File(PathBuf),
    /// `docker-credential-NAME`
    Helper(String),
}

impl Keyring {
    /// Returns the one that `authfile`, the environment or else Docker's custom name.
    pub(crate) fn of_user(authfile: Option<&Path>) -> Result<Self> {
        let path = sources::file_to_keep(authfile, &|name| std::env::var_os(name))?;
        Ok(Self { path })
    }

    /// Tells whether the environment holds credentials that are looked at before this.
    pub(crate) fn is_overruled() -> bool {
        sources::has_text(&|name| std::env::var_os(name))
    }

    /// Keeps the user's name and password for `registry`, in the file or with the helper that it names.
    pub(crate) fn store(&self, registry: &str, user: &str, password: &Secret) -> Result<Keeper> {
        let mut root = self.read()?;
        let helper = self.helper(&root, registry)?;
        let key = key::of(registry);
        let entry = if let Some(name) = &helper {
            helper::store(name, key, user, password)?;
            // Docker's mark for "the helper has it".
            Value::Object(Map::new())
        } else {
            let pair = Zeroizing::new(format!("{user}:{}", password.expose()));
            serde_json::json!({"auth": STANDARD.encode(pair.as_bytes())})
        };
        let auths = root.entry("auths").or_insert(Value::Null);
        if auths.is_null() {
            *auths = Value::Object(Map::new());
        }
        let auths = auths.as_object_mut();
        let auths = auths.with_context(|| self.malformed("`auths` is no object"))?;
        auths.insert(key.to_owned(), entry);
        self.write(&root)?;
        Ok(helper.map_or_else(|| Keeper::File(self.path.clone()), Keeper::Helper))
    }

    /// Takes away what is kept for `registry`, under every spelling of its key. False if there was nothing.
    pub(crate) fn remove(&self, registry: &str) -> Result<bool> {
        let mut root = self.read()?;
        let helper = self.helper(&root, registry)?;
        let mut found = false;
        if let Some(Value::Object(auths)) = root.get_mut("auths") {
            let before = auths.len();
            auths.retain(|key, _| !key::is_for(key, registry));
            found = auths.len() < before;
        }
        if let Some(name) = &helper {
            let server = key::of(registry);
            let kept = helper::get(name, server)?.is_some();
            if kept {
                helper::erase(name, server)?;
            }
            found |= kept;
        }
        if found {
            self.write(&root)?;
        }
        Ok(found)
    }

    fn helper(&self, root: &Map<String, Value>, registry: &str) -> Result<Option<String>> {
        let text = Zeroizing::new(serde_json::to_vec(root).context("writing JSON")?);
        let configuration = Configuration::parse(&text, &self.path.display().to_string())?;
        Ok(configuration.helper(registry).map(str::to_owned))
    }

    /// Returns the whole file, whatever is in it; empty if it is not there.
    fn read(&self) -> Result<Map<String, Value>> {
        let text = match file::read(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Map::new()),
            text => Zeroizing::new(text?),
        };
        if text.trim_ascii().is_empty() {
            return Ok(Map::new());
        }
        serde_json::from_slice(&text)
            .map_err(|error| self.malformed(&format!("line {}", error.line())))
    }

    fn malformed(&self, why: &str) -> anyhow::Error {
        anyhow::anyhow!("{} is no Docker configuration ({why})", self.path.display())
    }

    /// Replaces the file at once and whole, readable by its owner only. Through a symlink the file
    /// that it leads to is replaced: people link it from where they keep such files.
    fn write(&self, root: &Map<String, Value>) -> Result<()> {
        let path = match fs_err::canonicalize(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                ensure!(
                    !self.path.is_symlink(),
                    "{} is a symlink that leads nowhere",
                    self.path.display()
                );
                self.path.clone()
            }
            path => path?,
        };
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let mut builder = std::fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(directory);
        made.with_context(|| format!("making {}", directory.display()))?;

        let mut text = Zeroizing::new(Vec::new());
        // Docker indents with tabs.
        let formatter = PrettyFormatter::with_indent(b"\t");
        root.serialize(&mut Serializer::with_formatter(&mut *text, formatter))
            .context("writing JSON")?;
        text.push(b'\n');

        let name = path.file_name().context("the file has no name")?;
        let mut temporary = name.to_owned();
        temporary.push(format!(".{}.ddock", std::process::id()));
        let temporary = directory.join(temporary);
        let written = write_anew(&temporary, &text, &path)
            .and_then(|()| Ok(fs_err::rename(&temporary, &path)?));
        if written.is_err() {
            // Nothing is left where there was nothing; the first error is what counts.
            fs_err::remove_file(&temporary).ok();
        }
        written
    }
}

/// Writes the new file `temporary`, which is to take the place of `path`, and its owner's.
fn write_anew(temporary: &Path, text: &[u8], path: &Path) -> Result<()> {
    let mut options = fs_err::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)?;
    if let Ok(old) = fs_err::metadata(path) {
        // With sudo the file may be another user's, who is to read it afterwards. Without the right
        // to give it away it becomes ours, as it would be had we made it.
        std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid())).ok();
    }
    file.write_all(text)?;
    Ok(file.sync_all()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    struct Home {
        directory: tempfile::TempDir,
        keyring: Keyring,
    }

    /// A file of credentials with `text` in it.
    fn home(text: &str) -> Home {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        fs_err::write(&path, text).unwrap();
        let keyring = Keyring { path };
        Home { directory, keyring }
    }

    fn secret() -> Secret {
        "pw".to_owned().into()
    }

    #[test]
    fn what_else_is_in_the_file_stays_in_its_order() {
        let home = home(
            r#"{"z":[1],"auths":{"b":{"auth":"x","email":"e"},"r.io":{"auth":"old"},"a":{}},"HttpHeaders":{"k":"v"}}"#,
        );
        let keeper = home.keyring.store("r.io", "me", &secret()).unwrap();
        assert_eq!(keeper, Keeper::File(home.keyring.path.clone()));
        let text = fs_err::read_to_string(&home.keyring.path).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            value.to_string(),
            r#"{"z":[1],"auths":{"b":{"auth":"x","email":"e"},"r.io":{"auth":"bWU6cHc="},"a":{}},"HttpHeaders":{"k":"v"}}"#
        );
        assert!(text.contains("\n\t\"auths\""), "{text}");
        assert!(home.keyring.remove("r.io").unwrap());
        assert!(!home.keyring.remove("r.io").unwrap());
        let left = fs_err::read_dir(home.directory.path()).unwrap().count();
        assert_eq!(left, 1);
    }

    #[test]
    fn every_spelling_is_taken_away_and_paths_below_stay() {
        let home = home(
            r#"{"auths":{"https://index.docker.io/v1/":{},"docker.io":{},"docker.io/me":{},"r.io":{}}}"#,
        );
        assert!(home.keyring.remove("docker.io").unwrap());
        let text = fs_err::read_to_string(&home.keyring.path).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            value.to_string(),
            r#"{"auths":{"docker.io/me":{},"r.io":{}}}"#
        );
    }

    #[test]
    fn a_new_file_and_its_directory_are_the_owners_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/.docker/config.json");
        let keyring = Keyring { path };
        keyring.store("docker.io", "me", &secret()).unwrap();
        let mode = |path: &Path| fs_err::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&keyring.path), 0o600);
        assert_eq!(mode(keyring.path.parent().unwrap()), 0o700);
        let text = fs_err::read_to_string(&keyring.path).unwrap();
        assert!(text.contains("https://index.docker.io/v1/"), "{text}");
    }

    #[test]
    fn a_symlink_stays_one_and_its_target_is_written() {
        let home = home("{}");
        let link = home.directory.path().join("link.json");
        std::os::unix::fs::symlink("config.json", &link).unwrap();
        let keyring = Keyring { path: link.clone() };
        keyring.store("r.io", "me", &secret()).unwrap();
        assert!(link.is_symlink());
        let text = fs_err::read_to_string(&home.keyring.path).unwrap();
        assert!(text.contains("r.io"), "{text}");
    }

    #[test]
    fn a_file_that_is_no_configuration_is_left_as_it_is() {
        for text in [
            "{\"auths\": hidden",
            r#"{"auths":["hidden"]}"#,
            "[\"hidden\"]",
        ] {
            let home = home(text);
            let error = home.keyring.store("r.io", "me", &secret()).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.contains("is no Docker configuration"), "{error}");
            assert!(!error.contains("hidden"), "{error}");
            assert_eq!(fs_err::read_to_string(&home.keyring.path).unwrap(), text);
        }
    }
}
