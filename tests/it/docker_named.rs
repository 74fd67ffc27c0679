//! Called by a link named `docker`: texts, global options and codes are Docker's.

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::harness::ddock::{Ddock, Output, binary, output};

/// Runs this program by the name of Docker's.
fn docker(ddock: &Ddock, words: &[&str], variables: &[(&str, &str)]) -> Output {
    let link = ddock.scratch().join("docker");
    if !link.exists() {
        symlink(binary(), &link).unwrap();
    }
    let mut command = Command::new(link);
    command
        .env_remove("DOCKER_HOST")
        .env_remove("DOCKER_CONTEXT");
    command
        .env("DDOCK_ROOT", ddock.root())
        .envs(variables.iter().copied());
    output(command.args(words))
}

#[test]
fn texts_have_its_name() {
    let (ddock, image) = Ddock::with_busybox();
    let docker = |words: &[&str]| docker(&ddock, words, &[]);
    assert!(
        docker(&["run", "--help"])
            .stdout
            .starts_with("Usage: docker run [OPTIONS] IMAGE")
    );
    assert!(
        docker(&["--help"])
            .stdout
            .contains("Run 'docker COMMAND --help'")
    );
    docker(&["ps", "--fly"])
        .exits(125)
        .says("docker: unknown flag")
        .says("Run 'docker ps --help'");
    docker(&["inspect", "-f", "{{.Nope}}", &image])
        .exits(1)
        .says("docker: template parsing error");
    assert_eq!(
        docker(&["run", "--rm", &image, "echo", "ddock: hi"])
            .exits(0)
            .stdout,
        "ddock: hi\n"
    );
}

#[test]
fn its_global_options_do_what_they_can() {
    let ddock = Ddock::new();
    for words in [
        &["-H", "unix:///var/run/docker.sock", "ps", "-q"][..],
        &[
            "--host=unix:///run/docker.sock",
            "-D",
            "-l",
            "debug",
            "ps",
            "-q",
        ],
        &[
            "--context",
            "default",
            "--tls=false",
            "--tlscacert",
            "/none",
            "ps",
            "-q",
        ],
        &["--config", "/none", "--log-level=error", "images", "-q"],
    ] {
        let output = docker(&ddock, words, &[]).exits(0);
        assert_eq!(
            (output.stdout.as_str(), output.stderr.as_str()),
            ("", ""),
            "{words:?}"
        );
    }
    docker(&ddock, &["-H", "tcp://1.2.3.4:2375", "ps"], &[])
        .exits(1)
        .says("`--host tcp://1.2.3.4:2375`");
    docker(&ddock, &["-c", "cloud", "ps"], &[])
        .exits(1)
        .says("cloud");
    docker(&ddock, &["ps"], &[("DOCKER_HOST", "tcp://1.2.3.4:2375")])
        .exits(0)
        .says("WARNING: DOCKER_HOST");
    assert_eq!(
        docker(&ddock, &["ps", "-q"], &[("DOCKER_HOST", "")])
            .exits(0)
            .stderr,
        ""
    );
}

#[test]
fn an_empty_value_is_an_unset_one() {
    let (ddock, image) = Ddock::with_busybox();
    let variables = [
        ("DOCKER_DEFAULT_PLATFORM", ""),
        ("DOCKER_CONFIG", ""),
        ("HTTPS_PROXY", ""),
    ];
    let flags = [
        "--name",
        "",
        "--platform=",
        "-u",
        "",
        "-w",
        "",
        "--memory",
        "",
        "--network",
        "",
        "-v",
        "",
        "--pull",
        "",
    ];
    let words = [&["run", "--rm"], &flags[..], &[&image, "pwd"]].concat();
    assert_eq!(docker(&ddock, &words, &variables).exits(0).stdout, "/\n");
    assert_eq!(
        docker(&ddock, &["ps", "-q", "--filter", "", "--format", ""], &[])
            .exits(0)
            .stdout,
        ""
    );
}

#[test]
fn what_scripts_ask_for_that_is_so_anyway_is_taken() {
    let (ddock, image) = Ddock::with_busybox();
    let flags = [
        "--disable-content-trust",
        "--no-healthcheck",
        "--name",
        "/slashed",
    ];
    let words: Vec<&str> = ["create"]
        .into_iter()
        .chain(flags)
        .chain([&*image, "true"])
        .collect();
    docker(&ddock, &words, &[]).exits(0);
    let names = docker(&ddock, &["ps", "-a", "--format", "{{.Names}}"], &[]);
    assert_eq!(names.stdout, "slashed\n", "{}", names.text());
    docker(&ddock, &["rm", "slashed"], &[]).exits(0);
}
