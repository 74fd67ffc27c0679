//! Lists: as a table, as IDs, as JSON, or by a template of Docker's.

use crate::cli::failure::Refusal;
use crate::cli::output;
use crate::human;
use crate::template::{Template, Values};
use anyhow::Result;
use serde_json::{Map, Value};

/// What a list of one kind can show.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The fields of a row, each with the head of its column.
    pub(crate) columns: &'static [(&'static str, &'static str)],
    /// Those that the table has unless somebody says which.
    pub(crate) table: &'static [&'static str],
    /// What `-q` shows.
    pub(crate) quiet: &'static str,
}

impl Listing {
    /// Prints `rows`, each an object with all fields.
    pub(crate) fn print(&self, format: Option<&str>, quiet: bool, rows: &[Value]) -> Result<()> {
        output::print(&self.render(format, quiet, self.table, rows)?)
    }

    /// Returns `rows` as text; `table` are the fields of a table if the format is none of the user's.
    pub(crate) fn render(
        &self,
        format: Option<&str>,
        quiet: bool,
        table: &[&str],
        rows: &[Value],
    ) -> Result<String> {
        let format = format.map(str::trim).filter(|format| !format.is_empty());
        match format {
            _ if quiet => lines(&format!("{{{{.{}}}}}", self.quiet), rows),
            None | Some("table") => {
                let fields: Vec<String> = table.iter().map(|it| format!("{{{{.{it}}}}}")).collect();
                self.columns(&fields.join("\t"), rows)
            }
            Some("json") => lines("{{json .}}", rows),
            Some(format) => {
                let format = format.replace("\\t", "\t").replace("\\n", "\n");
                match format.strip_prefix("table ") {
                    Some(columns) => self.columns(columns.trim_start_matches(' '), rows),
                    None => lines(&format, rows),
                }
            }
        }
    }

    /// Returns a table with its head.
    fn columns(&self, format: &str, rows: &[Value]) -> Result<String> {
        let template = parse(format)?;
        let heads = self.columns.iter();
        let heads: Map<String, Value> = heads
            .map(|(field, head)| ((*field).to_owned(), Value::from(*head)))
            .collect();
        let mut text = filled(&template, &Value::Object(heads), Values::Header)? + "\n";
        for row in rows {
            text += &filled(&template, row, Values::Plain)?;
            text.push('\n');
        }
        let lines = text
            .lines()
            .map(|line| line.split('\t').map(str::to_owned).collect());
        Ok(human::table(&lines.collect::<Vec<Vec<String>>>()))
    }
}

fn lines(format: &str, rows: &[Value]) -> Result<String> {
    let template = parse(format)?;
    let line = |row| Ok(filled(&template, row, Values::Plain)? + "\n");
    rows.iter().map(line).collect()
}

/// Parses the template for one document, `json` being all of it in one line.
pub(crate) fn template(format: &str) -> Result<Template, Refusal> {
    parse(if format == "json" {
        "{{json .}}"
    } else {
        format
    })
}

/// Returns one document by a template.
pub(crate) fn fill(template: &Template, document: &Value) -> Result<String, Refusal> {
    filled(template, document, Values::Plain)
}

/// Parses a template. The words and the exit code are Docker's.
fn parse(format: &str) -> Result<Template, Refusal> {
    let refuse = |error| Refusal::new(format!("template parsing error: {error}")).code(1);
    format.parse().map_err(refuse)
}

fn filled(template: &Template, value: &Value, values: Values) -> Result<String, Refusal> {
    let refuse = |error| Refusal::new(format!("template parsing error: {error}")).code(1);
    template.fill(value, values).map_err(refuse)
}

/// Returns labels in one text, as rows have them.
pub(crate) fn labels<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> String {
    let labels = labels
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"));
    labels.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LISTING: Listing = Listing {
        columns: &[("ID", "IDENTIFIER"), ("Name", "NAME"), ("Size", "SIZE")],
        table: &["ID", "Name"],
        quiet: "ID",
    };

    fn shown(format: Option<&str>, quiet: bool) -> String {
        let rows = [
            json!({"ID": "1", "Name": "a", "Size": "1kB"}),
            json!({"ID": "2", "Name": "b", "Size": "2kB"}),
        ];
        LISTING
            .render(format, quiet, LISTING.table, &rows)
            .unwrap_or_else(|it| it.to_string())
    }

    #[test]
    fn formats_are_dockers() {
        let table = "IDENTIFIER   NAME\n1            a\n2            b\n";
        for (format, quiet, expected) in [
            (None, false, table),
            (Some("table"), false, table),
            (Some(""), false, table),
            (None, true, "1\n2\n"),
            (Some("{{.Name}}"), true, "1\n2\n"),
            (Some("{{.Name}}: {{.Size}}"), false, "a: 1kB\nb: 2kB\n"),
            (Some("{{.ID}}\\t{{.Name}}"), false, "1\ta\n2\tb\n"),
            (
                Some("table {{.Name}}\\t{{.Size}}"),
                false,
                "NAME      SIZE\na         1kB\nb         2kB\n",
            ),
            (
                Some("table {{.Name}}\t{{upper .Name}}"),
                false,
                "NAME      NAME\na         A\nb         B\n",
            ),
            (
                Some("json"),
                false,
                "{\"ID\":\"1\",\"Name\":\"a\",\"Size\":\"1kB\"}\n{\"ID\":\"2\",\"Name\":\"b\",\"Size\":\"2kB\"}\n",
            ),
            (Some("{{json .Name}}"), false, "\"a\"\n\"b\"\n"),
            (Some("plain"), false, "plain\nplain\n"),
            (
                Some("{{"),
                false,
                "template parsing error: template: :1: unclosed action",
            ),
        ] {
            assert_eq!(shown(format, quiet), expected, "{format:?}");
        }
        let failed = shown(Some("{{.Nope}}"), false);
        assert!(
            failed.contains("map has no entry for key \"Nope\""),
            "{failed}"
        );
    }
}
