//! One section of a document.

use std::fmt;

use toml::{Table, Value};

use super::Reading;
use super::problems::KeyPath;
use super::value::{FromValue, Given, Refused, kind};

/// One section. Every getter records what is wrong and goes on.
pub struct Section<'a> {
    table: Option<&'a Table>,
    place: KeyPath,
    reading: &'a Reading,
    /// Whether something else stands where the section should: then nothing more is said about its keys.
    broken: bool,
}

/// Without the values, which may be secrets.
impl fmt::Debug for Section<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Section").field("place", &self.place).field("keys", &self.keys()).finish_non_exhaustive()
    }
}

impl<'a> Section<'a> {
    pub(super) fn root(table: &'a Table, reading: &'a Reading) -> Self {
        Self { table: Some(table), place: KeyPath::root(), reading, broken: false }
    }

    /// The value of a key that must be there; `None` after recording a problem.
    pub fn required<T: FromValue>(&mut self, key: &str) -> Option<T> {
        if !self.has(key) && !self.broken {
            self.note(key);
            let place = self.place.key(key);
            let source = self.reading.environment.source_for(&place);
            let source = source.map(|name| format!(" ({name} sets it, too)")).unwrap_or_default();
            self.reading
                .problems
                .borrow_mut()
                .add(place.to_string(), format!("missing; expected {}{source}", T::EXPECTED));
        }
        self.optional(key)
    }

    /// The value of a key that may be left out; also `None` after recording that it is wrong.
    pub fn optional<T: FromValue>(&mut self, key: &str) -> Option<T> {
        self.note(key);
        let value = self.table?.get(key)?;
        let place = self.place.key(key);
        let raw = self.reading.environment.raw(&place);
        self.accept(&place, Given::new(value, raw))
    }

    /// The value of a key, or the default when it is left out.
    pub fn or<T: FromValue>(&mut self, key: &str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// The values of an array; empty when the key is left out. Wrong elements are recorded and left out.
    pub fn list<T: FromValue>(&mut self, key: &str) -> Vec<T> {
        let place = self.place.key(key);
        let elements = self.array(key, "an array");
        let given = elements.iter().enumerate();
        given.filter_map(|(index, value)| self.accept(&place.index(index), Given::new(value, None))).collect()
    }

    /// A section within this one; a missing one reads as an empty one.
    pub fn section(&mut self, name: &str) -> Section<'_> {
        self.below(name)
    }

    /// As [`Section::section`], for a section that was made for this only.
    pub(super) fn into_section(self, name: &str) -> Self {
        self.below(name)
    }

    /// The sections of an array of tables; none when the key is left out.
    pub fn sections(&mut self, name: &str) -> Vec<Section<'_>> {
        self.each_below(name)
    }

    /// As [`Section::sections`], for a section that was made for this only.
    pub(super) fn into_sections(self, name: &str) -> Vec<Self> {
        self.each_below(name)
    }

    /// The keys that are there, for a section whose keys are names that a user chose.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.table.map(|table| table.keys().cloned().collect()).unwrap_or_default()
    }

    /// Whether a key is there.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Records a mistake that only the caller can see, such as two keys that exclude each other.
    pub fn problem(&mut self, key: &str, text: impl Into<String>) {
        self.record(&self.place.key(key), text.into());
    }

    fn below(&self, name: &str) -> Self {
        self.note(name);
        self.open(self.place.key(name), self.table.and_then(|table| table.get(name)))
    }

    fn each_below(&self, name: &str) -> Vec<Self> {
        let place = self.place.key(name);
        let tables = self.array(name, "an array of tables");
        tables.iter().enumerate().map(|(index, value)| self.open(place.index(index), Some(value))).collect()
    }

    fn open(&self, place: KeyPath, value: Option<&'a Value>) -> Self {
        self.reading.asked.borrow_mut().entry(place.clone()).or_default();
        let table = value.and_then(Value::as_table);
        let wrong = value.filter(|_| table.is_none());
        if let Some(value) = wrong {
            self.record(&place, format!("expected a section, found {}", kind(value)));
        }
        Self { table, place, reading: self.reading, broken: self.broken || wrong.is_some() }
    }

    fn array(&self, key: &str, expected: &str) -> &'a [Value] {
        self.note(key);
        match self.table.and_then(|table| table.get(key)) {
            None => &[],
            Some(Value::Array(elements)) => elements,
            Some(other) => {
                self.record(&self.place.key(key), format!("expected {expected}, found {}", kind(other)));
                &[]
            }
        }
    }

    fn accept<T: FromValue>(&self, place: &KeyPath, given: Given<'_>) -> Option<T> {
        match T::from_value(given) {
            Ok(value) => Some(value),
            Err(Refused::Kind) => {
                self.record(place, format!("expected {}, found {}", T::EXPECTED, given.kind()));
                None
            }
            Err(Refused::Value(why)) => {
                self.record(place, why);
                None
            }
        }
    }

    fn note(&self, key: &str) {
        self.reading.asked.borrow_mut().entry(self.place.clone()).or_default().insert(key.to_owned());
    }

    fn record(&self, place: &KeyPath, text: String) {
        let source = self.reading.environment.source(place).map(|name| format!(" (set by {name})"));
        self.reading.problems.borrow_mut().add(place.to_string(), text + &source.unwrap_or_default());
    }
}
