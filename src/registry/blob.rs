//! Blobs: a stream of bytes that survives broken connections.

use crate::digest::Digest;
use crate::registry::Client;
use crate::registry::error::RegistryError;
use crate::registry::retry::Patience;
use crate::registry::transport::Request;
use anyhow::anyhow;
use bytes::Bytes;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Method, Response, StatusCode};
use std::ops::Range;
use std::time::Duration;

/// A blob or a part of one on its way: exactly the bytes that were asked for, in order, or an error.
///
/// The receiver verifies the digest.
pub(crate) struct Blob<'c> {
    client: &'c Client<'c>,
    digest: Digest,
    /// Of the whole blob, as its descriptor says.
    size: u64,
    /// Where the next byte lies that is to be handed out.
    offset: u64,
    /// Where the part ends.
    end: u64,
    body: Option<Response>,
    /// What the body still repeats of what was handed out already.
    skip: u64,
    /// The next request asks for all of the blob: the server's answer to the last one was no part of it.
    ask_all: bool,
    /// The server sent all of the blob where a part was wanted.
    is_whole: bool,
    patience: Patience,
    /// The server took the last request, and nothing came of it yet.
    answered: bool,
    /// To be slept before the next try.
    wait: Duration,
}

/// What comes out of a blob.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// The next bytes.
    Bytes(Bytes),
    /// The connection broke or the server wants us to wait: the next call waits this long, and goes on from here.
    Retrying { why: String, wait: Duration },
}

impl<'c> Blob<'c> {
    pub(crate) fn new(client: &'c Client<'c>, digest: Digest, size: u64, part: Range<u64>) -> Self {
        Self {
            client,
            digest,
            size,
            offset: part.start,
            end: part.end,
            body: None,
            skip: 0,
            ask_all: false,
            is_whole: false,
            patience: Patience::of_transfer(),
            answered: false,
            wait: Duration::ZERO,
        }
    }

    /// Tells whether the server sends all of the blob, whatever part is asked for.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Returns where the part ends.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Lets the part end at `end`, further on than it would.
    pub(crate) fn extend(&mut self, end: u64) {
        self.end = end;
    }

    /// Returns what comes next, `None` at the end.
    ///
    /// A broken connection is taken up again where it broke; tries are limited only while
    /// nothing comes. The errors that are returned are those that no retry will mend.
    pub(crate) async fn next(&mut self) -> Result<Option<Piece>, RegistryError> {
        if !self.wait.is_zero() {
            tokio::time::sleep(std::mem::take(&mut self.wait)).await;
        }
        match self.read().await {
            Ok(Some(bytes)) => {
                self.offset += bytes.len() as u64;
                self.answered = false;
                self.patience.progress();
                Ok(Some(Piece::Bytes(bytes)))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                self.body = None;
                let why = error.to_string();
                let answered = std::mem::take(&mut self.answered);
                let wait = self.patience.wait(&error, answered).ok_or(error)?;
                self.wait = wait;
                Ok(Some(Piece::Retrying { why, wait }))
            }
        }
    }

    async fn read(&mut self) -> Result<Option<Bytes>, RegistryError> {
        if self.offset == self.end && self.end < self.size {
            return Ok(None);
        }
        let mut body = if let Some(body) = self.body.take() {
            body
        } else {
            let body = self.open().await?;
            self.answered = true;
            body
        };
        loop {
            let bytes = match body.chunk().await {
                Ok(bytes) => bytes,
                // All is there: that the connection did not end well changes nothing.
                Err(_) if self.offset == self.end && self.skip == 0 => None,
                Err(error) => return Err(self.client.broke(&body, &error)),
            };
            let Some(mut bytes) = bytes else {
                if self.offset < self.end || self.skip > 0 {
                    return Err(self.short());
                }
                return Ok(None);
            };
            let repeated =
                usize::try_from(self.skip).map_or(bytes.len(), |skip| skip.min(bytes.len()));
            self.skip -= repeated as u64;
            let mut bytes = bytes.split_off(repeated);
            let missing = self.end - self.offset;
            if bytes.len() as u64 > missing {
                if self.end == self.size {
                    return Err(self.wrong_size("more"));
                }
                // All of the blob is sent where a part was asked for.
                bytes.truncate(usize::try_from(missing).expect("less than there are bytes"));
            }
            if !bytes.is_empty() {
                self.body = Some(body);
                return Ok(Some(bytes));
            }
        }
    }

    /// Asks for what is missing, and leaves in `skip` what the answer has too much at its start.
    async fn open(&mut self) -> Result<Response, RegistryError> {
        let all = 0..self.size;
        let wanted = self.offset..self.end;
        let part = if std::mem::take(&mut self.ask_all) {
            all.clone()
        } else {
            wanted.clone()
        };
        let start = part.start;
        let is_part = part != all;
        let request = Request {
            method: Method::GET,
            path: format!("{}/blobs/{}", self.client.repository, self.digest),
            accept: None,
            part: is_part.then_some(part),
        };
        let response = match self
            .client
            .send(&request, || format!("blob {}", self.digest))
            .await
        {
            // 416: there is no such part. Then all of it, from the start.
            Err(RegistryError::Status { status: 416, .. }) if is_part => {
                return Err(self.no_ranges());
            }
            answer => answer?,
        };
        let (begins, ends) = match response.status() {
            StatusCode::PARTIAL_CONTENT if is_part => match content_range(&response) {
                Some((begin, total))
                    if begin == start && total.is_none_or(|total| total == self.size) =>
                {
                    (start, self.end)
                }
                _ => return Err(self.no_ranges()),
            },
            StatusCode::OK => {
                self.is_whole = wanted != all;
                (0, self.size)
            }
            status => {
                return Err(
                    anyhow!("blob {}: unexpected HTTP {}", self.digest, status.as_u16()).into(),
                );
            }
        };
        self.skip = self.offset - begins;
        let expected = ends - begins;
        match response.content_length() {
            Some(length) if length > expected => Err(self.wrong_size("more")),
            Some(length) if length < expected => Err(self.wrong_size("less")),
            _ => Ok(response),
        }
    }

    /// The error is transient, so that the next try, which asks for all, is made.
    fn no_ranges(&mut self) -> RegistryError {
        self.ask_all = true;
        self.interrupted("the server cannot resume where the connection broke")
    }

    fn short(&self) -> RegistryError {
        self.interrupted("it ended too early")
    }

    fn interrupted(&self, cause: &str) -> RegistryError {
        RegistryError::Interrupted {
            host: self.client.registry().to_owned(),
            cause: cause.to_owned(),
        }
    }

    fn wrong_size(&self, relation: &str) -> RegistryError {
        anyhow!(
            "blob {} has {relation} than the {} bytes of its descriptor",
            self.digest,
            self.size
        )
        .into()
    }
}

/// Reads `bytes 100-199/200` or `bytes 100-199/*`: where the part begins, and the whole size.
fn content_range(response: &Response) -> Option<(u64, Option<u64>)> {
    let text = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let begin = range.split_once('-')?.0.parse().ok()?;
    match total {
        "*" => Some((begin, None)),
        total => Some((begin, Some(total.parse().ok()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::Reference;
    use crate::registry::testing::{Answer, Asked, Server, client, descriptor, wait};

    const SIZE: usize = 100_000;

    fn content() -> Vec<u8> {
        (0..SIZE)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect()
    }

    /// The start of the part that was asked for.
    fn asked_offset(asked: &Asked) -> usize {
        let range = asked
            .header("range")
            .and_then(|range| range.strip_prefix("bytes="));
        range.map_or(0, |range| range.split('-').next().unwrap().parse().unwrap())
    }

    /// The part that was asked for, as a registry that knows ranges serves it.
    fn part(asked: &Asked) -> Answer {
        match asked_offset(asked) {
            0 => Answer::ok(&content()),
            offset => Answer::status(206).body(&content()[offset..]).header(
                "Content-Range",
                &format!("bytes {offset}-{}/{SIZE}", SIZE - 1),
            ),
        }
    }

    /// Reads a blob of `SIZE` bytes to its end; also returns how often it was retried.
    fn read(server: &Server) -> Result<(Vec<u8>, usize), RegistryError> {
        let reference: Reference = format!("{}/lib/x:1", server.address()).parse().unwrap();
        let client = client(&reference);
        let layer = descriptor(&content(), "x");
        let (mut bytes, mut retries) = (Vec::new(), 0);
        wait(async {
            let mut blob = client.blob(&layer.digest, layer.size, 0..layer.size);
            while let Some(piece) = blob.next().await? {
                match piece {
                    Piece::Bytes(piece) => bytes.extend_from_slice(&piece),
                    Piece::Retrying { .. } => retries += 1,
                }
            }
            Ok((bytes, retries))
        })
    }

    fn offsets(server: &Server) -> Vec<usize> {
        server.asked().iter().map(asked_offset).collect()
    }

    #[test]
    fn a_broken_connection_is_taken_up_where_it_broke() {
        let server = Server::start(|asked, before| match before {
            0..3 => part(asked).cut(10_000),
            _ => part(asked),
        });
        assert_eq!(read(&server).unwrap(), (content(), 3));
        assert_eq!(offsets(&server), [0, 10_000, 20_000, 30_000]);
    }

    #[test]
    fn a_link_that_expired_is_asked_for_anew() {
        let storage = Server::start(|asked, before| match before {
            0 => part(asked).cut(10_000),
            1 => Answer::status(403),
            _ => part(asked),
        });
        let link = format!("http://{}/signed", storage.address());
        let server = Server::start(move |_, _| Answer::status(307).header("Location", &link));
        assert_eq!(read(&server).unwrap(), (content(), 2));
        assert_eq!(server.asked().len(), 3);
    }

    #[test]
    fn progress_renews_the_tries() {
        let server = Server::start(|asked, _| part(asked).cut(10_000));
        assert_eq!(read(&server).unwrap(), (content(), 9));
    }

    #[test]
    fn a_server_without_ranges_sends_all_again_and_the_known_part_is_dropped() {
        let server = Server::start(|_, before| match before {
            0 => Answer::ok(&content()).cut(10_000),
            _ => Answer::ok(&content()),
        });
        assert_eq!(read(&server).unwrap(), (content(), 1));
    }

    #[test]
    fn wrong_parts_are_not_taken() {
        let lies = [
            "bytes 0-99999/100000",
            "bytes 10001-99999/100000",
            "bytes 10000-99999/100001",
            "nonsense",
        ];
        for lie in lies {
            let server = Server::start(move |asked, before| match (before, asked_offset(asked)) {
                (0, _) => Answer::ok(&content()).cut(10_000),
                (_, 0) => Answer::ok(&content()),
                (_, offset) => Answer::status(206)
                    .body(&content()[offset..])
                    .header("Content-Range", lie),
            });
            assert_eq!(read(&server).unwrap(), (content(), 2), "{lie}");
            assert_eq!(offsets(&server), [0, 10_000, 0]);
        }
        let unsatisfiable = Server::start(|asked, before| match (before, asked_offset(asked)) {
            (0, _) => Answer::ok(&content()).cut(10_000),
            (_, 0) => Answer::ok(&content()),
            _ => Answer::status(416),
        });
        assert_eq!(read(&unsatisfiable).unwrap(), (content(), 2));
        let unasked = Server::start(|_, _| Answer::status(206).body(&content()));
        assert!(
            read(&unasked)
                .unwrap_err()
                .to_string()
                .contains("unexpected HTTP 206")
        );
    }

    #[test]
    fn too_much_and_too_little_are_told() {
        let longer = Server::start(|_, _| Answer::ok(&[content(), vec![0]].concat()));
        assert!(
            read(&longer)
                .unwrap_err()
                .to_string()
                .contains("has more than the 100000 bytes")
        );
        let endless =
            Server::start(|_, _| Answer::ok(&[content(), vec![0; SIZE]].concat()).chunked());
        assert!(
            read(&endless)
                .unwrap_err()
                .to_string()
                .contains("has more than the 100000 bytes")
        );
        let shorter = Server::start(|_, _| Answer::ok(&content()[1..]));
        assert!(
            read(&shorter)
                .unwrap_err()
                .to_string()
                .contains("has less than the 100000 bytes")
        );
        let chunked = Server::start(|_, _| Answer::ok(&content()).chunked());
        assert_eq!(read(&chunked).unwrap(), (content(), 0));
    }

    #[test]
    fn a_server_that_sends_nothing_is_given_up() {
        let server = Server::start(|_, before| match before {
            0 => Answer::ok(&content()).cut(10_000),
            _ => Answer::status(503).header("Retry-After", "0"),
        });
        let error = read(&server).unwrap_err();
        assert!(error.to_string().ends_with("answered HTTP 503"), "{error}");
        // The one that was cut, and ten without progress.
        assert_eq!(server.asked().len(), 1 + 10);
    }

    #[test]
    fn a_token_that_expires_on_the_way_is_renewed() {
        let server = Server::start(|asked, before| {
            if asked.path.starts_with("/token") {
                return Answer::ok(format!(r#"{{"token":"t{before}"}}"#).as_bytes());
            }
            // Requests: blob 401, token t1, blob cut; blob 401, token t4, blob.
            match (before, asked.header("authorization")) {
                (2, Some("Bearer t1")) => part(asked).cut(10_000),
                (5, Some("Bearer t4")) => part(asked),
                _ => {
                    let realm = format!("http://{}/token", asked.header("host").unwrap());
                    Answer::status(401)
                        .header("WWW-Authenticate", &format!(r#"Bearer realm="{realm}""#))
                }
            }
        });
        assert_eq!(read(&server).unwrap(), (content(), 1));
        assert_eq!(server.asked().len(), 6);
    }
}
