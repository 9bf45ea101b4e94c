//! Environment variables that override keys.

use std::collections::BTreeMap;
use std::fmt;

use toml::{Table, Value};

use super::problems::{KeyPath, Problems};

/// What the environment has set, by the place in the document.
#[derive(Debug)]
pub(super) struct Environment {
    prefix: String,
    overrides: BTreeMap<KeyPath, Override>,
}

struct Override {
    variable: String,
    raw: String,
}

/// Without the value, which may be a secret.
impl fmt::Debug for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.variable)
    }
}

impl Environment {
    /// Puts every variable with the prefix into the document.
    pub(super) fn merge(
        variables: impl IntoIterator<Item = (String, String)>,
        prefix: &str,
        root: &mut Table,
        problems: &mut Problems,
    ) -> Self {
        let mut environment = Self { prefix: prefix.to_owned(), overrides: BTreeMap::new() };
        // Sorted, so that the same environment always gives the same result.
        for (variable, raw) in variables.into_iter().collect::<BTreeMap<_, _>>() {
            let Some(names) = key_names(&variable, prefix) else { continue };
            match set(root, &names, parse(&raw)) {
                Ok(()) => drop(environment.overrides.insert(KeyPath::of(names), Override { variable, raw })),
                Err(text) => problems.add(variable, text),
            }
        }
        environment
    }

    /// The variable that has set a key.
    pub(super) fn variable(&self, place: &KeyPath) -> Option<&str> {
        self.overrides.get(place).map(|set| set.variable.as_str())
    }

    /// The text of the variable that has set a key.
    pub(super) fn raw(&self, place: &KeyPath) -> Option<&str> {
        self.overrides.get(place).map(|set| set.raw.as_str())
    }

    /// The variable that would set a key; `None` for a key within an array.
    pub(super) fn variable_for(&self, place: &KeyPath) -> Option<String> {
        let plain = place.names().iter().all(|name| !name.starts_with('[') && name.to_lowercase() == *name);
        let name = || place.names().iter().map(|name| name.to_uppercase()).collect::<Vec<_>>().join("__");
        plain.then(|| format!("{}__{}", self.prefix, name()))
    }
}

/// The variables of this process that start with a prefix, and a problem for each whose value is not UTF-8.
pub(super) fn of_process(prefix: &str) -> (Vec<(String, String)>, Problems) {
    let mut variables = Vec::new();
    let mut problems = Problems::default();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| key_names(name, prefix).is_some()) else { continue };
        match value.into_string() {
            Ok(value) => variables.push((name.to_owned(), value)),
            Err(_) => problems.add(name, "the value is not UTF-8"),
        }
    }
    (variables, problems)
}

/// `POSTERN_GATEWAY__LISTEN__ADDRESS` names `listen` and `address` for the prefix `POSTERN_GATEWAY`.
fn key_names(variable: &str, prefix: &str) -> Option<Vec<String>> {
    let rest = variable.strip_prefix(prefix)?.strip_prefix("__")?;
    Some(rest.split("__").map(str::to_lowercase).collect())
}

fn parse(raw: &str) -> Value {
    raw.parse().unwrap_or_else(|_| Value::String(raw.to_owned()))
}

fn set(root: &mut Table, names: &[String], value: Value) -> Result<(), String> {
    let Some((key, sections)) = names.split_last() else { return Ok(()) };
    if names.iter().any(String::is_empty) {
        return Err("the name of a key in it is empty".into());
    }
    let mut table = root;
    for name in sections {
        let below = table.entry(name.as_str()).or_insert_with(|| Value::Table(Table::new()));
        table = below.as_table_mut().ok_or_else(|| format!("`{name}` is not a section"))?;
    }
    table.insert(key.clone(), value);
    Ok(())
}
