//! What a command tells: lines for people, one JSON document for programs.

use std::io::{self, Write as _};

use serde_json::{Value, json};

use crate::failure::Failure;

/// The outcome of a command.
#[derive(Debug)]
pub(crate) struct Report {
    json: Value,
    lines: Vec<String>,
    /// Whether the answer is no.
    pub(crate) is_refusal: bool,
}

impl Report {
    pub(crate) const fn new(json: Value) -> Self {
        Self { json, lines: Vec::new(), is_refusal: false }
    }

    /// Adds an entry to the JSON document.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: Value) -> Self {
        if let Value::Object(entries) = &mut self.json {
            entries.insert(name.to_owned(), value);
        }
        self
    }

    #[must_use]
    pub(crate) fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// A name and its value, aligned with the others.
    #[must_use]
    pub(crate) fn field(self, name: &str, value: impl std::fmt::Display) -> Self {
        self.line(format!("{name:<22}{value}"))
    }

    #[must_use]
    pub(crate) fn lines(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.lines.extend(lines);
        self
    }

    #[must_use]
    pub(crate) const fn refusal(mut self, is_refusal: bool) -> Self {
        self.is_refusal = is_refusal;
        self
    }

    pub(crate) fn print(&self, as_json: bool) -> io::Result<()> {
        if as_json {
            return write_out(&format!("{}\n", self.json));
        }
        let text: String = self.lines.iter().map(|line| format!("{line}\n")).collect();
        write_out(&text)
    }
}

/// A text from the chain, which anybody may have written, fit for a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Writes to standard output.
pub(crate) fn write_out(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes to standard error.
pub(crate) fn write_err(text: &str) -> io::Result<()> {
    io::stderr().write_all(text.as_bytes())
}

/// Tells what went wrong: to people on standard error, to programs on standard output.
pub(crate) fn complain(failure: &Failure, as_json: bool) -> io::Result<()> {
    if as_json {
        return write_out(&format!("{}\n", json!({"error": failure.label(), "message": failure.to_string()})));
    }
    writeln!(io::stderr(), "registrar: {failure}")
}
