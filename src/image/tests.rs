//! Tests of images in a real store: found, listed, put together and removed.

use super::*;
use crate::image::remove::Removed;
use crate::platform::Platform;
use crate::store::{LayerMeta, NotFound, StagedLayer};
use chrono::DateTime;
use fs_err as fs;

fn scratch() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), "root").unwrap();
    (directory, store)
}

/// Puts an image into the store as a pull does: an index, a manifest, a config and layers. `second` is its age.
fn pull(store: &Store, reference: &str, layers: &[&str], second: i64) -> Digest {
    let diff_ids: Vec<Digest> = layers.iter().map(|l| Digest::of(l.as_bytes())).collect();
    let created = DateTime::from_timestamp(second, 0).unwrap();
    let config = serde_json::json!({
        "os": "linux", "architecture": "amd64", "created": created,
        "config": {"Cmd": ["sh"]}, "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = config.to_string().into_bytes();
    let image = Digest::of(&config);
    let manifest = format!("{{\"config\": \"{image}\"}}").into_bytes();
    let index = format!("{{\"manifests\": \"{}\"}}", Digest::of(&manifest)).into_bytes();
    let layers: Vec<Layer> = diff_ids.iter().map(layer).collect();

    let _lease = store.lease(&diff_ids).unwrap();
    let stage = store.stage().unwrap();
    for Layer { diff_id, .. } in &layers {
        if store.layer(diff_id).unwrap().is_none() {
            let name = diff_id.hex().to_owned();
            stage.layer_directory(&name).unwrap();
            let (diff_id, meta) = (diff_id.clone(), meta(diff_id));
            let layer = StagedLayer {
                name,
                diff_id,
                meta,
            };
            store.publish_layer(&stage, &layer).unwrap();
        }
    }
    let tag: Reference = reference.parse().unwrap();
    let fetched = Fetched {
        origin: Some(tag.with_digest(Digest::of(&index)).to_string()),
        tag: Some(tag),
        manifest: Digest::of(&manifest),
        indexes: vec![Digest::of(&index)],
        image: image.clone(),
        config: ImageConfig::parse(&config).unwrap(),
        layers,
        blobs: [index, manifest, config]
            .map(|bytes| (Digest::of(&bytes), bytes))
            .to_vec(),
    };
    publish(store, stage, fetched, &|| Ok(())).unwrap();
    image
}

fn layer(diff_id: &Digest) -> Layer {
    Layer {
        diff_id: diff_id.clone(),
        digest: diff_id.clone(),
        size: 1,
        media_type: "application/vnd.oci.image.layer.v1.tar".to_owned(),
    }
}

fn meta(diff_id: &Digest) -> LayerMeta {
    LayerMeta {
        digest: diff_id.clone(),
        tar_size: 1,
        size: 7,
        entries: 1,
        implied: Vec::new(),
        bare: Vec::new(),
        with_whiteouts: Vec::new(),
        links: Vec::new(),
        opaque_root: false,
        skipped: Vec::new(),
    }
}

/// Removes as `rmi` does.
fn remove(
    store: &Store,
    text: &str,
    force: bool,
    uses: &dyn Fn(&Digest) -> Result<Vec<Use>>,
) -> Result<Vec<Removed>> {
    let removal = super::remove(store, text, force, uses)?;
    Ok(sweep(store, vec![removal])?.concat())
}

fn lines(removed: &[Removed]) -> Vec<String> {
    removed.iter().map(ToString::to_string).collect()
}

fn unused(id: &Digest) -> Result<Vec<Use>> {
    used_by(Vec::new())(id)
}

fn used(running: bool) -> impl Fn(&Digest) -> Result<Vec<Use>> {
    let container = "0123456789abcdef".to_owned();
    used_by(vec![Use { container, running }])
}

fn used_by(uses: Vec<Use>) -> impl Fn(&Digest) -> Result<Vec<Use>> {
    move |_| Ok(uses.clone())
}

#[test]
fn an_image_is_found_by_every_name_it_has() {
    let (_directory, store) = scratch();
    let id = pull(&store, "a/b:c", &["one", "two"], 1);
    let other = pull(&store, "other", &["one"], 2);
    let image = find(&store, "a/b:c").unwrap();
    assert_eq!(image.id, id);
    assert_eq!(image.record.size, 14);
    assert_eq!(image.record.platform, Platform::new("linux", "amd64", None));
    assert_eq!(
        image.config(&store).unwrap().config.cmd,
        Some(vec!["sh".to_owned()])
    );
    assert_eq!(image.lower_directories(&store).unwrap().len(), 2);
    assert!(image.root_directory(&store).unwrap().ends_with("fs"));

    let origin = image.record.repo_digests[0].clone();
    let by_manifest = format!("a/b@{}", image.record.manifest);
    for text in [
        "docker.io/a/b:c",
        &origin,
        &origin.replace('@', ":tag@"),
        &id.to_string(),
        id.hex(),
        &id.hex()[..20],
        &id.to_string()[..20],
    ] {
        assert_eq!(find(&store, text).unwrap().id, id, "{text}");
    }
    assert_eq!(find(&store, "other").unwrap().id, other);
    for (text, shown) in [
        ("nope", "nope:latest"),
        ("a/b", "a/b:latest"),
        ("0000", "0000"),
        (&"0".repeat(64), &"0".repeat(64)),
        (&by_manifest, &by_manifest),
    ] {
        let error = find(&store, text).unwrap_err();
        assert!(error.is::<NotFound>(), "{text}");
        assert_eq!(error.to_string(), format!("No such image: {shown}"));
    }
    let error = find(&store, "Nope").unwrap_err().to_string();
    assert!(error.contains("must be lowercase"), "{error}");
}

#[test]
fn a_name_goes_before_an_id_and_an_ambiguous_prefix_is_an_error() {
    let (_directory, store) = scratch();
    let ids: Vec<Digest> = (0..17)
        .map(|number| pull(&store, &format!("x:{number}"), &["one"], number))
        .collect();
    // Of 17 IDs two begin with the same digit.
    let twice = |digit: &char| ids.iter().filter(|id| id.hex().starts_with(*digit)).count() > 1;
    let digit = "0123456789abcdef".chars().find(twice).unwrap().to_string();
    let error = find(&store, &digit).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("multiple IDs found with provided prefix: {digit}")
    );

    let named = pull(&store, &digit, &["two"], 99);
    assert_eq!(find(&store, &digit).unwrap().id, named);
}

#[test]
fn images_are_listed_newest_first_with_their_tags_and_damage_is_told() {
    let (_directory, store) = scratch();
    let old = pull(&store, "x:1", &["one"], 1);
    let new = pull(&store, "x:2", &["one", "two"], 2);
    pull(&store, "x:latest", &["one", "two"], 2);
    let listing = list(&store).unwrap();
    let shown: Vec<_> = listing
        .images
        .iter()
        .map(|(image, tags)| (&image.id, tags.iter().map(Reference::familiar).collect()))
        .collect();
    let expected = [
        (&new, vec!["x:2".to_owned(), "x:latest".to_owned()]),
        (&old, vec!["x:1".to_owned()]),
    ];
    assert_eq!(shown, expected);

    let images = store.directory().join("images");
    fs::write(images.join(format!("{}.json", old.hex())), "{").unwrap();
    let listing = list(&store).unwrap();
    assert_eq!((listing.images.len(), listing.damaged.len()), (1, 1));
    assert!(find(&store, "x:1").unwrap_err().is::<Damaged>());
    let removed = remove(&store, old.hex(), true, &unused).unwrap();
    assert_eq!(removed, [Removed::Deleted(old)]);
    assert!(find(&store, "x:1").unwrap_err().is::<NotFound>());
}

#[test]
fn a_layer_that_is_not_there_is_an_error_that_names_it_and_the_image() {
    let (_directory, store) = scratch();
    let id = pull(&store, "x", &["one", "two"], 1);
    let two = Digest::of(b"two");
    fs::remove_dir_all(store.layer_fs(&two)).unwrap();
    let error = find(&store, "x")
        .unwrap()
        .lower_directories(&store)
        .unwrap_err();
    assert!(error.is::<Damaged>());
    let text = error.to_string();
    assert!(
        text.contains(two.short()) && text.contains(id.short()),
        "{text}"
    );
}

#[test]
fn the_same_image_from_two_places_has_both_origins() {
    let (_directory, store) = scratch();
    let id = pull(&store, "x", &["one"], 1);
    pull(&store, "localhost:5000/y", &["one"], 1);
    let image = find(&store, "localhost:5000/y").unwrap();
    assert_eq!(image.id, id);
    assert_eq!(image.record.repo_digests.len(), 2);
    let tags: Vec<_> = image
        .tags(&store)
        .unwrap()
        .iter()
        .map(Reference::familiar)
        .collect();
    assert_eq!(tags, ["x:latest", "localhost:5000/y:latest"]);
}

#[test]
fn removal_by_name_takes_the_image_with_its_last_name() {
    let (_directory, store) = scratch();
    let id = pull(&store, "x:1", &["base", "top"], 1);
    pull(&store, "x:2", &["base", "top"], 1);
    let origin = find(&store, "x:1").unwrap().record.repo_digests[0].clone();
    let familiar = origin
        .strip_prefix("docker.io/library/")
        .unwrap()
        .to_owned();
    let removed = remove(&store, "x:1", false, &unused).unwrap();
    assert_eq!(lines(&removed), ["Untagged: x:1"]);

    // Removing what tags stand beside is removing one of several names.
    let removed = remove(&store, &origin, false, &unused).unwrap();
    assert_eq!(lines(&removed), [format!("Untagged: {familiar}")]);
    assert!(find(&store, &origin).is_err());

    pull(&store, "x:2", &["base", "top"], 1);
    let removed = remove(&store, "x:2", false, &unused).unwrap();
    let expected = [
        "Untagged: x:2".to_owned(),
        format!("Untagged: {familiar}"),
        format!("Deleted: {id}"),
        format!("Deleted: {}", Digest::of(b"top")),
        format!("Deleted: {}", Digest::of(b"base")),
    ];
    assert_eq!(lines(&removed), expected);
    for directory in ["images", "layers", "blobs/sha256", "refs", "tmp"] {
        let left = fs::read_dir(store.directory().join(directory)).unwrap();
        assert_eq!(left.count(), 0, "{directory}");
    }
}

#[test]
fn what_another_image_needs_stays() {
    let (_directory, store) = scratch();
    let first = pull(&store, "x:1", &["base", "top"], 1);
    pull(&store, "x:2", &["base"], 2);
    let removed = remove(&store, &first.hex()[..16], false, &unused).unwrap();
    assert_eq!(removed.last(), Some(&Removed::Deleted(Digest::of(b"top"))));
    let left = find(&store, "x:2").unwrap();
    assert_eq!(left.lower_directories(&store).unwrap().len(), 1);
}

#[test]
fn what_uses_an_image_stands_in_the_way_as_in_docker() {
    let (_directory, store) = scratch();
    let id = pull(&store, "x", &["one"], 1);
    let (short, hex) = (id.short(), id.hex());
    let error = |text: &str, force, running| {
        let error = remove(&store, text, force, &used(running)).unwrap_err();
        error.to_string()
    };
    let by_name = format!(
        "conflict: unable to remove repository reference \"x\" (must force) - container 0123456789ab is using its referenced image {short}"
    );
    assert_eq!(error("x", false, true), by_name);
    assert_eq!(error("x", false, false), by_name);
    let running = format!(
        "conflict: unable to delete {short} (cannot be forced) - image is being used by running container 0123456789ab"
    );
    assert_eq!(error(hex, false, true), running);
    assert_eq!(error(hex, true, true), running);
    let stopped = format!(
        "conflict: unable to delete {short} (must be forced) - image is being used by stopped container 0123456789ab"
    );
    assert_eq!(error(hex, false, false), stopped);
    assert_eq!(find(&store, "x").unwrap().id, id);

    pull(&store, "localhost/y", &["one"], 1);
    let several = format!(
        "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
    );
    assert_eq!(error(hex, false, false), several);
    // One of several names may always go.
    assert_eq!(
        remove(&store, "localhost/y", false, &used(true))
            .unwrap()
            .len(),
        2
    );

    // By force the last name goes from under a running container, the image stays.
    let removed = remove(&store, "x", true, &used(true)).unwrap();
    assert!(
        removed
            .iter()
            .all(|line| matches!(line, Removed::Untagged(_)))
    );
    assert!(find(&store, hex).is_ok());
    assert_eq!(remove(&store, hex, true, &used(false)).unwrap().len(), 2);
    assert!(find(&store, hex).is_err());
}

#[test]
fn two_pulls_of_one_image_by_two_names_forget_neither() {
    let (_directory, store) = scratch();
    for round in 0..20 {
        let names = [format!("a/x:{round}"), format!("b/y:{round}")];
        std::thread::scope(|scope| {
            for name in &names {
                scope.spawn(|| pull(&store, name, &["one"], 1));
            }
        });
        for name in &names {
            let image = find(&store, name).unwrap();
            assert_eq!(image.record.repo_digests.len(), 2, "{round}");
        }
        for name in &names {
            remove(&store, name, false, &unused).unwrap();
        }
        assert_eq!(store.image_ids().unwrap(), []);
    }
}
