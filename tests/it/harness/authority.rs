//! A certificate authority that nobody knows, made by openssl for one test.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::scratch::{Scratch, command_succeeds};

pub(crate) struct Authority {
    dir: PathBuf,
    /// Its own certificate, PEM: what a client must trust.
    pub(crate) certificate: PathBuf,
    key: PathBuf,
}

/// A certificate and its key, PEM, good for servers and for clients.
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    /// Makes one in the new directory `name` of `scratch`.
    pub(crate) fn new(scratch: &Scratch, name: &str) -> Authority {
        let dir = scratch.dir(name);
        let (certificate, key) = (dir.join("authority.crt"), dir.join("authority.key"));
        let mut make = request(&format!("/CN=ddock test authority {name}"), &key);
        make.args(["-x509", "-days", "2", "-out"]).arg(&certificate);
        make.args(["-addext", "basicConstraints=critical,CA:TRUE"]);
        command_succeeds(make.args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"]));
        Authority {
            dir,
            certificate,
            key,
        }
    }

    /// Issues a certificate for `hosts`: names and addresses. The first one names the files.
    pub(crate) fn issue(&self, hosts: &[&str]) -> Pair {
        let pair = Pair {
            certificate: self.dir.join(format!("{}.crt", hosts[0])),
            key: self.dir.join(format!("{}.key", hosts[0])),
        };
        let alternative = |host: &&str| match host.parse::<std::net::IpAddr>() {
            Ok(address) => format!("IP:{address}"),
            Err(_) => format!("DNS:{host}"),
        };
        let names: Vec<_> = hosts.iter().map(alternative).collect();
        let mut make = request(&format!("/CN={}", hosts[0]), &pair.key);
        make.args(["-x509", "-days", "1", "-out"])
            .arg(&pair.certificate);
        make.arg("-CA").arg(&self.certificate);
        make.arg("-CAkey").arg(&self.key);
        make.arg("-addext")
            .arg(format!("subjectAltName={}", names.join(",")));
        make.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        command_succeeds(make.args(["-addext", "extendedKeyUsage=serverAuth,clientAuth"]));
        pair
    }
}

/// Returns an openssl command that makes a new key and asks for a certificate about it.
fn request(subject: &str, key: &Path) -> Command {
    let mut command = Command::new("openssl");
    command.args(["req", "-config", "/dev/null", "-newkey", "ec", "-nodes"]);
    command.args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", subject]);
    command.arg("-keyout").arg(key);
    command
}
