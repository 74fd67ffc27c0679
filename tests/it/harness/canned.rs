//! A registry that misbehaves as told: it answers from memory, and a test may change every answer.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::harness::http;
use crate::harness::image::{Blob, Image};
use crate::harness::network;

#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        http::find(&self.headers, name)
    }
}

#[derive(Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The connection closes after this many bytes of the body, whatever length the head promised.
    pub(crate) cut: Option<usize>,
    /// The body comes in so many parts, each this long after the one before.
    pub(crate) pace: Option<(usize, Duration)>,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply {
            status,
            headers: Vec::new(),
            body: body.into(),
            cut: None,
            pace: None,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Returns a distribution-spec error body with this code, such as `MANIFEST_UNKNOWN`.
    pub(crate) fn error(status: u16, code: &str, message: &str) -> Reply {
        let body =
            serde_json::json!({"errors": [{"code": code, "message": message, "detail": null}]});
        Reply::new(status, body.to_string()).header("Content-Type", "application/json")
    }
}

pub(crate) struct Canned {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Canned {
    /// Serves what `answer` says, until the test's process ends.
    pub(crate) fn serve(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Canned {
        network::enter_own();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("localhost:{}", listener.local_addr().unwrap().port());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&requests), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                std::thread::spawn(move || {
                    // A client may go away in the middle: that is not the server's failure.
                    drop(converse(stream.unwrap(), &log, answer.as_ref()));
                });
            }
        });
        Canned { address, requests }
    }

    /// Serves one image under any repository name and tag; `change` sees each request and the right answer to it.
    pub(crate) fn registry(
        image: &Image,
        change: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static,
    ) -> Canned {
        let content = |blob: &Blob| {
            let reply = Reply::new(200, blob.bytes.clone())
                .header("Content-Type", &blob.media_type)
                .header("Docker-Content-Digest", &blob.digest);
            (blob.digest.clone(), reply)
        };
        let blobs: HashMap<_, _> = image.blobs.iter().map(content).collect();
        let manifests: HashMap<_, _> = image.manifests.iter().map(content).collect();
        let top = image.top().digest.clone();
        Canned::serve(move |request| {
            let path = request.target.split('?').next().unwrap_or_default();
            let found = if let Some((_, name)) = path.split_once("/manifests/") {
                let digest = if name.starts_with("sha256:") {
                    name
                } else {
                    &top
                };
                manifests.get(digest)
            } else if let Some((_, digest)) = path.split_once("/blobs/") {
                blobs.get(digest)
            } else {
                None
            };
            let reply = match found {
                Some(reply) => reply.clone(),
                None if request.target == "/v2/" => Reply::new(200, "{}"),
                None => Reply::error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
            };
            change(request, ranged(request, reply))
        })
    }

    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// Returns the part of a good answer that the request's `Range: bytes=N-` asks for.
fn ranged(request: &Request, mut reply: Reply) -> Reply {
    let range = request.header("Range").unwrap_or_default();
    let from = range.strip_prefix("bytes=").unwrap_or_default();
    let from = from.split('-').next().unwrap_or_default().parse();
    let Ok(from) = from.map(|from: usize| from.min(reply.body.len())) else {
        return reply;
    };
    let total = reply.body.len();
    if reply.status != 200 || from >= total {
        return reply;
    }
    reply.status = 206;
    reply.body.drain(..from);
    reply.header(
        "Content-Range",
        &format!("bytes {from}-{}/{total}", total - 1),
    )
}

/// Answers one request and closes.
fn converse(
    stream: TcpStream,
    log: &Mutex<Vec<Request>>,
    answer: &dyn Fn(&Request) -> Reply,
) -> std::io::Result<()> {
    let mut stream = stream;
    let mut first = [0; 1024];
    if stream.peek(&mut first)? == 0 {
        return Ok(());
    }
    if !first[0].is_ascii_alphabetic() {
        // A TLS hello: answered as Go's servers do, docker-registry among them.
        let _length = stream.read(&mut first)?;
        return stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n400 Bad Request");
    }
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ');
    let mut request = Request {
        method: words.next().unwrap_or_default().to_owned(),
        target: words.next().unwrap_or_default().to_owned(),
        headers: http::read_headers(&mut reader),
        body: Vec::new(),
    };
    let length = request.header("Content-Length");
    let length = length.map_or(0, |text| text.parse().expect("a length"));
    reader.take(length).read_to_end(&mut request.body)?;
    log.lock().unwrap().push(request.clone());

    let reply = answer(&request);
    write!(stream, "HTTP/1.1 {} Canned\r\n", reply.status)?;
    for (name, value) in &reply.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    if http::find(&reply.headers, "Content-Length").is_none() {
        write!(stream, "Content-Length: {}\r\n", reply.body.len())?;
    }
    write!(stream, "Connection: close\r\n\r\n")?;
    if request.method != "HEAD" {
        let end = reply.cut.unwrap_or(reply.body.len());
        let body = &reply.body[..end.min(reply.body.len())];
        let (parts, pause) = reply.pace.unwrap_or((1, Duration::ZERO));
        for part in body.chunks(body.len().div_ceil(parts).max(1)) {
            std::thread::sleep(pause);
            stream.write_all(part)?;
        }
    }
    Ok(())
}
