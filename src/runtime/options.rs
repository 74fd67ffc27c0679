//! Mount options: the words of the OCI spec as the kernel's flags and data.

use rustix::mount::{MountFlags, MountPropagationFlags as Propagation};
use std::path::PathBuf;

/// What a list of mount options means (config.md, "Linux mount options"; mount(8)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) flags: MountFlags,
    /// What the source of a bind may have and the mount must not.
    pub(crate) cleared: MountFlags,
    /// Binds only: all mounts below are read-only too.
    pub(crate) recursive_read_only: bool,
    /// What of the source is seen: a path that must not lead out of it. Not a word of the OCI's.
    pub(crate) subpath: Option<PathBuf>,
    /// Binds only: take the mounts below the source along.
    pub(crate) bind: Option<Bind>,
    pub(crate) propagation: Option<Propagation>,
    /// Binds only: show owners as the mount's mappings say, of this mount or of those below too.
    pub(crate) idmap: Option<Bind>,
    /// What the file system itself interprets, comma-separated.
    pub(crate) data: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bind {
    One,
    Recursive,
}

impl Options {
    /// Interprets `words`; what is no word of ours goes to the file system.
    pub(crate) fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut options = Self {
            flags: MountFlags::empty(),
            cleared: MountFlags::empty(),
            recursive_read_only: false,
            subpath: None,
            bind: None,
            propagation: None,
            idmap: None,
            data: String::new(),
        };
        for word in words {
            options.add(word);
        }
        options
    }

    fn add(&mut self, word: &str) {
        let set = |flag| (flag, MountFlags::empty());
        let clear = |flag| (MountFlags::empty(), flag);
        let (on, off) = match word {
            "ro" => set(MountFlags::RDONLY),
            "rro" => {
                self.recursive_read_only = true;
                set(MountFlags::RDONLY)
            }
            "rw" => clear(MountFlags::RDONLY),
            "nosuid" => set(MountFlags::NOSUID),
            "suid" => clear(MountFlags::NOSUID),
            "nodev" => set(MountFlags::NODEV),
            "dev" => clear(MountFlags::NODEV),
            "noexec" => set(MountFlags::NOEXEC),
            "exec" => clear(MountFlags::NOEXEC),
            "noatime" => set(MountFlags::NOATIME),
            "atime" => clear(MountFlags::NOATIME),
            "nodiratime" => set(MountFlags::NODIRATIME),
            "diratime" => clear(MountFlags::NODIRATIME),
            "relatime" => set(MountFlags::RELATIME),
            "norelatime" => clear(MountFlags::RELATIME),
            "strictatime" => set(MountFlags::STRICTATIME),
            "sync" => set(MountFlags::SYNCHRONOUS),
            "async" => clear(MountFlags::SYNCHRONOUS),
            "dirsync" => set(MountFlags::DIRSYNC),
            "defaults" => set(MountFlags::empty()),
            _ => return self.add_other(word),
        };
        self.flags = (self.flags - off) | on;
        // A source that is read-only stays so: `rw` is what everybody writes.
        self.cleared = (self.cleared - on) | (off - MountFlags::RDONLY);
    }

    fn add_other(&mut self, word: &str) {
        match word {
            "bind" => self.bind = Some(Bind::One),
            "rbind" => self.bind = Some(Bind::Recursive),
            "idmap" => self.idmap = Some(Bind::One),
            "ridmap" => self.idmap = Some(Bind::Recursive),
            "private" => self.propagation = Some(Propagation::PRIVATE),
            "rprivate" => self.propagation = Some(Propagation::PRIVATE | Propagation::REC),
            "slave" => self.propagation = Some(Propagation::DOWNSTREAM),
            "rslave" => self.propagation = Some(Propagation::DOWNSTREAM | Propagation::REC),
            "shared" => self.propagation = Some(Propagation::SHARED),
            "rshared" => self.propagation = Some(Propagation::SHARED | Propagation::REC),
            _ => {
                if let Some(path) = word.strip_prefix("subpath=") {
                    self.subpath = Some(path.into());
                    return;
                }
                if !self.data.is_empty() {
                    self.data.push(',');
                }
                self.data.push_str(word);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_flags_and_the_rest_is_data() {
        let options = Options::parse(["nosuid", "ro", "rw", "mode=755", "size=64k", "strictatime"]);
        assert_eq!(options.flags, MountFlags::NOSUID | MountFlags::STRICTATIME);
        assert_eq!(options.data, "mode=755,size=64k");
        assert_eq!((options.bind, options.propagation), (None, None));
    }

    #[test]
    fn binds_and_propagation_are_no_data() {
        let options = Options::parse(["rbind", "rro", "rprivate"]);
        assert_eq!(options.bind, Some(Bind::Recursive));
        assert_eq!(
            options.propagation,
            Some(Propagation::PRIVATE | Propagation::REC)
        );
        assert!(options.flags == MountFlags::RDONLY && options.data.is_empty());
        assert!(options.recursive_read_only);
        assert!(!Options::parse(["rbind", "ro"]).recursive_read_only);
    }

    #[test]
    fn what_is_allowed_is_cleared_but_for_writing() {
        let options = Options::parse(["noexec", "exec", "suid", "nosuid", "dev", "rw"]);
        assert_eq!(options.flags, MountFlags::NOSUID);
        assert_eq!(options.cleared, MountFlags::NOEXEC | MountFlags::NODEV);
    }
}
