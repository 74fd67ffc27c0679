//! Images that say or hold little: no entrypoint but an empty word, no layers.

use serde_json::{Value, json};

use crate::harness::ddock::Ddock;
use crate::harness::image::{Blob, Image, ImageBuilder, busybox};
use crate::harness::registry::Registry;
use crate::harness::user::User;

#[test]
fn an_empty_entrypoint_is_none() {
    let ddock = Ddock::new();
    for entrypoint in [json!([""]), json!(""), json!([])] {
        let image = busybox()
            .config("Entrypoint", entrypoint.clone())
            .config("Cmd", json!(["echo", "from the image"]));
        let image = ddock.pull(image);
        assert_eq!(
            ddock.ok(&["run", "--rm", &image]),
            "from the image\n",
            "{entrypoint}"
        );
        assert_eq!(
            ddock.ok(&["run", "--rm", &image, "echo", "x"]),
            "x\n",
            "{entrypoint}"
        );
        let nothing = busybox()
            .config("Entrypoint", entrypoint)
            .config("Cmd", json!(null));
        let nothing = ddock.pull(nothing);
        let refused = ddock.run(&["run", "--rm", &nothing]).exits(125);
        refused.says("no command specified");
    }
}

/// Returns an image without layers in one of the spellings of that: `config` has these, `manifest` those.
fn without_layers(diff_ids: Option<Value>, layers: Option<Value>) -> Image {
    let mut image = ImageBuilder::new().build();
    let (mut config, mut manifest) = (image.blobs[0].json(), image.manifests[0].json());
    for (of, name, value) in [
        (&mut config["rootfs"], "diff_ids", diff_ids),
        (&mut manifest, "layers", layers),
    ] {
        let of = of.as_object_mut().unwrap();
        match value {
            Some(value) => of.insert(name.to_owned(), value),
            None => of.remove(name),
        };
    }
    let blob =
        |old: &Blob, value: &Value| Blob::new(&old.media_type, serde_json::to_vec(value).unwrap());
    image.blobs[0] = blob(&image.blobs[0], &config);
    manifest["config"] = image.blobs[0].descriptor();
    image.manifests[0] = blob(&image.manifests[0], &manifest);
    image
}

#[test]
fn an_image_without_layers_is_one() {
    let spellings = [
        (Some(json!([])), Some(json!([]))),
        (Some(json!(null)), Some(json!([]))),
        (None, Some(json!(null))),
    ];
    let users = [
        None,
        Some(User::with_ranges()),
        Some(User::without_ranges()),
    ];
    for (user, (diff_ids, layers)) in users.into_iter().zip(spellings) {
        let registry = Registry::start();
        let image = registry.push("test/empty:latest", &without_layers(diff_ids, layers));
        let ddock = user.map_or_else(Ddock::new, Ddock::for_user);
        ddock.ok(&["pull", "-q", &image]);
        let volume = "/bin/busybox:/busybox:ro";
        let run = |flags: &[&str], words: &[&str]| {
            let args = [
                &["run", "-v", volume],
                flags,
                &[image.as_str(), "/busybox"],
                words,
            ]
            .concat();
            ddock.ok(&args)
        };
        assert_eq!(run(&["--rm"], &["echo", "hi"]), "hi\n");
        assert_eq!(
            run(&["--rm", "--read-only"], &["stat", "-c", "%a %u", "/"]),
            "755 0\n"
        );
        run(&["--name", "kept"], &["touch", "/file"]);
        ddock.ok(&["rm", "kept"]);
        let mount = format!("type=image,src={image},dst=/empty");
        assert_eq!(run(&["--rm", "--mount", &mount], &["ls", "/empty"]), "");
        ddock.ok(&["system", "check"]);
        assert!(ddock.ok(&["images"]).contains("test/empty"));
        ddock.ok(&["inspect", &image]);
        ddock.ok(&["rmi", &image]);
        assert_eq!(ddock.ok(&["images", "-aq"]), "");
    }
}
