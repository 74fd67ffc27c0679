//! Tests of the store on file systems that are full, closed, or not fit to hold one.
//!
//! They are mounted detached, fsmount(2): no mount table has them, and they go with the test.

use crate::store::Store;
use crate::store::tests::{assert_consistent, names, publish_layers, pull, remove};
use fs_err as fs;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

/// Mounts a file system and returns it with a path to its root.
fn mounted(kind: &str, options: &[(&str, &str)], flags: MountAttrFlags) -> (OwnedFd, PathBuf) {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    for (key, value) in options {
        fsconfig_set_string(&context, *key, *value).unwrap();
    }
    fsconfig_create(&context).unwrap();
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags).unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
    (mount, path)
}

fn refusal(root: &Path) -> String {
    format!("{:#}", Store::open(root, "root").unwrap_err())
}

#[test]
fn a_file_system_that_cannot_hold_a_store_is_refused_with_the_reason() {
    // As in a container whose root is an overlay: docker in docker.
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| directory.path().join(name));
    for path in [&lower, &upper, &work] {
        fs::create_dir(path).unwrap();
    }
    let options = [
        ("lowerdir", lower.to_str().unwrap()),
        ("upperdir", upper.to_str().unwrap()),
        ("workdir", work.to_str().unwrap()),
    ];
    let (_mount, overlay) = mounted("overlay", &options, MountAttrFlags::empty());
    let refused = refusal(&overlay);
    assert!(refused.contains("it holds no whiteouts"), "{refused}");
    assert_eq!(
        fs::read_dir(&overlay).unwrap().count(),
        0,
        "something is left"
    );

    let (_mount, plain) = mounted("ramfs", &[], MountAttrFlags::empty());
    let refused = refusal(&plain);
    assert!(
        refused.contains("it keeps no extended attribute `trusted.overlay.opaque`"),
        "{refused}"
    );
    assert_eq!(
        fs::read_dir(&plain).unwrap().count(),
        0,
        "something is left"
    );

    let (_mount, closed) = mounted("tmpfs", &[], MountAttrFlags::MOUNT_ATTR_RDONLY);
    let refused = refusal(&closed);
    assert!(refused.contains("Read-only file system"), "{refused}");
    assert!(refusal(Path::new("/proc/ddock")).contains("creating directory `/proc/ddock`"));
}

#[test]
fn a_full_file_system_fails_a_pull_that_leaves_nothing() {
    let (_mount, root) = mounted("tmpfs", &[("size", "1m")], MountAttrFlags::empty());
    let store = Store::open(&root, "root").unwrap();
    let old = pull(&store, "x", &["one"]).unwrap();

    let stage = store.stage().unwrap();
    let file = stage.layer_directory("big").unwrap().join("big");
    fs::write(&file, vec![1; 2 << 20]).unwrap_err();
    let error = publish_layers(&store, &stage, &["one", "two"]).unwrap_err();
    let error = format!("{error:#}");
    drop(stage);
    assert!(error.contains("No space left on device"), "{error}");
    assert!(error.contains("/v1/tmp/"), "names no path: {error}");

    assert_consistent(&store);
    assert_eq!(names(&store, "tmp"), [""; 0]);
    assert_eq!(store.tag(&"x".parse().unwrap()).unwrap(), Some(old.clone()));
    let new = pull(&store, "x", &["one", "two"]).unwrap();
    // Removing needs no room.
    fs::write(root.join("full"), vec![1; 2 << 20]).unwrap_err();
    for image in [old, new] {
        remove(&store, &image).unwrap();
    }
    assert_eq!(names(&store, "layers"), [""; 0]);
}

#[test]
fn a_layer_that_cannot_be_removed_stops_nobody_else() {
    let (_directory, store) = crate::store::tests::scratch();
    let closed = store.layout.temporary().join("closed");
    fs::create_dir_all(closed.join("below")).unwrap();
    fs::write(closed.join("below/file"), "").unwrap();
    let handle = fs::File::open(closed.join("below")).unwrap();
    let flags = rustix::fs::ioctl_getflags(&handle).unwrap();
    let immutable = flags | rustix::fs::IFlags::IMMUTABLE;
    rustix::fs::ioctl_setflags(&handle, immutable).unwrap();

    let image = pull(&store, "x", &["one"]).unwrap();
    let pulled = store.image_record(&image).unwrap();
    let swept = store.sweep();
    rustix::fs::ioctl_setflags(&handle, flags).unwrap();
    assert!(pulled.is_some());
    assert!(swept.unwrap_err().to_string().contains("closed"));
    store.sweep().unwrap();
    assert_eq!(names(&store, "tmp"), [""; 0]);
}
