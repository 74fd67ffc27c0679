//! DNS messages as far as somebody who passes them on has to read them: the header and the question (RFC 1035).
//!
//! Records are never read, so that whatever a server says of them arrives as it is: new types, EDNS, signatures.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `struct header`: ID, flags, and how many questions and records of three kinds follow.
pub(super) const HEADER: usize = 12;

/// The largest answer by datagram to a client that did not say more (RFC 1035, 4.2.1). Who did may get less.
pub(super) const DATAGRAM: usize = 512;

/// The longest name, with the lengths of its labels.
const NAME: usize = 255;

/// Seconds for which an answer of ours holds: containers come and go, and to ask again costs no more than a look
/// at this host's own files. Not zero, which some take for no answer.
const LIFETIME: u32 = 1;

const ANSWER: u8 = 0x80;
const OPCODE: u8 = 0x78;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;
const CHECKING_DISABLED: u8 = 0x10;
const CODE: u8 = 0x0f;

const TYPE_A: u16 = 1;
const TYPE_PTR: u16 = 12;
const TYPE_AAAA: u16 = 28;
const TYPE_ANY: u16 = 255;
const CLASS_INTERNET: u16 = 1;
const CLASS_ANY: u16 = 255;

/// A name that was said before, right after the header: the question's (RFC 1035, 4.1.4).
const SAID_BEFORE: u16 = 0xc00c;

/// What an answer says of itself (`RCODE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    Fine = 0,
    /// The query is no message.
    Format = 1,
    /// Whoever could answer does not.
    Failure = 2,
    NotImplemented = 4,
    Refused = 5,
}

/// What a query asks, if it can be asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// Lower case, without the last dot; none if no container can be called so.
    pub(super) name: Option<String>,
    kind: u16,
    class: u16,
    /// Where it ends in the message.
    end: usize,
}

/// Why a query cannot be asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Nobody waits for an answer.
    NoQuery,
    Refused(Code),
}

impl Question {
    /// Reads the question of a query.
    pub(super) fn parse(message: &[u8]) -> Result<Self, Unfit> {
        let header = message.get(..HEADER).ok_or(Unfit::NoQuery)?;
        if header[2] & ANSWER != 0 {
            return Err(Unfit::NoQuery);
        }
        if header[2] & OPCODE != 0 {
            return Err(Unfit::Refused(Code::NotImplemented));
        }
        if word(message, 4) != Some(1) {
            return Err(Unfit::Refused(Code::Format));
        }
        Self::read(message).ok_or(Unfit::Refused(Code::Format))
    }

    fn read(message: &[u8]) -> Option<Self> {
        let mut labels = Vec::new();
        let mut at = HEADER;
        loop {
            let length = usize::from(*message.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            // Anything above 63 is another kind of label; there is nothing yet that it could point to.
            let label = message.get(at..at + length).filter(|_| length < 64)?;
            at += length;
            labels.push(label);
            if at - HEADER >= NAME {
                return None;
            }
        }
        Some(Self {
            name: text(&labels),
            kind: word(message, at)?,
            class: word(message, at + 2)?,
            end: at + 4,
        })
    }

    /// Tells whether it asks something that is known of containers.
    pub(super) fn is_of_internet(&self) -> bool {
        matches!(self.class, CLASS_INTERNET | CLASS_ANY)
    }

    /// Returns the address whose name is asked for, if that is the question.
    pub(super) fn reverse(&self) -> Option<IpAddr> {
        let name = self.name.as_deref()?;
        if let Some(parts) = name.strip_suffix(".in-addr.arpa") {
            let parts: Vec<u8> = parts.split('.').map_while(|it| it.parse().ok()).collect();
            let [d, c, b, a] = parts.try_into().ok()?;
            return Some(Ipv4Addr::new(a, b, c, d).into());
        }
        let digits = name.strip_suffix(".ip6.arpa")?;
        let mut number = 0_u128;
        let mut count = 0;
        for digit in digits.rsplit('.') {
            let digit = u128::from_str_radix(digit, 16).ok().filter(|it| *it < 16)?;
            number = number << 4 | digit;
            count += 1;
        }
        (count == 32).then(|| Ipv6Addr::from(number).into())
    }
}

/// Returns a name as people write it; none if it has what names of containers and networks have not.
fn text(labels: &[&[u8]]) -> Option<String> {
    // A dot inside of a label would look like the end of it; those between labels may be a container's own.
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b'.';
    if labels.is_empty() || !labels.iter().all(|label| label.iter().all(is_plain)) {
        return None;
    }
    let text = labels.join(&b'.').to_ascii_lowercase();
    String::from_utf8(text).ok()
}

/// Returns the answer to a query that gets none.
pub(super) fn refusal(query: &[u8], code: Code) -> Vec<u8> {
    let question = Question::read(query);
    let end = question.map_or(HEADER, |question| question.end);
    begin(query, end, code)
}

/// Returns the answer to `question` of `query`: the addresses of the kind that is asked for, at most `most` bytes.
pub(super) fn addresses(
    query: &[u8],
    question: &Question,
    addresses: &[IpAddr],
    most: usize,
) -> Vec<u8> {
    let records = addresses.iter().filter_map(|address| match address {
        IpAddr::V4(it) if matches!(question.kind, TYPE_A | TYPE_ANY) => {
            Some(record(TYPE_A, &it.octets()))
        }
        IpAddr::V6(it) if matches!(question.kind, TYPE_AAAA | TYPE_ANY) => {
            Some(record(TYPE_AAAA, &it.octets()))
        }
        _ => None,
    });
    answer(query, question, records, most)
}

/// Returns the answer to `question` of `query`: a name, if it is that which is asked for.
pub(super) fn name(query: &[u8], question: &Question, name: &str, most: usize) -> Vec<u8> {
    let is_asked = matches!(question.kind, TYPE_PTR | TYPE_ANY);
    let name = wire(name).filter(|_| is_asked);
    let records = name.into_iter().map(|name| record(TYPE_PTR, &name));
    answer(query, question, records, most)
}

fn record(kind: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("an address or a name is short");
    let mut record = Vec::with_capacity(12 + data.len());
    for number in [SAID_BEFORE, kind, CLASS_INTERNET] {
        record.extend(number.to_be_bytes());
    }
    record.extend(LIFETIME.to_be_bytes());
    record.extend(length.to_be_bytes());
    record.extend(data);
    record
}

/// Returns a name as messages have it; none if it is too long for one.
fn wire(name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok();
        bytes.push(length.filter(|it| (1..64).contains(it))?);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    (bytes.len() <= NAME).then_some(bytes)
}

fn answer(
    query: &[u8],
    question: &Question,
    records: impl Iterator<Item = Vec<u8>>,
    most: usize,
) -> Vec<u8> {
    let mut message = begin(query, question.end, Code::Fine);
    let mut count = 0_u16;
    for record in records {
        if message.len() + record.len() > most || count == u16::MAX {
            message[2] |= TRUNCATED;
            break;
        }
        message.extend(record);
        count += 1;
    }
    message[6..8].copy_from_slice(&count.to_be_bytes());
    message
}

/// Returns the beginning of an answer: the header, and the question if there is one before `end`.
fn begin(query: &[u8], end: usize, code: Code) -> Vec<u8> {
    let mut message = query[..end].to_vec();
    message[2] = ANSWER | query[2] & (OPCODE | RECURSION_DESIRED);
    message[3] = RECURSION_AVAILABLE | query[3] & CHECKING_DISABLED | code as u8;
    let questions = u16::from(end > HEADER);
    message[4..6].copy_from_slice(&questions.to_be_bytes());
    message[6..HEADER].fill(0);
    message
}

/// Tells whether `message` is the answer to `query`, which was asked with the ID `id`.
pub(super) fn answers(query: &[u8], id: u16, message: &[u8]) -> bool {
    let is_answer = message.len() >= HEADER
        && word(message, 0) == Some(id)
        && message[2] & ANSWER != 0
        && message[2] & OPCODE == 0;
    if !is_answer {
        return false;
    }
    // A server that understands nothing of it repeats nothing of it.
    if word(message, 4) == Some(0) {
        return code(message) != Code::Fine as u8;
    }
    let Some(end) = Question::read(query).map(|question| question.end) else {
        return false;
    };
    let name = HEADER..end - 4;
    // Lengths are no letters, and the case of letters does not count.
    word(message, 4) == Some(1)
        && message.len() >= end
        && message[name.clone()].eq_ignore_ascii_case(&query[name])
        && message[end - 4..end] == query[end - 4..end]
}

/// Tells whether another server may know better than this answer.
pub(super) fn is_poor(answer: &[u8]) -> bool {
    let code = code(answer);
    [Code::Failure, Code::NotImplemented, Code::Refused]
        .iter()
        .any(|poor| *poor as u8 == code)
}

fn code(message: &[u8]) -> u8 {
    message[3] & CODE
}

pub(super) fn id(message: &[u8]) -> u16 {
    word(message, 0).unwrap_or_default()
}

/// Gives a message another ID.
pub(super) fn set_id(message: &mut [u8], id: u16) {
    message[..2].copy_from_slice(&id.to_be_bytes());
}

fn word(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A query for `name` with recursion desired, as programs send it.
    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend(wire(name).unwrap());
        message.extend(kind.to_be_bytes());
        message.extend(CLASS_INTERNET.to_be_bytes());
        message
    }

    fn parsed(message: &[u8]) -> Question {
        Question::parse(message).unwrap()
    }

    #[test]
    fn a_question_has_a_name_in_lower_case_unless_no_container_can_have_it() {
        assert_eq!(parsed(&query("Db.My-Net", 1)).name.unwrap(), "db.my-net");
        let mut odd = query("a-b", 1);
        odd[HEADER + 2] = b'.';
        assert_eq!(parsed(&odd).name, None);
        let mut root = query("a", 1);
        root.drain(HEADER..HEADER + 2);
        assert_eq!(parsed(&root).name, None);
    }

    #[test]
    fn what_is_no_question_is_refused_or_not_heard() {
        let good = query("db", 1);
        let refused = |message: &[u8]| Question::parse(message).unwrap_err();
        assert_eq!(refused(&good[..11]), Unfit::NoQuery);
        let with = |at: usize, byte: u8| {
            let mut message = good.clone();
            message[at] = byte;
            refused(&message)
        };
        assert_eq!(with(2, ANSWER), Unfit::NoQuery);
        assert_eq!(with(2, 5 << 3), Unfit::Refused(Code::NotImplemented));
        let format = Unfit::Refused(Code::Format);
        assert_eq!(with(5, 2), format);
        // A pointer, a label beyond the end, and one without an end.
        assert_eq!(with(HEADER, 0xc0), format);
        assert_eq!(with(HEADER, 60), format);
        assert_eq!(refused(&good[..good.len() - 1]), format);
        let long = [
            "x".repeat(63),
            "x".repeat(63),
            "x".repeat(63),
            "x".repeat(63),
        ]
        .join(".");
        let mut message = good[..HEADER].to_vec();
        for label in long.split('.') {
            message.push(63);
            message.extend(label.as_bytes());
        }
        message.extend([0, 0, 1, 0, 1]);
        assert_eq!(refused(&message), format);
    }

    #[test]
    fn names_of_addresses_are_read_back() {
        let reverse = |name: &str| parsed(&query(name, TYPE_PTR)).reverse();
        let v4 = "2.0.29.172.in-addr.arpa";
        assert_eq!(reverse(v4), Some("172.29.0.2".parse().unwrap()));
        let v6 = "2.".to_owned() + &"0.".repeat(29) + "d.f.ip6.arpa";
        assert_eq!(reverse(&v6), Some("fd00::2".parse().unwrap()));
        for other in [
            "2.in-addr.arpa",
            "1.2.3.4.5.in-addr.arpa",
            "256.1.1.1.in-addr.arpa",
            "x.ip6.arpa",
        ] {
            assert_eq!(reverse(other), None, "{other}");
        }
    }

    #[test]
    fn an_answer_has_the_addresses_of_the_kind_that_was_asked_for() {
        let known: [IpAddr; 2] = ["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        for (kind, count, length) in [
            (TYPE_A, 1, 16),
            (TYPE_AAAA, 1, 28),
            (TYPE_ANY, 2, 44),
            (15, 0, 0),
        ] {
            let query = query("Db", kind);
            let answer = addresses(&query, &parsed(&query), &known, DATAGRAM);
            assert_eq!(answer[..6], [0x12, 0x34, 0x81, 0x80, 0, 1], "{kind}");
            assert_eq!(answer[6..HEADER], [0, count, 0, 0, 0, 0], "{kind}");
            // The question comes back as it was written.
            assert_eq!(answer[HEADER..query.len()], query[HEADER..], "{kind}");
            assert_eq!(answer.len(), query.len() + length, "{kind}");
        }
        let query = query("db", TYPE_A);
        let answer = addresses(&query, &parsed(&query), &known, DATAGRAM);
        let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 10, 0, 0, 2];
        assert_eq!(answer[query.len()..], record);
    }

    #[test]
    fn what_does_not_fit_into_a_datagram_is_left_out_and_said() {
        let many: Vec<IpAddr> = (0..100).map(|it| Ipv4Addr::from(it).into()).collect();
        let query = query("db", TYPE_A);
        let answer = addresses(&query, &parsed(&query), &many, DATAGRAM);
        assert!(answer.len() <= DATAGRAM && answer[2] & TRUNCATED != 0);
        assert_eq!(usize::from(answer[7]), (DATAGRAM - query.len()) / 16);
        let answer = addresses(&query, &parsed(&query), &many, 65_535);
        assert_eq!((answer[2] & TRUNCATED, answer[7]), (0, 100));
    }

    #[test]
    fn only_the_answer_to_the_question_is_one() {
        let query = query("db.example", TYPE_A);
        let mut answer = query.to_ascii_uppercase();
        answer[..4].copy_from_slice(&[0xab, 0xcd, 0x81, 0x80]);
        assert!(answers(&query, 0xabcd, &answer));
        assert!(!answers(&query, 0xabce, &answer));
        for at in [2, 5, HEADER + 1, query.len() - 3, query.len() - 1] {
            let mut other = answer.clone();
            other[at] ^= 0x81;
            assert!(!answers(&query, 0xabcd, &other), "{at}");
        }
        let mut error = answer[..HEADER].to_vec();
        error[5] = 0;
        assert!(!answers(&query, 0xabcd, &error));
        error[3] |= Code::Format as u8;
        assert!(answers(&query, 0xabcd, &error));
    }

    proptest! {
        #[test]
        fn no_message_does_harm(bytes in prop::collection::vec(any::<u8>(), 0..600), id in any::<u16>()) {
            let mut bytes = bytes;
            // Else hardly any would come as far as its question.
            if bytes.len() > HEADER {
                bytes[2] &= !(ANSWER | OPCODE);
                bytes[4..6].copy_from_slice(&[0, 1]);
            }
            match Question::parse(&bytes) {
                Ok(question) => {
                    question.reverse();
                    let answer = addresses(&bytes, &question, &[Ipv4Addr::LOCALHOST.into()], DATAGRAM);
                    prop_assert!(answers(&bytes, super::id(&bytes), &answer));
                    answers(&bytes, id, &bytes);
                }
                Err(Unfit::Refused(code)) => prop_assert!(refusal(&bytes, code).len() >= HEADER),
                Err(Unfit::NoQuery) => {}
            }
        }

        #[test]
        fn every_name_that_can_be_asked_is_read(labels in prop::collection::vec("[!-,/-@\\[-~]{1,20}", 1..8)) {
            let name = labels.join(".");
            let question = parsed(&query(&name, TYPE_A));
            prop_assert_eq!(question.name.unwrap(), name.to_ascii_lowercase());
        }
    }
}
