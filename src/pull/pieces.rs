//! Pieces: a layer's bytes on their way from the network to the thread that unpacks them.

use bytes::{Buf as _, Bytes};
use std::io::{self, Read};
use tokio::sync::mpsc;

/// How many pieces may wait. A piece has at most some 400 KB (the HTTP client's largest buffer): this
/// bounds memory, and a download that is faster than the disk waits.
const WAITING: usize = 8;

/// Returns the two ends of a layer's way.
pub(crate) fn channel() -> (mpsc::Sender<Bytes>, Pieces) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let current = Bytes::new();
    (sender, Pieces { receiver, current })
}

/// The reading end. It ends when the sender is dropped, be it at the end or before: the sender's side
/// knows which, and is believed.
pub(crate) struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Pieces {
    /// Lets the rest pass by.
    pub(crate) fn drain(&mut self) {
        self.current.clear();
        while self.receiver.blocking_recv().is_some() {}
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.current = piece,
                None => return Ok(0),
            }
        }
        let length = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_read_in_order_and_empty_ones_are_no_end() {
        let (sender, mut pieces) = channel();
        for piece in ["ab", "", "cde"] {
            sender.try_send(piece.into()).unwrap();
        }
        drop(sender);
        let mut two = [0; 2];
        assert_eq!(pieces.read(&mut two).unwrap(), 2);
        let mut rest = String::new();
        pieces.read_to_string(&mut rest).unwrap();
        assert_eq!((&two, rest.as_str()), (b"ab", "cde"));
    }
}
