//! Layers written entry by entry, hostile ones included: names and fields go into the archive as they are given.

use tar::{EntryType, Header};

/// A tar stream in the making.
pub(crate) struct Tree {
    archive: tar::Builder<Vec<u8>>,
    uid: u64,
    gid: u64,
    mtime: u64,
    pax: Vec<(String, Vec<u8>)>,
}

/// The time of every entry that does not say otherwise.
pub(crate) const MTIME: u64 = 1_600_000_000;

impl Tree {
    pub(crate) fn new() -> Tree {
        Tree {
            archive: tar::Builder::new(Vec::new()),
            uid: 0,
            gid: 0,
            mtime: MTIME,
            pax: Vec::new(),
        }
    }

    /// Sets the owner of the entries that follow.
    pub(crate) fn owner(mut self, uid: u64, gid: u64) -> Tree {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    /// Sets the time of the entries that follow, in seconds.
    pub(crate) fn mtime(mut self, mtime: u64) -> Tree {
        self.mtime = mtime;
        self
    }

    /// Adds a PAX record (`SCHILY.xattr.user.x`, `mtime`, `path` …) to the next entry only.
    pub(crate) fn pax(mut self, key: &str, value: impl AsRef<[u8]>) -> Tree {
        self.pax.push((key.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Takes the PAX records of the next entry back.
    pub(crate) fn forget_pax(mut self) -> Tree {
        self.pax.clear();
        self
    }

    pub(crate) fn dir(self, path: &str, mode: u32) -> Tree {
        self.entry(EntryType::Directory, path.as_bytes(), mode, b"", &[])
    }

    pub(crate) fn file(self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Tree {
        self.entry(
            EntryType::Regular,
            path.as_bytes(),
            mode,
            b"",
            content.as_ref(),
        )
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Tree {
        self.entry(
            EntryType::Symlink,
            path.as_bytes(),
            0o777,
            target.as_bytes(),
            &[],
        )
    }

    pub(crate) fn hardlink(self, path: &str, target: &str) -> Tree {
        self.entry(
            EntryType::Link,
            path.as_bytes(),
            0o644,
            target.as_bytes(),
            &[],
        )
    }

    /// A character device.
    pub(crate) fn device(mut self, path: &str, major: u32, minor: u32) -> Tree {
        let mut header = self.header(EntryType::Char, 0o666);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.append(header, path.as_bytes(), b"", &[]);
        self
    }

    pub(crate) fn fifo(self, path: &str) -> Tree {
        self.entry(EntryType::Fifo, path.as_bytes(), 0o644, b"", &[])
    }

    /// Any entry, its name and link target as raw bytes; names over 100 bytes go into a PAX record.
    pub(crate) fn entry(
        mut self,
        kind: EntryType,
        path: &[u8],
        mode: u32,
        link: &[u8],
        data: &[u8],
    ) -> Tree {
        let header = self.header(kind, mode);
        self.append(header, path, link, data);
        self
    }

    /// Returns the archive, with its two closing blocks.
    pub(crate) fn tar(self) -> Vec<u8> {
        self.archive.into_inner().unwrap()
    }

    fn header(&self, kind: EntryType, mode: u32) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(self.uid);
        header.set_gid(self.gid);
        header.set_mtime(self.mtime);
        header
    }

    fn append(&mut self, mut header: Header, path: &[u8], link: &[u8], data: &[u8]) {
        for (key, value) in [("path", path), ("linkpath", link)] {
            if value.len() > 100 {
                self.pax.push((key.to_owned(), value.to_vec()));
            }
        }
        let records = std::mem::take(&mut self.pax);
        let records = records.iter().map(|(k, v)| (k.as_str(), v.as_slice()));
        self.archive.append_pax_extensions(records).unwrap();
        let fields = header.as_gnu_mut().expect("a GNU header");
        let (path, link) = (&path[..path.len().min(100)], &link[..link.len().min(100)]);
        fields.name[..path.len()].copy_from_slice(path);
        fields.linkname[..link.len()].copy_from_slice(link);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.archive.append(&header, data).unwrap();
    }
}
