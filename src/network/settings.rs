//! The kernel's settings of the network.

use std::io::Write as _;

/// Sets what is there: a file that is not cannot be made, and trying to would say so instead.
pub(super) fn write(path: &str, value: &str) -> std::io::Result<()> {
    let mut file = fs_err::OpenOptions::new().write(true).open(path)?;
    file.write_all(value.as_bytes())
}
