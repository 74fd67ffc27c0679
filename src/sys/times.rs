//! `times`: a file's times as one call returns them and another takes them.

use rustix::fs::{Stat, Timespec, Timestamps};

/// Returns the access and modification times in `stat`, to be set on another file.
pub(crate) fn of(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.cast_signed(),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}
