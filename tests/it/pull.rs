//! `ddock pull`: what it asks the registry, what it checks, what it prints.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::harness::canned::{Canned, Reply};
use crate::harness::ddock::Ddock;
use crate::harness::image::{
    Compression, Format, Image, ImageBuilder, busybox, busybox_tree, host_architecture,
};
use crate::harness::registry::Registry;
use crate::harness::tree::Tree;

/// An image that only consists of one small file, for tests that never run it.
fn small(content: &str) -> ImageBuilder {
    ImageBuilder::new().layer(Tree::new().dir("./", 0o755).file("hello", 0o644, content))
}

#[test]
fn every_format_and_compression_can_be_pulled_and_run() {
    let registry = Registry::start();
    let ddock = Ddock::new();
    for (name, format, compression) in [
        ("oci:none", Format::Oci, Compression::None),
        ("oci:gzip", Format::Oci, Compression::Gzip),
        ("oci:zstd", Format::Oci, Compression::Zstd),
        ("schema2:gzip", Format::Schema2, Compression::Gzip),
        ("schema2:none", Format::Schema2, Compression::None),
    ] {
        // A file of its own gives each image a layer of its own.
        let tree = busybox_tree().file("etc/format", 0o644, name);
        let image = ImageBuilder::new()
            .format(format)
            .layer_as(tree.tar(), compression)
            .build();
        let reference = registry.push(name, &image);
        ddock.ok(&["pull", &reference]);
        assert_eq!(
            ddock.ok(&["run", "--rm", &reference, "cat", "/etc/format"]),
            name
        );
    }
}

#[test]
fn the_closing_lines_are_dockers() {
    let registry = Registry::start();
    let image = small("1").build();
    let reference = registry.push("test/image:latest", &image);
    let ddock = Ddock::new();

    let stdout = ddock.ok(&["pull", &reference]);
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[0], "latest: Pulling from test/image", "{stdout}");
    assert_eq!(lines.len(), 4, "no line for a layer in a log: {stdout}");
    let closing = [
        format!("Digest: {}", image.top().digest),
        format!("Status: Downloaded newer image for {reference}"),
        reference.clone(),
    ];
    assert_eq!(lines[lines.len() - 3..], closing, "{stdout}");
}

#[test]
fn the_default_tag_is_named() {
    let registry = Registry::start();
    registry.push("test/image:latest", &small("1").build());
    let stdout = Ddock::new().ok(&["pull", &registry.reference("test/image")]);
    assert!(
        stdout.starts_with("Using default tag: latest\nlatest: Pulling from test/image\n"),
        "{stdout}"
    );
}

#[test]
fn a_quiet_pull_prints_only_the_reference() {
    let registry = Registry::start();
    let reference = registry.push("test/image:v1", &small("1").build());
    let output = Ddock::new().run(&["pull", "-q", &reference]).exits(0);
    assert_eq!(output.stdout, format!("{reference}\n"));
    assert_eq!(output.stderr, "");
}

#[test]
fn a_pull_of_what_is_there_asks_one_question() {
    let registry = Registry::start();
    let image = small("1").build();
    let reference = registry.push("test/image:latest", &image);
    let ddock = Ddock::new();
    ddock.ok(&["pull", &reference]);

    let mut stdout = String::new();
    let requests = registry.requests_during(|| stdout = ddock.ok(&["pull", &reference]));
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(
        requests[0].contains("/v2/test/image/manifests/"),
        "{requests:?}"
    );
    let expected = format!(
        "latest: Pulling from test/image\nDigest: {}\nStatus: Image is up to date for {reference}\n{reference}\n",
        image.top().digest
    );
    assert_eq!(stdout, expected);
}

#[test]
fn a_layer_that_is_there_is_not_fetched_again() {
    let registry = Registry::start();
    let base = || Tree::new().dir("./", 0o755).file("base", 0o644, "base");
    let one = ImageBuilder::new().layer(base()).build();
    let two = ImageBuilder::new()
        .layer(base())
        .layer(Tree::new().file("more", 0o644, "more"))
        .build();
    let ddock = Ddock::new();
    ddock.ok(&["pull", &registry.push("test/one:latest", &one)]);

    let reference = registry.push("test/two:latest", &two);
    let mut stdout = String::new();
    let requests =
        registry.requests_during(|| stdout = ddock.ok(&["pull", "--progress=json", &reference]));
    let base = &two.layers()[0];
    let fetched = |request: &String| request.starts_with("GET") && request.contains(base.as_str());
    assert!(!requests.iter().any(fetched), "{requests:?}");
    let short = &base["sha256:".len()..][..12];
    assert!(
        stdout.contains(&format!(r#"{{"id":"{short}","status":"Already exists"}}"#)),
        "{stdout}"
    );
}

#[test]
fn an_index_gives_the_hosts_platform_and_nothing_else_is_fetched() {
    let registry = Registry::start();
    let host = format!("linux/{}", host_architecture());
    let wrong = small("s390x").platform("linux/s390x").build();
    let attestation = small("attestation").platform("unknown/unknown").build();
    let right = ImageBuilder::new()
        .layer(busybox_tree().file("platform", 0o644, "right"))
        .build();
    let unwanted: Vec<String> = [&wrong, &attestation]
        .iter()
        .map(|image| image.top().digest.clone())
        .collect();
    let index = Image::index(vec![
        ("unknown/unknown", attestation),
        ("linux/s390x", wrong),
        (&host, right),
    ]);
    let reference = registry.push("test/index:latest", &index);
    let ddock = Ddock::new();

    let mut stdout = String::new();
    let requests = registry.requests_during(|| stdout = ddock.ok(&["pull", &reference]));
    for digest in unwanted {
        assert!(
            !requests.iter().any(|r| r.contains(&digest)),
            "{requests:?}"
        );
    }
    let digest = format!("Digest: {}\n", index.top().digest);
    assert!(stdout.contains(&digest), "the index's digest: {stdout}");
    assert_eq!(
        ddock.ok(&["run", "--rm", &reference, "cat", "/platform"]),
        "right"
    );
}

#[test]
fn the_platform_flag_chooses_from_an_index() {
    let registry = Registry::start();
    let v6 = small("v6").platform("linux/arm/v6").build();
    let v7 = small("v7").platform("linux/arm/v7").build();
    let ids = [v6.id(), v7.id()];
    let index = Image::index(vec![("linux/arm/v6", v6), ("linux/arm/v7", v7)]);
    let reference = registry.push("test/index:latest", &index);
    for (platform, id) in [
        ("linux/arm/v6", &ids[0]),
        ("linux/arm/v7", &ids[1]),
        ("linux/arm", &ids[1]),
    ] {
        let ddock = Ddock::new();
        ddock.ok(&["pull", "--platform", platform, &reference]);
        assert_eq!(
            ddock.ok(&["images", "-q", "--no-trunc"]).trim_end(),
            id,
            "{platform}"
        );
    }
}

#[test]
fn a_digest_in_the_reference_is_what_is_pulled() {
    let registry = Registry::start();
    let old = small("old").build();
    registry.push("test/image:latest", &old);
    registry.push("test/image:latest", &small("new").build());
    let ddock = Ddock::new();
    let reference = format!("{}@{}", registry.reference("test/image"), old.top().digest);
    let stdout = ddock.ok(&["pull", &reference]);
    assert!(stdout.ends_with(&format!("{reference}\n")), "{stdout}");
    let images = ddock.ok(&["images", "-a", "-q", "--no-trunc"]);
    assert_eq!(images.trim_end(), old.id());
}

#[test]
fn a_tag_that_moved_leaves_the_old_image_without_a_name() {
    let registry = Registry::start();
    let ddock = Ddock::new();
    let old = small("old").build();
    let reference = registry.push("test/image:latest", &old);
    ddock.ok(&["pull", &reference]);
    let new = small("new").build();
    registry.push("test/image:latest", &new);
    let stdout = ddock.ok(&["pull", &reference]);
    assert!(
        stdout.contains("Status: Downloaded newer image"),
        "{stdout}"
    );
    let named = ddock.ok(&["images", "-q", "--no-trunc"]);
    assert_eq!(named.trim_end(), new.id());
    let all = ddock.ok(&["images", "-a", "-q", "--no-trunc"]);
    assert!(all.contains(&old.id()), "{all}");
}

#[test]
fn a_bearer_token_is_fetched_when_the_registry_asks_for_one() {
    let image = small("1").build();
    let own_address = std::sync::Arc::new(Mutex::new(String::new()));
    let address = std::sync::Arc::clone(&own_address);
    let registry = Canned::registry(&image, move |request, reply| {
        if request.target.starts_with("/token?") {
            return Reply::new(
                200,
                json!({"token": "open-sesame", "expires_in": 300}).to_string(),
            );
        }
        if request.header("Authorization") == Some("Bearer open-sesame") {
            return reply;
        }
        let challenge = format!(
            "Bearer realm=\"http://{}/token\",service=\"test, with a comma\",scope=\"repository:test/image:pull\"",
            address.lock().unwrap()
        );
        Reply::error(401, "UNAUTHORIZED", "authentication required")
            .header("WWW-Authenticate", &challenge)
    });
    registry
        .address()
        .clone_into(&mut own_address.lock().unwrap());

    Ddock::new().ok(&["pull", &registry.reference("test/image:latest")]);
    let tokens: Vec<String> = registry
        .requests()
        .into_iter()
        .map(|request| request.target)
        .filter(|target| target.starts_with("/token?"))
        .collect();
    assert_eq!(tokens.len(), 1, "one token serves the whole pull");
    assert!(
        tokens[0].contains("scope=repository%3Atest%2Fimage%3Apull")
            || tokens[0].contains("scope=repository:test/image:pull"),
        "{tokens:?}"
    );
}

#[test]
fn a_dropped_connection_is_resumed_where_it_broke() {
    // Noise, so that the compressed layer is as large as the file.
    let mut seed = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        seed.to_le_bytes()[0]
    })
    .take(4 << 20)
    .collect();
    let image = ImageBuilder::new()
        .layer(Tree::new().dir("./", 0o755).file("noise", 0o644, noise))
        .build();
    let size = image.blobs[1].bytes.len();
    let layer = image.layers()[0].clone();
    let sent = std::sync::Arc::new(AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&sent);
    let registry = Canned::registry(&image, move |request, mut reply| {
        if request.method == "GET" && request.target.ends_with(&layer) {
            let cut = reply.body.len().min(1 << 20);
            reply.cut = Some(cut);
            counter.fetch_add(cut, Ordering::Relaxed);
        }
        reply
    });
    Ddock::new().ok(&["pull", &registry.reference("test/image:latest")]);
    let sent = sent.load(Ordering::Relaxed);
    assert!(
        sent <= size + size / 4,
        "{sent} bytes were sent for a layer of {size}"
    );
}

#[test]
fn several_pulls_of_one_image_at_once_all_succeed() {
    let registry = Registry::start();
    let reference = registry.push("test/image:latest", &busybox().build());
    let ddock = Ddock::new();
    let pulls: Vec<_> = (0..6)
        .map(|_| {
            let mut command = ddock.command(&["pull", "-q", &reference]);
            command.stdout(std::process::Stdio::null());
            command.spawn().unwrap()
        })
        .collect();
    for mut pull in pulls {
        assert!(pull.wait().unwrap().success());
    }
    assert_eq!(
        ddock.ok(&["run", "--rm", &reference, "echo", "fine"]),
        "fine\n"
    );
    assert_eq!(ddock.ok(&["images", "-q"]).lines().count(), 1);
}

#[test]
fn a_layer_listed_twice_is_fetched_once() {
    let layer = || Tree::new().dir("./", 0o755).file("twice", 0o644, "twice");
    let image = ImageBuilder::new()
        .layer(busybox_tree())
        .layer(layer())
        .layer(layer())
        .build();
    let registry = Registry::start();
    let reference = registry.push("test/image:latest", &image);
    let ddock = Ddock::new();
    let requests = registry.requests_during(|| {
        ddock.ok(&["pull", &reference]);
    });
    let digest = &image.layers()[2];
    let fetches = requests
        .iter()
        .filter(|r| r.starts_with("GET") && r.contains(digest.as_str()));
    assert_eq!(fetches.count(), 1, "{requests:?}");
    assert_eq!(
        ddock.ok(&["run", "--rm", &reference, "cat", "/twice"]),
        "twice"
    );
}

#[test]
fn a_refused_pull_is_begun_anew_as_often_as_the_flag_says_by_run_too() {
    let asked = AtomicUsize::new(0);
    let registry = Canned::registry(&busybox().build(), move |request, reply| {
        let is_manifest = request.target.contains("/manifests/");
        if is_manifest && asked.fetch_add(1, Ordering::Relaxed) < 4 {
            // Longer than a pull itself waits.
            return Reply::new(429, "").header("Retry-After", "100000");
        }
        reply
    });
    let reference = registry.reference("test/image");
    let ddock = Ddock::new();
    let flags = ["--retry-delay", "10ms", "--retry"];
    let pull = [&["pull"], &flags[..], &["1", &reference]].concat();
    ddock.run(&pull).exits(1).says("toomanyrequests");
    let run = [&["run"], &flags[..], &["2", &reference, "true"]].concat();
    ddock.run(&run).exits(0).says("toomanyrequests");
    ddock
        .run(&["pull", "--retry-delay", "soon", &reference])
        .exits(125)
        .says("expected a duration such as");
}
