//! What a key's value can be read as.

use std::fmt::{self, Display};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use toml::Value;

use crate::net::Endpoint;
use crate::secret::Secret;
use crate::telemetry::{LogFilter, LogFormat};

/// A type that a key's value can be read as.
pub trait FromValue: Sized {
    /// What a value looks like, to end the sentence "expected ...".
    const EXPECTED: &'static str;

    /// Reads a value.
    ///
    /// # Errors
    /// When the value is of another kind, or not allowed.
    fn from_value(given: Given<'_>) -> Result<Self, Refused>;
}

/// A value as it stands in the document or in the environment.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    value: &'a Value,
    raw: Option<&'a str>,
}

/// Without the value, which may be a secret.
impl fmt::Debug for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Given({})", self.kind())
    }
}

/// Why a value cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It is not what is expected.
    Kind,
    /// It is, but not allowed, for this reason. The reason must not repeat the value.
    Value(String),
}

impl<'a> Given<'a> {
    pub(super) fn new(value: &'a Value, raw: Option<&'a str>) -> Self {
        Self { value, raw }
    }

    /// The value as a text. A variable of the environment is always one, also when it looks like a number.
    #[must_use]
    pub fn text(self) -> Option<&'a str> {
        match (self.value, self.raw) {
            (Value::String(text), _) => Some(text),
            (_, raw) => raw,
        }
    }

    /// The value as a whole number.
    #[must_use]
    pub fn integer(self) -> Option<i64> {
        self.value.as_integer()
    }

    /// The value as a number.
    #[must_use]
    pub fn float(self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a whole number for a fraction is small")]
        self.value.as_float().or_else(|| self.value.as_integer().map(|whole| whole as f64))
    }

    /// The value as true or false.
    #[must_use]
    pub fn boolean(self) -> Option<bool> {
        self.value.as_bool()
    }

    pub(super) fn kind(self) -> &'static str {
        kind(self.value)
    }
}

/// The kind of a value, with its article.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "an array",
        Value::Table(_) => "a section",
    }
}

/// Anything that can be read from a text: `Text<AppId>`, `Text<Url>`. The error of its `FromStr` is shown to the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text<T>(pub T);

impl<T> Text<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T: FromStr<Err: Display>> FromValue for Text<T> {
    const EXPECTED: &'static str = "a text";

    fn from_value(given: Given<'_>) -> Result<Self, Refused> {
        let text = given.text().ok_or(Refused::Kind)?;
        text.parse().map(Self).map_err(|error: T::Err| Refused::Value(error.to_string()))
    }
}

macro_rules! whole_numbers {
    ($($type:ty: $expected:literal),+ $(,)?) => {$(
        impl FromValue for $type {
            const EXPECTED: &'static str = $expected;

            fn from_value(given: Given<'_>) -> Result<Self, Refused> {
                let number = given.integer().ok_or(Refused::Kind)?;
                Self::try_from(number).map_err(|_| Refused::Value(concat!("out of range: expected ", $expected).into()))
            }
        }
    )+};
}

whole_numbers! {
    u8: "a whole number from 0 to 255",
    u16: "a whole number from 0 to 65535",
    u32: "a whole number from 0 to 4294967295",
    u64: "a whole number, not negative",
    usize: "a whole number, not negative",
}

/// Types whose `FromStr` is all that is needed, and whose errors say less than the expectation.
macro_rules! parsed_texts {
    ($($type:ty: $expected:literal),+ $(,)?) => {$(
        impl FromValue for $type {
            const EXPECTED: &'static str = $expected;

            fn from_value(given: Given<'_>) -> Result<Self, Refused> {
                let text = given.text().ok_or(Refused::Kind)?;
                text.parse().map_err(|_| Refused::Value(concat!("expected ", $expected).into()))
            }
        }
    )+};
}

parsed_texts! {
    SocketAddr: "an IP address with a port, such as \"127.0.0.1:5432\"",
    IpAddr: "an IP address, such as \"10.0.0.1\"",
    Endpoint: "an IP address with a port, such as \"127.0.0.1:5432\", or \"unix:\" and a path",
    LogFormat: "\"auto\", \"human\" or \"json\"",
    LogFilter: "a level, or levels per module, such as \"info,gateway=debug\"",
}

impl FromValue for bool {
    const EXPECTED: &'static str = "true or false";

    fn from_value(given: Given<'_>) -> Result<Self, Refused> {
        given.boolean().ok_or(Refused::Kind)
    }
}

impl FromValue for f64 {
    const EXPECTED: &'static str = "a number";

    fn from_value(given: Given<'_>) -> Result<Self, Refused> {
        let number = given.float().ok_or(Refused::Kind)?;
        if number.is_finite() { Ok(number) } else { Err(Refused::Value("expected a finite number".into())) }
    }
}

impl FromValue for String {
    const EXPECTED: &'static str = "a text";

    fn from_value(given: Given<'_>) -> Result<Self, Refused> {
        given.text().map(Self::from).ok_or(Refused::Kind)
    }
}

impl FromValue for PathBuf {
    const EXPECTED: &'static str = "a path";

    fn from_value(given: Given<'_>) -> Result<Self, Refused> {
        match given.text() {
            None => Err(Refused::Kind),
            Some("") => Err(Refused::Value("expected a path, found an empty text".into())),
            Some(path) => Ok(path.into()),
        }
    }
}

impl FromValue for Secret {
    const EXPECTED: &'static str = "a secret text";

    fn from_value(given: Given<'_>) -> Result<Self, Refused> {
        match given.text() {
            None => Err(Refused::Kind),
            Some("") => Err(Refused::Value("expected a secret, found an empty text".into())),
            Some(text) => Ok(Self::new(text.to_owned())),
        }
    }
}

impl FromValue for Duration {
    const EXPECTED: &'static str = "a duration with its unit, such as \"250ms\", \"10s\", \"5m\" or \"2h\"";

    fn from_value(given: Given<'_>) -> Result<Self, Refused> {
        let text = given.text().ok_or(Refused::Kind)?;
        duration(text).ok_or_else(|| Refused::Value(format!("expected {}", Self::EXPECTED)))
    }
}

/// A whole number of milliseconds, seconds, minutes, hours or days.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let seconds = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        let cases =
            [("250ms", 250), ("10s", 10_000), ("5m", 300_000), ("2h", 7_200_000), ("1d", 86_400_000), ("0s", 0)];
        for (text, milliseconds) in cases {
            assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in
            ["", "10", "s", "-1s", "1.5s", "10 s", "10S", "10sec", "99999999999999999999s", "9999999999999999999d"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
