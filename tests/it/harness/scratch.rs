//! Directories that a test may fill with a store, and that are gone when it ends.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::network;

/// A directory of one test, on a file system that can hold a store.
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes an empty directory that other users may enter.
    ///
    /// It is on tmpfs where that can hold a store: creating files on a journal-less ext4 is ten times slower for
    /// minutes after a tree was removed there, and every test removes one.
    pub(crate) fn new() -> Scratch {
        network::enter_own();
        let memory = Path::new("/dev/shm");
        let base = if holds_user_attributes(memory) {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let path = tempfile::Builder::new()
            .prefix("ddock-it-")
            .tempdir_in(base)
            .unwrap()
            .keep();
        chmod(&path, 0o755);
        Scratch { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of `name` in here; nothing is made.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes the directory `name`.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        fs_err::create_dir_all(&path).unwrap();
        path
    }

    /// Writes the file `name`.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(name);
        fs_err::write(&path, content).unwrap();
        path
    }

    /// Mounts a tmpfs of `size` (as mount(8) writes it) on the new directory `name`; it goes with the scratch.
    pub(crate) fn tmpfs(&self, name: &str, size: &str) -> PathBuf {
        let path = self.dir(name);
        let options = format!("size={size},mode=755");
        command_succeeds(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", &options, "ddock-it"])
                .arg(&path),
        );
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mounts = fs_err::read_to_string("/proc/self/mounts").unwrap_or_default();
        let prefix = format!("{}/", self.path.display());
        let ours = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let ours = ours.filter(|target| target.starts_with(&prefix));
        // The last one mounted first, as mounts may lie on each other.
        for target in ours.collect::<Vec<_>>().into_iter().rev() {
            drop(Command::new("umount").args(["-l", target]).status());
        }
        // rm, not remove_dir_all: some images are made to be hard to remove.
        drop(
            Command::new("rm")
                .args(["-rf", "--one-file-system"])
                .arg(&self.path)
                .status(),
        );
    }
}

/// Attributes named `user.*` on tmpfs need Linux 6.6.
fn holds_user_attributes(dir: &Path) -> bool {
    let Ok(probe) = tempfile::Builder::new().tempdir_in(dir) else {
        return false;
    };
    rustix::fs::setxattr(
        probe.path(),
        "user.ddock",
        b"1",
        rustix::fs::XattrFlags::empty(),
    )
    .is_ok()
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Runs a command of the test's own and fails the test with its output if it fails; returns its stdout, what is not UTF-8 replaced.
pub(crate) fn command_succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
