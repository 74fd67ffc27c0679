//! Stacks of layers made at random, the same for the same seed.

use std::collections::BTreeSet;

use tar::EntryType;

use crate::harness::tree::Tree;

/// A generator of numbers (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// What is known of the layers made so far, so that most stacks are ones that an unpacker accepts.
struct Stack<'a> {
    random: &'a mut Random,
    /// Files that are probably there.
    files: Vec<String>,
    /// The symbolic link that paths of this layer lead through: two could lead to one directory.
    link: &'static str,
}

/// A layer in the making.
struct Layer {
    tree: Tree,
    /// Directories that its entries need, listed or not.
    used: BTreeSet<String>,
    /// Names of its entries.
    own: BTreeSet<String>,
    listed: BTreeSet<String>,
}

/// Returns the layers of an image, base first.
pub(crate) fn stack(random: &mut Random) -> Vec<Vec<u8>> {
    let layers = 1 + random.below(5);
    let mut stack = Stack {
        random,
        files: Vec::new(),
        link: "l1",
    };
    let mut made: Vec<Vec<u8>> = Vec::new();
    for number in 0..layers {
        if number > 1 && stack.random.one_in(12) {
            // The same layer once more.
            let again = usize::try_from(stack.random.below(number)).unwrap();
            made.push(made[again].clone());
            continue;
        }
        let through_links = number > 0 && stack.random.one_in(3);
        made.push(stack.layer(through_links));
    }
    made
}

impl Stack<'_> {
    /// With `through_links`, paths lead through symbolic links of lower layers, and nothing else happens where they lead:
    /// there the order of entries counts for umoci, and for nobody else.
    fn layer(&mut self, through_links: bool) -> Vec<u8> {
        self.link = self.random.pick(&["l1", "l2"]);
        let mut layer = Layer {
            tree: Tree::new(),
            used: BTreeSet::new(),
            own: BTreeSet::new(),
            listed: BTreeSet::new(),
        };
        for _ in 0..2 + self.random.below(14) {
            layer = self.metadata(layer);
            layer = self.entry(layer, through_links);
        }
        layer.tree.tar()
    }

    fn metadata(&mut self, mut layer: Layer) -> Layer {
        let uid = self.random.pick(&[0, 0, 1, 1000, 65534]);
        let gid = self.random.pick(&[0, 0, 5, 1000]);
        let mtime = 1_000_000_000 + self.random.below(600_000_000);
        layer.tree = layer.tree.owner(uid, gid).mtime(mtime);
        if self.random.one_in(2) {
            let time = format!("{mtime}.{:09}", self.random.below(1_000_000_000));
            layer.tree = layer.tree.pax("mtime", time);
        }
        layer
    }

    fn path(&mut self, through_links: bool, names: &[&str]) -> String {
        let mut path = String::new();
        if through_links && !self.random.one_in(4) {
            path = format!("{}/{}", self.link, self.random.pick(&["", "", "d1/"]));
        } else if !through_links {
            for _ in 0..self.random.below(3) {
                path += self.random.pick(&["d1/", "d2/", "d3/"]);
            }
        }
        path + self.random.pick(names)
    }

    fn entry(&mut self, layer: Layer, through_links: bool) -> Layer {
        let files = ["f1", "f2", "f3", "f4"];
        match self.random.below(100) {
            0..35 => {
                let path = self.path(through_links, &files);
                self.file(layer, path)
            }
            35..55 => {
                let names = ["d1", "d2", "d3"];
                let path = self.path(through_links, &names);
                if through_links && !path.starts_with('l') {
                    return layer;
                }
                self.directory(layer, path)
            }
            55..63 if !through_links => self.symlink(layer),
            63..75 => self.hard_link(layer, through_links),
            75..88 => self.whiteout(layer, through_links),
            88..92 => self.opaque(layer, through_links),
            92..95 => {
                let path = self.path(through_links, &files);
                self.files.retain(|file| *file != path);
                let tree = layer.tree;
                let tree = if self.random.one_in(2) {
                    tree.device(&path, 7, 9)
                } else {
                    tree.fifo(&path)
                };
                Layer { tree, ..layer }.with(&path)
            }
            95..98 if !through_links => {
                // A file where others have directories, and the reverse.
                let path = self.path(false, &["d2", "d3"]);
                self.forget(&path);
                self.file(layer, path)
            }
            98.. if !through_links => {
                let path = self.path(false, &files);
                self.directory(layer, path)
            }
            _ => layer,
        }
    }

    fn file(&mut self, mut layer: Layer, path: String) -> Layer {
        let mode = self.random.pick(&[0o644, 0o600, 0o755, 0o4755, 0o2711, 0]);
        let length = usize::try_from(self.random.below(900)).unwrap();
        let content = vec![b'a' + u8::try_from(self.random.below(26)).unwrap(); length];
        let path = if self.random.one_in(10) {
            // A name that no header holds, once as PAX has it and once as GNU.
            let long = format!("{path}{}", "x".repeat(110));
            if self.random.one_in(2) {
                let name = [long.as_bytes(), b"\0"].concat();
                let kind = EntryType::GNULongName;
                // Records in between would be the long name's own.
                layer.tree = layer.tree.forget_pax();
                layer.tree = layer.tree.entry(kind, b"././@LongLink", 0, b"", &name);
                let kind = EntryType::Regular;
                layer.tree = layer
                    .tree
                    .entry(kind, &long.as_bytes()[..100], mode, b"", &content);
                self.files.push(long.clone());
                return layer.with(&long);
            }
            long
        } else {
            path
        };
        if self.random.one_in(4) {
            layer.tree = layer.tree.pax("SCHILY.xattr.user.note", "a=\n b");
        }
        self.files.push(path.clone());
        let tree = layer.tree.file(&path, mode, content);
        Layer { tree, ..layer }.with(&path)
    }

    fn directory(&mut self, mut layer: Layer, path: String) -> Layer {
        let mode = self.random.pick(&[0o755, 0o700, 0o1777, 0o2755, 0o500]);
        self.files.retain(|file| *file != path);
        if self.random.one_in(4) {
            layer.tree = layer.tree.pax("SCHILY.xattr.user.dir", "x");
        }
        let tree = layer.tree.dir(&format!("{path}/"), mode);
        let mut layer = Layer { tree, ..layer }.with(&path);
        layer.listed.insert(path);
        layer
    }

    fn symlink(&mut self, layer: Layer) -> Layer {
        let path = self.random.pick(&["l1", "l2", "d1/l1", "d2/l2"]);
        if layer.used.contains(path) || layer.own.contains(path) {
            return layer;
        }
        let target =
            self.random
                .pick(&["d1", "/d1", "d1/d2", "../d2", "nowhere/d1", "/l2", "./d3"]);
        let target = if path == "l2" && target == "/l2" {
            "d3"
        } else {
            target
        };
        self.forget(path);
        let tree = layer.tree.symlink(path, target);
        Layer { tree, ..layer }.with(path)
    }

    fn hard_link(&mut self, layer: Layer, through_links: bool) -> Layer {
        if self.files.is_empty() {
            return layer;
        }
        let at = usize::try_from(self.random.below(self.files.len() as u64)).unwrap();
        let target = self.files[at].clone();
        let path = self.path(through_links, &["h1", "h2", "f1"]);
        if path == target {
            return layer;
        }
        self.files.push(path.clone());
        let tree = layer.tree.forget_pax().hardlink(&path, &target);
        Layer { tree, ..layer }.with(&path)
    }

    fn whiteout(&mut self, layer: Layer, through_links: bool) -> Layer {
        let names = ["f1", "f2", "h1", "d1", "d2", "d3", "l1"];
        let names = if through_links {
            &names[..3]
        } else {
            &names[..]
        };
        let path = self.path(through_links, names);
        // umoci keeps the lower metadata of directories that are used before, and not of those used after.
        if layer.uses_unlisted(&path, true) {
            return layer;
        }
        if !layer.own.contains(&path) {
            self.forget(&path);
        }
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let separator = if parent.is_empty() { "" } else { "/" };
        let name = format!("{parent}{separator}.wh.{name}");
        let tree = layer.tree.forget_pax().file(&name, 0o644, "");
        Layer { tree, ..layer }
    }

    fn opaque(&mut self, layer: Layer, through_links: bool) -> Layer {
        let path = if through_links {
            self.link.to_owned()
        } else {
            self.path(false, &["d1", "d2", ""])
        };
        let path = path.trim_end_matches('/').to_owned();
        // A root that is opaque hides what hard links before it name.
        if layer.uses_unlisted(&path, false) || path.is_empty() && !layer.own.is_empty() {
            return layer;
        }
        let below = if path.is_empty() {
            String::new()
        } else {
            format!("{path}/")
        };
        let own = &layer.own;
        self.files
            .retain(|file| !file.starts_with(&below) || own.contains(file));
        let tree = layer
            .tree
            .forget_pax()
            .file(&format!("{below}.wh..wh..opq"), 0o644, "");
        Layer { tree, ..layer }
    }

    fn forget(&mut self, path: &str) {
        let below = format!("{path}/");
        self.files
            .retain(|file| file != path && !file.starts_with(&below));
    }
}

impl Layer {
    /// Tells whether an entry needed a directory below `path`, or that one itself, which the layer does not list.
    fn uses_unlisted(&self, path: &str, itself: bool) -> bool {
        let below = if path.is_empty() {
            String::new()
        } else {
            format!("{path}/")
        };
        let mut used = self.used.iter().filter(|used| !self.listed.contains(*used));
        used.any(|used| used.starts_with(&below) || itself && used == path)
    }

    /// Notes the entry at `path` and what it needs.
    fn with(mut self, path: &str) -> Layer {
        let parents = path.match_indices('/').map(|(at, _)| path[..at].to_owned());
        self.used.extend(parents);
        self.own.insert(path.to_owned());
        self
    }
}
