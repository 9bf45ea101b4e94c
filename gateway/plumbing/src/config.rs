//! Configuration from one TOML document and the environment, or the command line, with every mistake reported at once.
//!
//! A program asks a [`Document`] for its sections and their keys. A key that is missing or wrong is recorded, and the reading
//! goes on; [`Document::finish`] then returns everything that was found, including keys that nobody asked for. What a value
//! holds never appears in a problem, as it may be a secret.

mod environment;
mod problems;
mod section;
mod suggest;
mod unknown;
mod value;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use toml::Table;
use toml::de::DeTable;

use self::environment::{Environment, Way};
use self::problems::KeyPath;
pub use self::problems::{Problem, Problems};
pub use self::section::Section;
pub use self::value::{FromValue, Given, Refused, Text};

/// The longest configuration file, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// A configuration that is being read.
pub struct Document {
    root: Table,
    reading: Reading,
}

/// Without the values, which may be secrets.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.root.keys().collect();
        f.debug_struct("Document").field("keys", &keys).field("reading", &self.reading).finish()
    }
}

/// What is shared by all sections while they are read.
#[derive(Debug)]
struct Reading {
    environment: Environment,
    problems: RefCell<Problems>,
    /// The keys that were asked for, by section.
    asked: RefCell<BTreeMap<KeyPath, BTreeSet<String>>>,
}

impl Document {
    /// Reads a file, or an empty document when there is none, and the variables of this process's environment that start
    /// with `env_prefix` and two underscores: `POSTERN_GATEWAY__LISTEN__ADDRESS` is `address` in `[listen]`. A variable's
    /// value is taken as TOML when it can be, and as text otherwise.
    ///
    /// A variable that names no possible key is a problem like others, told in the end.
    ///
    /// # Errors
    /// When the file cannot be read or is not TOML.
    pub fn load(path: Option<&Path>, env_prefix: &str) -> Result<Self, Problems> {
        let text = match path {
            Some(path) => read_file(path).map_err(|error| Problems::one(path.display().to_string(), error))?,
            None => String::new(),
        };
        let (variables, unreadable) = environment::of_process(env_prefix);
        let mut document = Self::parse(&text, variables, env_prefix)?;
        document.reading.problems.get_mut().extend(unreadable);
        Ok(document)
    }

    /// Reads a text, with the given environment; the rest is as in [`Document::load`].
    ///
    /// # Errors
    /// When the text is not TOML.
    pub fn parse(
        text: &str,
        env: impl IntoIterator<Item = (String, String)>,
        env_prefix: &str,
    ) -> Result<Self, Problems> {
        Self::merged(text, env, Way::Variables(env_prefix.to_owned()))
    }

    /// Reads a text, of which an option of the command line changes keys: `cluster.tenants` is `tenants` in `[cluster]`, and
    /// `phases[0].length` is `length` in the first of `[[phases]]`. Values are taken as those of variables are. The option is
    /// named, with its dashes, where a change is wrong.
    ///
    /// # Errors
    /// When the text is not TOML.
    pub fn parse_with(
        text: &str,
        changes: impl IntoIterator<Item = (String, String)>,
        option: &'static str,
    ) -> Result<Self, Problems> {
        Self::merged(text, changes, Way::Option(option))
    }

    /// Reads a text of which nothing is changed from outside.
    ///
    /// # Errors
    /// When it is not TOML.
    pub fn parse_alone(text: &str) -> Result<Self, Problems> {
        Self::merged(text, [], Way::Nowise)
    }

    fn merged(text: &str, settings: impl IntoIterator<Item = (String, String)>, way: Way) -> Result<Self, Problems> {
        let mut problems = syntax_problems(text);
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut root = toml::from_str::<Table>(text).unwrap_or_default();
        // What leads nowhere is told with what else is wrong.
        let environment = Environment::merge(settings, way, &mut root, &mut problems);
        let asked = BTreeMap::from([(KeyPath::root(), BTreeSet::new())]);
        Ok(Self {
            root,
            reading: Reading { environment, problems: RefCell::new(problems), asked: RefCell::new(asked) },
        })
    }

    /// The keys that stand before any section.
    pub fn root(&mut self) -> Section<'_> {
        Section::root(&self.root, &self.reading)
    }

    /// A section of the document; a missing one reads as an empty one.
    pub fn section(&mut self, name: &str) -> Section<'_> {
        self.root().into_section(name)
    }

    /// The sections of an array of tables; none when it is left out.
    pub fn sections(&mut self, name: &str) -> Vec<Section<'_>> {
        self.root().into_sections(name)
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Every problem that was recorded, and every key that nobody asked for.
    pub fn finish(self) -> Result<(), Problems> {
        let mut problems = self.reading.problems.into_inner();
        problems.extend(unknown::keys(&self.root, &self.reading.asked.into_inner(), &self.reading.environment));
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// Ends the reading and hands out what was built from it. Required values are options, so a whole configuration is
    /// built by a function that uses `?` on each of them.
    ///
    /// # Errors
    /// As [`Document::finish`]; and when there is no value although there is no problem, which is a defect of the caller.
    pub fn finish_with<T>(self, built: Option<T>) -> Result<T, Problems> {
        self.finish()?;
        built.ok_or_else(|| {
            Problems::one("configuration", "it could not be understood, and no key is known to be wrong")
        })
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
    let mut text = String::new();
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|error| format!("cannot be read: {error}"))?;
    if text.len() as u64 > MAX_FILE { Err("is longer than 1 MiB".into()) } else { Ok(text) }
}

/// What makes a text no TOML document. The parser's own report would quote the line, which may hold a secret.
fn syntax_problems(text: &str) -> Problems {
    let (_, errors) = DeTable::parse_recoverable(text);
    let mut problems = Problems::default();
    for error in &errors {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        problems.add(format!("line {line}"), format!("not TOML: {}", error.message()));
    }
    // What the recovering parser lets pass and the strict one does not.
    if errors.is_empty() && toml::from_str::<Table>(text).is_err() {
        problems.add("document", "not TOML");
    }
    problems
}

#[cfg(test)]
mod tests;
