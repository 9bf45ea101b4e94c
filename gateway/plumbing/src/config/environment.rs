//! What overrides keys: environment variables, or an option of the command line.

use std::collections::BTreeMap;
use std::fmt;

use toml::{Table, Value};

use super::problems::{KeyPath, Problems};

/// What was set from outside, by the place in the document.
#[derive(Debug)]
pub(super) struct Environment {
    way: Way,
    overrides: BTreeMap<KeyPath, Override>,
}

/// How keys are overridden.
#[derive(Debug, Clone)]
pub(super) enum Way {
    /// By variables whose names begin with this.
    Variables(String),
    /// By an option of this name, with `section.key=value`, or `sections[0].key=value`.
    Option(&'static str),
    /// By nothing.
    Nowise,
}

struct Override {
    name: String,
    raw: String,
}

/// Without the value, which may be a secret.
impl fmt::Debug for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Environment {
    /// Puts everything that is meant for it into the document.
    pub(super) fn merge(
        settings: impl IntoIterator<Item = (String, String)>,
        way: Way,
        root: &mut Table,
        problems: &mut Problems,
    ) -> Self {
        let mut overrides = BTreeMap::new();
        // Sorted, so that the same environment always gives the same result.
        for (name, raw) in settings.into_iter().collect::<BTreeMap<_, _>>() {
            let Some(names) = way.key_names(&name) else { continue };
            match set(root, &names, parse(&raw)) {
                Ok(()) => drop(overrides.insert(KeyPath::of(names), Override { name: way.words(&name), raw })),
                Err(text) => problems.add(name, text),
            }
        }
        Self { way, overrides }
    }

    /// What has set a key, in words.
    pub(super) fn source(&self, place: &KeyPath) -> Option<&str> {
        self.overrides.get(place).map(|set| set.name.as_str())
    }

    /// The text to which a key was set.
    pub(super) fn raw(&self, place: &KeyPath) -> Option<&str> {
        self.overrides.get(place).map(|set| set.raw.as_str())
    }

    /// What would set a key, in words; `None` for a key within an array.
    pub(super) fn source_for(&self, place: &KeyPath) -> Option<String> {
        let plain = place.names().iter().all(|name| !name.starts_with('[') && name.to_lowercase() == *name);
        self.way.name_of(place.names()).filter(|_| plain).map(|name| self.way.words(&name))
    }
}

impl Way {
    /// The section and the key that a name stands for.
    fn key_names(&self, name: &str) -> Option<Vec<String>> {
        match self {
            Self::Variables(prefix) => key_names(name, prefix),
            Self::Option(_) => Some(name.replace('[', ".[").split('.').map(str::to_owned).collect()),
            Self::Nowise => None,
        }
    }

    /// The name that stands for a key.
    fn name_of(&self, names: &[String]) -> Option<String> {
        match self {
            Self::Variables(prefix) => Some(format!("{prefix}__{}", names.join("__").to_uppercase())),
            Self::Option(_) => Some(names.join(".")),
            Self::Nowise => None,
        }
    }

    /// A name in words.
    fn words(&self, name: &str) -> String {
        match self {
            Self::Variables(_) => format!("the variable {name}"),
            Self::Option(option) => format!("{option} {name}"),
            Self::Nowise => name.to_owned(),
        }
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
    let mut sections = sections.iter().peekable();
    while let Some(name) = sections.next() {
        let below = match sections.next_if(|next| next.starts_with('[')) {
            Some(number) => element(table, name, number).ok_or_else(|| format!("there is no `{name}{number}`"))?,
            None => table.entry(name.as_str()).or_insert_with(|| Value::Table(Table::new())),
        };
        table = below.as_table_mut().ok_or_else(|| format!("`{name}` is not a section"))?;
    }
    table.insert(key.clone(), value);
    Ok(())
}

/// One of an array of tables, which is not made longer: `[0]` is the first.
fn element<'a>(table: &'a mut Table, name: &str, number: &str) -> Option<&'a mut Value> {
    let number: usize = number.strip_prefix('[')?.strip_suffix(']')?.parse().ok()?;
    table.get_mut(name)?.as_array_mut()?.get_mut(number)
}
