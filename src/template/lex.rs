//! From a template's text to words.

/// A word inside `{{` and `}}`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Word {
    /// `if`, `range`, `len`, `true`, …
    Name(String),
    /// `.Name`; whether a blank stood before it, so that it begins a term.
    Field(String, bool),
    /// `.` alone.
    Dot,
    /// `$x`, or `$` alone, whose name is empty.
    Variable(String),
    Text(String),
    Number(String),
    Open,
    /// Whether a blank stood before does not matter to it.
    Close,
    Pipe,
    Declare,
    Assign,
    Comma,
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    Text(String),
    Action(Vec<Word>),
}

/// Splits a template into text and actions; trim markers have done their work and comments are gone.
pub(super) fn pieces(template: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = template;
    let mut trims = false;
    loop {
        let start = rest.find("{{");
        let text = &rest[..start.unwrap_or(rest.len())];
        let text = if trims { text.trim_start() } else { text };
        let Some(start) = start else {
            push_text(&mut pieces, text);
            return Ok(pieces);
        };
        let inside = &rest[start + 2..];
        let trims_before =
            inside.starts_with('-') && inside[1..].starts_with([' ', '\t', '\n', '\r']);
        push_text(
            &mut pieces,
            if trims_before { text.trim_end() } else { text },
        );
        let inside = if trims_before { &inside[1..] } else { inside };
        let (action, after) = if inside.trim_start().starts_with("/*") {
            (None, end_of_comment(inside)?)
        } else {
            let (words, after) = words(inside)?;
            (Some(words), after)
        };
        trims = after.0;
        rest = after.1;
        pieces.extend(action.map(Piece::Action));
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

/// Whether the text that follows is trimmed, and the text.
type After<'a> = (bool, &'a str);

fn end_of_comment(inside: &str) -> Result<After<'_>, String> {
    let end = inside.find("*/").ok_or("unclosed comment")?;
    after_end(&inside[end + 2..]).ok_or_else(|| "comment ends before closing delimiter".to_owned())
}

/// Returns what follows if an action ends here.
fn after_end(text: &str) -> Option<After<'_>> {
    let trimmed = text.trim_start();
    if let Some(after) = trimmed.strip_prefix("}}") {
        return Some((false, after));
    }
    let after = trimmed
        .strip_prefix("-}}")
        .filter(|_| trimmed.len() < text.len())?;
    Some((true, after))
}

/// Reads the words of an action to its end.
fn words(inside: &str) -> Result<(Vec<Word>, After<'_>), String> {
    let mut words = Vec::new();
    let mut rest = inside;
    loop {
        if let Some(after) = after_end(rest) {
            return Ok((words, after));
        }
        let trimmed = rest.trim_start();
        let is_apart = trimmed.len() < rest.len() || words.is_empty();
        let (word, after) = word(trimmed, is_apart)?;
        words.push(word);
        rest = after;
    }
}

fn word(text: &str, is_apart: bool) -> Result<(Word, &str), String> {
    for (sign, word) in [
        (":=", Word::Declare),
        ("=", Word::Assign),
        ("|", Word::Pipe),
        ("(", Word::Open),
        (")", Word::Close),
        (",", Word::Comma),
    ] {
        if let Some(after) = text.strip_prefix(sign) {
            return Ok((word, after));
        }
    }
    let first = text.chars().next().ok_or("unclosed action")?;
    match first {
        '"' | '`' | '\'' => quoted(text, first),
        '.' if !text[1..].starts_with(|it: char| it.is_ascii_digit()) => {
            let (name, after) = name(&text[1..]);
            if name.is_empty() {
                return Ok((Word::Dot, after));
            }
            Ok((Word::Field(name.to_owned(), is_apart), after))
        }
        '$' => {
            let (name, after) = name(&text[1..]);
            Ok((Word::Variable(name.to_owned()), after))
        }
        '0'..='9' | '-' | '+' | '.' => {
            let end =
                text[1..].find(|it: char| !it.is_ascii_alphanumeric() && it != '.' && it != '_');
            let (number, after) = text.split_at(end.map_or(text.len(), |end| end + 1));
            Ok((Word::Number(number.to_owned()), after))
        }
        _ if first.is_alphabetic() || first == '_' => {
            let (name, after) = name(text);
            Ok((Word::Name(name.to_owned()), after))
        }
        _ => Err(format!("unexpected {first:?} in command")),
    }
}

fn name(text: &str) -> (&str, &str) {
    let end = text.find(|it: char| !it.is_alphanumeric() && it != '_');
    text.split_at(end.unwrap_or(text.len()))
}

/// Reads a string or a character constant. Between backquotes nothing is escaped.
fn quoted(text: &str, quote: char) -> Result<(Word, &str), String> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, char)) = chars.next() {
        match char {
            _ if char == quote => {
                let after = &text[at + 1..];
                if quote != '\'' {
                    return Ok((Word::Text(value), after));
                }
                let char = value
                    .chars()
                    .next()
                    .ok_or("malformed character constant: ''")?;
                return Ok((Word::Number(u32::from(char).to_string()), after));
            }
            '\n' if quote != '`' => break,
            '\\' if quote != '`' => value.push(escaped(&mut chars)?),
            _ => value.push(char),
        }
    }
    Err(if quote == '`' {
        "unterminated raw quoted string"
    } else {
        "unterminated quoted string"
    }
    .to_owned())
}

fn escaped(chars: &mut impl Iterator<Item = (usize, char)>) -> Result<char, String> {
    let (_, char) = chars.next().ok_or("unterminated quoted string")?;
    let mut hex = |digits: usize| {
        let text: String = chars.take(digits).map(|(_, char)| char).collect();
        u32::from_str_radix(&text, 16).ok().and_then(char::from_u32)
    };
    let escaped = match char {
        'n' => Some('\n'),
        't' => Some('\t'),
        'r' => Some('\r'),
        'a' => Some('\u{7}'),
        'b' => Some('\u{8}'),
        'f' => Some('\u{c}'),
        'v' => Some('\u{b}'),
        '\\' | '"' | '\'' => Some(char),
        'x' => hex(2),
        'u' => hex(4),
        'U' => hex(8),
        _ => None,
    };
    escaped.ok_or_else(|| "invalid syntax".to_owned())
}
