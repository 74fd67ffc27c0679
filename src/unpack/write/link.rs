//! Hard links: to what the layer has already, or to a file of a lower layer.

use crate::unpack::name;
use crate::unpack::place::Place;
use crate::unpack::write::Writer;
use anyhow::{Context, Result, ensure};
use rustix::fs::AtFlags;

impl Writer<'_> {
    /// Links to what the layer has at `target`; its metadata is that of its first entry. What the layer does not
    /// have may be a file of a lower layer, which is not looked at here.
    pub(super) fn hard_link(&mut self, place: &Place<'_>, target: &[u8]) -> Result<()> {
        let missing = || {
            let target = name::shown(target);
            format!("it is a hard link to `{target}`, which is no file of the layer")
        };
        let path = name::clean(target).with_context(missing)?;
        let (parent, name) = name::split(&path);
        ensure!(!name.is_empty(), missing());
        let parent = self.tree.existing(parent).with_context(missing)?;
        let real = match &parent {
            Some(parent) => name::join(&parent.path, name),
            None => path.clone(),
        };
        // What it replaces is removed first, with all it holds.
        let replaced = name::join(&place.parent.path, place.name);
        let below = real.strip_prefix(replaced.as_slice());
        ensure!(
            !below.is_some_and(|below| below.starts_with(b"/")),
            missing()
        );
        let target = parent.map(|parent| Place { parent, name });
        let target = target.filter(|target| target.is_there() && !self.tree.is_whiteout(&real));
        if let Some(target) = target {
            if place.is_same_file(&target) {
                return Ok(());
            }
            return self
                .make(place, |parent, name| {
                    let (from, flags) = (&target.parent.fd, AtFlags::empty());
                    rustix::fs::linkat(from, target.name, parent, name, flags)
                })
                .with_context(missing);
        }
        let own = name::join(&place.parent.path, place.name);
        let of_lower = if let Some(target) = self.tree.borrowed(&real) {
            target.clone()
        } else {
            ensure!(!self.tree.is_hidden(&real) && real != own, missing());
            real
        };
        self.tree.borrow(&place.parent, place.name, of_lower)
    }
}
