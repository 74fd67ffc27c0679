//! Choosing: from what a registry has under a name to the one image that is meant.

use serde_json::{Value, json};

use crate::harness::canned::{Canned, Reply};
use crate::harness::ddock::Ddock;
use crate::harness::image::{
    Blob, Compression, Image, ImageBuilder, busybox, compress, host_architecture,
};
use crate::harness::registry::Registry;
use crate::harness::tree::Tree;

fn small(content: &str) -> ImageBuilder {
    ImageBuilder::new().layer(Tree::new().dir("./", 0o755).file("hello", 0o644, content))
}

/// Returns `image` with its manifest changed, of this media type.
fn changed(mut image: Image, change: impl Fn(&mut Value)) -> Image {
    let old = image.manifests.pop().unwrap();
    let mut document = old.json();
    change(&mut document);
    let bytes = serde_json::to_vec(&document).unwrap();
    image.manifests.push(Blob::new(&old.media_type, bytes));
    image
}

#[test]
fn no_match_lists_what_there_is() {
    let registry = Registry::start();
    let index = Image::index(vec![
        (
            "linux/s390x",
            small("s390x").platform("linux/s390x").build(),
        ),
        (
            "linux/arm/v7",
            small("arm").platform("linux/arm/v7").build(),
        ),
        (
            "windows/amd64",
            small("w").platform("windows/amd64").build(),
        ),
    ]);
    let reference = registry.push("test/index:1", &index);
    Ddock::new()
        .run(&["pull", "--platform=linux/riscv64", &reference])
        .exits(1)
        .says(
            "no matching manifest for linux/riscv64 in the manifest list entries; \
             there is linux/arm/v7, linux/s390x, windows/amd64",
        );
}

#[test]
fn an_image_of_another_platform_is_refused_if_this_one_was_asked_for() {
    let registry = Registry::start();
    let image = small("x").platform("linux/s390x").build();
    let reference = registry.push("test/image:1", &image);
    let ddock = Ddock::new();
    ddock
        .run(&["pull", "--platform=linux/riscv64", &reference])
        .exits(1)
        .says("its platform (linux/s390x) does not match the specified platform (linux/riscv64)");
    ddock.ok(&["pull", &reference]);
}

#[test]
fn artifacts_are_refused_by_name_before_any_layer_moves() {
    for (media_type, name) in [
        ("application/vnd.cncf.helm.config.v1+json", "a Helm chart"),
        (
            "application/vnd.wasm.config.v1+json",
            "a WebAssembly module",
        ),
        (
            "application/vnd.docker.ai.model.config.v0.1+json",
            "a model",
        ),
        ("application/vnd.docker.plugin.v1+json", "a Docker plugin"),
        ("application/vnd.buildkit.cacheconfig.v0", "a build cache"),
    ] {
        let image = changed(small("x").build(), |manifest| {
            manifest["config"]["mediaType"] = media_type.into();
        });
        let registry = Canned::registry(&image, |_, reply| reply);
        Ddock::new()
            .run(&["pull", &registry.reference("test/x:1")])
            .exits(1)
            .says(&format!(
                "this is no container image but {name} (`{media_type}`)"
            ));
        let requests = registry.requests();
        assert!(!requests.iter().any(|r| r.target.contains("/blobs/")));
    }
}

#[test]
fn attestations_and_artifacts_in_an_index_are_passed_over() {
    let host = format!("linux/{}", host_architecture());
    let index = Image::index(vec![
        (&host, small("signature").build()),
        (&host, small("attestation").build()),
        (&host, small("right").build()),
    ]);
    let id = index.blobs[4].digest.clone();
    let index = changed(index, |index| {
        index["manifests"][0]["artifactType"] = "application/vnd.example".into();
        index["manifests"][1]["annotations"] =
            json!({"vnd.docker.reference.type": "attestation-manifest"});
    });
    let registry = Canned::registry(&index, |_, reply| reply);
    let ddock = Ddock::new();
    ddock.ok(&["pull", &registry.reference("test/x:1")]);
    assert_eq!(ddock.ok(&["images", "-q", "--no-trunc"]).trim_end(), id);
}

#[test]
fn an_index_in_an_index_is_followed_to_a_depth() {
    let host = format!("linux/{}", host_architecture());
    let foreign = Image::index(vec![("linux/s390x", small("foreign").build())]);
    let inner = Image::index(vec![
        (&host, small("attestation").build()),
        (&host, small("right").build()),
    ]);
    let (id, manifest) = (
        inner.blobs[2].digest.clone(),
        inner.manifests[1].bytes.clone(),
    );
    let inner = changed(inner, |index| {
        index["manifests"][0]["annotations"] =
            json!({"vnd.docker.reference.type": "attestation-manifest"});
    });
    // Most do not say what is inside.
    let outer = changed(
        Image::index(vec![("linux/s390x", foreign), (&host, inner)]),
        |index| {
            for entry in index["manifests"].as_array_mut().unwrap() {
                entry.as_object_mut().unwrap().remove("platform");
            }
        },
    );
    let digest = outer.top().digest.clone();
    let registry = Canned::registry(&outer, |_, reply| reply);
    let name = registry.reference("test/x:1");
    let ddock = Ddock::new();
    ddock.ok(&["pull", &name]);
    assert_eq!(ddock.ok(&["images", "-q", "--no-trunc"]).trim_end(), id);
    let asked = ["manifest", "inspect", "--raw", "--platform", &host, &name];
    assert_eq!(ddock.ok(&asked).as_bytes(), manifest);
    // It is known by the digest of what was served, and goes with all that led to it.
    let by_digest = format!("{}@{digest}", registry.reference("test/x"));
    ddock.ok(&["rmi", &name]);
    ddock.ok(&["pull", &by_digest]);
    ddock.ok(&["inspect", &by_digest]);
    ddock.ok(&["system", "check"]);
    ddock.ok(&["rmi", &by_digest]);
    let blobs = ddock.root().join("v1/blobs/sha256");
    assert_eq!(fs_err::read_dir(blobs).unwrap().count(), 0);

    let deep = (0..6).fold(small("x").build(), |image, _| {
        Image::index(vec![(&host, image)])
    });
    let registry = Canned::registry(&deep, |_, reply| reply);
    let name = registry.reference("test/x:1");
    let said = "more than 4 indexes inside each other";
    ddock.run(&["pull", &name]).exits(1).says(said);
    let asked = ["manifest", "inspect", "--platform", &host, &name];
    ddock.run(&asked).exits(1).says(said);
}

#[test]
fn a_foreign_layer_is_asked_of_the_registry_and_never_of_its_urls() {
    let elsewhere = Canned::serve(|_| Reply::new(200, "gotcha"));
    let url = format!("http://{}/layer", elsewhere.address());
    let image = changed(busybox().build(), |manifest| {
        let layer = &mut manifest["layers"][0];
        layer["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into();
        layer["urls"] = json!([url]);
    });
    let whole = Canned::registry(&image, |_, reply| reply);
    let ddock = Ddock::new();
    let reference = whole.reference("test/x:1");
    ddock.ok(&["pull", &reference]);
    assert_eq!(ddock.ok(&["run", "--rm", &reference, "echo", "1"]), "1\n");

    let layer = image.layers()[0].clone();
    let lacking = Canned::registry(&image, move |request, reply| {
        if request.target.ends_with(&layer) {
            return Reply::error(404, "BLOB_UNKNOWN", "blob unknown");
        }
        reply
    });
    Ddock::new()
        .run(&["pull", &lacking.reference("test/x:1")])
        .exits(1)
        .says("is a foreign (nondistributable) layer, which is asked of the image's registry only");
    assert!(elsewhere.requests().is_empty());
}

#[test]
fn an_empty_layer_is_a_layer() {
    // Docker's own empty layer, a3ed95ca…, is such: an archive with nothing in it.
    let empty = || vec![0; 1024];
    let image = ImageBuilder::new()
        .layer_as(empty(), Compression::Gzip)
        .layer(crate::harness::image::busybox_tree())
        .layer_as(empty(), Compression::Gzip)
        .build();
    let registry = Registry::start();
    let reference = registry.push("test/x:1", &image);
    let ddock = Ddock::new();
    ddock.ok(&["pull", &reference]);
    assert_eq!(ddock.ok(&["run", "--rm", &reference, "echo", "1"]), "1\n");
    assert_eq!(compress(empty(), Compression::None).len(), 1024);
}

/// Returns an image whose config comes along in its descriptor, and the config's digest.
fn with_inline_config(data: impl Fn(&[u8]) -> Vec<u8>) -> (Image, String) {
    use base64::Engine as _;
    let image = small("x").build();
    let (config, digest) = (image.blobs[0].bytes.clone(), image.id());
    let data = base64::engine::general_purpose::STANDARD.encode(data(&config));
    let image = changed(image, |manifest| manifest["config"]["data"] = json!(data));
    (image, digest)
}

#[test]
fn a_config_in_its_descriptor_is_not_fetched() {
    let (image, config) = with_inline_config(<[u8]>::to_vec);
    let registry = Canned::registry(&image, |_, reply| reply);
    Ddock::new().ok(&["pull", &registry.reference("test/x:1")]);
    let asked = |r: &crate::harness::canned::Request| r.target.ends_with(&config);
    assert!(!registry.requests().iter().any(asked));
}

#[test]
fn a_config_in_its_descriptor_that_is_another_is_refused() {
    let other = |bytes: &[u8]| bytes.to_ascii_uppercase();
    let (image, _) = with_inline_config(other);
    let registry = Canned::registry(&image, |_, reply| reply);
    Ddock::new()
        .run(&["pull", &registry.reference("test/x:1")])
        .exits(1)
        .says("in its descriptor has another digest");
}

#[test]
fn of_a_tag_and_a_digest_the_digest_counts() {
    let registry = Registry::start();
    let old = small("old").build();
    registry.push("test/x:1", &old);
    registry.push("test/x:1", &small("new").build());
    let ddock = Ddock::new();
    let reference = format!("{}@{}", registry.reference("test/x:1"), old.top().digest);
    ddock.ok(&["pull", &reference]);
    let ids = ddock.ok(&["images", "-a", "-q", "--no-trunc"]);
    assert_eq!(ids.trim_end(), old.id());
}

#[test]
fn content_types_may_be_written_in_capitals_and_with_parameters() {
    let image = small("x").build();
    let registry = Canned::registry(&image, |request, mut reply| {
        if request.target.contains("/manifests/") {
            for (name, value) in &mut reply.headers {
                if name == "Content-Type" {
                    *value = format!("{}; charset=UTF-8", value.to_ascii_uppercase());
                }
            }
        }
        reply
    });
    Ddock::new().ok(&["pull", &registry.reference("test/x:1")]);
}

/// A registry with these tags, a page of one each, all of one image; `broken` is not there.
fn tagged(image: &Image, tags: &'static [&'static str]) -> Canned {
    Canned::registry(image, move |request, reply| {
        if let Some((_, query)) = request.target.split_once("/tags/list?") {
            let last = query.split_once("last=").map(|(_, last)| last);
            let at = last.map_or(0, |last| {
                tags.iter().position(|tag| *tag == last).unwrap() + 1
            });
            let page = Reply::new(200, json!({"name": "x", "tags": [tags[at]]}).to_string());
            if at + 1 == tags.len() {
                return page;
            }
            let link = format!("</v2/test/x/tags/list?n=1&last={}>; rel=\"next\"", tags[at]);
            return page.header("Link", &link);
        }
        if request.target.ends_with("/manifests/broken") {
            return Reply::error(404, "MANIFEST_UNKNOWN", "manifest unknown");
        }
        reply
    })
}

#[test]
fn all_tags_are_pulled_and_what_they_share_once() {
    let image = small("x").build();
    let registry = tagged(&image, &["1", "2", "latest"]);
    let name = registry.reference("test/x");
    let ddock = Ddock::new();
    let stdout = ddock.ok(&["pull", "-a", &name]);
    let digest = &image.top().digest;
    let blocks =
        ["1", "2", "latest"].map(|tag| format!("{tag}: Pulling from test/x\nDigest: {digest}\n"));
    assert_eq!(
        stdout,
        format!(
            "{}Status: Downloaded newer image for {name}\n{name}\n",
            blocks.concat()
        )
    );
    assert_eq!(ddock.ok(&["images", "-q"]).lines().count(), 3);
    let layer = &image.layers()[0];
    let fetches = registry
        .requests()
        .into_iter()
        .filter(|r| r.target.ends_with(layer));
    assert_eq!(fetches.count(), 1);

    let again = ddock.ok(&["pull", "-a", &name]);
    assert!(again.contains("Status: Image is up to date for"), "{again}");
    assert_eq!(ddock.ok(&["pull", "-aq", &name]), format!("{name}\n"));
}

#[test]
fn a_bad_tag_does_not_stop_the_others() {
    let image = small("x").build();
    let registry = tagged(&image, &["1", "broken", "../2", "3"]);
    let ddock = Ddock::new();
    let name = registry.reference("test/x");
    let output = ddock.run(&["pull", "--all-tags", &name]).exits(1);
    let output = output.says(&format!("cannot pull `{name}:broken`: manifest for"));
    let output = output.says(&format!(
        "cannot pull `{name}:../2`: invalid reference format"
    ));
    assert!(
        output.stdout.contains("3: Pulling from test/x\n"),
        "{}",
        output.text()
    );
    assert_eq!(ddock.ok(&["images", "-q"]).lines().count(), 2);
}

#[test]
fn all_tags_and_a_tag_exclude_each_other() {
    for name in ["x:1", "localhost:5000/x:1"] {
        Ddock::new()
            .run(&["pull", "-a", name])
            .exits(1)
            .says("tag can't be used with --all-tags/-a");
    }
}

#[test]
fn inspecting_a_manifest_shows_what_is_served_and_makes_no_store() {
    let host = format!("linux/{}", host_architecture());
    let image = small("x").build();
    let manifest = image.top().json();
    let index = Image::index(vec![(&host, image)]);
    let registry = Registry::start();
    let reference = registry.push("test/x:1", &index);
    let ddock = Ddock::new();
    let raw = ddock.ok(&["manifest", "inspect", "--raw", &reference]);
    assert_eq!(raw.as_bytes(), index.top().bytes);

    let shown = ddock.ok(&["manifest", "inspect", &reference]);
    assert!(
        shown.starts_with("{\n   \"schemaVersion\": 2,\n"),
        "{shown}"
    );
    assert_eq!(
        serde_json::from_str::<Value>(&shown).unwrap(),
        index.top().json()
    );

    let chosen = ddock.ok(&["manifest", "inspect", "--platform", &host, &reference]);
    assert!(
        chosen.starts_with("{\n\t\"schemaVersion\": 2,\n"),
        "{chosen}"
    );
    assert_eq!(serde_json::from_str::<Value>(&chosen).unwrap(), manifest);
    assert!(!ddock.root().exists());

    ddock
        .run(&["manifest", "inspect", &registry.reference("test/y:1")])
        .exits(1)
        .says("cannot inspect");
    ddock
        .run(&["manifest", "push", "x"])
        .exits(125)
        .says("`manifest push` is not there yet");
}

#[test]
fn few_pulls_that_are_left_are_told_once() {
    let host = format!("linux/{}", host_architecture());
    let index = Image::index(vec![(&host, small("x").build())]);
    let registry = Canned::registry(&index, |request, reply| {
        if !request.target.contains("/manifests/") {
            return reply;
        }
        reply
            .header("ratelimit-limit", "100;w=21600")
            .header("ratelimit-remaining", "7;w=21600")
            .header("docker-ratelimit-source", "192.0.2.7")
    });
    let ddock = Ddock::new();
    let output = ddock
        .run(&["pull", &registry.reference("test/x:1")])
        .exits(0);
    assert_eq!(
        output.stderr,
        format!(
            "{}: 7 of 100 pulls left in 6 hours (you are not logged in)\n",
            registry.address()
        )
    );
}

#[test]
fn a_registry_without_a_repository_is_taken_for_a_name_with_a_warning() {
    // Nobody answers there: the name is what matters.
    let registry = Canned::serve(|_| Reply::new(500, ""));
    let mut command = Ddock::new().command(&["pull", registry.address()]);
    command.env("HTTPS_PROXY", format!("http://{}", registry.address()));
    let output = crate::harness::ddock::output(&mut command).exits(1);
    let address = registry.address();
    output.says(&format!(
        "`{address}` is taken for the repository docker.io/library/{address}; \
         what is in a registry is named `{address}/REPOSITORY`"
    ));
}
