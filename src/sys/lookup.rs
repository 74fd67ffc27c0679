//! `lookup`: other people's programs, found by name where `PATH` says, and nowhere that depends on where the caller stands.

use rustix::fs::{Access, access};
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Returns the program `name`, which the caller may execute, from the first directory of `PATH` that has it.
///
/// Entries that are not absolute (`.`, and an empty one, which means the same) are passed over: who can write to the working
/// directory, an archive that was unpacked there for one, would otherwise choose what runs with the caller's rights.
pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    in_directories(name, &env::var_os("PATH").unwrap_or_default())
}

/// Returns the program `name` from where distributions put programs, whatever `PATH` is.
pub(crate) fn of_system(name: &str) -> Option<PathBuf> {
    let directories = "/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin";
    in_directories(name, OsStr::new(directories))
}

/// As [`in_path`], in the directories of `path`, a variable like `PATH`.
fn in_directories(name: &str, path: &OsStr) -> Option<PathBuf> {
    if name.is_empty() || name.contains('/') {
        return None;
    }
    env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(|program| is_program(program))
}

fn is_program(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn only_absolute_directories_are_looked_at() {
        let temp = tempfile::tempdir().unwrap();
        let put = |name: &str, mode| {
            let path = temp.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(&path, "").unwrap();
            fs_err::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let (plain, program) = (put("a/tool", 0o644), put("b/tool", 0o755));
        fs_err::create_dir_all(temp.path().join("c/tool")).unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| temp.path().join(name));
        let find = |path: &str| in_directories("tool", OsStr::new(path));
        let (a, b, c) = (a.display(), b.display(), c.display());
        for path in [
            format!("{b}"),
            format!(".:{b}"),
            format!(":{b}:"),
            format!("{c}:{b}"),
        ] {
            assert_eq!(find(&path), Some(program.clone()), "{path}");
        }
        // Root may execute what anybody may, and nothing else.
        assert_eq!(find(&format!("{a}:{b}")), Some(program.clone()));
        let up = "../".repeat(40);
        for path in [
            String::new(),
            ".".to_owned(),
            "::".to_owned(),
            format!("{up}{b}"),
            format!(".{b}"),
            format!("{a}"),
        ] {
            assert_eq!(find(&path), None, "{path}");
        }
        let named = plain.display().to_string();
        for name in ["", "b/tool", "../b/tool", &named] {
            let path = temp.path().as_os_str();
            assert_eq!(in_directories(name, path), None, "{name}");
        }
    }
}
