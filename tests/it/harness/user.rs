//! Ordinary users: made when missing, one with subordinate IDs and one without.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::scratch::{chmod, command_succeeds};

pub(crate) struct User {
    name: String,
    /// Made for one test.
    temporary: bool,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: PathBuf,
}

impl User {
    /// Returns a user whose 65,536 subordinate IDs `newuidmap` will map.
    pub(crate) fn with_ranges() -> User {
        User::named("ddock-ranges", "65536")
    }

    /// Returns a user who has only the own ID.
    pub(crate) fn without_ranges() -> User {
        User::named("ddock-single", "0")
    }

    /// Returns a user of this test's own, who has only the own ID until more are granted.
    pub(crate) fn temporary() -> User {
        let name = format!("ddock-{}", std::process::id());
        let mut user = User::named(&name, "0");
        user.temporary = true;
        user
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn named(name: &str, ranges: &str) -> User {
        // Tests are processes of their own: the lock keeps two of them from making one user.
        let script = format!(
            "id -u {name} >/dev/null 2>&1 || useradd --create-home --shell /bin/sh \
             -K SUB_UID_COUNT={ranges} -K SUB_GID_COUNT={ranges} {name}"
        );
        edit_users(&script);
        let entry = command_succeeds(Command::new("getent").args(["passwd", name]));
        let fields: Vec<&str> = entry.trim_end().split(':').collect();
        User {
            name: name.to_owned(),
            temporary: false,
            uid: fields[2].parse().unwrap(),
            gid: fields[3].parse().unwrap(),
            home: fields[5].into(),
        }
    }

    /// Returns a command that runs as this user, without root's capabilities or groups.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--reuid={}", self.uid))
            .arg(format!("--regid={}", self.gid))
            .args([
                "--init-groups",
                "--inh-caps=-all",
                "--ambient-caps=-all",
                "--",
            ])
            .arg(program)
            .current_dir("/");
        command
    }

    /// Hands a file or directory to this user.
    pub(crate) fn give(&self, path: &Path) {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid)).unwrap();
    }

    /// Returns a copy of a program in a place that this user may reach, which a clone below /root is not.
    pub(crate) fn copy_of(&self, program: &Path) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("{}-bin", self.name));
        fs_err::create_dir_all(&dir).unwrap();
        chmod(&dir, 0o755);
        let copy = dir.join(format!("ddock-{}", std::process::id()));
        if !copy.exists() {
            fs_err::copy(program, &copy).unwrap();
        }
        copy
    }
}

/// Runs a script that changes who there is, which nobody else does meanwhile.
pub(crate) fn edit_users(script: &str) {
    command_succeeds(Command::new("flock").args(["/run/lock", "sh", "-c", script]));
}

impl Drop for User {
    fn drop(&mut self) {
        let dir = std::env::temp_dir().join(format!("{}-bin", self.name));
        // Only there when a command was run; the next test makes its own.
        drop(fs_err::remove_file(
            dir.join(format!("ddock-{}", std::process::id())),
        ));
        if self.temporary {
            edit_users(&format!("userdel --force --remove {}", self.name));
            drop(fs_err::remove_dir(dir));
        }
    }
}
