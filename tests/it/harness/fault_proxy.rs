//! A registry behind a bad line: it serves one image from memory, harms its answers by seed, and counts what it delivers.

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::Utc;

use crate::harness::canned::{Reply, Request};
use crate::harness::chance::Chance;
use crate::harness::fault::{Asked, Behaviour, Fault, Faults};
use crate::harness::image::{Blob, Image};
use crate::harness::line::{self, Line};
use crate::harness::network;

/// How long nothing comes in a `Fault::Stall`; less than any client's own limit.
const STALL: Duration = Duration::from_millis(300);

pub(crate) struct Proxy {
    server: Arc<Server>,
}

struct Server {
    image: Arc<Image>,
    layers: Vec<String>,
    behaviour: Behaviour,
    address: String,
    content_address: String,
    faults: Mutex<Faults>,
    line: Line,
    allowance: AtomicU64,
    /// The number of the newest token; those from `oldest_token` on count.
    newest_token: AtomicU64,
    /// What was delivered when it was issued.
    issued_at: AtomicU64,
    oldest_token: AtomicU64,
    /// Requests with an Authorization header: at the registry, and where its links lead.
    authorized: [AtomicUsize; 2],
    closed: AtomicBool,
}

/// What is sent, and what happens to it on its way.
struct Answer {
    reply: Reply,
    /// A part of a blob instead of the reply's own body.
    part: Option<(String, Range<usize>)>,
    /// At this byte of the body.
    harm: Option<(Fault, usize)>,
}

impl Proxy {
    /// Serves `image` under any repository name and tag until it is dropped.
    pub(crate) fn serve(image: &Arc<Image>, behaviour: Behaviour) -> Proxy {
        Proxy::serve_stalling(image, behaviour, STALL)
    }

    /// The same with another length of stalls.
    pub(crate) fn serve_stalling(
        image: &Arc<Image>,
        behaviour: Behaviour,
        stall: Duration,
    ) -> Proxy {
        network::enter_own();
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (registry, content) = (bind(), bind());
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let server = Arc::new(Server {
            layers: image.layers(),
            image: Arc::clone(image),
            faults: Mutex::new(Faults::new(behaviour.clone())),
            behaviour,
            address: format!("localhost:{}", port(&registry)),
            content_address: format!("127.0.0.1:{}", port(&content)),
            line: Line::new(stall),
            allowance: AtomicU64::new(0),
            newest_token: AtomicU64::new(0),
            issued_at: AtomicU64::new(0),
            oldest_token: AtomicU64::new(1),
            authorized: [AtomicUsize::new(0), AtomicUsize::new(0)],
            closed: AtomicBool::new(false),
        });
        accept(registry, &server, Server::registry);
        accept(content, &server, Server::content);
        Proxy { server }
    }

    pub(crate) fn reference(&self) -> String {
        format!("{}/test/image:latest", self.server.address)
    }

    /// Returns how many bytes of layers' bodies went out so far.
    pub(crate) fn delivered(&self) -> u64 {
        self.server.line.delivered()
    }

    /// Returns how many of them the faults made necessary beyond the image's size: corrupted bytes, lost ranges.
    pub(crate) fn allowance(&self) -> u64 {
        self.server.allowance.load(Ordering::Relaxed)
    }

    pub(crate) fn faults(&self) -> BTreeMap<Fault, usize> {
        self.server.faults.lock().unwrap().counts.clone()
    }

    /// Returns how many requests had an Authorization header: at the registry, and where its links lead.
    pub(crate) fn authorized(&self) -> (usize, usize) {
        let count = |at: usize| self.server.authorized[at].load(Ordering::Relaxed);
        (count(0), count(1))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.closed.store(true, Ordering::Relaxed);
        for address in [&self.server.address, &self.server.content_address] {
            drop(TcpStream::connect(address)); // wakes who accepts
        }
    }
}

/// Answers all connections of a listener, each on a thread of its own.
fn accept(listener: TcpListener, server: &Arc<Server>, answer: fn(&Server, &Request) -> Answer) {
    let server = Arc::clone(server);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            if server.closed.load(Ordering::Relaxed) {
                return;
            }
            let (server, stream) = (Arc::clone(&server), stream.unwrap());
            // A client that dies is what this is made for.
            std::thread::spawn(move || drop(server.converse(stream, answer)));
        }
    });
}

impl Server {
    /// Answers the requests of one connection until one side closes it.
    fn converse(
        &self,
        stream: TcpStream,
        answer: fn(&Server, &Request) -> Answer,
    ) -> std::io::Result<()> {
        let mut stream = stream;
        let Some(mut reader) = line::greet(&mut stream)? else {
            return Ok(());
        };
        while let Some(request) = line::read_request(&mut reader)? {
            if !self.send(&mut stream, &request, &answer(self, &request))? {
                break;
            }
        }
        Ok(())
    }

    /// Sends an answer; false when the connection is to be closed.
    fn send(
        &self,
        stream: &mut TcpStream,
        request: &Request,
        answer: &Answer,
    ) -> std::io::Result<bool> {
        let Answer { reply, part, harm } = answer;
        let (body, is_layer) = match part {
            Some((digest, range)) => (
                &self.find(digest).expect("it was found").bytes[range.clone()],
                self.is_layer(digest),
            ),
            None => (reply.body.as_slice(), false),
        };
        line::send_head(stream, reply, body.len())?;
        if request.method == "HEAD" {
            return Ok(true);
        }
        if let (Some((Fault::Corrupt, _)), Some((digest, _))) = (harm, part) {
            self.allow(digest);
        }
        self.line.send(stream, body, is_layer, *harm)
    }

    fn registry(&self, request: &Request) -> Answer {
        let target = request.target.as_str();
        self.note_authorization(request, 0);
        if target.starts_with("/token?") {
            let number = 1 + self.newest_token.fetch_add(1, Ordering::Relaxed);
            self.issued_at
                .store(self.line.delivered(), Ordering::Relaxed);
            let token = serde_json::json!({"token": format!("t{number}"), "expires_in": 300});
            return Reply::new(200, token.to_string()).into();
        }
        if !self.is_known(request) {
            return self.challenge();
        }
        if let Some((_, digest)) = target.split_once("/blobs/") {
            if !self.behaviour.links {
                return self.blob(request, digest, false);
            }
            let (fault, mut chance) = self.draw(&format!("link {digest}"), Asked::Link);
            if let Some(refusal) = fault.and_then(|fault| self.refusal(fault, &mut chance)) {
                return refusal;
            }
            let link = format!(
                "http://{}/{digest}?signature={}",
                self.content_address,
                chance.next()
            );
            return Reply::new(307, "").header("Location", &link).into();
        }
        match target.split_once("/manifests/") {
            Some((_, name)) => self.manifest(name),
            None => Reply::new(200, "{}").into(),
        }
    }

    /// Answers at the address that links lead to.
    fn content(&self, request: &Request) -> Answer {
        self.note_authorization(request, 1);
        let digest = request.target.trim_start_matches('/');
        let digest = digest.split('?').next().unwrap_or_default();
        self.blob(request, digest, true)
    }

    fn manifest(&self, name: &str) -> Answer {
        let manifest = self.image.top();
        if name.starts_with("sha256:") && name != manifest.digest {
            return Reply::error(404, "MANIFEST_UNKNOWN", "manifest unknown").into();
        }
        let (fault, mut chance) = self.draw("manifest", Asked::Manifest);
        if let Some(refusal) = fault.and_then(|fault| self.refusal(fault, &mut chance)) {
            return refusal;
        }
        let reply = Reply::new(200, manifest.bytes.clone())
            .header("Content-Type", &manifest.media_type)
            .header("Docker-Content-Digest", &manifest.digest);
        Answer {
            harm: fault.map(|fault| (fault, chance.below(manifest.bytes.len()))),
            ..reply.into()
        }
    }

    fn blob(&self, request: &Request, digest: &str, linked: bool) -> Answer {
        let Some(blob) = self.find(digest) else {
            return Reply::error(404, "BLOB_UNKNOWN", "blob unknown").into();
        };
        let length = blob.bytes.len();
        let range = request.header("Range").and_then(|text| range(text, length));
        let asked = Asked::Blob {
            layer: self.is_layer(digest),
            part: range.is_some(),
            linked,
        };
        let (fault, mut chance) = self.draw(digest, asked);
        if matches!(fault, Some(Fault::NoRange | Fault::Unsatisfiable)) {
            self.allow(digest);
        }
        if let Some(refusal) = fault.and_then(|fault| self.refusal(fault, &mut chance)) {
            return refusal;
        }
        let range = range.filter(|_| fault != Some(Fault::NoRange));
        let reply = match &range {
            Some(part) if part.is_empty() => return unsatisfiable(length),
            Some(part) => Reply::new(206, "").header(
                "Content-Range",
                &format!("bytes {}-{}/{length}", part.start, part.end - 1),
            ),
            None => Reply::new(200, ""),
        };
        let range = range.unwrap_or(0..length);
        Answer {
            reply: reply.header("Content-Type", "application/octet-stream"),
            harm: fault.map(|fault| (fault, chance.below(range.len()))),
            part: Some((digest.to_owned(), range)),
        }
    }

    fn draw(&self, what: &str, asked: Asked) -> (Option<Fault>, Chance) {
        let delivered = self.line.delivered() - self.issued_at.load(Ordering::Relaxed);
        self.faults.lock().unwrap().draw(what, asked, delivered)
    }

    /// Returns the answer of a fault that answers with an error.
    fn refusal(&self, fault: Fault, chance: &mut Chance) -> Option<Answer> {
        let soon = (Utc::now() + Duration::from_secs(1)).format("%a, %d %b %Y %H:%M:%S GMT");
        let soon = soon.to_string();
        let reply = match fault {
            Fault::TooManyRequests => Reply::error(429, "TOOMANYREQUESTS", "slow down")
                .header("Retry-After", chance.pick(&["0", "1", &soon])),
            Fault::ServerError => {
                let reply = Reply::new(chance.pick(&[500, 503]), "try again");
                match chance.pick(&[None, Some("1")]) {
                    Some(after) => reply.header("Retry-After", after),
                    None => reply,
                }
            }
            Fault::Unsatisfiable => Reply::new(416, ""),
            Fault::LinkExpired => Reply::new(403, "<Error><Code>ExpiredToken</Code></Error>"),
            Fault::TokenExpired => {
                let newest = self.newest_token.load(Ordering::Relaxed);
                self.oldest_token.store(newest + 1, Ordering::Relaxed);
                return self.behaviour.tokens.then(|| self.challenge());
            }
            _ => return None,
        };
        Some(reply.into())
    }

    fn challenge(&self) -> Answer {
        let challenge = format!(
            "Bearer realm=\"http://{}/token\",service=\"test\",scope=\"repository:test/image:pull\"",
            self.address
        );
        Reply::error(401, "UNAUTHORIZED", "authentication required")
            .header("WWW-Authenticate", &challenge)
            .into()
    }

    fn is_known(&self, request: &Request) -> bool {
        let token = request.header("Authorization").unwrap_or_default();
        let number: Option<u64> = token
            .strip_prefix("Bearer t")
            .and_then(|number| number.parse().ok());
        let oldest = self.oldest_token.load(Ordering::Relaxed);
        !self.behaviour.tokens || number.is_some_and(|number| number >= oldest)
    }

    fn note_authorization(&self, request: &Request, at: usize) {
        if request.header("Authorization").is_some() {
            self.authorized[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn find(&self, digest: &str) -> Option<&Blob> {
        self.image.blobs.iter().find(|blob| blob.digest == digest)
    }

    /// Allows that a layer comes once more.
    fn allow(&self, digest: &str) {
        if self.is_layer(digest) {
            let size = self.find(digest).expect("it is served").bytes.len();
            self.allowance.fetch_add(size as u64, Ordering::Relaxed);
        }
    }

    fn is_layer(&self, digest: &str) -> bool {
        self.layers.iter().any(|layer| layer == digest)
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Answer {
        Answer {
            reply,
            part: None,
            harm: None,
        }
    }
}

fn unsatisfiable(length: usize) -> Answer {
    let range = format!("bytes */{length}");
    Reply::new(416, "").header("Content-Range", &range).into()
}

/// Reads `bytes=A-` or `bytes=A-B` (RFC 9110, 14.1.2); the part is empty when it begins behind the end.
fn range(text: &str, length: usize) -> Option<Range<usize>> {
    let (start, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let start: usize = start.parse().ok()?;
    let end = match last {
        "" => length,
        last => (last.parse::<usize>().ok()? + 1).min(length),
    };
    Some(start.min(end)..end)
}
