//! A real registry, Debian's docker-registry, on loopback for one test.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use crate::harness::authority::Pair;
use crate::harness::http::{self, Response};
use crate::harness::image::{Blob, Image};
use crate::harness::scratch::Scratch;
use crate::harness::wait_for;

pub(crate) struct Registry {
    scratch: Arc<Scratch>,
    log: PathBuf,
    server: Child,
    address: String,
}

impl Registry {
    /// Starts a registry with an empty storage on a port that the kernel chooses.
    pub(crate) fn start() -> Registry {
        Registry::serve(Arc::new(Scratch::new()), "plain", "", "")
    }

    /// Starts a second registry on the same storage: what is pushed here can be pulled there.
    ///
    /// `http` are settings of its `http` section as `name: value, …`, `more` are whole sections,
    /// such as `auth`, a line each.
    pub(crate) fn sibling(&self, name: &str, http: &str, more: &str) -> Registry {
        Registry::serve(Arc::clone(&self.scratch), name, http, more)
    }

    /// Starts such a sibling at another address than loopback; its port 0 is any.
    pub(crate) fn sibling_at(&self, name: &str, address: &str, http: &str, more: &str) -> Registry {
        Registry::serve_at(Arc::clone(&self.scratch), name, address, http, more)
    }

    /// Starts a second registry on the same storage that speaks TLS as `pair`.
    pub(crate) fn over_tls(&self, pair: &Pair) -> Registry {
        self.sibling("tls", &tls(pair), "")
    }

    fn serve(scratch: Arc<Scratch>, name: &str, http: &str, more: &str) -> Registry {
        Registry::serve_at(scratch, name, "127.0.0.1:0", http, more)
    }

    fn serve_at(
        scratch: Arc<Scratch>,
        name: &str,
        address: &str,
        http: &str,
        more: &str,
    ) -> Registry {
        let host = address.split(':').next().expect("a host");
        let config = format!(
            "version: 0.1\nlog: {{accesslog: {{disabled: false}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"{address}\", {http}}}\n{more}",
            scratch.join("storage").display()
        );
        let config = scratch.file(&format!("{name}.yml"), config);
        let log = scratch.join(&format!("{name}.log"));
        let file = fs_err::File::create(&log).unwrap();
        let mut server = Command::new("docker-registry")
            .arg("serve")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap().into_file())
            .stderr(file.into_file())
            .spawn()
            .expect("docker-registry is installed");
        let address = wait_for("the registry to listen", || {
            let text = fs_err::read_to_string(&log).unwrap();
            let ended = server.try_wait().unwrap().is_some();
            assert!(!ended, "the registry ended: {text}");
            let (_, rest) = text.split_once(&format!("listening on {host}:"))?;
            let port = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            // Its end is not there yet if the number is the last that was written.
            let host = host.replace("127.0.0.1", "localhost");
            (port.len() < rest.len()).then(|| format!("{host}:{port}"))
        });
        Registry {
            scratch,
            log,
            server,
            address,
        }
    }

    /// Returns `localhost:PORT`, its host as references have it.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Returns the server's process.
    pub(crate) fn pid(&self) -> u32 {
        self.server.id()
    }

    /// Ends the registry before its value does.
    pub(crate) fn stop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }

    /// Returns the reference of a repository and tag here.
    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Pushes an image under `repository:tag` and returns its full reference.
    pub(crate) fn push(&self, name: &str, image: &Image) -> String {
        let (repository, tag) = name.split_once(':').expect("a name with a tag");
        for blob in &image.blobs {
            self.push_blob(repository, blob);
        }
        for manifest in &image.manifests {
            self.push_manifest(repository, &manifest.digest, manifest);
        }
        self.push_manifest(repository, tag, image.top());
        self.reference(name)
    }

    fn push_blob(&self, repository: &str, blob: &Blob) {
        let start = format!("/v2/{repository}/blobs/uploads/");
        let answer = self.request("POST", &start, &[], &[]);
        assert_eq!(answer.status, 202, "starting an upload");
        let location = answer.header("Location").expect("a Location");
        let at = location.find("/v2/").expect("a path in the Location");
        let target = format!("{}&digest={}", &location[at..], blob.digest);
        let answer = self.request("PUT", &target, &[], &blob.bytes);
        assert_eq!(
            answer.status,
            201,
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
    }

    /// Puts a manifest or an index in place under a tag or its digest.
    pub(crate) fn push_manifest(&self, repository: &str, tag: &str, manifest: &Blob) {
        let target = format!("/v2/{repository}/manifests/{tag}");
        let headers = [("Content-Type", manifest.media_type.as_str())];
        let answer = self.request("PUT", &target, &headers, &manifest.bytes);
        assert_eq!(
            answer.status,
            201,
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
    }

    fn request(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        http::request(&self.address, method, target, headers, body)
    }

    /// Returns what it wrote so far, the lines of its access log among it.
    pub(crate) fn log(&self) -> String {
        fs_err::read_to_string(&self.log).unwrap()
    }

    /// Returns the requests answered so far as "METHOD /path STATUS", oldest first.
    pub(crate) fn requests(&self) -> Vec<String> {
        let log = fs_err::read_to_string(&self.log).unwrap();
        // An access log line: 127.0.0.1 - - [time] "GET /v2/… HTTP/1.1" 200 1234 "" "agent"
        let lines = log.lines().filter(|line| line.contains(" HTTP/"));
        lines
            .filter_map(|line| {
                let (_, rest) = line.split_once("] \"")?;
                let (request, rest) = rest.split_once(" HTTP/")?;
                let status = rest.split(' ').nth(1)?;
                Some(format!("{request} {status}"))
            })
            .collect()
    }

    /// Returns the requests that `action` causes.
    pub(crate) fn requests_during(&self, action: impl FnOnce()) -> Vec<String> {
        let before = self.requests().len();
        action();
        self.requests().split_off(before)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Returns the settings of an `http` section that speaks TLS as `pair`.
pub(crate) fn tls(pair: &Pair) -> String {
    let (certificate, key) = (pair.certificate.display(), pair.key.display());
    format!("tls: {{certificate: {certificate}, key: {key}}}")
}
