//! Values as Go prints them.

use serde_json::{Number, Value};
use std::fmt::Write as _;

/// Returns a value as Go's `%v` has it.
pub(super) fn plain(value: &Value) -> String {
    let mut text = String::new();
    write_plain(&mut text, value);
    text
}

fn write_plain(text: &mut String, value: &Value) {
    match value {
        Value::Null => text.push_str("<nil>"),
        Value::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
        Value::Number(value) => text.push_str(&number(value)),
        Value::String(value) => text.push_str(value),
        Value::Array(values) => {
            text.push('[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    text.push(' ');
                }
                write_plain(text, value);
            }
            text.push(']');
        }
        Value::Object(map) => {
            // Go prints maps by the order of their keys.
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            text.push_str("map[");
            for (at, (key, value)) in entries.into_iter().enumerate() {
                let blank = if at > 0 { " " } else { "" };
                write!(text, "{blank}{key}:").expect("writing to a string cannot fail");
                write_plain(text, value);
            }
            text.push(']');
        }
    }
}

/// Returns a number as Go's `%v` has it: a large or tiny fraction with an exponent.
fn number(number: &Number) -> String {
    let value = match number.as_f64() {
        Some(value) if number.is_f64() => value,
        _ => return number.to_string(),
    };
    let exponent = if value == 0.0 {
        0.0
    } else {
        value.abs().log10().floor()
    };
    if (-4.0..21.0).contains(&exponent) {
        return value.to_string();
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// Returns text in double quotes, as Go's `%q` has it.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            _ if char.is_control() => {
                write!(quoted, "\\x{:02x}", u32::from(char))
                    .expect("writing to a string cannot fail");
            }
            _ => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

/// Fills in Go's `printf`. What does not fit is shown as Go shows it.
pub(super) fn printf(format: &str, arguments: &[Value]) -> String {
    let mut text = String::new();
    let mut arguments = arguments.iter();
    let mut chars = format.chars().peekable();
    while let Some(char) = chars.next() {
        if char != '%' {
            text.push(char);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = chars.next_if(|it| matches!(it, '-' | '+' | '#' | ' ' | '0')) {
            spec.left |= flag == '-';
            spec.zero |= flag == '0';
            spec.plus |= flag == '+';
            spec.sharp |= flag == '#';
        }
        while let Some(digit) = chars.next_if(char::is_ascii_digit) {
            spec.width = spec.width * 10 + digit.to_digit(10).unwrap_or(0) as usize;
        }
        if chars.next_if_eq(&'.').is_some() {
            let mut precision = 0;
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                precision = precision * 10 + digit.to_digit(10).unwrap_or(0) as usize;
            }
            spec.precision = Some(precision);
        }
        match chars.next() {
            None => text.push_str("%!(NOVERB)"),
            Some('%') => text.push('%'),
            Some(verb) => match arguments.next() {
                Some(value) => text.push_str(&spec.pad(&spec.verb(verb, value))),
                None => write!(text, "%!{verb}(MISSING)").expect("writing to a string cannot fail"),
            },
        }
    }
    let extra: Vec<String> = arguments
        .map(|it| format!("{}={}", kind(it), plain(it)))
        .collect();
    if !extra.is_empty() {
        write!(text, "%!(EXTRA {})", extra.join(", ")).expect("writing to a string cannot fail");
    }
    text
}

/// What stands between `%` and the verb.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "the flags of printf")]
struct Spec {
    left: bool,
    zero: bool,
    plus: bool,
    sharp: bool,
    width: usize,
    precision: Option<usize>,
}

impl Spec {
    fn verb(&self, verb: char, value: &Value) -> String {
        let cut = |text: String| match self.precision {
            Some(precision) => text.chars().take(precision).collect(),
            None => text,
        };
        match (verb, value) {
            ('v' | 's', Value::String(text)) if !(verb == 'v' && self.sharp) => cut(text.clone()),
            ('q' | 'v', Value::String(text)) => quoted(&cut(text.clone())),
            ('q', Value::Array(values)) => {
                let words: Vec<String> = values.iter().map(|it| quoted(&plain(it))).collect();
                format!("[{}]", words.join(" "))
            }
            ('x', Value::String(text)) => hex(text),
            ('d' | 'x' | 'X' | 'o' | 'b' | 'c', Value::Number(number)) if !number.is_f64() => {
                self.whole(verb, number.as_i64().unwrap_or(0))
            }
            ('f' | 'F', Value::Number(number)) if number.is_f64() => {
                format!(
                    "{:.*}",
                    self.precision.unwrap_or(6),
                    number.as_f64().unwrap_or(0.0)
                )
            }
            ('t', Value::Bool(value)) => value.to_string(),
            ('T', _) => kind(value).to_owned(),
            ('v', _) | ('s' | 'd', Value::Array(_) | Value::Object(_)) => plain(value),
            _ => format!("%!{verb}({}={})", kind(value), plain(value)),
        }
    }

    fn whole(&self, verb: char, number: i64) -> String {
        let sign = match number {
            ..0 => "-",
            _ if self.plus => "+",
            _ => "",
        };
        let size = number.unsigned_abs();
        let digits = match verb {
            'x' => format!("{size:x}"),
            'X' => format!("{size:X}"),
            'o' => format!("{size:o}"),
            'b' => format!("{size:b}"),
            'c' => {
                return u32::try_from(size)
                    .ok()
                    .and_then(char::from_u32)
                    .map(String::from)
                    .unwrap_or_default();
            }
            _ => size.to_string(),
        };
        let width = if self.zero && !self.left {
            self.width.saturating_sub(sign.len())
        } else {
            0
        };
        format!("{sign}{digits:0>width$}")
    }

    fn pad(&self, text: &str) -> String {
        let width = self.width;
        if self.left {
            format!("{text:<width$}")
        } else {
            format!("{text:>width$}")
        }
    }
}

fn hex(text: &str) -> String {
    let mut hex = String::new();
    for byte in text.bytes() {
        write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
    }
    hex
}

/// Returns what Go calls the type of a value.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
