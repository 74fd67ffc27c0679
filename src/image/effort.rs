//! Effort: what putting an image's layers together may cost, and whether it is wanted still.

use anyhow::{Result, ensure};
use std::cell::Cell;
use std::path::Path;

/// Names that are looked at, at most, while an image's layers are put together: half a minute of a processor. A layer
/// may have as many entries, and only those in directories that another layer implies are looked at: an image made by
/// a builder needs some thousands.
const MOST: u64 = 10_000_000;

/// Bytes of a path that cost the kernel about as much as all else of a look.
const LONG: usize = 64;

/// What is left of it, in names.
pub(super) struct Effort<'a> {
    left: Cell<u64>,
    /// Fails when nobody waits for the image any more.
    wanted: &'a dyn Fn() -> Result<()>,
}

impl<'a> Effort<'a> {
    pub(super) fn new(wanted: &'a dyn Fn() -> Result<()>) -> Self {
        let left = Cell::new(MOST);
        Self { left, wanted }
    }

    /// Takes what it costs to look at `path`.
    pub(super) fn look(&self, path: &Path) -> Result<()> {
        self.take(1 + path.as_os_str().len() / LONG)
    }

    /// Takes what it costs to read so many names.
    pub(super) fn take(&self, names: usize) -> Result<()> {
        let left = self.left.get().checked_sub(names as u64);
        ensure!(
            left.is_some(),
            "the image's layers imply so many directories of each other that more than {MOST} names would have to be \
             looked at"
        );
        self.left.set(left.unwrap_or_default());
        (self.wanted)()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    #[test]
    fn an_image_costs_no_more_than_the_bound_and_nothing_when_it_is_not_wanted() {
        let effort = Effort::new(&|| Ok(()));
        let most = usize::try_from(MOST).unwrap();
        effort.take(most - 3).unwrap();
        effort.look(Path::new("usr")).unwrap();
        effort.look(Path::new(&"x".repeat(LONG))).unwrap();
        let error = effort.take(1).unwrap_err().to_string();
        assert!(error.contains("more than 10000000 names"), "{error}");
        let unwanted = Effort::new(&|| bail!("stopped"));
        assert_eq!(unwanted.take(1).unwrap_err().to_string(), "stopped");
    }
}
