//! The line between a server and its clients: as slow as it is told to be, and cut, stalled or harmed where it is told to be.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::harness::canned::{Reply, Request};
use crate::harness::fault::Fault;

/// Bytes of one write, and of the send buffer. It is what a killed client may miss of what counts as delivered.
const PIECE: usize = 16 << 10;

/// Bytes a second over all connections: clients keep up, so that little waits in the kernel when they are killed.
const RATE: u64 = 120 << 20;

/// All connections of one server.
pub(crate) struct Line {
    stall: Duration,
    /// When the next piece may be sent.
    turn: Mutex<Instant>,
    delivered: AtomicU64,
}

impl Line {
    /// Returns a line whose stalls last this long.
    pub(crate) fn new(stall: Duration) -> Line {
        Line {
            stall,
            turn: Mutex::new(Instant::now()),
            delivered: AtomicU64::new(0),
        }
    }

    /// Returns how many bytes that count were taken by the kernel.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Sends a body, harmed at some byte if it is so told; false when the connection is to be closed.
    pub(crate) fn send(
        &self,
        stream: &mut TcpStream,
        body: &[u8],
        counts: bool,
        harm: Option<(Fault, usize)>,
    ) -> std::io::Result<bool> {
        let (before, after) = body.split_at(harm.map_or(body.len(), |(_, at)| at));
        self.deliver(stream, before, counts)?;
        match harm.map(|(fault, _)| fault) {
            Some(Fault::Cut) => return Ok(false),
            Some(Fault::Reset) => {
                rustix::net::sockopt::set_socket_linger(&*stream, Some(Duration::ZERO))?;
                return Ok(false);
            }
            Some(Fault::Stall) => {
                // Until the client hangs up, or long enough.
                stream.set_read_timeout(Some(self.stall))?;
                drop(stream.read(&mut [0]));
                return Ok(false);
            }
            Some(Fault::Corrupt) => {
                self.deliver(stream, &[!after[0]], counts)?;
                self.deliver(stream, &after[1..], counts)?;
            }
            _ => self.deliver(stream, after, counts)?,
        }
        Ok(true)
    }

    fn deliver(&self, stream: &mut TcpStream, bytes: &[u8], counts: bool) -> std::io::Result<()> {
        for piece in bytes.chunks(PIECE) {
            self.wait_for_turn(piece.len());
            let mut rest = piece;
            while !rest.is_empty() {
                let sent = stream.write(rest)?;
                rest = &rest[sent..];
                if counts {
                    self.delivered.fetch_add(sent as u64, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    fn wait_for_turn(&self, length: usize) {
        let lasting = Duration::from_nanos(length as u64 * 1_000_000_000 / RATE);
        let turn = {
            let mut next = self.turn.lock().unwrap();
            let turn = (*next).max(Instant::now());
            *next = turn + lasting;
            turn
        };
        std::thread::sleep(turn.saturating_duration_since(Instant::now()));
    }
}

/// Prepares a new connection; `None` when it is over: its client went away, or spoke TLS.
pub(crate) fn greet(stream: &mut TcpStream) -> std::io::Result<Option<BufReader<TcpStream>>> {
    rustix::net::sockopt::set_socket_send_buffer_size(&*stream, PIECE)?;
    stream.set_nodelay(true)?;
    let mut first = [0; 1];
    if stream.peek(&mut first)? == 0 {
        return Ok(None);
    }
    if !first[0].is_ascii_alphabetic() {
        // A TLS hello: answered as Go's servers do.
        let _length = stream.read(&mut [0; 1024])?;
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")?;
        return Ok(None);
    }
    Ok(Some(BufReader::new(stream.try_clone()?)))
}

/// Reads a request's head; `None` when the client is done.
pub(crate) fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line.trim_end().is_empty() {
            break;
        }
        lines.push(line);
    }
    let mut words = lines.first().map_or("", String::as_str).split(' ');
    let headers = lines.iter().skip(1).filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.trim().to_owned()))
    });
    Ok(Some(Request {
        method: words.next().unwrap_or_default().to_owned(),
        target: words.next().unwrap_or_default().to_owned(),
        headers: headers.collect(),
        body: Vec::new(),
    }))
}

/// Sends an answer's head, which promises a body of `length` bytes.
pub(crate) fn send_head(
    stream: &mut TcpStream,
    reply: &Reply,
    length: usize,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    write!(head, "HTTP/1.1 {} Faulty\r\n", reply.status)?;
    for (name, value) in &reply.headers {
        write!(head, "{name}: {value}\r\n")?;
    }
    write!(head, "Content-Length: {length}\r\n\r\n")?;
    stream.write_all(&head)
}
