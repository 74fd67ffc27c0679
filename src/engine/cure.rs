//! What an ordinary user can do about IDs that he lacks, as commands to paste.

use crate::engine::root;
use crate::spec::Unmapped;
use crate::sys::userns::{Alone, Lacking, Mapping, free_range, user_name};
use anyhow::Error;
use std::path::Path;
use thiserror::Error;

/// IDs are needed that the user does not have.
#[derive(Debug, Error)]
#[error("{message}")]
pub(crate) struct Unavailable {
    message: String,
    pub(crate) cure: String,
}

/// Says what `own`, who the caller is, lacks for the store at `root`, which he made.
pub(crate) fn unavailable(root: &Path, own: &Mapping, lacking: Lacking) -> Unavailable {
    let name = name(own);
    let (why, cure) = match lacking {
        Lacking::Helpers => (
            "needs `newuidmap` and `newgidmap`, which are not installed".to_owned(),
            "`sudo apt-get install uidmap` installs them on Debian".to_owned(),
        ),
        Lacking::Ranges { uids, gids } => {
            let (uids, gids) = (uids.ends(), gids.ends());
            (
                format!(
                    "holds files of IDs that {name} does not have any more ({uids} in /etc/subuid, {gids} in /etc/subgid)"
                ),
                format!(
                    "`sudo usermod --add-subuids {uids} --add-subgids {gids} {name}` gives them back"
                ),
            )
        }
        Lacking::Group(gid) => (
            format!("belongs to the group {gid}, and this process to another"),
            format!("`sg $(getent group {gid} | cut -d: -f1)` starts a shell in that group"),
        ),
    };
    Unavailable {
        message: format!("the store `{}` {why}", root.display()),
        cure: format!("{cure}; `{}` removes the store, for a new one", reset(root)),
    }
}

/// Adds what to do if `error` is about a user or group that is not mapped in the store at `root`.
pub(crate) fn of_unmapped(error: Error, mapping: &Mapping, root: &Path) -> Error {
    if !error.is::<Unmapped>() {
        return error;
    }
    let reset = reset(root);
    let cure = match mapping {
        Mapping::Root | Mapping::Ranges { .. } => "take another user or group".to_owned(),
        Mapping::Single { reason, .. } => match reason {
            Alone::ByRecord => {
                format!(
                    "the store was made before you had these; `{reset}` removes it, for a new one"
                )
            }
            Alone::WithoutHelpers => format!(
                "`sudo apt-get install uidmap` installs what maps more on Debian, and {}; then `{reset}`, for a new store",
                granting(mapping)
            ),
            Alone::WithoutRange => {
                format!("{}; then `{reset}`, for a new store", granting(mapping))
            }
        },
    };
    let message = format!("{error:#}");
    Unavailable { message, cure }.into()
}

/// Returns the command that gives the user IDs, and says so.
fn granting(mapping: &Mapping) -> String {
    let (range, name) = (free_range().ends(), name(mapping));
    format!("`sudo usermod --add-subuids {range} --add-subgids {range} {name}` gives you more IDs")
}

/// Returns the command that removes the store at `root`.
fn reset(root: &Path) -> String {
    if root::default_root().is_ok_and(|default| default == root) {
        return "ddock system reset".to_owned();
    }
    format!("ddock --root {} system reset", root.display())
}

fn name(mapping: &Mapping) -> String {
    let user = mapping.own().map_or(0, |(uid, _)| uid);
    user_name(user).unwrap_or_else(|| user.to_string())
}
