//! Docker Hub, by its own names: nginx with TLS before a real registry, a token service, and blobs behind signed links.
//!
//! All of it is in the test's own network, where `/etc/hosts` sends Docker's names to loopback.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::harness::authority::Authority;
use crate::harness::canned::{Canned, Reply, Request};
use crate::harness::ddock::{Ddock, Output, output};
use crate::harness::image::{Image, busybox};
use crate::harness::network;
use crate::harness::registry::Registry;
use crate::harness::scratch::{Scratch, command_succeeds};
use crate::harness::wait_for;

const REGISTRY: &str = "registry-1.docker.io";
const TOKENS: &str = "auth.docker.io";
const CONTENT: &str = "production.cloudflare.docker.com";

struct Hub {
    scratch: Scratch,
    authority: Authority,
    image: Image,
    tokens: Canned,
    _registry: Registry,
    nginx: Child,
}

impl Hub {
    /// Starts a Hub with the images `ubuntu` for everyone and `alice/private` for alice, whose password is `secret`.
    fn start() -> Hub {
        network::enter();
        network::enter_private_mounts();
        let scratch = Scratch::new();
        let hosts =
            format!("127.0.0.1 localhost {REGISTRY}\n127.0.0.2 {TOKENS}\n127.0.0.3 {CONTENT}\n");
        let hosts = scratch.file("hosts", hosts);
        let mut mount = Command::new("mount");
        command_succeeds(mount.arg("--bind").arg(hosts).arg("/etc/hosts"));

        let registry = Registry::start();
        let image = busybox().build();
        registry.push("library/ubuntu:latest", &image);
        registry.push("alice/private:latest", &image);
        let tokens = Canned::serve(token);
        let authority = Authority::new(&scratch, "authority");
        let nginx = start_nginx(&scratch, &authority, registry.address(), tokens.address());
        Hub {
            scratch,
            authority,
            image,
            tokens,
            _registry: registry,
            nginx,
        }
    }

    fn run(&self, ddock: &Ddock, args: &[&str]) -> Output {
        let mut command = ddock.command(args);
        output(command.env("SSL_CERT_FILE", &self.authority.certificate))
    }

    /// Returns the requests to one of the names as "STATUS METHOD TARGET [AUTHORIZATION]".
    fn requests(&self, name: &str) -> Vec<String> {
        let log = fs_err::read_to_string(self.scratch.join("access.log")).unwrap();
        let prefix = format!("{name} ");
        let lines = log.lines().filter_map(|line| line.strip_prefix(&prefix));
        lines.map(str::to_owned).collect()
    }

    /// Fails the test unless tokens went to the registry and nothing of the kind to where the content is.
    #[track_caller]
    fn assert_no_authorization_left_the_registry(&self, token: &str) {
        let authorization = format!("[Bearer {token}]");
        let asked = self.requests(REGISTRY);
        assert!(
            asked.iter().any(|line| line.ends_with(&authorization)),
            "what the log is searched for must be found where it belongs: {asked:#?}"
        );
        let content = self.requests(CONTENT);
        assert_eq!(content.len(), self.image.blobs.len(), "{content:#?}");
        let bare = |line: &String| line.starts_with("200 GET /blobs/") && line.ends_with(" [-]");
        assert!(content.iter().all(bare), "{content:#?}");
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        drop(self.nginx.kill());
        drop(self.nginx.wait());
    }
}

/// Answers as a token service (distribution's "Token Authentication Specification").
fn token(request: &Request) -> Reply {
    let alice = format!("Basic {}", STANDARD.encode("alice:secret"));
    let token = match request.header("Authorization") {
        None => "for-everyone",
        Some(text) if text == alice => "for-alice",
        Some(_) => {
            return Reply::error(401, "UNAUTHORIZED", "incorrect username or password");
        }
    };
    let token = json!({"token": token, "access_token": token, "expires_in": 300});
    Reply::new(200, token.to_string()).header("Content-Type", "application/json")
}

fn start_nginx(scratch: &Scratch, authority: &Authority, registry: &str, tokens: &str) -> Child {
    let pair = authority.issue(&[REGISTRY, TOKENS, CONTENT]);
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let mut config = include_str!("hub.conf").to_owned();
    for (name, value) in [
        ("@DIR@", text(scratch.path())),
        ("@CERTIFICATE@", text(&pair.certificate)),
        ("@KEY@", text(&pair.key)),
        ("@PLAIN@", registry.to_owned()),
        ("@TOKEN_SERVICE@", tokens.to_owned()),
    ] {
        config = config.replace(name, &value);
    }
    let config = scratch.file("nginx.conf", config);
    let log = fs_err::File::create(scratch.join("nginx.log")).unwrap();
    let mut nginx = Command::new("nginx")
        .arg("-p")
        .arg(scratch.path())
        .arg("-c")
        .arg(config)
        .stdin(Stdio::null())
        .stderr(log.into_file())
        .spawn()
        .expect("nginx is installed");
    wait_for("nginx to listen", || {
        let log = fs_err::read_to_string(scratch.join("nginx.log")).unwrap();
        assert!(nginx.try_wait().unwrap().is_none(), "nginx ended: {log}");
        std::net::TcpStream::connect("127.0.0.3:443").ok()
    });
    nginx
}

/// Fails the test unless this is what Docker prints for a new image.
#[track_caller]
fn assert_dockers_lines(hub: &Hub, output: &Output) {
    let digest = format!("Digest: {}", hub.image.top().digest);
    let lines = output.lines();
    let opening = [
        "Using default tag: latest",
        "latest: Pulling from library/ubuntu",
    ];
    let closing = [
        digest.as_str(),
        "Status: Downloaded newer image for ubuntu:latest",
        "docker.io/library/ubuntu:latest",
    ];
    assert!(
        lines.starts_with(&opening) && lines.ends_with(&closing),
        "{}",
        output.text()
    );
}

#[test]
fn ubuntu_is_pulled_and_run_by_its_name_alone() {
    let (hub, ddock) = (Hub::start(), Ddock::new());
    let pulled = hub.run(&ddock, &["pull", "ubuntu"]).exits(0);
    assert_dockers_lines(&hub, &pulled);
    hub.assert_no_authorization_left_the_registry("for-everyone");
    let asked = hub.tokens.requests();
    assert_eq!(asked.len(), 1, "one token serves the whole pull");
    assert!(asked[0].header("Authorization").is_none());
    let target = asked[0].target.replace("%3A", ":").replace("%2F", "/");
    assert!(target.contains("service=registry.docker.io"), "{target}");
    assert!(
        target.contains("scope=repository:library/ubuntu:pull"),
        "{target}"
    );
    hub.run(&ddock, &["run", "--rm", "ubuntu", "true"]).exits(0);
}

/// Logs in as Docker does it, in the file where it does.
fn log_in(ddock: &Ddock, password: &str) {
    let auth = STANDARD.encode(format!("alice:{password}"));
    let config = json!({"auths": {"https://index.docker.io/v1/": {"auth": auth}}});
    ddock.scratch().dir(".docker");
    ddock
        .scratch()
        .file(".docker/config.json", config.to_string());
}

#[test]
fn a_users_credentials_go_to_the_token_service_and_nowhere_else() {
    let (hub, ddock) = (Hub::start(), Ddock::new());
    log_in(&ddock, "secret");
    let pulled = hub.run(&ddock, &["pull", "ubuntu"]).exits(0);
    assert_dockers_lines(&hub, &pulled);
    hub.assert_no_authorization_left_the_registry("for-alice");
    for request in hub.requests(REGISTRY) {
        assert!(!request.contains("Basic"), "{request}");
    }
    hub.run(&ddock, &["run", "--rm", "ubuntu", "true"]).exits(0);
}

#[test]
fn a_private_image_is_for_those_who_are_logged_in() {
    let (hub, ddock) = (Hub::start(), Ddock::new());
    hub.run(&ddock, &["pull", "-q", "alice/private"])
        .exits(1)
        .says("you are not logged in");
    log_in(&ddock, "wrong");
    let refused = hub.run(&ddock, &["pull", "-q", "alice/private"]).exits(1);
    assert!(!refused.text().contains("wrong\""), "{}", refused.text());
    log_in(&ddock, "secret");
    hub.run(&ddock, &["pull", "-q", "alice/private"]).exits(0);
}
