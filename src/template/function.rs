//! The functions of templates: Go's, and those that Docker adds.

use super::print::{kind, plain, printf};
use super::run::METHOD;
use serde_json::{Map, Value};
use std::cmp::Ordering;

const KNOWN: &[&str] = &[
    "and", "or", "not", "len", "index", "slice", "print", "printf", "println", "html", "js",
    "urlquery", "call", "eq", "ne", "lt", "le", "gt", "ge", "json", "split", "join", "title",
    "lower", "upper", "pad", "truncate",
];

pub(super) fn is_known(name: &str) -> bool {
    KNOWN.contains(&name)
}

/// Calls a function. In a `header` those of Docker's leave the column's name as it is.
pub(super) fn call(name: &str, arguments: &[Value], header: bool) -> Result<Value, String> {
    let argument = |at: usize| {
        arguments.get(at).ok_or_else(|| {
            let got = arguments.len();
            format!("wrong number of args for {name}: want {} got {got}", at + 1)
        })
    };
    if header
        && matches!(
            name,
            "json" | "split" | "join" | "title" | "lower" | "upper" | "truncate"
        )
    {
        return argument(0).cloned();
    }
    let text = |at: usize| match argument(at)? {
        Value::String(text) => Ok(text.as_str()),
        other => Err(format!(
            "wrong type for value; expected string; got {}",
            kind(other)
        )),
    };
    Ok(match name {
        "not" => Value::Bool(!is_true(argument(0)?)),
        "len" => Value::from(length(argument(0)?)?),
        "index" => index(argument(0)?, &arguments[1..])?,
        "slice" => slice(argument(0)?, &arguments[1..])?,
        "print" => Value::String(print(arguments)),
        "println" => {
            let words: Vec<String> = arguments.iter().map(plain).collect();
            Value::String(words.join(" ") + "\n")
        }
        "printf" => Value::String(printf(text(0)?, &arguments[1..])),
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" => Value::Bool(compare(
            name,
            argument(0)?,
            argument(1).map(|_| &arguments[1..])?,
        )?),
        "json" => Value::String(json(argument(0)?)),
        "split" => text(0)?.split(text(1)?).map(Value::from).collect(),
        "join" => Value::String(join(argument(0)?, text(1)?)?),
        "title" => Value::String(title(text(0)?)),
        "lower" => Value::String(text(0)?.to_lowercase()),
        "upper" => Value::String(text(0)?.to_uppercase()),
        "pad" => Value::String(pad(text(0)?, whole(argument(1)?)?, whole(argument(2)?)?)),
        "truncate" => Value::String(text(0)?.chars().take(whole(argument(1)?)?).collect()),
        "html" => Value::String(
            print(arguments)
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;")
                .replace('"', "&#34;")
                .replace('\'', "&#39;"),
        ),
        _ => return Err(format!("{name} is not there")),
    })
}

/// Tells whether Go's templates take a value for true: whatever is not empty.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn length(value: &Value) -> Result<usize, String> {
    match value {
        Value::String(text) => Ok(text.len()),
        Value::Array(values) => Ok(values.len()),
        Value::Object(map) => Ok(map.len()),
        // A list or map of Docker's that has nothing in it.
        Value::Null => Ok(0),
        other => Err(format!("error calling len: len of type {}", kind(other))),
    }
}

fn index(value: &Value, keys: &[Value]) -> Result<Value, String> {
    let mut found = value.clone();
    for key in keys {
        found = match (&found, key) {
            (Value::Object(map), Value::String(key)) => {
                map.get(key).cloned().unwrap_or_else(|| absent(map))
            }
            // Docker writes so what is a map, or a list, with nothing in it.
            (Value::Null, Value::String(_)) => Value::String(String::new()),
            (Value::Array(values), Value::Number(at)) => {
                let at = at.as_u64().and_then(|at| usize::try_from(at).ok());
                let found = at.and_then(|at| values.get(at)).cloned();
                found.ok_or_else(|| {
                    format!("error calling index: index out of range: {}", plain(key))
                })?
            }
            (Value::String(text), Value::Number(at)) => {
                let at = at.as_u64().and_then(|at| usize::try_from(at).ok());
                let byte = at.and_then(|at| text.as_bytes().get(at));
                let byte = byte.ok_or_else(|| {
                    format!("error calling index: index out of range: {}", plain(key))
                })?;
                Value::from(*byte)
            }
            (Value::Null, _) => return Err("error calling index: index of untyped nil".to_owned()),
            (found, _) => {
                return Err(format!(
                    "error calling index: cannot index {} with {}",
                    kind(found),
                    kind(key)
                ));
            }
        };
    }
    Ok(found)
}

/// What a map has under a key that it has not: the zero of its values' type, which a map of texts alone shows.
fn absent(map: &Map<String, Value>) -> Value {
    if map.values().all(Value::is_string) {
        Value::String(String::new())
    } else {
        Value::Null
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    let size = length(value)?;
    let bound = |at: usize, otherwise: usize| bounds.get(at).map_or(Ok(otherwise), whole);
    let (start, end) = (bound(0, 0)?, bound(1, size)?);
    if start > end || end > size {
        return Err(format!(
            "error calling slice: index out of range: {}",
            end.max(start)
        ));
    }
    match value {
        Value::String(text) => {
            let part = text
                .get(start..end)
                .ok_or("error calling slice: inside a character")?;
            Ok(Value::from(part))
        }
        Value::Array(values) => Ok(Value::from(values[start..end].to_vec())),
        other => Err(format!(
            "error calling slice: can't slice item of type {}",
            kind(other)
        )),
    }
}

fn whole(value: &Value) -> Result<usize, String> {
    let number = value
        .as_u64()
        .and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| format!("wrong type for value; expected int; got {}", kind(value)))
}

/// As Go's `Sprint`: a blank between two operands of which neither is text.
fn print(arguments: &[Value]) -> String {
    let mut text = String::new();
    for (at, value) in arguments.iter().enumerate() {
        let is_apart = at > 0 && !value.is_string() && !arguments[at - 1].is_string();
        if is_apart {
            text.push(' ');
        }
        text.push_str(&plain(value));
    }
    text
}

/// Returns JSON in one line. What are methods of a row is no part of it.
pub(super) fn json(value: &Value) -> String {
    fn plain(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                let fields = map.iter().filter(|(key, _)| !key.starts_with(METHOD));
                Value::Object(
                    fields
                        .map(|(key, value)| (key.clone(), plain(value)))
                        .collect(),
                )
            }
            Value::Array(values) => values.iter().map(plain).collect(),
            value => value.clone(),
        }
    }
    plain(value).to_string()
}

fn join(value: &Value, separator: &str) -> Result<String, String> {
    match value {
        Value::Array(values) => {
            let words: Vec<String> = values.iter().map(plain).collect();
            Ok(words.join(separator))
        }
        Value::Null => Ok(String::new()),
        other => Err(format!(
            "wrong type for value; expected []string; got {}",
            kind(other)
        )),
    }
}

fn title(text: &str) -> String {
    let mut is_first = true;
    let letter = |char: char| {
        let upper = is_first && char.is_alphabetic();
        is_first = !(char.is_alphanumeric() || char == '_' || char == '\'');
        if upper {
            char.to_uppercase().collect::<String>()
        } else {
            char.to_string()
        }
    };
    text.chars().map(letter).collect()
}

/// Docker's `pad`: blanks before and after a text that has something in it.
fn pad(text: &str, before: usize, after: usize) -> String {
    if text.is_empty() {
        return String::new();
    }
    format!("{}{text}{}", " ".repeat(before), " ".repeat(after))
}

/// `eq` is true if the first is equal to one of the others.
fn compare(name: &str, first: &Value, others: &[Value]) -> Result<bool, String> {
    if name == "eq" {
        for other in others {
            if order(first, other)? == Some(Ordering::Equal) {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    let order = order(first, &others[0])?;
    Ok(match name {
        "ne" => order != Some(Ordering::Equal),
        "lt" => order == Some(Ordering::Less),
        "le" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        "gt" => order == Some(Ordering::Greater),
        _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    })
}

/// Returns how two values are ordered; `None` if they are only unequal.
fn order(a: &Value, b: &Value) -> Result<Option<Ordering>, String> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Ok(Some(a.cmp(b))),
        (Value::Number(a), Value::Number(b)) => Ok(match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64().partial_cmp(&b.as_f64()),
        }),
        (Value::Bool(a), Value::Bool(b)) => Ok((a == b).then_some(Ordering::Equal)),
        (Value::Null, Value::Null) => Ok(Some(Ordering::Equal)),
        (Value::Null, _) | (_, Value::Null) => Ok(None),
        _ => Err("incompatible types for comparison".to_owned()),
    }
}
