//! The way to a registry: whom ddock trusts, through what it goes, and who answers in its place.

use crate::harness::authority::Authority;
use crate::harness::ddock::{Ddock, Output, output};
use crate::harness::image::{Image, ImageBuilder};
use crate::harness::registry::Registry;
use crate::harness::tree::Tree;

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
    registry.push("test/image:latest", &small("1"));
    let ddock = Ddock::new();
    let authority = Authority::new(ddock.scratch(), "ca");
    let tls = registry.over_tls(&authority.issue(&["localhost"]));
    let reference = tls.reference("test/image:latest");
    let certificate = authority.certificate.to_str().unwrap();

    pull_with(&ddock, &[], &[&reference])
        .exits(1)
        .says(&format!(
            "the certificate of `{}` is not trusted",
            tls.address()
        ));
    pull_with(&ddock, &[("SSL_CERT_FILE", certificate)], &[&reference]).exits(0);
}
