//! What was moved out of a layer while it was unpacked, so that contents are found where they are now.

use crate::unpack::name;
use std::collections::{BTreeMap, HashMap};
use std::io;

/// Bytes of paths and numbers that a recipe may bring.
const MAX_MEMORY: usize = 128 << 20;

/// The moves of a recipe, by the path that something stood at.
#[derive(Default)]
pub(crate) struct Moves {
    /// For each path, in the order of the recipe: after how many of its records something was moved, and its number.
    by_path: BTreeMap<Vec<u8>, Vec<(u64, u64)>>,
    count: u64,
    /// By the path among what is kept, the path in the layer.
    aliases: HashMap<Vec<u8>, Vec<u8>>,
    memory: usize,
}

/// Where a content is: a path from the layer's root, or from the directory of what is kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Layer(Vec<u8>),
    Kept(Vec<u8>),
}

impl Moves {
    /// Adds the next move, of what stood at `path` after the first `records` records.
    pub(crate) fn push(&mut self, path: Vec<u8>, records: u64) -> io::Result<()> {
        self.grow(path.len())?;
        let moves = self.by_path.entry(path).or_default();
        moves.push((records, self.count));
        self.count += 1;
        Ok(())
    }

    /// Says that what was moved to `kept` is a file of the layer, `path`.
    pub(crate) fn alias(&mut self, kept: Vec<u8>, path: Vec<u8>) -> io::Result<()> {
        self.grow(kept.len() + path.len())?;
        self.aliases.insert(kept, path);
        Ok(())
    }

    /// Returns where that is now which was written to `path` after `records` records.
    pub(crate) fn find(&self, path: &[u8], records: u64) -> Place {
        let mut first: Option<(u64, u64, &[u8])> = None;
        let mut above = path;
        while !above.is_empty() && !self.by_path.is_empty() {
            let moves = self.by_path.get(above).map_or(&[][..], Vec::as_slice);
            let after = moves.partition_point(|(at, _)| *at < records);
            if let Some((at, number)) = moves.get(after)
                && first.is_none_or(|(earlier, ..)| *at < earlier)
            {
                first = Some((*at, *number, &path[above.len()..]));
            }
            above = name::split(above).0;
        }
        let Some((_, number, below)) = first else {
            return Place::Layer(path.to_vec());
        };
        let kept = [number.to_string().as_bytes(), below].concat();
        match self.aliases.get(&kept) {
            Some(path) => Place::Layer(path.clone()),
            None => Place::Kept(kept),
        }
    }

    fn grow(&mut self, length: usize) -> io::Result<()> {
        self.memory += length + 2 * size_of::<Vec<u8>>();
        if self.memory > MAX_MEMORY {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it moves more than can be",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_moved_is_found_by_the_first_move_after_it_was_written() {
        let mut moves = Moves::default();
        for (path, records) in [("d/f", 2), ("d/f", 5), ("d", 7), ("d/f", 9)] {
            moves.push(path.as_bytes().to_vec(), records).unwrap();
        }
        moves.alias(b"2/x".to_vec(), b"y".to_vec()).unwrap();
        let layer = |path: &[u8]| Place::Layer(path.to_vec());
        let kept = |path: &[u8]| Place::Kept(path.to_vec());
        for (path, records, expected) in [
            ("d/f", 0, kept(b"0")),
            ("d/f", 2, kept(b"0")),
            ("d/f", 3, kept(b"1")),
            ("d/f", 6, kept(b"2/f")),
            ("d/f", 8, kept(b"3")),
            ("d/f", 10, layer(b"d/f")),
            ("d/g/h", 1, kept(b"2/g/h")),
            ("d/g/h", 8, layer(b"d/g/h")),
            ("d/x", 1, layer(b"y")),
            ("dd/f", 0, layer(b"dd/f")),
            ("", 0, layer(b"")),
        ] {
            assert_eq!(moves.find(path.as_bytes(), records), expected, "{path}");
        }
    }
}
