//! What is printed for people.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Adds a line with a name and what stands for it.
pub(crate) fn line(text: &mut String, name: &str, value: &str) {
    *text += &format!("  {name:<14} {value}\n");
}

/// Seconds since 1970, as a date as well where there is one.
pub(crate) fn date(seconds: u64) -> String {
    let date = i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let date = date.and_then(|date| date.format(&Rfc3339).ok());
    date.map_or_else(|| seconds.to_string(), |date| format!("{date} ({seconds})"))
}

/// Much of what is printed was written by whoever is judged: it must neither forge lines nor steer the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let plain = c == ' ' || c.is_ascii_graphic();
            plain.then_some(c).into_iter().chain(c.escape_default().filter(move |_| !plain))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{date, printable};

    #[test]
    fn nobody_who_is_judged_writes_to_the_terminal() {
        assert_eq!(printable("{\"name\": \"kms\"}"), "{\"name\": \"kms\"}");
        assert_eq!(printable("a\nACCEPTED\u{1b}[2J\u{202e}é"), "a\\nACCEPTED\\u{1b}[2J\\u{202e}\\u{e9}");
    }

    #[test]
    fn times_are_dates_as_far_as_there_are_any() {
        assert_eq!(date(1_751_000_000), "2025-06-27T04:53:20Z (1751000000)");
        assert_eq!(date(u64::MAX), u64::MAX.to_string());
    }
}
