//! A server for tests: real sockets, and answers that a test makes up, good or hostile.

use crate::digest::Digest;
use crate::reference::Reference;
use crate::registry::{Access, Client, Descriptor};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// One request as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        Some(headers.find(|(found, _)| found == name)?.1.as_str())
    }

    /// Returns the part that is asked for: its first byte, and the one behind its last.
    pub(crate) fn part(&self) -> Option<(usize, usize)> {
        let (start, last) = self
            .header("range")?
            .strip_prefix("bytes=")?
            .split_once('-')?;
        let end = match last {
            "" => usize::MAX,
            last => last.parse::<usize>().ok()? + 1,
        };
        Some((start.parse().ok()?, end))
    }

    /// Returns the same request without its token.
    pub(crate) fn without_authorization(&self) -> Self {
        let mut asked = self.clone();
        asked.headers.retain(|(name, _)| name != "authorization");
        asked
    }
}

/// What to answer.
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The connection ends after so many bytes of the body.
    sent: usize,
    chunked: bool,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            sent: usize::MAX,
            chunked: false,
        }
    }

    pub(crate) fn ok(body: &[u8]) -> Self {
        Self::status(200).body(body)
    }

    pub(crate) fn json(body: &Value) -> Self {
        Self::ok(body.to_string().as_bytes())
    }

    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Breaks the connection after `sent` bytes of the body.
    pub(crate) fn cut(mut self, sent: usize) -> Self {
        self.sent = sent;
        self
    }

    /// Does not tell the length.
    pub(crate) fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    fn write(&self, stream: &mut TcpStream, with_body: bool) -> std::io::Result<()> {
        let length = format!("Content-Length: {}", self.body.len());
        let length = if self.chunked {
            "Transfer-Encoding: chunked"
        } else {
            &length
        };
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"));
        let headers: String = headers.collect();
        let head = format!(
            "HTTP/1.1 {} X\r\nConnection: close\r\n{headers}{length}\r\n\r\n",
            self.status
        );
        stream.write_all(head.as_bytes())?;
        if !with_body {
            return Ok(());
        }
        let body = &self.body[..self.sent.min(self.body.len())];
        if !self.chunked {
            return stream.write_all(body);
        }
        for piece in body.chunks(1000) {
            write!(stream, "{:x}\r\n", piece.len())?;
            stream.write_all(piece)?;
            stream.write_all(b"\r\n")?;
        }
        stream.write_all(b"0\r\n\r\n")
    }
}

/// A client of one without any credentials.
pub(crate) fn client(reference: &Reference) -> Client<'static> {
    Client::new(reference, &Access::default(), &|_| {}).unwrap()
}

/// A plain http server on loopback that lives as long as this value.
pub(crate) struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server that answers by `answer`, which is given the request and the number of those before it.
    pub(crate) fn start(answer: impl Fn(&Asked, usize) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, stopped) = (asked.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // A client that hangs up in the middle is part of some tests.
                serve(&mut stream.unwrap(), &seen, &answer).ok();
            }
        });
        Self {
            address,
            asked,
            stop,
            thread: Some(thread),
        }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Returns the requests so far, without attempts at TLS.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        TcpStream::connect(self.address).ok();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn serve(
    stream: &mut TcpStream,
    seen: &Mutex<Vec<Asked>>,
    answer: impl Fn(&Asked, usize) -> Answer,
) -> std::io::Result<()> {
    let mut first = [0];
    stream.peek(&mut first)?;
    // A TLS greeting starts with 22; real servers answer it as any other nonsense.
    if first == [22] {
        let mut greeting = [0; 16 << 10];
        assert!(stream.read(&mut greeting)? > 0);
        return Answer::status(400).write(stream, true);
    }
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut lines = reader.by_ref().lines();
    let Some(line) = lines.next() else {
        return Ok(());
    };
    let line = line?;
    let mut words = line.split(' ').map(str::to_owned);
    let mut asked = Asked {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        ..Asked::default()
    };
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else {
            break;
        };
        asked
            .headers
            .push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length = asked.header("content-length");
    let length = length.map_or(0, |text| text.parse().expect("a length"));
    reader.take(length).read_to_string(&mut asked.body)?;
    let before = {
        let mut seen = seen.lock().unwrap();
        seen.push(asked.clone());
        seen.len() - 1
    };
    answer(&asked, before).write(stream, asked.method != "HEAD")
}

/// Runs `future` to its end, as a pull would.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(future)
}

pub(crate) fn descriptor(content: &[u8], media_type: &str) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: Digest::of(content),
        size: content.len() as u64,
        data: None,
    }
}

/// Returns the manifest of an image.
pub(crate) fn image(config: &[u8], layers: &[&[u8]]) -> Value {
    let named = |content: &[u8], media_type: &str| json!({"mediaType": media_type, "digest": Digest::of(content), "size": content.len()});
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| named(layer, "application/vnd.oci.image.layer.v1.tar+gzip"))
        .collect();
    json!({"schemaVersion": 2, "layers": layers,
           "config": named(config, "application/vnd.oci.image.config.v1+json")})
}
