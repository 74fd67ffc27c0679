//! From words to a template's tree.

use super::function;
use super::lex::{Piece, Word, pieces};
use serde_json::Value;
use std::collections::VecDeque;
use std::str::FromStr;

/// A template that can be filled in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template {
    pub(super) nodes: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Text(String),
    Action(Pipeline),
    If(Pipeline, Vec<Node>, Vec<Node>),
    With(Pipeline, Vec<Node>, Vec<Node>),
    Range(Pipeline, Vec<Node>, Vec<Node>),
    Break,
    Continue,
}

/// `$x := a | b c`
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Pipeline {
    pub(super) variables: Vec<String>,
    /// `:=`, not `=`.
    pub(super) declares: bool,
    /// Each is a list of terms: a function or a method and its arguments, or one value.
    pub(super) commands: Vec<Vec<Term>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Term {
    pub(super) base: Base,
    /// `.A.B` after it.
    pub(super) fields: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Base {
    Dot,
    Variable(String),
    Value(Value),
    Function(String),
    Pipeline(Box<Pipeline>),
}

/// How a list of nodes ended.
#[derive(Debug, PartialEq)]
enum Stop {
    /// The text was at its end.
    Text,
    End,
    /// `else`, with what follows on it: `if …` or `with …`.
    Else(VecDeque<Word>),
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = |error| format!("template: :1: {error}");
        let mut parser = Parser {
            pieces: pieces(text).map_err(at)?.into(),
            variables: vec![String::new()],
            loops: 0,
        };
        match parser.nodes().map_err(at)? {
            (nodes, Stop::Text) => Ok(Self { nodes }),
            (_, Stop::End) => Err(at("unexpected {{end}}".to_owned())),
            (_, Stop::Else(_)) => Err(at("unexpected {{else}}".to_owned())),
        }
    }
}

struct Parser {
    pieces: VecDeque<Piece>,
    /// Names in scope, `$` being the empty one.
    variables: Vec<String>,
    /// Loops around this place.
    loops: usize,
}

impl Parser {
    fn nodes(&mut self) -> Result<(Vec<Node>, Stop), String> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.pop_front() {
            let mut words: VecDeque<Word> = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(words) => words.into(),
            };
            let keyword = match words.front() {
                Some(Word::Name(name)) => name.clone(),
                _ => String::new(),
            };
            match keyword.as_str() {
                "end" => return Ok((nodes, Stop::End)),
                "else" => {
                    words.pop_front();
                    return Ok((nodes, Stop::Else(words)));
                }
                "if" | "with" | "range" => {
                    words.pop_front();
                    nodes.push(self.block(&keyword, words)?);
                }
                "break" | "continue" if words.len() == 1 => {
                    if self.loops == 0 {
                        return Err(format!("{{{{{keyword}}}}} outside {{{{range}}}}"));
                    }
                    let is_break = keyword == "break";
                    nodes.push(if is_break {
                        Node::Break
                    } else {
                        Node::Continue
                    });
                }
                _ => nodes.push(Node::Action(self.pipeline(&mut words, "command", false)?)),
            }
        }
        Ok((nodes, Stop::Text))
    }

    /// Reads `if`, `with` or `range` to its `end`.
    fn block(&mut self, keyword: &str, mut words: VecDeque<Word>) -> Result<Node, String> {
        let scope = self.variables.len();
        let pipeline = self.pipeline(&mut words, keyword, keyword == "range")?;
        let is_loop = usize::from(keyword == "range");
        self.loops += is_loop;
        let (body, end) = self.nodes()?;
        self.loops -= is_loop;
        let otherwise = match end {
            Stop::Text => return Err("unexpected EOF".to_owned()),
            Stop::End => Vec::new(),
            Stop::Else(words) if words.is_empty() => match self.nodes()? {
                (nodes, Stop::End) => nodes,
                (_, Stop::Text) => return Err("unexpected EOF".to_owned()),
                (_, Stop::Else(_)) => return Err("expected end; found {{else}}".to_owned()),
            },
            // `else if` and `else with` end where the first does.
            Stop::Else(mut words) => match words.pop_front() {
                Some(Word::Name(name)) if name == keyword && keyword != "range" => {
                    vec![self.block(keyword, words)?]
                }
                _ => return Err("unexpected words after {{else}}".to_owned()),
            },
        };
        self.variables.truncate(scope);
        Ok(match keyword {
            "if" => Node::If(pipeline, body, otherwise),
            "with" => Node::With(pipeline, body, otherwise),
            _ => Node::Range(pipeline, body, otherwise),
        })
    }

    /// Reads all words.
    fn pipeline(
        &mut self,
        words: &mut VecDeque<Word>,
        what: &str,
        is_range: bool,
    ) -> Result<Pipeline, String> {
        let mut pipeline = self.declaration(words, is_range)?;
        pipeline.commands = self.commands(words)?;
        if let Some(word) = words.front() {
            return Err(format!("unexpected {word:?} in {what}"));
        }
        if pipeline.commands.is_empty() {
            return Err(format!("missing value for {what}"));
        }
        if pipeline.declares {
            self.variables.extend(pipeline.variables.iter().cloned());
        }
        Ok(pipeline)
    }

    fn declaration(&self, words: &mut VecDeque<Word>, is_range: bool) -> Result<Pipeline, String> {
        let mut pipeline = Pipeline::default();
        let count = match (words.front(), words.get(1), words.get(2), words.get(3)) {
            (Some(Word::Variable(_)), Some(Word::Declare | Word::Assign), ..) => 1,
            (
                Some(Word::Variable(_)),
                Some(Word::Comma),
                Some(Word::Variable(_)),
                Some(Word::Declare | Word::Assign),
            ) if is_range => 2,
            _ => return Ok(pipeline),
        };
        for word in words.drain(..count * 2) {
            match word {
                Word::Variable(name) => pipeline.variables.push(name),
                Word::Declare => pipeline.declares = true,
                _ => {}
            }
        }
        let known = |name: &String| self.variables.contains(name);
        if !pipeline.declares && !pipeline.variables.iter().all(known) {
            return Err(format!("undefined variable \"${}\"", pipeline.variables[0]));
        }
        Ok(pipeline)
    }

    fn commands(&self, words: &mut VecDeque<Word>) -> Result<Vec<Vec<Term>>, String> {
        let mut commands = Vec::new();
        let mut command = Vec::new();
        while let Some(word) = words.front() {
            match word {
                Word::Close => break,
                Word::Pipe => {
                    words.pop_front();
                    if command.is_empty() {
                        return Err("missing value for command".to_owned());
                    }
                    commands.push(std::mem::take(&mut command));
                    if matches!(words.front(), None | Some(Word::Close)) {
                        return Err("missing value for command".to_owned());
                    }
                }
                _ => command.push(self.term(words)?),
            }
        }
        if !command.is_empty() {
            commands.push(command);
        }
        // Only what can be called takes what comes through a pipe.
        for command in commands.iter().skip(1) {
            let is_value = matches!(command[0].base, Base::Value(_)) || command[0] == DOT;
            if is_value {
                return Err("non executable command in pipeline stage 2".to_owned());
            }
        }
        Ok(commands)
    }

    fn term(&self, words: &mut VecDeque<Word>) -> Result<Term, String> {
        let mut fields = Vec::new();
        let base = match words.pop_front() {
            Some(Word::Dot) => Base::Dot,
            Some(Word::Field(name, _)) => {
                fields.push(name);
                Base::Dot
            }
            Some(Word::Variable(name)) => {
                if !self.variables.contains(&name) {
                    return Err(format!("undefined variable \"${name}\""));
                }
                Base::Variable(name)
            }
            Some(Word::Text(text)) => Base::Value(Value::String(text)),
            Some(Word::Number(text)) => Base::Value(number(&text)?),
            Some(Word::Name(name)) => match name.as_str() {
                "true" | "false" => Base::Value(Value::Bool(name == "true")),
                "nil" => Base::Value(Value::Null),
                _ if function::is_known(&name) => Base::Function(name),
                _ => return Err(format!("function \"{name}\" not defined")),
            },
            Some(Word::Open) => {
                let commands = self.commands(words)?;
                if words.pop_front() != Some(Word::Close) {
                    return Err("unclosed left paren".to_owned());
                }
                if commands.is_empty() {
                    return Err("missing value for parenthesized pipeline".to_owned());
                }
                let pipeline = Pipeline {
                    commands,
                    ..Pipeline::default()
                };
                Base::Pipeline(Box::new(pipeline))
            }
            Some(word) => return Err(format!("unexpected {word:?} in operand")),
            None => return Err("missing value for command".to_owned()),
        };
        while let Some(Word::Field(name, false)) = words.front() {
            fields.push(name.clone());
            words.pop_front();
        }
        Ok(Term { base, fields })
    }
}

/// `.` alone.
const DOT: Term = Term {
    base: Base::Dot,
    fields: Vec::new(),
};

fn number(text: &str) -> Result<Value, String> {
    let bad = || format!("bad number syntax: \"{text}\"");
    let digits = text.replace('_', "");
    let (sign, plain) = match digits.strip_prefix('-') {
        Some(plain) => (-1, plain),
        None => (1, digits.trim_start_matches('+')),
    };
    for (prefix, radix) in [("0x", 16), ("0X", 16), ("0b", 2), ("0o", 8)] {
        if let Some(plain) = plain.strip_prefix(prefix) {
            let number = i64::from_str_radix(plain, radix).map_err(|_| bad())?;
            return Ok(Value::from(sign * number));
        }
    }
    if let Ok(number) = plain.parse::<i64>() {
        return Ok(Value::from(sign * number));
    }
    let number: f64 = digits.parse().map_err(|_| bad())?;
    Ok(Value::from(number))
}
