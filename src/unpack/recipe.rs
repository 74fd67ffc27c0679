//! The recipe: a layer's tar without what its files hold. From it and the files the tar is made again, bit for bit.
//!
//! `cache/README.md` describes the format. [`record`] writes it while a layer is unpacked, [`rebuild`] makes the tar.

mod aliases;
mod moves;
mod output;
mod rebuild;
mod record;
mod records;

pub(crate) use rebuild::{NoRecipe, Rebuild};
pub(crate) use record::{Recording, Tap};

use std::path::Path;

/// Where a layer's recipe is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recipe<'a> {
    pub(crate) file: &'a Path,
    /// The directory of what later entries of the layer replaced; not there if nothing was.
    pub(crate) kept: &'a Path,
}

/// What the uncompressed recipe begins with: its name and the version of its format.
const HEADER: &[u8; 15] = b"ddock recipe 2\n";

/// What recipes began with before there were [`ZEROS`]; all else is as it was.
const OLD_HEADER: &[u8; 15] = b"ddock recipe 1\n";

// What a record begins with.
const END: u8 = 0;
const LITERAL: u8 = 1;
const CONTENT: u8 = 2;
const MOVE: u8 = 3;
const ALIAS: u8 = 4;
const ZEROS: u8 = 5;
