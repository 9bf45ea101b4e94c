//! Scripts of pgbench: SQL, `:variables` and `\set` with whole numbers. Pure.
//!
//! What is known: comments (`--`), SQL statements that end with `;` and may go over lines, and `\set name expression`, in
//! which an expression is made of whole numbers, `:name`, `+ - * / %`, brackets and `random(low, high)`. All other commands of
//! pgbench are refused by name when the scenario is read.

mod expression;

use std::collections::{BTreeMap, BTreeSet};

use super::Choices;
use expression::Expression;

/// A script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Set(String, Expression),
    Sql(Vec<Part>),
}

/// A part of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(String),
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// Every mistake, and every command that is not supported, each with its line.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let (mut steps, mut mistakes, mut known) = (Vec::new(), Vec::new(), BTreeSet::new());
        let (mut statement, mut begun) = (String::new(), 0);
        for (number, line) in (1_usize..).zip(text.lines()) {
            let line = strip_comment(line).trim_end();
            if statement.trim().is_empty() && line.trim_start().starts_with('\\') {
                match read_command(line.trim(), &known) {
                    Ok((name, expression)) => {
                        known.insert(name.clone());
                        steps.push(Step::Set(name, expression));
                    }
                    Err(mistake) => mistakes.push(format!("line {number}: {mistake}")),
                }
                continue;
            }
            if statement.trim().is_empty() {
                statement.clear();
                begun = number;
            }
            statement.push_str(line);
            statement.push('\n');
            while let Some(end) = end_of_statement(&statement) {
                let rest = statement.split_off(end + 1);
                push_statement(&statement, begun, &known, &mut steps, &mut mistakes);
                (statement, begun) = (rest, number);
            }
        }
        if !statement.trim().is_empty() {
            mistakes.push(format!("line {begun}: the statement has no end: expected `;`"));
        }
        if mistakes.is_empty() && !steps.iter().any(|step| matches!(step, Step::Sql(_))) {
            mistakes.push("there is no statement".to_owned());
        }
        if mistakes.is_empty() { Ok(Self { steps }) } else { Err(mistakes) }
    }

    /// The statements of one run, with every variable replaced. The same salt gives the same values.
    #[must_use]
    pub fn statements(&self, salt: u64) -> String {
        let (mut choices, mut values, mut sql) = (Choices(salt), BTreeMap::new(), String::new());
        for step in &self.steps {
            match step {
                Step::Set(name, expression) => {
                    let value = expression.value(&values, &mut choices);
                    values.insert(name.as_str(), value);
                }
                Step::Sql(parts) => {
                    for part in parts {
                        match part {
                            Part::Text(text) => sql.push_str(text),
                            Part::Variable(name) => {
                                sql.push_str(&values.get(name.as_str()).copied().unwrap_or_default().to_string());
                            }
                        }
                    }
                }
            }
        }
        sql
    }
}

/// A line without a comment, which begins with two hyphens outside of quotes.
fn strip_comment(line: &str) -> &str {
    let mut quoted = false;
    for (position, character) in line.char_indices() {
        if character == '\'' {
            quoted = !quoted;
        }
        if !quoted && line.get(position..).is_some_and(|rest| rest.starts_with("--")) {
            return line.get(..position).unwrap_or_default();
        }
    }
    line
}

/// Where a statement ends: at the first semicolon outside of quotes.
fn end_of_statement(text: &str) -> Option<usize> {
    let mut quoted = false;
    text.char_indices().find_map(|(position, character)| {
        if character == '\'' {
            quoted = !quoted;
        }
        (character == ';' && !quoted).then_some(position)
    })
}

fn read_command(line: &str, known: &BTreeSet<String>) -> Result<(String, Expression), String> {
    let mut words = line.splitn(3, char::is_whitespace);
    let command = words.next().unwrap_or_default();
    if command != "\\set" {
        return Err(format!("{command} is not supported: expected \\set or SQL"));
    }
    let name = words.next().unwrap_or_default();
    if !is_name(name) {
        return Err("expected the name of a variable after \\set".to_owned());
    }
    let expression = Expression::parse(words.next().unwrap_or_default())?;
    if let Some(unknown) = expression.variables().into_iter().find(|variable| !known.contains(*variable)) {
        return Err(format!(":{unknown} has no value here"));
    }
    Ok((name.to_owned(), expression))
}

fn is_name(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|other| other.is_ascii_alphanumeric() || other == '_')
}

fn push_statement(
    text: &str,
    line: usize,
    known: &BTreeSet<String>,
    steps: &mut Vec<Step>,
    mistakes: &mut Vec<String>,
) {
    if text.trim() == ";" {
        return;
    }
    let parts = split(text);
    for part in &parts {
        if let Part::Variable(name) = part
            && !known.contains(name)
        {
            mistakes.push(format!("line {line}: :{name} has no value here"));
        }
    }
    steps.push(Step::Sql(parts));
}

/// Splits a statement at its variables: a colon and a name, but not the two colons of a cast.
fn split(text: &str) -> Vec<Part> {
    let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
    while let Some(position) = rest.find(':') {
        let (before, colon) = rest.split_at(position);
        plain.push_str(before);
        let after = colon.get(1..).unwrap_or_default();
        let length = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
        let name = after.get(..length).unwrap_or_default();
        if after.starts_with(':') {
            plain.push_str("::");
            rest = after.get(1..).unwrap_or_default();
        } else if is_name(name) {
            parts.push(Part::Text(std::mem::take(&mut plain)));
            parts.push(Part::Variable(name.to_owned()));
            rest = after.get(length..).unwrap_or_default();
        } else {
            plain.push(':');
            rest = after;
        }
    }
    plain.push_str(rest);
    parts.push(Part::Text(plain));
    parts
}

#[cfg(test)]
mod tests;
