//! Write-back: dirty pages of one file on their way to disk.
#![allow(unsafe_code, reason = "neither rustix nor nix know sync_file_range")]

use std::os::fd::{AsFd, AsRawFd as _};

/// Begins to write a file's dirty pages to disk, or waits until they are there (`sync_file_range(2)`).
///
/// That alone makes nothing durable: it gets the work under way of which fsync(2) waits for the end. A file system that
/// cannot do it leaves all to fsync(2).
pub(crate) fn write_pages(file: &impl AsFd, wait: bool) {
    let flags = if wait {
        libc::SYNC_FILE_RANGE_WAIT_BEFORE
            | libc::SYNC_FILE_RANGE_WRITE
            | libc::SYNC_FILE_RANGE_WAIT_AFTER
    } else {
        libc::SYNC_FILE_RANGE_WRITE
    };
    // SAFETY: no memory is passed, and the descriptor is open as long as it is borrowed. A length of 0 is all of the file.
    // Its errors are fsync's to tell, which comes afterwards.
    let _ = unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), 0, 0, flags) };
}
