//! What surrounds a pull and is none of its business: the caller's home, files in the place of others, limits.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use crate::harness::canned::Canned;
use crate::harness::ddock::{Ddock, output};
use crate::harness::image::{Compression, Image, ImageBuilder};
use crate::harness::registry::Registry;
use crate::harness::tree::Tree;

fn small() -> Image {
    ImageBuilder::new()
        .layer(Tree::new().file("f", 0o644, ""))
        .build()
}

#[test]
fn a_home_that_is_none_fails_no_pull() {
    let registry = Registry::start();
    let reference = registry.push("x:1", &small());
    let scratch = Ddock::new();
    let home = scratch.scratch().dir("home");
    let homes: [(&str, &str, &str); 9] = [
        ("null", "", ""),
        (".config a file", "touch .config", "registries in"),
        (".config a loop", "ln -s .config .config", "registries in"),
        (".docker a file", "touch .docker", ""),
        (".docker a loop", "ln -s .docker .docker", "credentials in"),
        (
            "config.json a directory",
            "mkdir -p .docker/config.json",
            "credentials in",
        ),
        (
            "config.json a pipe",
            "mkdir .docker; mkfifo .docker/config.json",
            "credentials in",
        ),
        (
            "auth.json endless",
            "mkdir -p .config/containers; ln -s /dev/zero .config/containers/auth.json",
            "credentials in",
        ),
        (
            "registries.conf a directory",
            "mkdir -p .config/containers/registries.conf .config/docker/daemon.json",
            "",
        ),
    ];
    for (what, make, said) in homes {
        let home = home.join(what);
        fs_err::create_dir(&home).unwrap();
        let made = Command::new("sh")
            .args(["-c", make])
            .current_dir(&home)
            .status();
        assert!(made.unwrap().success(), "{what}");
        let ddock = Ddock::new();
        let mut pull = ddock.command(&["pull", "-q", &reference]);
        pull.env_remove("XDG_CONFIG_HOME").env("HOME", &home);
        if what == "null" {
            pull.env("HOME", "/dev/null");
        }
        let output = output(&mut pull).exits(0);
        assert!(output.stderr.contains(said), "{what}: {}", output.stderr);
        assert_eq!(
            output.stderr.is_empty(),
            said.is_empty(),
            "{what}: {}",
            output.stderr
        );
    }
}

#[test]
fn a_file_that_may_not_grow_is_an_error_in_words() {
    let registry = Registry::start();
    let noise: Vec<u8> = (0..3_u32 << 18)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let tree = Tree::new().file("f", 0o644, noise);
    let image = ImageBuilder::new().layer_as(tree.tar(), Compression::None);
    let reference = registry.push("x:1", &image.build());
    let ddock = Ddock::new();
    let pull = ddock.command(&["pull", "-q", &reference]);
    let mut limited = Command::new("prlimit");
    limited
        .arg("--fsize=1000000")
        .arg(pull.get_program())
        .args(pull.get_args());
    limited.env_clear();
    for (name, value) in pull.get_envs() {
        limited.env(name, value.unwrap());
    }
    output(&mut limited).exits(1).says("File too large");
    ddock.ok(&["pull", "-q", &reference]);
}

/// Passes on what is plain http to `registry`; does `refuse` with what begins with TLS.
fn plain_only(registry: String, refuse: fn(TcpStream)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, registry) = (client.unwrap(), registry.clone());
            thread::spawn(move || {
                let mut first = [0];
                if client.peek(&mut first).unwrap_or(0) == 0 {
                    return;
                }
                if first[0] == 0x16 {
                    return refuse(client);
                }
                let server = TcpStream::connect(registry).unwrap();
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || std::io::copy(&mut from, &mut to));
                let (mut from, mut to) = (server, client);
                std::io::copy(&mut from, &mut to).ok();
            });
        }
    });
    address
}

#[test]
fn plain_http_is_tried_on_loopback_whatever_became_of_tls() {
    type Refuse = fn(TcpStream);
    let ways: [(&str, Refuse); 5] = [
        ("plain text", |mut client| {
            client
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .unwrap();
        }),
        ("an end", |mut client| {
            let _greeting = client.read(&mut [0; 4096]).unwrap();
        }),
        ("a reset", drop),
        ("an alert", |mut client| {
            let _greeting = client.read(&mut [0; 4096]).unwrap();
            // TLS 1.2, alert, fatal: handshake failure.
            client.write_all(&[0x15, 3, 3, 0, 2, 2, 40]).unwrap();
        }),
        ("silence", |mut client| {
            while client.read(&mut [0; 4096]).is_ok_and(|length| length > 0) {}
        }),
    ];
    for (way, refuse) in ways {
        let registry = Canned::registry(&small(), |_, reply| reply);
        let address = plain_only(registry.address().to_owned(), refuse);
        let output = Ddock::new().run(&["pull", "-q", &format!("{address}/test/x:1")]);
        assert_eq!(output.code, 0, "{way}: {}", output.stderr);
    }
}
