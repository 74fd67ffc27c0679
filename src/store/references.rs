//! Tags: which image a name stands for.

use crate::digest::Digest;
use crate::reference::Reference;
use crate::store::lock::{Exclusive, missing_is_fine};
use crate::store::objects::read_if_there;
use crate::store::owners::remove_damaged;
use crate::store::stage::sync_directory;
use crate::store::{Damaged, Store, layout};
use anyhow::{Context, Result};
use fs_err as fs;
use std::io;
use std::path::Path;

impl Store {
    /// Returns the ID of the image that `reference`'s tag stands for; `None` if it stands for none.
    pub(crate) fn tag(&self, reference: &Reference) -> Result<Option<Digest>> {
        let Some(path) = self.layout.tag(reference) else {
            return Ok(None);
        };
        let bytes = match read_if_there(&path) {
            Ok(None) => return Ok(None),
            // What it is that cannot be read is no matter: there is one cure.
            read => read.ok().flatten().unwrap_or_default(),
        };
        let text = str::from_utf8(&bytes).unwrap_or_default().trim_end();
        let id = text
            .parse()
            .with_context(|| Damaged(format!("tag `{}` is no digest", path.display())))?;
        Ok(Some(id))
    }

    /// Removes a tag, and directories that it leaves empty. That is durable once [`sync_tag`](Self::sync_tag) was called.
    pub(crate) fn remove_tag(&self, _: &Exclusive, reference: &Reference) -> Result<()> {
        let Some(path) = self.layout.tag(reference) else {
            return Ok(());
        };
        remove_damaged(&path)?;
        let top = self.layout.references();
        let above = path.ancestors().skip(1);
        for directory in above.take_while(|directory| **directory != top) {
            // The first one that still holds something ends it; rmdir(2) itself is the question.
            if fs::remove_dir(directory).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Writes to disk that a tag was removed.
    pub(crate) fn sync_tag(&self, reference: &Reference) -> Result<()> {
        let Some(path) = self.layout.tag(reference) else {
            return Ok(());
        };
        let above = path.ancestors().skip(1);
        for directory in above {
            match sync_directory(directory) {
                // It went with the tag, and the one above knows.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => return Ok(other?),
            }
        }
        Ok(())
    }

    /// Returns all tags that can be read and the images that they stand for, sorted by name.
    pub(crate) fn tags(&self) -> Result<Vec<(Reference, Digest)>> {
        Ok(self.readable_tags()?.0)
    }

    /// Returns what is wrong with tags that cannot be read.
    pub(crate) fn damaged_tags(&self) -> Result<Vec<(Reference, anyhow::Error)>> {
        Ok(self.readable_tags()?.1)
    }

    fn readable_tags(&self) -> Result<Tags> {
        let mut references = Vec::new();
        for registry in fs::read_dir(self.layout.references())? {
            let registry = registry?;
            let name = registry.file_name();
            collect(&registry.path(), &name.to_string_lossy(), &mut references)?;
        }
        references.sort_by_cached_key(ToString::to_string);
        let (mut tags, mut damaged) = (Vec::with_capacity(references.len()), Vec::new());
        for reference in references {
            match self.tag(&reference) {
                // Gone since the directory was read is gone.
                Ok(id) => tags.extend(id.map(|id| (reference, id))),
                Err(error) => damaged.push((reference, error)),
            }
        }
        Ok((tags, damaged))
    }
}

/// Tags, and those that cannot be read, with the reason.
type Tags = (Vec<(Reference, Digest)>, Vec<(Reference, anyhow::Error)>);

/// Adds the tags in and below `directory`, where the repository `name` has its own.
fn collect(directory: &Path, name: &str, references: &mut Vec<Reference>) -> Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        // Another process may have removed the last tag.
        Err(error) => return Ok(missing_is_fine(error)?),
    };
    for entry in entries {
        let entry = entry?;
        let file = entry.file_name();
        let file = file.to_string_lossy();
        if file == layout::TAGS {
            collect_tags(&entry.path(), name, references)?;
        } else if entry.file_type()?.is_dir() {
            collect(&entry.path(), &format!("{name}/{file}"), references)?;
        }
    }
    Ok(())
}

fn collect_tags(directory: &Path, name: &str, references: &mut Vec<Reference>) -> Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return Ok(missing_is_fine(error)?),
    };
    for entry in entries {
        let tag = entry?.file_name();
        // What is no reference was put there by somebody else.
        references.extend(format!("{name}:{}", tag.to_string_lossy()).parse::<Reference>());
    }
    Ok(())
}
