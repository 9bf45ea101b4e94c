//! Keys that nobody asked for. Most are misspelt, and a misspelt key would leave a default in force unseen.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use super::environment::Environment;
use super::problems::{KeyPath, Problems};
use super::suggest;

type Asked = BTreeMap<KeyPath, BTreeSet<String>>;

/// Every key of the document that was not asked for, with what may have been meant.
pub(super) fn keys(root: &Table, asked: &Asked, environment: &Environment) -> Problems {
    let mut search = Search { asked, environment, problems: Problems::default() };
    search.section(&KeyPath::root(), root);
    search.problems
}

struct Search<'a> {
    asked: &'a Asked,
    environment: &'a Environment,
    problems: Problems,
}

impl Search<'_> {
    fn section(&mut self, place: &KeyPath, table: &Table) {
        // A section that was read as one value, by a getter or not at all, has been judged as that.
        let Some(known) = self.asked.get(place) else { return };
        for (key, value) in table {
            let below = place.key(key);
            if !known.contains(key) {
                self.report(&below, key, known);
            } else if let Value::Table(table) = value {
                self.section(&below, table);
            } else if let Value::Array(elements) = value {
                for (index, table) in elements.iter().enumerate().filter_map(|(i, value)| Some((i, value.as_table()?)))
                {
                    self.section(&below.index(index), table);
                }
            }
        }
    }

    fn report(&mut self, place: &KeyPath, key: &str, known: &BTreeSet<String>) {
        let near = suggest::closest(key, known.iter().map(String::as_str)).map(ToOwned::to_owned);
        let meant = near.or_else(|| self.elsewhere(key)).map(|name| format!("; did you mean `{name}`?"));
        let source = self.environment.source(place).map(|name| format!(" (set by {name})"));
        let text = format!("unknown key{}{}", meant.unwrap_or_default(), source.unwrap_or_default());
        self.problems.add(place.to_string(), text);
    }

    /// The same key in another section, when there is exactly one.
    fn elsewhere(&self, key: &str) -> Option<String> {
        let mut sections = self.asked.iter().filter(|(_, keys)| keys.contains(key));
        let (section, _) = sections.next()?;
        sections.next().is_none().then(|| section.key(key).to_string())
    }
}
