//! Certificates: which authorities vouch for a registry, and what we show it of ourselves.

use crate::reference::DOCKER_HUB;
use crate::registry::routes::{Files, Places, Route};
use crate::sys::file;
use anyhow::{Context, Result, bail, ensure};
use reqwest::{Certificate, ClientBuilder, Identity};
use std::path::{Path, PathBuf};

/// Where distributions keep the certificate authorities they trust, in one file.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt", // Debian, Arch, Gentoo
    "/etc/pki/tls/certs/ca-bundle.crt",   // Fedora, older Red Hat
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Red Hat
    "/etc/ssl/ca-bundle.pem",             // SUSE
    "/etc/ssl/cert.pem",                  // Alpine, OpenWrt
];

/// Gives the process its one set of algorithms for TLS, which a client must find when it is built.
pub(crate) fn provide() {
    // Only the first call does it: the others find it done.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
}

/// Adds to `builder` whom to trust at the host of `route`, and our certificate for it if there is one.
///
/// What `certs.d` has for the host is trusted besides the system's authorities, not instead.
pub(crate) fn configure(
    builder: ClientBuilder,
    route: &Route,
    places: &Places,
) -> Result<ClientBuilder> {
    let mut files = route.files.clone();
    for directory in directories(route, places) {
        add_directory(&mut files, &directory)?;
    }
    let mut roots = system_roots()?;
    for path in &files.roots {
        roots.extend(read(path)?);
    }
    let builder = builder.tls_certs_only(roots);
    Ok(match &files.client {
        None => builder,
        Some((certificate, key)) => builder.identity(identity(certificate, key.as_deref())?),
    })
}

/// Returns the directories of `certs.d` that are about the host: a name without a port means 443.
fn directories(route: &Route, places: &Places) -> Vec<PathBuf> {
    let mut names = vec![route.registry.clone()];
    if route.registry == DOCKER_HUB {
        names.push(route.host.clone());
    }
    let bracketed = route.registry.ends_with(']');
    match route.registry.strip_suffix(":443") {
        Some(name) => names.push(name.to_owned()),
        None if bracketed || !route.registry.contains(':') => {
            names.push(format!("{}:443", route.registry));
        }
        None => {}
    }
    let parents = ["docker/certs.d", "containers/certs.d"];
    let parents = parents.iter().flat_map(|parent| places.all(parent));
    parents
        .flat_map(|parent| names.iter().map(move |name| parent.join(name)))
        .collect()
}

/// Adds what a directory has: `*.crt` are authorities, `X.cert` with `X.key` is what we show.
fn add_directory(files: &mut Files, directory: &Path) -> Result<()> {
    let Ok(entries) = fs_err::read_dir(directory) else {
        // Not there, or not for us: who needs it hears that the registry is not trusted.
        return Ok(());
    };
    let paths: std::io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths?;
    paths.sort();
    for path in &paths {
        let other = |extension| {
            let other = path.with_extension(extension);
            paths.contains(&other).then_some(other)
        };
        let name = |path: &Path| path.file_name().unwrap_or_default().display().to_string();
        match path.extension().and_then(|it| it.to_str()) {
            Some("crt") => files.roots.push(path.clone()),
            Some("cert") => {
                let Some(key) = other("key") else {
                    bail!(
                        "missing key {} for client certificate {}. \
                         CA certificates must use the extension .crt",
                        name(&path.with_extension("key")),
                        path.display()
                    );
                };
                // Only one can be shown to the server: the first.
                files.client.get_or_insert((path.clone(), Some(key)));
            }
            Some("key") => ensure!(
                other("cert").is_some(),
                "missing client certificate {} for key {}",
                name(&path.with_extension("cert")),
                path.display()
            ),
            _ => {}
        }
    }
    Ok(())
}

fn identity(certificate: &Path, key: Option<&Path>) -> Result<Identity> {
    let mut pem = file::read(certificate)?;
    if let Some(key) = key {
        pem.push(b'\n');
        pem.extend(file::read(key)?);
    }
    Identity::from_pem(&pem).with_context(|| {
        let key = key.unwrap_or(certificate).display();
        format!(
            "{} and {key} are no certificate with its key in PEM",
            certificate.display()
        )
    })
}

/// Returns the authorities to trust everywhere: the user's, the system's, or Mozilla's as built in.
fn system_roots() -> Result<Vec<Certificate>> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let mut roots = match variable("SSL_CERT_FILE") {
        Some(path) => read(Path::new(&path)).context("SSL_CERT_FILE")?,
        None => bundle(),
    };
    let directories = variable("SSL_CERT_DIR").unwrap_or_default();
    let directories = std::env::split_paths(&directories);
    for directory in directories.filter(|path| !path.as_os_str().is_empty()) {
        for entry in fs_err::read_dir(directory).context("SSL_CERT_DIR")? {
            // Such directories also hold other things, and links that lead nowhere.
            let pem = file::read(&entry?.path()).unwrap_or_default();
            roots.extend(Certificate::from_pem_bundle(&pem).unwrap_or_default());
        }
    }
    if roots.is_empty() {
        let built_in = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
        let built_in = built_in
            .map(|der| Certificate::from_der(der).context("reading the built-in certificates"));
        return built_in.collect();
    }
    Ok(roots)
}

/// Returns the authorities of the system's bundle, none if there is no good one.
fn bundle() -> Vec<Certificate> {
    let certificates = BUNDLES.iter().map(|path| {
        // A bundle that is missing or broken leaves the next one, and those built in.
        let pem = file::read(Path::new(path)).unwrap_or_default();
        Certificate::from_pem_bundle(&pem).unwrap_or_default()
    });
    certificates
        .into_iter()
        .find(|list| !list.is_empty())
        .unwrap_or_default()
}

fn read(path: &Path) -> Result<Vec<Certificate>> {
    let pem = file::read(path)?;
    let certificates = Certificate::from_pem_bundle(&pem).unwrap_or_default();
    ensure!(
        !certificates.is_empty(),
        "{} has no certificate in PEM",
        path.display()
    );
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::routes::Route;

    fn directories_of(registry: &str) -> Vec<String> {
        let places = Places {
            system: Some(PathBuf::from("/e")),
            ..Places::default()
        };
        let route = Route::origin(&format!("{registry}/a/b").parse().unwrap()).unwrap();
        let directories = directories(&route, &places);
        let docker = directories
            .iter()
            .filter_map(|it| it.strip_prefix("/e/docker/certs.d").ok());
        docker.map(|it| it.display().to_string()).collect()
    }

    #[test]
    fn a_directory_without_a_port_means_443() {
        assert_eq!(directories_of("r.example"), ["r.example", "r.example:443"]);
        assert_eq!(
            directories_of("r.example:443"),
            ["r.example:443", "r.example"]
        );
        assert_eq!(directories_of("r.example:5000"), ["r.example:5000"]);
        assert_eq!(
            directories_of("docker.io"),
            ["docker.io", "registry-1.docker.io", "docker.io:443"]
        );
    }

    #[test]
    fn half_a_pair_is_told_in_dockers_words() {
        for (files, expected) in [
            (
                &["me.cert"][..],
                Some(
                    "missing key me.key for client certificate DIR/me.cert. CA certificates must use the extension .crt",
                ),
            ),
            (
                &["me.key"],
                Some("missing client certificate me.cert for key DIR/me.key"),
            ),
            (&["me.key", "me.cert", "ca.crt", "README"], None),
        ] {
            let directory = tempfile::tempdir().unwrap();
            for file in files {
                fs_err::write(directory.path().join(file), "").unwrap();
            }
            let mut found = Files::default();
            let error = add_directory(&mut found, directory.path()).err();
            let error = error.map(|error| error.to_string());
            let at = directory.path().display().to_string();
            assert_eq!(
                error.map(|text| text.replace(&at, "DIR")).as_deref(),
                expected
            );
        }
    }
}
