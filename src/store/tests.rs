//! Tests of the store as a whole, on the real file system.

use super::*;
use crate::digest::Digest;
use crate::reference::Reference;
use crate::store::stage::parent;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// A store in a directory of its own, gone with it.
pub(super) fn scratch() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store"), "root").unwrap();
    (directory, store)
}

pub(super) fn meta(content: &str) -> LayerMeta {
    LayerMeta {
        digest: Digest::of(format!("compressed {content}").as_bytes()),
        tar_size: 1024,
        size: 1,
        entries: 1,
        implied: Vec::new(),
        bare: Vec::new(),
        with_whiteouts: Vec::new(),
        links: Vec::new(),
        opaque_root: false,
        skipped: Vec::new(),
    }
}

/// What a pull of an image with these layers would bring; a record names what is in it.
pub(super) fn publication(tag: &str, layers: &[&str]) -> Publication {
    let diff_ids: Vec<Digest> = layers.iter().map(|l| Digest::of(l.as_bytes())).collect();
    let config = format!("config of {layers:?}").into_bytes();
    let image = Digest::of(&config);
    Publication {
        chains: Vec::new(),
        diff_ids,
        blobs: vec![(image.clone(), config)],
        image,
        tag: Some(tag.parse().unwrap()),
    }
}

/// Publishes the layers that are not there.
pub(super) fn publish_layers(store: &Store, stage: &Stage, layers: &[&str]) -> Result<()> {
    for content in layers {
        let diff_id = Digest::of(content.as_bytes());
        if store.layer(&diff_id)?.is_none() {
            let fs = stage.layer_directory(content)?;
            fs::write(fs.join("file"), content)?;
            let (name, meta) = ((*content).to_owned(), meta(content));
            let layer = StagedLayer {
                name,
                diff_id,
                meta,
            };
            store.publish_layer(stage, &layer)?;
        }
    }
    Ok(())
}

/// Publishes what goes with the layers.
pub(super) fn publish(store: &Store, stage: Stage, publication: &Publication) -> Result<()> {
    let record = serde_json::to_vec(&publication.diff_ids)?;
    store.publish(stage, publication, &|_| Ok(record.clone()))
}

/// Pulls an image that has these layers, as `pull` does.
pub(super) fn pull(store: &Store, tag: &str, layers: &[&str]) -> Result<Digest> {
    let diff_ids: Vec<Digest> = layers.iter().map(|l| Digest::of(l.as_bytes())).collect();
    // As a pull does: also what only the blobs are.
    let mut needed = diff_ids;
    needed.push(Digest::of(format!("config of {layers:?}").as_bytes()));
    let _lease = store.lease(&needed)?;
    let stage = store.stage()?;
    publish_layers(store, &stage, layers)?;
    let publication = publication(tag, layers);
    publish(store, stage, &publication)?;
    Ok(publication.image)
}

/// Removes an image with all its tags.
pub(super) fn remove(store: &Store, image: &Digest) -> Result<Vec<Digest>> {
    let exclusive = store.exclusive()?;
    for (tag, id) in store.tags()? {
        if id == *image {
            store.remove_tag(&exclusive, &tag)?;
        }
    }
    store.remove_image_record(&exclusive, image)?;
    drop(exclusive);
    store.sweep()
}

/// Returns the names in a directory of the store.
pub(crate) fn names(store: &Store, directory: &str) -> Vec<String> {
    let path = store.layout.version().join(directory);
    let mut names: Vec<String> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Returns what the store was opened as.
fn root(store: &Store) -> PathBuf {
    parent(store.directory()).to_owned()
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

#[test]
fn a_store_is_created_closed_to_others_and_opened_again() {
    let (directory, store) = scratch();
    for path in [&root(&store), store.layout.version()] {
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700, "{}", path.display());
    }
    let facts = store.facts().unwrap();
    assert_eq!(facts.attributes, probe::Attributes::Trusted);
    assert_ne!(facts.file_system, "unknown");
    assert_eq!(names(&store, "tmp"), [""; 0]);
    assert_eq!(fs::read_dir(root(&store)).unwrap().count(), 1);
    Store::open(&directory.path().join("store"), "root").unwrap();
    assert!(Store::exists(&root(&store)).unwrap());
}

#[test]
fn a_store_of_another_mapping_version_or_mode_is_refused() {
    let (_directory, store) = scratch();
    let error = |root: &Path, mapping| Store::open(root, mapping).unwrap_err().to_string();
    assert!(error(&root(&store), "single:1000").contains("made for the ID mapping `root`"));

    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(store.layout.version(), open).unwrap();
    assert!(error(&root(&store), "root").contains("open to other users (mode 0755)"));

    let newer = tempfile::tempdir().unwrap();
    fs::create_dir(newer.path().join("v2")).unwrap();
    let refused = format!("{:#}", Store::open(newer.path(), "root").unwrap_err());
    assert!(refused.contains("made by a newer ddock"), "{refused}");
}

#[test]
fn a_store_for_a_user_namespace_has_user_attributes() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), "single:1000").unwrap();
    assert_eq!(store.facts().unwrap().attributes, probe::Attributes::User);
}

#[test]
fn creators_race_and_all_win() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join(".unfinished-of-a-dead-one")).unwrap();
    std::thread::scope(|scope| {
        let open = || Store::open(directory.path(), "root").map(drop);
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
    });
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn what_is_published_is_there_and_nothing_else() {
    let (_directory, store) = scratch();
    let image = pull(&store, "localhost:5000/a/b:c", &["one", "two"]).unwrap();

    let one = Digest::of(b"one");
    assert_eq!(store.layer(&one).unwrap(), Some(meta("one")));
    let file = store.layer_fs(&one).join("file");
    assert_eq!(fs::read_to_string(file).unwrap(), "one");
    assert_eq!(store.image_ids().unwrap(), vec![image.clone()]);
    assert!(store.image_record(&image).unwrap().is_some());
    assert!(store.blob(&image).unwrap().is_some());
    assert_eq!(store.layer(&image).unwrap(), None);
    let tag = reference("localhost:5000/a/b:c");
    assert_eq!(store.tag(&tag).unwrap(), Some(image.clone()));
    assert_eq!(store.tags().unwrap(), [(tag, image)]);
    assert_eq!(names(&store, "tmp"), [""; 0]);
    assert_eq!(names(&store, "leases"), [""; 0]);
}

#[test]
fn a_moved_tag_leaves_the_old_image_without_one() {
    let (_directory, store) = scratch();
    let old = pull(&store, "x", &["one"]).unwrap();
    let new = pull(&store, "x", &["one", "two"]).unwrap();
    assert_eq!(store.tags().unwrap(), [(reference("x"), new)]);
    assert!(store.image_record(&old).unwrap().is_some());
}

#[test]
fn a_damaged_blob_is_an_error_that_names_it() {
    let (_directory, store) = scratch();
    let image = pull(&store, "x", &["one"]).unwrap();
    fs::write(store.layout.blob(&image), "other").unwrap();
    let error = store.blob(&image).unwrap_err();
    assert!(error.downcast_ref::<Damaged>().is_some());
    assert!(error.to_string().contains(image.hex()), "{error}");
}

#[test]
fn a_damaged_layer_is_not_there_and_the_next_pull_replaces_it() {
    let (_directory, store) = scratch();
    let one = Digest::of(b"one");
    let harm: [fn(&Path); 3] = [
        |layer| fs::remove_dir_all(layer.join("fs")).unwrap(),
        |layer| fs::remove_file(layer.join("meta.json")).unwrap(),
        |layer| fs::write(layer.join("meta.json"), "").unwrap(),
    ];
    for harm in harm {
        pull(&store, "x", &["one"]).unwrap();
        harm(&store.layout.layer(&one));
        assert_eq!(store.layer(&one).unwrap(), None);
        pull(&store, "x", &["one"]).unwrap();
        assert_eq!(store.layer(&one).unwrap(), Some(meta("one")));
        assert!(store.layer_fs(&one).join("file").exists());
    }
}

#[test]
fn publishing_an_image_that_lacks_a_layer_fails_and_shows_nothing() {
    let (_directory, store) = scratch();
    let stage = store.stage().unwrap();
    publish_layers(&store, &stage, &["one"]).unwrap();
    let mut publication = publication("x", &["one"]);
    publication.diff_ids.push(Digest::of(b"missing"));
    let error = publish(&store, stage, &publication).unwrap_err();
    assert!(error.is::<Went>());
    let error = error.to_string();
    assert!(error.contains("went while its image was pulled"), "{error}");
    assert_eq!(store.image_ids().unwrap(), []);
    assert_eq!(store.tags().unwrap(), []);
    assert_eq!(names(&store, "tmp"), [""; 0]);
}

#[test]
fn removal_takes_what_nothing_names_and_no_more() {
    let (_directory, store) = scratch();
    let first = pull(&store, "a/b:1", &["base", "one"]).unwrap();
    let second = pull(&store, "a/b/c:2", &["base", "two"]).unwrap();
    let [base, one, two] = ["base", "one", "two"].map(|layer| Digest::of(layer.as_bytes()));

    assert_eq!(remove(&store, &first).unwrap(), [one]);
    assert!(store.layer(&base).unwrap().is_some());
    assert!(store.blob(&first).unwrap().is_none());
    assert_eq!(store.tags().unwrap().len(), 1);

    let mut gone = remove(&store, &second).unwrap();
    gone.sort();
    let mut both = [base, two];
    both.sort();
    assert_eq!(gone, both);
    for directory in ["layers", "blobs/sha256", "images", "tmp", "leases", "refs"] {
        assert_eq!(names(&store, directory), [""; 0], "{directory}");
    }
}

#[test]
fn containers_and_leases_keep_what_they_name() {
    let (_directory, store) = scratch();
    let image = pull(&store, "x", &["one", "two"]).unwrap();
    let [one, two] = ["one", "two"].map(|layer| Digest::of(layer.as_bytes()));
    let id = "c".repeat(64);
    let shared = store.shared().unwrap();
    store
        .create_container(&shared, &id, std::slice::from_ref(&one))
        .unwrap();
    drop(shared);
    let lease = store.lease(std::slice::from_ref(&two)).unwrap();

    assert_eq!(remove(&store, &image).unwrap(), []);
    drop(lease);
    assert_eq!(store.sweep().unwrap(), [two]);
    store.remove_container(&id).unwrap();
    assert_eq!(store.sweep().unwrap(), [one]);
}

#[test]
fn containers_are_found_by_a_prefix_that_is_unique() {
    let (_directory, store) = scratch();
    let shared = store.shared().unwrap();
    let [first, second] = ["ab1", "ab2"].map(|start| format!("{start}{}", "0".repeat(61)));
    for id in [&first, &second] {
        store.create_container(&shared, id, &[]).unwrap();
    }
    assert_eq!(store.container("ab2").unwrap(), second);
    assert_eq!(store.container(&first).unwrap(), first);
    let error = |text| store.container(text).unwrap_err().to_string();
    assert_eq!(error("ab"), "multiple IDs found with provided prefix: ab");
    assert_eq!(error("b"), "No such container: b");
    assert_eq!(error(""), "No such container: ");
    store.remove_container(&first).unwrap();
    let again = store.remove_container(&first).unwrap_err();
    assert!(again.downcast_ref::<NotFound>().is_some());
    assert_eq!(names(&store, "tmp"), [""; 0]);
}

#[test]
fn what_dead_operations_left_is_swept_and_what_living_ones_have_is_not() {
    let (_directory, store) = scratch();
    let living = store.stage().unwrap();
    living.layer_directory("layer").unwrap();
    let dead = store.layout.temporary().join("dead");
    fs::create_dir_all(dead.join("some/tree")).unwrap();
    fs::write(store.layout.temporary().join("file"), "").unwrap();
    fs::write(store.layout.leases().join("dead"), "").unwrap();

    drop(store.stage().unwrap());
    assert_eq!(names(&store, "tmp").len(), 1);
    store.sweep().unwrap();
    assert_eq!(names(&store, "leases"), [""; 0]);
    drop(living);
    assert_eq!(names(&store, "tmp"), [""; 0]);
}

#[test]
fn a_sweep_of_temporaries_waits_for_nobody() {
    let (_directory, store) = scratch();
    let living = store.stage().unwrap();
    let dead = store.layout.temporary().join("dead");
    fs::create_dir(&dead).unwrap();
    fs::write(store.layout.temporary().join("file"), "").unwrap();
    // Somebody is in, alone or with others.
    let shared = store.shared().unwrap();
    store.sweep_temporaries().unwrap();
    drop(shared);
    let alone = store.exclusive().unwrap();
    store.sweep_temporaries().unwrap();
    drop(alone);
    assert_eq!(names(&store, "tmp").len(), 3);
    store.sweep_temporaries().unwrap();
    assert_eq!(names(&store, "tmp").len(), 1);
    drop(living);
}

#[test]
fn pulls_and_removals_side_by_side_never_show_an_image_without_its_layers() {
    let (_directory, store) = scratch();
    let rounds = 60;
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let store = &store;
            scope.spawn(move || {
                for _ in 0..rounds {
                    pull(store, &format!("x:{thread}"), &["base", "shared"]).unwrap();
                }
            });
        }
        let image = Digest::of(format!("config of {:?}", ["base", "shared"]).as_bytes());
        for _ in 0..rounds {
            remove(&store, &image).unwrap();
            let _shared = store.shared().unwrap();
            assert_consistent(&store);
        }
    });
    assert_consistent(&store);
}

/// Checks that every tag has its image and every image its layers and config.
pub(super) fn assert_consistent(store: &Store) {
    // Before the images: a pull that publishes meanwhile sets its tag last.
    let tags = store.tags().unwrap();
    let images = store.image_ids().unwrap();
    for id in &images {
        let record = store.image_record(id).unwrap().unwrap();
        let layers: Vec<Digest> = serde_json::from_slice(&record).unwrap();
        for layer in layers {
            assert!(store.layer(&layer).unwrap().is_some(), "no layer {layer}");
        }
        assert!(store.blob(id).unwrap().is_some(), "no config {id}");
    }
    for (tag, id) in tags {
        assert!(images.contains(&id), "{tag} has no image");
    }
}
