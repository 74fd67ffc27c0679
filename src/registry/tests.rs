//! Tests of a client against real sockets: what is asked, and what answers mean.

use super::*;
use crate::registry::credentials::Credentials;
use crate::registry::error::Identity;
use crate::registry::testing::{Answer, Asked, Server, client, descriptor, image, wait};

fn reference(server: &Server, tag: &str) -> Reference {
    format!("{}/lib/x:{tag}", server.address()).parse().unwrap()
}

fn get(server: &Server) -> Result<Document, RegistryError> {
    let reference = reference(server, "1");
    wait(client(&reference).manifest(&reference))
}

fn text(error: &RegistryError) -> String {
    format!("{error:#}")
}

const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";

#[test]
fn a_manifest_is_read_over_plain_http_from_loopback() {
    let server = Server::start(|_, _| {
        Answer::json(&image(b"config", &[b"layer"])).header("Content-Type", DOCKER)
    });
    let document = get(&server).unwrap();
    assert_eq!(document.digest, Digest::of(&document.bytes));
    assert!(matches!(document.manifest, Manifest::Image(image) if image.layers.len() == 1));
    let asked = server.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, "/v2/lib/x/manifests/1");
    assert_eq!(asked[0].header("accept-encoding"), Some("identity"));
    assert_eq!(
        asked[0].header("user-agent"),
        Some(concat!("ddock/", env!("CARGO_PKG_VERSION")))
    );
    assert!(
        asked[0]
            .header("accept")
            .unwrap()
            .starts_with("application/vnd.oci.image.index.v1+json, ")
    );
}

#[test]
fn head_returns_the_hint_and_none_without_one() {
    let hinted = Server::start(|_, _| {
        Answer::ok(b"").header("Docker-Content-Digest", &Digest::of(b"x").to_string())
    });
    let plain =
        Server::start(|_, _| Answer::ok(b"").header("Docker-Content-Digest", "sha256:../x"));
    let head = |server: &Server| {
        let reference = reference(server, "1");
        wait(client(&reference).head(&reference)).unwrap()
    };
    assert_eq!(head(&hinted), Some(Digest::of(b"x")));
    assert_eq!(head(&plain), None);
    assert_eq!(hinted.asked()[0].method, "HEAD");
}

#[test]
fn manifests_with_another_digest_or_size_are_refused() {
    let server = Server::start(|_, _| Answer::json(&image(b"config", &[])));
    let reference = reference(&server, "1");
    let client = client(&reference);
    let error = wait(client.manifest(&reference.with_digest(Digest::of(b"other")))).unwrap_err();
    assert!(text(&error).contains("was asked for"), "{error}");
    let bytes = image(b"config", &[]).to_string();
    let mut entry = descriptor(bytes.as_bytes(), "x");
    let document = wait(client.manifest(&reference.with_digest(entry.digest.clone()))).unwrap();
    assert!(document.check_size(&entry).is_ok());
    entry.size += 1;
    let error = document.check_size(&entry).unwrap_err();
    assert!(error.to_string().contains("the index says"), "{error}");
}

#[test]
fn a_manifest_over_4_mib_is_not_read_to_its_end() {
    let server = Server::start(|_, _| Answer::ok(&vec![b' '; 64 << 20]));
    let error = get(&server).unwrap_err();
    assert!(text(&error).contains("more than 4 MiB"), "{error}");
}

#[test]
fn schema_1_and_charts_are_refused_from_the_wire() {
    let schema1 = Server::start(|_, _| {
        Answer::ok(br#"{"schemaVersion":1,"fsLayers":[]}"#).header(
            "Content-Type",
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
        )
    });
    assert!(text(&get(&schema1).unwrap_err()).contains("schema 1 support has been removed"));
    let chart = Server::start(|_, _| {
        let mut chart = image(b"config", &[]);
        chart["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json".into();
        Answer::json(&chart)
    });
    assert!(text(&get(&chart).unwrap_err()).contains("a Helm chart"));
}

#[test]
fn what_does_not_exist_is_told_with_the_registrys_words() {
    let server = Server::start(|_, _| {
        Answer::status(404)
            .body(br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#)
    });
    let error = get(&server).unwrap_err();
    let address = server.address();
    assert_eq!(
        text(&error),
        format!("manifest for `{address}/lib/x:1` not found in `{address}`: manifest unknown")
    );
}

#[test]
fn an_unreachable_registry_is_told_at_once() {
    let reference: Reference = "127.0.0.1:1/x".parse().unwrap();
    let error = wait(client(&reference).manifest(&reference)).unwrap_err();
    assert_eq!(
        text(&error),
        "cannot reach `127.0.0.1:1`: Connection refused (os error 111)"
    );
}

#[test]
fn a_limit_on_requests_is_waited_out_as_asked() {
    let server = Server::start(|_, before| match before {
        0 => Answer::status(429).header("Retry-After", "1"),
        1 => Answer::status(503).header("Retry-After", "0"),
        _ => Answer::json(&image(b"config", &[])),
    });
    let start = std::time::Instant::now();
    get(&server).unwrap();
    assert!(start.elapsed().as_millis() >= 1000);
    assert_eq!(server.asked().len(), 3);
    let never = Server::start(|_, _| Answer::status(429).header("Retry-After", "3600"));
    assert!(matches!(
        get(&never).unwrap_err(),
        RegistryError::RateLimited { after: Some(_), .. }
    ));
    assert_eq!(never.asked().len(), 1);
}

/// Gives token `t<n>` for the n-th question and wants the newest.
fn bearer(asked: &Asked, _: usize) -> Answer {
    if asked.path.starts_with("/token") {
        return Answer::ok(br#"{"token":"secret"}"#);
    }
    if asked.header("authorization") == Some("Bearer secret") {
        return Answer::json(&image(b"config", &[]));
    }
    let realm = format!("http://{}/token", asked.header("host").unwrap());
    let challenge =
        format!(r#"Bearer realm="{realm}",service="a b",scope="repository:lib/x:pull""#);
    Answer::status(401).header("WWW-Authenticate", &challenge)
}

#[test]
fn a_bearer_challenge_is_answered_once_and_the_token_kept() {
    let server = Server::start(bearer);
    let reference = reference(&server, "1");
    let client = client(&reference);
    wait(client.manifest(&reference)).unwrap();
    wait(client.manifest(&reference)).unwrap();
    let paths: Vec<_> = server.asked().into_iter().map(|asked| asked.path).collect();
    let manifest = "/v2/lib/x/manifests/1";
    let token = "/token?service=a+b&scope=repository%3Alib%2Fx%3Apull";
    assert_eq!(paths, [manifest, token, manifest, manifest]);
}

#[test]
fn denied_and_wrong_credentials_are_told_apart() {
    let denied = Server::start(|asked, _| {
        if asked.path.starts_with("/token") {
            bearer(asked, 0)
        } else {
            bearer(&asked.without_authorization(), 0)
        }
    });
    let error = get(&denied).unwrap_err();
    assert!(
        matches!(
            &error,
            RegistryError::Denied {
                identity: Identity::Anonymous,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(denied.asked().len(), 3);

    let basic = Server::start(|asked, _| match asked.header("authorization") {
        // alice:right
        Some("Basic YWxpY2U6cmlnaHQ=") => Answer::json(&image(b"config", &[])),
        _ => Answer::status(401).header("WWW-Authenticate", r#"Basic realm="x, y""#),
    });
    let error = get(&basic).unwrap_err();
    assert!(text(&error).ends_with("you are not logged in"), "{error}");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    let with = |auth: &str| {
        let text = format!(
            r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#,
            basic.address()
        );
        fs_err::write(&path, text).unwrap();
        let reference = reference(&basic, "1");
        let access = Access {
            credentials: Credentials::in_file(&path),
            ..Access::default()
        };
        let client = Client::new(&reference, &access, &|_| {}).unwrap();
        wait(client.manifest(&reference))
    };
    assert!(with("YWxpY2U6cmlnaHQ=").is_ok());
    let error = text(&with("YWxpY2U6d3Jvbmc=").unwrap_err());
    assert!(
        error.contains("refuses the user name or password; you are logged in as `alice` (key"),
        "{error}"
    );
    assert!(
        !error.contains("wrong;") && !error.contains("YWxpY2U6"),
        "{error}"
    );
}

#[test]
fn a_redirect_to_another_port_carries_no_authorization() {
    let storage = Server::start(|_, _| Answer::ok(b"layer"));
    let address = storage.address();
    let server = Server::start(move |asked, _| match asked.header("authorization") {
        Some(_) => {
            Answer::status(307).header("Location", &format!("http://{address}/blob?signature=s"))
        }
        None => bearer(asked, 0),
    });
    let reference = reference(&server, "1");
    let client = client(&reference);
    let layer = descriptor(b"layer", "x");
    let first = wait(async {
        client
            .blob(&layer.digest, layer.size, 0..layer.size)
            .next()
            .await
    })
    .unwrap();
    assert_eq!(first, Some(Piece::Bytes("layer".into())));
    let asked = storage.asked();
    assert_eq!(asked[0].path, "/blob?signature=s");
    assert_eq!(asked[0].header("authorization"), None);
    assert_eq!(asked[0].header("referer"), None);
    assert_eq!(
        server.asked().last().unwrap().header("authorization"),
        Some("Bearer secret")
    );
}

#[test]
fn a_redirect_loop_ends_and_no_query_is_shown() {
    let server = Server::start(|asked, _| {
        let host = asked.header("host").unwrap();
        Answer::status(307).header("Location", &format!("http://{host}/again?secret=s"))
    });
    let error = text(&get(&server).unwrap_err());
    assert!(error.contains("redirects more than 10 times"), "{error}");
    assert!(!error.contains("secret"), "{error}");
    assert_eq!(server.asked().len(), 11);
}

#[test]
fn a_config_is_verified_and_limited() {
    let server = Server::start(|_, _| Answer::ok(b"config"));
    let reference = reference(&server, "1");
    let client = client(&reference);
    let config = descriptor(b"config", "x");
    assert_eq!(wait(client.config(&config)).unwrap(), b"config");
    let mut other = descriptor(b"cOnfig", "x");
    assert!(text(&wait(client.config(&other)).unwrap_err()).contains("was asked for"));
    other.size = MAX_CONFIG + 1;
    assert!(text(&wait(client.config(&other)).unwrap_err()).contains("more than 8 MiB"));
}

#[test]
fn what_was_damaged_on_its_way_is_asked_for_once_more() {
    let config = b"config";
    let manifest = image(config, &[]).to_string().into_bytes();
    let digest = Digest::of(&manifest);
    let server = Server::start(move |asked, before| {
        let good: &[u8] = if asked.path.contains("/blobs/") {
            config
        } else {
            &manifest
        };
        let mut bytes = good.to_vec();
        if before % 2 == 0 {
            bytes[2] ^= 1;
        }
        Answer::ok(&bytes)
    });
    let reference = reference(&server, "1");
    let client = client(&reference);
    wait(client.manifest(&reference.with_digest(digest))).unwrap();
    let config = descriptor(config, "x");
    assert_eq!(wait(client.config(&config)).unwrap(), b"config");
    assert_eq!(server.asked().len(), 4);
}
