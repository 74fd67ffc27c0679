//! Checking: is a layer still what it was when it was unpacked?
//!
//! Its tar is made again and unpacked once more, beside the layer and without what files hold: so whatever unpacking
//! makes of a tar is what is expected. What files hold is compared with the recipe's sums, all of it with the diff ID.

use crate::digest::Digest;
use crate::human;
use crate::unpack::compare::{Scope, compare};
use crate::unpack::recipe::{NoRecipe, Rebuild, Recipe};
use crate::unpack::{Bodies, Options, Unpacked, unpack};
use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::{self, Display};
use std::io::Read;
use std::path::Path;

/// What is wrong with something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Damaged,
    Missing,
    Added,
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Damaged => "damaged",
            Self::Missing => "missing",
            Self::Added => "added",
        })
    }
}

/// One thing that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) fault: Fault,
    /// The absolute path of a file of the layer, one line whatever it holds; or what else of it is meant, without a slash.
    pub(crate) subject: String,
    /// How it is, and how it should be.
    pub(crate) what: String,
}

/// What a check found.
pub(crate) struct Checked {
    /// By path. None says that the layer is what it was, to the last bit and attribute.
    pub(crate) findings: Vec<Finding>,
    /// What the layer's tar is, if it could be made again.
    pub(crate) unpacked: Option<Unpacked>,
}

impl Checked {
    fn recipe(fault: Fault, what: impl Into<String>) -> Self {
        let (subject, what) = ("recipe".to_owned(), what.into());
        let finding = Finding {
            fault,
            subject,
            what,
        };
        Self {
            findings: vec![finding],
            unpacked: None,
        }
    }
}

/// Compares the layer in `layer` with its `diff_id`, and finds what is wrong with it.
///
/// `shadow` is an empty directory on the same file system; it is left full. An error says that the check itself could not
/// be done.
pub(crate) fn check(
    layer: &Path,
    recipe: Recipe<'_>,
    diff_id: &Digest,
    shadow: &Path,
    options: &Options,
) -> Result<Checked> {
    let mut rebuild = match Rebuild::open(layer, recipe) {
        Ok(rebuild) => rebuild,
        Err(error) if error.is::<NoRecipe>() => {
            let what = "this layer cannot be checked without it";
            return Ok(Checked::recipe(Fault::Missing, what));
        }
        Err(error) if is_of_system(&error) => return Err(error),
        Err(error) => return Ok(Checked::recipe(Fault::Damaged, shown(&error))),
    };
    let stream = Box::new(&mut rebuild) as Box<dyn Read>;
    let tar = Box::new(move || Ok(stream));
    let unpacked = unpack(tar, shadow, options, &|| Ok(Bodies::LeftOut));
    let (spoilt, failure) = rebuild.finish();
    if let Some(why) = failure {
        return Ok(Checked::recipe(Fault::Damaged, why));
    }
    let unpacked = match unpacked {
        Ok(unpacked) => unpacked,
        Err(error) if is_of_system(&error) => return Err(error),
        // It was unpacked before: these are other bytes.
        Err(error) => return Ok(Checked::recipe(Fault::Damaged, shown(&error))),
    };
    let mut found = differences(shadow, layer, Scope::Facts)?;
    for spoilt in spoilt {
        add_content(&mut found, spoilt.path, &spoilt.why);
    }
    let mut findings: Vec<Finding> = found.into_values().collect();
    if findings.is_empty() && unpacked.diff_id != *diff_id {
        let what = format!("its tar is {}", unpacked.diff_id);
        findings.extend(Checked::recipe(Fault::Damaged, what).findings);
    }
    Ok(Checked {
        findings,
        unpacked: Some(unpacked),
    })
}

/// Finds how what is in the directory `found` differs from what is in `expected`, down to what files hold.
pub(crate) fn compare_trees(expected: &Path, found: &Path) -> Result<Vec<Finding>> {
    Ok(differences(expected, found, Scope::Below)?
        .into_values()
        .collect())
}

/// Compares two trees; returns the findings by path.
fn differences(expected: &Path, found: &Path, scope: Scope) -> Result<BTreeMap<Vec<u8>, Finding>> {
    let open = |path: &Path| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty())
            .with_context(|| format!("opening {}", path.display()))
    };
    let mut findings = BTreeMap::new();
    compare(
        &open(expected)?,
        &open(found)?,
        scope,
        |fault, path, what| {
            let subject = subject(path);
            let finding = Finding {
                fault,
                subject,
                what,
            };
            findings.insert(path.to_vec(), finding);
        },
    )?;
    Ok(findings)
}

/// Adds what was found of a file's content to what was found of the file.
fn add_content(findings: &mut BTreeMap<Vec<u8>, Finding>, path: Vec<u8>, why: &str) {
    let subject = subject(&path);
    match findings.entry(path) {
        Entry::Vacant(entry) => {
            let (fault, what) = (Fault::Damaged, why.to_owned());
            entry.insert(Finding {
                fault,
                subject,
                what,
            });
        }
        // A sparse file has many runs of bytes, and is to be told of once.
        Entry::Occupied(mut entry) if !entry.get().what.ends_with(why) => {
            let what = &mut entry.get_mut().what;
            what.push_str(", ");
            what.push_str(why);
        }
        Entry::Occupied(_) => {}
    }
}

fn subject(path: &[u8]) -> String {
    human::printable(&format!("/{}", String::from_utf8_lossy(path)))
}

fn shown(error: &anyhow::Error) -> String {
    human::printable(&format!("{error:#}"))
}

/// Tells whether it was the system that refused, and not the recipe that was bad.
fn is_of_system(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.and_then(std::io::Error::raw_os_error).is_some() || cause.is::<Errno>()
    })
}
