//! What pulling may cost, in system calls: so many for what is in an image, however its parts are spread.

use crate::harness::calls::Calls;
use crate::harness::ddock::Ddock;
use crate::harness::image::{ImageBuilder, digest};
use crate::harness::registry::Registry;
use crate::harness::tree::Tree;
use serde_json::{Value, json};

/// Layers of an image, and directories in each.
const LAYERS: usize = 24;
const DIRECTORIES: usize = 150;

/// System calls for a directory with a file, at most: to unpack, to put together and to sync it.
const MOST_CALLS: usize = 30;

/// System calls that a pull makes for an empty layer, at most, and for all else.
const MOST_CALLS_OF_A_LAYER: usize = 400;

#[test]
fn layers_are_put_together_in_calls_that_grow_with_what_is_in_them() {
    let registry = Registry::start();
    let each = |add: fn(Tree, usize, usize) -> Tree| {
        (0..LAYERS).fold(ImageBuilder::new(), |image, layer| {
            let tree = (0..DIRECTORIES).fold(Tree::new(), |tree, n| add(tree, layer, n));
            image.layer(tree)
        })
    };
    let implied = each(|tree, layer, n| tree.file(&format!("d{layer}-{n}/f"), 0o644, ""));
    let nested = each(|tree, layer, n| tree.file(&format!("a/b/{layer}/d{n}/f"), 0o644, ""));
    let listed = each(|tree, layer, n| {
        let name = format!("d{layer}-{n}/");
        let tree = tree.dir(&name, 0o755);
        tree.file(&format!("{name}.wh.gone"), 0o644, "")
    });
    // Each link asks for all names of a file that has two.
    let linked = ImageBuilder::new()
        .layer((0..LAYERS * DIRECTORIES / 2).fold(Tree::new(), |tree, n| {
            let tree = tree.file(&format!("f{n}"), 0o644, "");
            tree.hardlink(&format!("g{n}"), &format!("f{n}"))
        }))
        .layer((0..DIRECTORIES).fold(Tree::new(), |tree, n| {
            tree.hardlink(&format!("h{n}"), &format!("f{n}"))
        }));
    // Misfits, each of which is removed from what was there: files become directories of whiteouts alone.
    let misfits = ImageBuilder::new()
        .layer((0..LAYERS * DIRECTORIES / 4).fold(Tree::new(), |tree, n| {
            tree.file(&format!("f{n}"), 0o644, "")
        }))
        .layer((0..LAYERS * DIRECTORIES / 4).fold(Tree::new(), |tree, n| {
            tree.file(&format!("f{n}/.wh.x"), 0o644, "")
        }));
    let images = [
        ("implied", implied),
        ("nested", nested),
        ("listed", listed),
        ("linked", linked),
        ("misfits", misfits),
    ];
    for (name, image) in images {
        let reference = registry.push(&format!("{name}:1"), &image.build());
        let ddock = Ddock::new();
        let most = LAYERS * DIRECTORIES * MOST_CALLS + LAYERS * MOST_CALLS_OF_A_LAYER;
        Calls::of(&ddock.command(&["pull", "-q", &reference])).at_most(most, name);
    }
}

/// Images beside the one that a command is about.
const MANY: usize = 200;

/// Gives the store more images, copies of the one that it has with names of their own.
fn multiply(ddock: &Ddock, from: usize, to: usize) {
    let store = ddock.root().join("v1");
    let mut records = fs_err::read_dir(store.join("images")).unwrap();
    let record = records.next().unwrap().unwrap().path();
    let record: Value = serde_json::from_slice(&fs_err::read(record).unwrap()).unwrap();
    for number in from..to {
        let id = digest(format!("image {number}").as_bytes());
        let name = format!("localhost:5000/copy/{number}");
        let mut record = record.clone();
        record["repo_digests"] = json!([format!("{name}@{id}")]);
        record["tags"] = json!([format!("{name}:1")]);
        let hex = &id["sha256:".len()..];
        let path = store.join("images").join(format!("{hex}.json"));
        fs_err::write(path, record.to_string()).unwrap();
        let tags = store.join("refs").join(&name).join("_tags");
        fs_err::create_dir_all(&tags).unwrap();
        fs_err::write(tags.join("1"), format!("{id}\n")).unwrap();
    }
}

#[test]
fn images_that_are_merely_there_cost_a_list_little_and_the_rest_next_to_nothing() {
    let registry = Registry::start();
    let (ddock, image) = Ddock::with_busybox();
    let removed = |name: &str| {
        let layer = Tree::new().file(name, 0o644, "");
        let image = ImageBuilder::new().layer(layer).build();
        registry.push(&format!("{name}:1"), &image)
    };
    let [few, many] = ["few", "many"].map(removed);
    for reference in [&few, &many] {
        ddock.ok(&["pull", "-q", reference]);
    }
    let calls = |gone: &str| {
        [
            vec!["images"],
            vec!["rmi", gone],
            vec!["inspect", &image],
            vec!["run", "--rm", "--network", "none", &image, "true"],
        ]
        .map(|command| Calls::of(&ddock.command(&command)))
    };
    let before = calls(&few);
    multiply(&ddock, 0, MANY);
    let after = calls(&many);
    // For each image: to read its record and its tag; a record alone, looked at twice; nothing.
    for ((before, after), (what, each)) in
        before
            .iter()
            .zip(&after)
            .zip([("images", 7), ("rmi", 7), ("inspect", 0), ("run", 0)])
    {
        after.at_most(before.number + each * MANY + 40, what);
    }
    // One that removes many reads the others once.
    let names: Vec<String> = (0..MANY / 2)
        .map(|n| format!("localhost:5000/copy/{n}:1"))
        .collect();
    let mut command = vec!["rmi"];
    command.extend(names.iter().map(String::as_str));
    Calls::of(&ddock.command(&command)).at_most(after[1].number + 60 * names.len(), "rmi of many");
    assert_eq!(ddock.ok(&["images", "-q"]).lines().count(), MANY / 2 + 1);
}
