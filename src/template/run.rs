//! Fills a template in.

use super::function::{self, is_true};
use super::parse::{Base, Node, Pipeline, Template, Term};
use super::print::plain;
use serde_json::Value;
use thiserror::Error;

/// Begins the names of what templates find in a value and JSON does not show: methods, where `.Label "x"` looks up `x` in what is
/// there under `Label` after this, and what Go calls otherwise than JSON.
pub(crate) const METHOD: char = '\0';

/// Fields of Docker's documents that hold maps with keys of their users: one that is not there is no mistake.
const MAPS: &[&str] = &[
    "Labels",
    "Networks",
    "Ports",
    "Options",
    "Volumes",
    "ExposedPorts",
    "Containers",
    "PortBindings",
    "Annotations",
    "Sysctls",
    "Tmpfs",
    "DriverOpts",
    "LogOpts",
];

/// Why a template cannot be filled in.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("template: :1: executing \"\": {0}")]
pub(crate) struct Failure(String);

/// What a template is filled in with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Values {
    Plain,
    /// The names of columns, which Docker's functions leave as they are.
    Header,
}

impl Template {
    /// Fills in what `value` has.
    pub(crate) fn fill(&self, value: &Value, values: Values) -> Result<String, Failure> {
        let mut run = Run {
            variables: vec![(String::new(), value.clone())],
            is_header: values == Values::Header,
            text: String::new(),
        };
        run.nodes(&self.nodes, value).map_err(Failure)?;
        Ok(run.text)
    }
}

/// What goes on after a list of nodes.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct Run {
    /// In the order in which they came to be; an inner one hides an outer one of the same name.
    variables: Vec<(String, Value)>,
    is_header: bool,
    text: String,
}

impl Run {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, String> {
        for node in nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, String> {
        match node {
            Node::Text(text) => self.text.push_str(text),
            Node::Action(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.text.push_str(&shown(pipeline, value.as_ref()));
                }
            }
            Node::If(pipeline, then, otherwise) => {
                return self.scope(|run| {
                    let holds = run.pipeline(pipeline, dot)?.is_some_and(|it| is_true(&it));
                    run.nodes(if holds { then } else { otherwise }, dot)
                });
            }
            Node::With(pipeline, then, otherwise) => {
                return self.scope(|run| match run.pipeline(pipeline, dot)? {
                    Some(value) if is_true(&value) => run.nodes(then, &value),
                    _ => run.nodes(otherwise, dot),
                });
            }
            Node::Range(pipeline, body, otherwise) => {
                return self.scope(|run| run.range(pipeline, body, otherwise, dot));
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    /// Forgets the variables that come to be in `act`.
    fn scope<T>(&mut self, act: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        let known = self.variables.len();
        let result = act(self);
        self.variables.truncate(known);
        result
    }

    fn range(
        &mut self,
        pipeline: &Pipeline,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<Flow, String> {
        let plain = Pipeline {
            variables: Vec::new(),
            ..pipeline.clone()
        };
        let value = self.pipeline(&plain, dot)?.unwrap_or(Value::Null);
        let items: Vec<(Value, Value)> = match value {
            Value::Array(values) => {
                let items = values.into_iter().enumerate();
                items.map(|(at, value)| (Value::from(at), value)).collect()
            }
            Value::Object(map) => {
                let mut items: Vec<_> = map.into_iter().collect();
                items.sort_by(|(a, _), (b, _)| a.cmp(b));
                items
                    .into_iter()
                    .map(|(key, value)| (Value::from(key), value))
                    .collect()
            }
            Value::Number(number) => {
                let count = number.as_u64().unwrap_or(0);
                (0..count)
                    .map(|at| (Value::from(at), Value::from(at)))
                    .collect()
            }
            Value::Null => Vec::new(),
            // In a header there is one name, whatever the column holds.
            Value::String(_) if self.is_header => vec![(Value::from(0), value)],
            other => {
                return Err(format!(
                    "range can't iterate over {}",
                    super::print::plain(&other)
                ));
            }
        };
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (key, value) in items {
            let flow = self.scope(|run| {
                match pipeline.variables.as_slice() {
                    [] => {}
                    [one] => run.set(one, value.clone(), pipeline.declares),
                    [first, second, ..] => {
                        run.set(first, key, pipeline.declares);
                        run.set(second, value.clone(), pipeline.declares);
                    }
                }
                run.nodes(body, &value)
            })?;
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn set(&mut self, name: &str, value: Value, declares: bool) {
        if !declares
            && let Some((_, old)) = self.variables.iter_mut().rev().find(|(it, _)| it == name)
        {
            *old = value;
            return;
        }
        self.variables.push((name.to_owned(), value));
    }

    /// Returns what comes out of a pipeline; `None` if a map has no such key.
    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Option<Value>, String> {
        let (mut value, mut piped) = (None, None);
        for command in &pipeline.commands {
            value = self.command(command, piped, dot)?;
            piped = Some(value.clone().unwrap_or(Value::Null));
        }
        for name in &pipeline.variables {
            self.set(
                name,
                value.clone().unwrap_or(Value::Null),
                pipeline.declares,
            );
        }
        Ok(value)
    }

    fn command(
        &mut self,
        terms: &[Term],
        piped: Option<Value>,
        dot: &Value,
    ) -> Result<Option<Value>, String> {
        let (first, rest) = terms.split_first().ok_or("missing value for command")?;
        let Base::Function(name) = &first.base else {
            let mut arguments = Vec::new();
            for term in rest {
                arguments.push(self.term(term, dot)?.unwrap_or(Value::Null));
            }
            arguments.extend(piped);
            if arguments.is_empty() {
                return self.term(first, dot);
            }
            return self.method(first, &arguments, dot).map(Some);
        };
        // These look at no more than they need.
        if name == "and" || name == "or" {
            let mut last = None;
            for term in rest {
                last = self.term(term, dot)?;
                if last.as_ref().is_some_and(is_true) == (name == "or") {
                    return Ok(last);
                }
            }
            return Ok(piped.or(last));
        }
        let mut arguments = Vec::new();
        for term in rest {
            arguments.push(self.term(term, dot)?.unwrap_or(Value::Null));
        }
        arguments.extend(piped);
        let value = function::call(name, &arguments, self.is_header)?;
        fields(Some(value), &first.fields, "")
    }

    /// Calls a method of a row: `.Label "x"`.
    fn method(&mut self, term: &Term, arguments: &[Value], dot: &Value) -> Result<Value, String> {
        let (name, before) = term
            .fields
            .split_last()
            .ok_or("can't give argument to non-function")?;
        if self.is_header
            && let [Value::String(key)] = arguments
        {
            // Docker heads a label's column by the last part of its key.
            let last = key.rsplit('.').next().unwrap_or(key);
            return Ok(Value::from(last.replace(['-', '_'], " ")));
        }
        let of = Term {
            base: term.base.clone(),
            fields: before.to_vec(),
        };
        let value = self.term(&of, dot)?.unwrap_or(Value::Null);
        let method = value.get(format!("{METHOD}{name}"));
        let method = method
            .ok_or_else(|| format!("{name} has arguments but cannot be invoked as function"))?;
        match (method, arguments) {
            (values, [Value::String(key)]) => {
                Ok(values.get(key).cloned().unwrap_or_else(|| Value::from("")))
            }
            _ => Err(format!(
                "wrong number of args for {name}: want 1 got {}",
                arguments.len()
            )),
        }
    }

    fn term(&mut self, term: &Term, dot: &Value) -> Result<Option<Value>, String> {
        let value = match &term.base {
            Base::Dot => Some(dot.clone()),
            Base::Variable(name) => {
                let found = self.variables.iter().rev().find(|(it, _)| it == name);
                Some(found.map_or(Value::Null, |(_, value)| value.clone()))
            }
            Base::Value(value) => Some(value.clone()),
            Base::Function(name) => Some(function::call(name, &[], self.is_header)?),
            Base::Pipeline(pipeline) => self.pipeline(pipeline, dot)?,
        };
        fields(value, &term.fields, "")
    }
}

/// Follows `.A.B`; `before` is the field that led to the value.
fn fields(value: Option<Value>, names: &[String], before: &str) -> Result<Option<Value>, String> {
    let Some((name, rest)) = names.split_first() else {
        return Ok(value);
    };
    let found = match value {
        Some(Value::Object(mut map)) => match map
            .shift_remove(name)
            .or_else(|| map.shift_remove(&format!("{METHOD}{name}")))
        {
            Some(found) => Some(found),
            None if MAPS.contains(&before) => None,
            None => return Err(format!("at <.{name}>: map has no entry for key \"{name}\"")),
        },
        Some(Value::Null) | None if MAPS.contains(&before) => None,
        Some(Value::Null) | None => {
            return Err(format!(
                "at <.{name}>: nil data; no entry for key \"{name}\""
            ));
        }
        Some(other) => {
            let kind = super::print::kind(&other);
            return Err(format!(
                "at <.{name}>: can't evaluate field {name} in type {kind}"
            ));
        }
    };
    fields(found, rest, name)
}

/// Returns a value as an action shows it: what a map has not is no value, and an empty map or list of Docker's, which JSON has as
/// null, is shown as such.
fn shown(pipeline: &Pipeline, value: Option<&Value>) -> String {
    match value {
        None => "<no value>".to_owned(),
        Some(Value::Null) => {
            let term = pipeline.commands.last().and_then(|command| command.last());
            let field = term
                .and_then(|term| term.fields.last())
                .map_or("", String::as_str);
            match field {
                _ if MAPS.contains(&field) => "map[]",
                "Health" | "Healthcheck" | "MemorySwappiness" | "OomKillDisable" | "PidsLimit"
                | "Init" | "GraphDriver" => "<nil>",
                "" => "<no value>",
                _ => "[]",
            }
            .to_owned()
        }
        Some(value) => plain(value),
    }
}
