//! Sources: where credentials are looked for, and in which order.

use crate::registry::credentials::file::Configuration;
use crate::registry::own_file;
use crate::sys::file;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The variable that holds a configuration itself.
const TEXT_VARIABLE: &str = "DOCKER_AUTH_CONFIG";

/// Looks up an environment variable.
pub(crate) type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A place that may have credentials, as it was when it was read.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The file's path or the variable's name.
    pub(crate) origin: String,
    /// What is wrong with it is told when it matters: the first time a registry wants credentials.
    pub(crate) content: Result<Configuration, String>,
}

/// Where to look.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Text(OsString),
    /// One that the user names; it is an error that it cannot be read.
    Named(PathBuf),
    File(PathBuf),
    /// In a directory that root makes for all, and which root's podman closes to others.
    SharedFile(PathBuf),
    /// The form of Docker before 1.7.
    FlatFile(PathBuf),
}

/// Reads what this process's user has, first the one that counts first, and what keeps him from the rest. `authfile` is
/// before all; it must be there.
pub(crate) fn read(authfile: Option<&Path>) -> Result<(Vec<Source>, Vec<String>)> {
    let mut sources = Vec::new();
    if let Some(path) = authfile {
        let text = file::read_given(path).context("reading the credentials of `--authfile`")?;
        let origin = path.display().to_string();
        let content = Configuration::parse(&text, &origin)?;
        sources.push(Source {
            origin,
            content: Ok(content),
        });
    }
    let uid = rustix::process::getuid().as_raw();
    let places = places(&|name| std::env::var_os(name), uid);
    let mut passed_over = Vec::new();
    for place in places.iter().filter_map(source) {
        match place {
            Ok(source) => sources.push(source),
            Err(why) => passed_over.push(why),
        }
    }
    Ok((sources, passed_over))
}

/// Returns the file in which a log-in is kept: Docker's, unless `authfile` or the environment name another.
pub(crate) fn file_to_keep(authfile: Option<&Path>, variables: Variables<'_>) -> Result<PathBuf> {
    if let Some(path) = authfile {
        return Ok(path.to_owned());
    }
    named(variables, "REGISTRY_AUTH_FILE")
        .or_else(|| docker_file(variables))
        .context("no place for the log-in: neither --authfile, DOCKER_CONFIG nor HOME is set")
}

/// Tells whether the environment holds a configuration, which comes before what is kept in files.
pub(crate) fn has_text(variables: Variables<'_>) -> bool {
    variables(TEXT_VARIABLE).is_some_and(|text| !text.is_empty())
}

fn named(variables: Variables<'_>, name: &str) -> Option<PathBuf> {
    Some(PathBuf::from(
        variables(name).filter(|value| !value.is_empty())?,
    ))
}

fn docker_file(variables: Variables<'_>) -> Option<PathBuf> {
    let own = named(variables, "DOCKER_CONFIG");
    let directory = own.or_else(|| Some(named(variables, "HOME")?.join(".docker")))?;
    Some(directory.join("config.json"))
}

/// Docker's places come before podman's: ddock speaks Docker's command line.
fn places(variables: Variables<'_>, uid: u32) -> Vec<Place> {
    let file = |name| named(variables, name);
    let home = file("HOME");
    // containers-auth.json(5); paths that are not absolute are ignored (XDG Base Directory Specification).
    let absolute = |name| file(name).filter(|path| path.is_absolute());
    let runtime = match absolute("XDG_RUNTIME_DIR") {
        Some(own) => Place::File(own.join("containers/auth.json")),
        None => Place::SharedFile(format!("/run/containers/{uid}/auth.json").into()),
    };
    let own = absolute("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
    let text = variables(TEXT_VARIABLE).filter(|text| !text.is_empty());
    [
        text.map(Place::Text),
        file("REGISTRY_AUTH_FILE").map(Place::Named),
        docker_file(variables).map(Place::File),
        Some(runtime),
        own.map(|own| Place::File(own.join("containers/auth.json"))),
        home.map(|home| Place::FlatFile(home.join(".dockercfg"))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Reads `place`. `None` if there is nothing; an error says why it is passed over.
fn source(place: &Place) -> Option<Result<Source, String>> {
    let (origin, content) = match place {
        Place::Text(text) => {
            let content = Configuration::parse(text.as_encoded_bytes(), TEXT_VARIABLE);
            (TEXT_VARIABLE.to_owned(), content)
        }
        Place::Named(path)
        | Place::File(path)
        | Place::SharedFile(path)
        | Place::FlatFile(path) => {
            let origin = path.display().to_string();
            let content = match (own_file::read(path), place) {
                (Ok(None), _) => return None,
                (Err(error), Place::Named(_)) => Err(error).context("reading the credentials"),
                // Nothing of this user's is where he may not go.
                (Err(error), Place::SharedFile(_))
                    if error.kind() == ErrorKind::PermissionDenied =>
                {
                    return None;
                }
                (Err(error), _) => {
                    let why =
                        format!("cannot read the credentials in {error}; going on without them");
                    return Some(Err(why));
                }
                (Ok(Some(text)), Place::FlatFile(_)) => Configuration::parse_flat(&text, &origin),
                (Ok(Some(text)), _) => Configuration::parse(&text, &origin),
            };
            (origin, content)
        }
    };
    let content = content.map_err(|error| format!("{error:#}"));
    Some(Ok(Source { origin, content }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(variables: &[(&str, &str)]) -> Vec<String> {
        let look = |name: &str| {
            let mut found = variables.iter().filter(|(key, _)| *key == name);
            Some(OsString::from(found.next()?.1))
        };
        let places = places(&look, 7);
        places.iter().map(|place| format!("{place:?}")).collect()
    }

    #[test]
    fn the_order_is_the_callers_then_dockers_then_podmans() {
        assert_eq!(
            shown(&[
                ("HOME", "/h"),
                ("DOCKER_AUTH_CONFIG", "{}"),
                ("REGISTRY_AUTH_FILE", "/r"),
                ("XDG_RUNTIME_DIR", "/run/user/7"),
            ]),
            [
                r#"Text("{}")"#,
                r#"Named("/r")"#,
                r#"File("/h/.docker/config.json")"#,
                r#"File("/run/user/7/containers/auth.json")"#,
                r#"File("/h/.config/containers/auth.json")"#,
                r#"FlatFile("/h/.dockercfg")"#,
            ]
        );
        assert_eq!(
            shown(&[
                ("DOCKER_CONFIG", "/d"),
                ("XDG_CONFIG_HOME", "/x"),
                ("XDG_RUNTIME_DIR", "r")
            ]),
            [
                r#"File("/d/config.json")"#,
                r#"SharedFile("/run/containers/7/auth.json")"#,
                r#"File("/x/containers/auth.json")"#,
            ]
        );
        assert_eq!(
            shown(&[("DOCKER_AUTH_CONFIG", ""), ("REGISTRY_AUTH_FILE", "")]),
            [r#"SharedFile("/run/containers/7/auth.json")"#]
        );
    }

    #[test]
    fn a_log_in_is_kept_where_docker_would() {
        let look = |name: &str| (name == "HOME").then(|| OsString::from("/h"));
        let kept = file_to_keep(None, &look).unwrap();
        assert_eq!(kept, Path::new("/h/.docker/config.json"));
        let chosen = file_to_keep(Some(Path::new("a.json")), &look).unwrap();
        assert_eq!(chosen, Path::new("a.json"));
        assert!(file_to_keep(None, &|_| None).is_err());
    }
}
