//! What pulling may cost, in system calls: so many for what is in an image, however its parts are spread.

use crate::harness::calls::Calls;
use crate::harness::ddock::Ddock;
use crate::harness::image::ImageBuilder;
use crate::harness::registry::Registry;
use crate::harness::tree::Tree;

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
