//! The way to a registry: whom ddock trusts, through what it goes, and who answers in its place.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::harness::authority::{Authority, Pair};
use crate::harness::canned::{Canned, Reply, Request};
use crate::harness::ddock::{Ddock, Output, binary, output};
use crate::harness::image::{Image, ImageBuilder};
use crate::harness::network;
use crate::harness::proxy::Proxy;
use crate::harness::registry::{self, Registry};
use crate::harness::scratch::command_succeeds;
use crate::harness::tree::Tree;

const NAME: &str = "test/image:latest";

/// An image that only consists of one small file.
fn small(content: &str) -> Image {
    let tree = Tree::new().dir("./", 0o755).file("hello", 0o644, content);
    ImageBuilder::new().layer(tree).build()
}

/// Pulls with these variables in the environment.
fn pull_with(ddock: &Ddock, variables: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command = ddock.command(&[&["pull", "-q"], args].concat());
    output(command.envs(variables.iter().copied()))
}

#[test]
fn an_authority_named_by_ssl_cert_file_is_trusted() {
    let registry = Registry::start();
    registry.push(NAME, &small("1"));
    let ddock = Ddock::new();
    let authority = Authority::new(ddock.scratch(), "ca");
    let tls = registry.over_tls(&authority.issue(&["localhost"]));
    let reference = tls.reference(NAME);
    let certificate = authority.certificate.to_str().unwrap();

    pull_with(&ddock, &[], &[&reference])
        .exits(1)
        .says(&format!(
            "the certificate of `{}` is not trusted",
            tls.address()
        ));
    pull_with(&ddock, &[("SSL_CERT_FILE", certificate)], &[&reference]).exits(0);
}

/// A registry with one small image that speaks TLS as a name of an unknown authority.
fn unknown(ddock: &Ddock) -> (Registry, Registry, Authority) {
    let plain = Registry::start();
    plain.push(NAME, &small("1"));
    let authority = Authority::new(ddock.scratch(), "ca");
    let tls = plain.over_tls(&authority.issue(&["localhost", "127.0.0.1"]));
    (plain, tls, authority)
}

/// Returns `ddock pull` in a private mount namespace where these files are in `/etc`.
fn with_etc(ddock: &Ddock, files: &[(&str, &str)], args: &[&str]) -> Command {
    let etc = ddock.scratch().join("etc");
    if !etc.exists() {
        command_succeeds(Command::new("cp").args(["-a", "/etc"]).arg(&etc));
    }
    for (name, text) in files {
        fs_err::create_dir_all(etc.join(name).parent().unwrap()).unwrap();
        fs_err::write(etc.join(name), text).unwrap();
    }
    let plain = ddock.command(&[]);
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-ec", "mount --bind \"$0\" /etc; exec \"$@\""]);
    command.arg(etc).arg(binary()).arg("pull").args(args);
    command.env_clear();
    let environment = plain
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    command.envs(environment);
    command
}

#[test]
fn ssl_cert_dir_adds_authorities() {
    let ddock = Ddock::new();
    let (_plain, tls, authority) = unknown(&ddock);
    let directory = ddock.scratch().dir("certs");
    fs_err::write(directory.join("README"), "no certificate").unwrap();
    fs_err::copy(&authority.certificate, directory.join("0a1b2c3d.0")).unwrap();
    let directory = directory.to_str().unwrap();
    pull_with(
        &ddock,
        &[("SSL_CERT_DIR", directory)],
        &[&tls.reference(NAME)],
    )
    .exits(0);
}

#[test]
fn a_bad_ssl_cert_file_is_told() {
    let ddock = Ddock::new();
    let empty = ddock.scratch().file("empty.pem", "nothing");
    let path = empty.to_str().unwrap();
    pull_with(&ddock, &[("SSL_CERT_FILE", path)], &["localhost:1/x"])
        .exits(1)
        .says("SSL_CERT_FILE: ")
        .says("empty.pem has no certificate in PEM");
}

#[test]
fn certs_d_is_trusted_besides_the_systems_authorities() {
    let ddock = Ddock::new();
    let (_plain, tls, authority) = unknown(&ddock);
    let reference = tls.reference(NAME);
    for place in ["docker", "containers"] {
        let name = format!(".config/{place}/certs.d/{}", tls.address());
        let directory = ddock.scratch().dir(&name);
        pull_with(&ddock, &[], &[&reference])
            .exits(1)
            .says("is not trusted");
        fs_err::copy(&authority.certificate, directory.join("any-name.crt")).unwrap();
        pull_with(&ddock, &[], &[&reference]).exits(0);
        fs_err::remove_dir_all(&directory).unwrap();
    }
    let pem = fs_err::read_to_string(&authority.certificate).unwrap();
    for place in ["docker", "containers"] {
        let file = format!("{place}/certs.d/{}/ca.crt", tls.address());
        let mut command = with_etc(&ddock, &[(&file, &pem)], &["-q", &reference]);
        output(&mut command).exits(0);
        fs_err::remove_file(ddock.scratch().join("etc").join(&file)).unwrap();
    }
}

#[test]
fn a_registry_that_wants_a_client_certificate_is_shown_ours() {
    let ddock = Ddock::new();
    let authority = Authority::new(ddock.scratch(), "ca");
    let plain = Registry::start();
    plain.push(NAME, &small("1"));
    let server = authority.issue(&["localhost"]);
    let wants = registry::tls(&server).replace(
        '}',
        &format!(", clientcas: [{}]}}", authority.certificate.display()),
    );
    let tls = plain.sibling("mutual", &wants, "");
    let directory = ddock
        .scratch()
        .dir(&format!(".config/docker/certs.d/{}", tls.address()));
    fs_err::copy(&authority.certificate, directory.join("ca.crt")).unwrap();
    let reference = tls.reference(NAME);
    // What it says of that may be lost: the server closes while we still send.
    pull_with(&ddock, &[], &[&reference]).exits(1);

    let Pair { certificate, key } = authority.issue(&["alice"]);
    fs_err::copy(certificate, directory.join("alice.cert")).unwrap();
    let missing = "missing key alice.key for client certificate";
    let advice = "CA certificates must use the extension .crt";
    pull_with(&ddock, &[], &[&reference])
        .exits(1)
        .says(missing)
        .says(advice);

    fs_err::copy(key, directory.join("alice.key")).unwrap();
    pull_with(&ddock, &[], &[&reference]).exits(0);

    fs_err::remove_file(directory.join("alice.cert")).unwrap();
    pull_with(&ddock, &[], &[&reference])
        .exits(1)
        .says("missing client certificate alice.cert for key");
}

#[test]
fn an_insecure_registry_need_not_prove_who_it_is() {
    let ddock = Ddock::new();
    let (_plain, tls, _authority) = unknown(&ddock);
    let reference = tls.reference(NAME);
    let address = tls.address();
    let numeric = reference.replace("localhost", "127.0.0.1");
    pull_with(&ddock, &[], &[&reference])
        .exits(1)
        .says("is not trusted");
    pull_with(&ddock, &[], &["--tls-verify=true", &reference]).exits(1);
    for args in [
        &["--tls-verify=false", &*reference][..],
        &["--insecure-registry", address, &reference],
        &["--insecure-registry=127.0.0.0/8", &numeric],
    ] {
        pull_with(&ddock, &[], args).exits(0);
    }
    let conf = format!("[[registry]]\nlocation = \"{address}\"\ninsecure = true\n");
    let conf = ddock.scratch().file("registries.conf", conf);
    let variable = [("CONTAINERS_REGISTRIES_CONF", conf.to_str().unwrap())];
    pull_with(&ddock, &variable, &[&reference]).exits(0);
    let daemon = format!(r#"{{"insecure-registries":["{address}"]}}"#);
    let files = [("docker/daemon.json", &*daemon)];
    output(&mut with_etc(&ddock, &files, &["-q", &reference])).exits(0);
}

#[test]
fn plain_http_is_spoken_beyond_loopback_only_if_the_user_says_so() {
    // An address of its own that is not loopback, whatever network this machine has.
    network::enter();
    let address = "192.0.2.1";
    command_succeeds(Command::new("ip").args(["address", "add", address, "dev", "lo"]));
    let plain = Registry::start();
    plain.push(NAME, &small("1"));
    let open = plain.sibling_at("open", &format!("{address}:0"), "", "");
    let reference = open.reference(NAME);
    let ddock = Ddock::new();
    pull_with(&ddock, &[], &[&reference])
        .exits(1)
        .says("gave an http answer to an https request");
    pull_with(&ddock, &[], &["--tls-verify=false", &reference]).exits(0);
    pull_with(
        &ddock,
        &[],
        &["--insecure-registry", open.address(), &reference],
    )
    .exits(0);
}

#[test]
fn proxies_are_used_in_every_form_and_loopback_needs_none() {
    let ddock = Ddock::new();
    let plain = Registry::start();
    plain.push(NAME, &small("1"));
    // A name that only the proxy knows: it sends everything to the registry.
    let proxy = Proxy::start(&plain.address().replace("localhost", "127.0.0.1"));
    let reference = format!("registry.example/{NAME}");
    let at = proxy.address();
    for (variable, value) in [
        ("https_proxy", format!("http://{at}")),
        ("HTTPS_PROXY", format!("http://user:secret@{at}")),
        ("ALL_PROXY", at.to_owned()),
        ("all_proxy", format!("socks5h://{at}")),
        ("all_proxy", format!("socks5h://user:secret@{at}")),
    ] {
        // https goes to the proxy first, and the registry behind it speaks http.
        let asked = proxy.asked().len();
        let variables = [(variable, &*value), ("http_proxy", &*value)];
        pull_with(&ddock, &variables, &["--tls-verify=false", &reference]).exits(0);
        let asked = proxy.asked().split_off(asked);
        assert!(
            asked.contains(&"registry.example:443".to_owned()),
            "{value}: {asked:?}"
        );
    }
    let before = proxy.asked().len();
    let all = [("ALL_PROXY", at)];
    pull_with(&ddock, &all, &[&plain.reference(NAME)]).exits(0);
    for none in [
        "registry.example",
        ".example",
        "*",
        "registry.example:443",
        "x, example",
    ] {
        let variables = [("HTTPS_PROXY", at), ("NO_PROXY", none)];
        pull_with(&ddock, &variables, &[&reference])
            .exits(1)
            .says("cannot reach");
    }
    assert_eq!(proxy.asked().len(), before);
    let output = pull_with(
        &ddock,
        &[("https_proxy", "http://u:secret@p:x")],
        &[&reference],
    );
    let output = output.exits(1).says("https_proxy is no URL of a proxy");
    assert!(!output.stderr.contains("secret"), "{}", output.stderr);
    let dead = pull_with(
        &ddock,
        &[("https_proxy", "http://u:secret@127.0.0.1:1")],
        &[&reference],
    );
    assert!(!dead.exits(1).stderr.contains("secret"));
}

/// Returns the request lines that a registry saw about the image's blobs.
fn blobs(requests: &[Request]) -> Vec<&str> {
    let blobs = requests.iter().filter(|it| it.target.contains("/blobs/"));
    blobs.map(|it| it.target.as_str()).collect()
}

#[test]
fn mirrors_are_asked_in_every_way_to_name_them() {
    let ddock = Ddock::new();
    let image = small("1");
    let mirror = Canned::registry(&image, |_, reply| reply);
    // The registry itself is dead: all must come from the mirror.
    let at = mirror.address();
    let conf = format!(
        "[[registry]]\nlocation = \"r.example\"\n[[registry.mirror]]\nlocation = \"{at}/sub\"\n"
    );
    let hosts = format!("[host.\"http://{at}\"]\ncapabilities = [\"pull\", \"resolve\"]\n");
    let hub = format!(r#"{{"registry-mirrors":["http://{at}"]}}"#);
    let dead = [("HTTPS_PROXY", "http://127.0.0.1:1")];
    let flag = format!("r.example=http://{at}");
    let none: &[(&str, &str)] = &[];
    for (files, args, target) in [
        (
            none,
            &["--mirror", &*flag, "r.example/a/b:1"][..],
            "/v2/a/b/manifests/1?ns=r.example",
        ),
        (
            &[("containers/registries.conf", &*conf)],
            &["r.example/a/b:1"],
            "/v2/sub/a/b/manifests/1",
        ),
        (
            &[
                ("containers/registries.conf", ""),
                ("containerd/certs.d/r.example/hosts.toml", &hosts),
            ],
            &["r.example/a/b:1"],
            "/v2/a/b/manifests/1?ns=r.example",
        ),
        (
            &[("docker/daemon.json", &hub)],
            &["ubuntu:1"],
            "/v2/library/ubuntu/manifests/1",
        ),
    ] {
        fs_err::remove_dir_all(ddock.root()).ok();
        let before = mirror.requests().len();
        let mut command = with_etc(&ddock, files, args);
        output(command.envs(dead))
            .exits(0)
            .says(&format!("was told by mirror `{at}`"));
        let asked = mirror.requests().split_off(before);
        assert_eq!(asked[0].target, target);
        assert_eq!(blobs(&asked).len(), 2, "config and layer");
    }
}

#[test]
fn a_run_pulls_from_the_mirror_too() {
    let image = crate::harness::image::busybox().build();
    let mirror = Canned::registry(&image, |_, reply| reply);
    let flag = format!("r.example=http://{}", mirror.address());
    let ddock = Ddock::new();
    let args = [
        "run",
        "--rm",
        "--mirror",
        &flag,
        "r.example/a:1",
        "echo",
        "here",
    ];
    assert_eq!(ddock.ok(&args), "here\n");
}

#[test]
fn a_blob_goes_on_at_the_registry_when_its_mirror_dies() {
    let image = noise();
    let origin = Canned::registry(&image, |_, reply| reply);
    let layer = image.layers()[0].clone();
    let mirror = Canned::registry(&image, move |request, mut reply| {
        if request.target.contains(&layer) {
            reply.cut = Some(1 << 20);
        }
        reply
    });
    let ddock = Ddock::new();
    let flag = format!("{}=http://{}", origin.address(), mirror.address());
    let output = pull_with(&ddock, &[], &["--mirror", &flag, &origin.reference(NAME)]).exits(0);
    let told = format!(
        "mirror `{}` is passed over: the connection",
        mirror.address()
    );
    assert_eq!(output.stderr.matches(&told).count(), 1, "{}", output.text());

    let asked = origin.requests();
    assert_eq!(asked.len(), 1, "only what is missing of the layer");
    let part = asked[0].header("Range").unwrap_or_default();
    assert!(part.starts_with("bytes=1048576-"), "{part}");
    assert!(!asked[0].target.contains("ns="), "{}", asked[0].target);
}

#[test]
fn what_a_mirror_refuses_or_lacks_the_registry_gives() {
    let image = small("1");
    let origin = Canned::registry(&image, |_, reply| reply);
    for status in [401, 403, 404, 429, 500, 503] {
        let mirror = Canned::serve(move |_| Reply::error(status, "X", "not here"));
        let dead = "http://127.0.0.1:1".to_owned();
        for url in [format!("http://{}", mirror.address()), dead] {
            let flag = format!("{}={url}", origin.address());
            let ddock = Ddock::new();
            let reference = origin.reference(NAME);
            pull_with(&ddock, &[], &["--mirror", &flag, &reference])
                .exits(0)
                .says("is passed over: ");
        }
    }
}

#[test]
fn what_a_mirror_has_wrong_the_registry_gives() {
    let image = small("1");
    let origin = Canned::registry(&image, |_, reply| reply);
    for part in ["/blobs/", "/manifests/sha256:"] {
        let mirror = Canned::registry(&image, move |request, mut reply| {
            if request.target.contains(part) {
                reply.body[3] ^= 1;
            }
            reply
        });
        let flag = format!("{}=http://{}", origin.address(), mirror.address());
        let by_digest = format!("test/image@{}", image.top().digest);
        let ddock = Ddock::new();
        pull_with(
            &ddock,
            &[],
            &["--mirror", &flag, &origin.reference(&by_digest)],
        )
        .exits(0);
        let asked = mirror.requests();
        assert!(asked.iter().any(|it| it.target.contains(part)), "{part}");
    }
}

#[test]
fn the_registrys_own_error_is_told_and_not_the_mirrors() {
    let origin = Canned::serve(|_| Reply::error(404, "MANIFEST_UNKNOWN", "manifest unknown"));
    let mirror = Canned::serve(|_| Reply::error(500, "X", "broken"));
    let flag = format!("{}=http://{}", origin.address(), mirror.address());
    let ddock = Ddock::new();
    let output = pull_with(&ddock, &[], &["--mirror", &flag, &origin.reference("a:1")]).exits(1);
    let last = output.stderr.lines().last().unwrap();
    assert!(
        last.contains("not found in") && last.contains(origin.address()),
        "{last}"
    );
}

#[test]
fn a_mirror_for_digests_does_not_say_what_a_tag_names() {
    let image = small("1");
    let origin = Canned::registry(&image, |_, reply| reply);
    let mirror = Canned::registry(&image, |_, reply| reply);
    let conf = format!(
        "[[registry]]\nlocation = \"{}\"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = \"{}\"\n",
        origin.address(),
        mirror.address()
    );
    let ddock = Ddock::new();
    let conf = ddock.scratch().file("registries.conf", conf);
    let variable = [("CONTAINERS_REGISTRIES_CONF", conf.to_str().unwrap())];
    pull_with(&ddock, &variable, &[&origin.reference(NAME)]).exits(0);
    let targets = |server: &Canned| -> Vec<String> {
        server.requests().into_iter().map(|it| it.target).collect()
    };
    assert_eq!(targets(&origin), ["/v2/test/image/manifests/latest"]);
    assert!(
        targets(&mirror)
            .iter()
            .all(|it| it.contains("/blobs/sha256:"))
    );
    assert_eq!(targets(&mirror).len(), 2);
}

#[test]
fn credentials_of_the_registry_are_for_no_one_else() {
    let image = small("1");
    let protected = |request: &Request, reply: Reply, expected: &str| {
        if request.header("Authorization") == Some(expected) {
            return reply;
        }
        Reply::error(401, "UNAUTHORIZED", "who?").header("WWW-Authenticate", "Basic realm=\"x\"")
    };
    // alice:origin and alice:mirror
    let (for_origin, for_mirror) = ("Basic YWxpY2U6b3JpZ2lu", "Basic YWxpY2U6bWlycm9y");
    let layer = image.layers()[0].clone();
    let cdn = Canned::registry(&image, |_, reply| reply);
    let at = cdn.address().to_owned();
    let origin = Canned::registry(&image, move |request, reply| {
        let reply = protected(request, reply, for_origin);
        if reply.status == 200 && request.target.contains("/blobs/") {
            let to = format!("http://{at}{}?signature=s", request.target);
            return Reply::new(307, "").header("Location", &to);
        }
        reply
    });
    // It has all but the layer.
    let mirror = Canned::registry(&image, move |request, reply| {
        if request.target.contains(&layer) {
            return Reply::error(404, "BLOB_UNKNOWN", "no");
        }
        protected(request, reply, for_mirror)
    });
    let ddock = Ddock::new();
    let config = format!(
        r#"{{"auths":{{"{}":{{"auth":"YWxpY2U6b3JpZ2lu"}},"{}":{{"auth":"YWxpY2U6bWlycm9y"}}}}}}"#,
        origin.address(),
        mirror.address()
    );
    ddock.scratch().dir(".docker");
    ddock.scratch().file(".docker/config.json", config);
    let flag = format!("{}=http://{}", origin.address(), mirror.address());
    pull_with(&ddock, &[], &["--mirror", &flag, &origin.reference(NAME)]).exits(0);

    let sent = |server: &Canned| -> Vec<String> {
        let requests = server.requests();
        let headers = requests.iter().filter_map(|it| it.header("Authorization"));
        headers.map(str::to_owned).collect()
    };
    assert!(sent(&origin).iter().all(|it| it == for_origin) && !sent(&origin).is_empty());
    assert!(sent(&mirror).iter().all(|it| it == for_mirror) && !sent(&mirror).is_empty());
    assert_eq!(sent(&cdn), [""; 0]);
    assert_eq!(cdn.requests().len(), 1);
}

/// An image whose layer is about 4 MiB large, compressed or not.
fn noise() -> Image {
    let mut seed = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        seed.to_le_bytes()[0]
    })
    .take(4 << 20)
    .collect();
    let tree = Tree::new().dir("./", 0o755).file("noise", 0o644, noise);
    ImageBuilder::new().layer(tree).build()
}

#[test]
fn a_signed_url_that_expires_is_asked_for_again() {
    let image = noise();
    let size = image.blobs[1].bytes.len();
    let layer = image.layers()[0].clone();
    // Every signature is good for one request that is cut off; the second with it is refused.
    let (sent, signed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counter, expired) = (Arc::clone(&sent), Arc::new(AtomicBool::new(false)));
    let cdn = Canned::registry(&image, move |request, mut reply| {
        // The first answer to each new connection after a cut is a refusal: the clock went on.
        if expired.swap(false, Ordering::Relaxed) {
            return Reply::new(403, "<Error>Request has expired</Error>");
        }
        if request.method == "GET" && reply.body.len() > 1 << 20 {
            reply.cut = Some(1 << 20);
            expired.store(true, Ordering::Relaxed);
        }
        counter.fetch_add(reply.cut.unwrap_or(reply.body.len()), Ordering::Relaxed);
        reply
    });
    let at = cdn.address().to_owned();
    let number = Arc::clone(&signed);
    let wanted = layer.clone();
    let origin = Canned::registry(&image, move |request, reply| {
        if !request.target.contains(&wanted) {
            return reply;
        }
        number.fetch_add(1, Ordering::Relaxed);
        let to = format!("http://{at}{}", request.target);
        Reply::new(307, "").header("Location", &to)
    });
    let ddock = Ddock::new();
    pull_with(&ddock, &[], &[&origin.reference(NAME)]).exits(0);
    assert_eq!(sent.load(Ordering::Relaxed), size, "all bytes, each once");
    assert!(
        signed.load(Ordering::Relaxed) > 4,
        "a new URL after each refusal"
    );
}

#[test]
fn a_redirect_to_plain_http_is_refused() {
    let ddock = Ddock::new();
    let authority = Authority::new(ddock.scratch(), "ca");
    let Pair { certificate, key } = authority.issue(&["localhost"]);
    let plain = Canned::registry(&small("1"), |_, reply| reply);
    // openssl answers from a file: head and body as they are there.
    let reply = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{}/v2/a/manifests/1\r\nContent-Length: 0\r\n\r\n",
        plain.address()
    );
    let server = ddock.scratch().dir("server");
    fs_err::create_dir_all(server.join("v2/a/manifests")).unwrap();
    fs_err::write(server.join("v2/a/manifests/1"), reply).unwrap();
    let openssl = OpensslServer::start(&certificate, &key, &server);
    let trusted = [("SSL_CERT_FILE", authority.certificate.to_str().unwrap())];
    let reference = format!("localhost:{}/a:1", openssl.port);
    pull_with(&ddock, &trusted, &[&reference])
        .exits(1)
        .says("redirects from https to plain http");
    assert_eq!(plain.requests().len(), 0);
}

/// `openssl s_server -HTTP`: files of a directory over TLS, each a whole answer.
struct OpensslServer {
    child: std::process::Child,
    port: u16,
}

impl OpensslServer {
    fn start(certificate: &Path, key: &Path, directory: &Path) -> OpensslServer {
        use std::io::{BufRead, BufReader};
        let mut command = Command::new("openssl");
        command.args(["s_server", "-HTTP", "-accept", "127.0.0.1:0", "-cert"]);
        command
            .arg(certificate)
            .arg("-key")
            .arg(key)
            .current_dir(directory);
        command.stdin(std::process::Stdio::null());
        let mut child = command
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.map_while(Result::ok).find_map(|line| {
            // ACCEPT 127.0.0.1:40000
            line.strip_prefix("ACCEPT 127.0.0.1:")?.trim().parse().ok()
        });
        OpensslServer {
            child,
            port: port.expect("openssl says where it listens"),
        }
    }
}

impl Drop for OpensslServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn requests_over_tls_share_http_2() {
    let ddock = Ddock::new();
    let (_plain, tls, authority) = unknown(&ddock);
    let trusted = [("SSL_CERT_FILE", authority.certificate.to_str().unwrap())];
    pull_with(&ddock, &trusted, &[&tls.reference(NAME)]).exits(0);
    assert!(tls.log().contains(" HTTP/2.0\" 200 "), "{}", tls.log());
}

#[test]
fn a_blocked_registry_is_not_asked() {
    let ddock = Ddock::new();
    let conf = "[[registry]]\nprefix = \"r.example\"\nblocked = true\n";
    let conf = ddock.scratch().file("registries.conf", conf);
    let path = conf.to_str().unwrap();
    let variable = [("CONTAINERS_REGISTRIES_CONF", path)];
    pull_with(&ddock, &variable, &["r.example/a"])
        .exits(1)
        .says(&format!(
            "ddock: cannot pull `r.example/a`: `r.example` is blocked by {path}\n"
        ));
}

#[test]
fn bad_flags_are_usage_errors() {
    let ddock = Ddock::new();
    for (args, text) in [
        (
            ["--mirror", "x"],
            "invalid value `x` for `--mirror`: expected HOST=URL",
        ),
        (
            ["--mirror", "r=ftp://x"],
            "invalid value `r=ftp://x` for `--mirror`: neither http nor https",
        ),
        (
            ["--insecure-registry", "a/b"],
            "invalid value `a/b` for `--insecure-registry`: expected HOST[:PORT] or a CIDR",
        ),
        (
            ["--tls-verify=maybe", "-q"],
            "invalid value `maybe` for `--tls-verify`: expected true, false",
        ),
    ] {
        pull_with(&ddock, &[], &[args[0], args[1], "r.example/a"])
            .exits(125)
            .says(text);
    }
}
