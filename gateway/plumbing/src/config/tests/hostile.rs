//! Documents that nobody would write.

use proptest::prelude::*;

use super::{Document, Duration, PREFIX, complaints, with_env};
use crate::secret::Secret;

const SECRET: &str = "hunter2-correct-horse";

#[test]
fn no_problem_repeats_what_a_value_holds() {
    let texts = [
        format!("[listen]\naddress = \"{SECRET}\"\nbacklog = \"{SECRET}\"\ndeadline = \"{SECRET}\""),
        format!("[[apps]]\nname = [\"{SECRET}\"]\n[listen]\nlimits = \"{SECRET}\""),
        format!("other = \"{SECRET}\""),
    ];
    for text in &texts {
        let listed = complaints(super::parse(text));
        assert!(!listed.is_empty());
        assert!(listed.iter().all(|line| !line.contains("hunter2")), "{listed:?}");
    }
    let listed = complaints(with_env("", [("POSTERN_TEST__LISTEN__ADDRESS", SECRET)]).unwrap());
    assert!(listed.iter().all(|line| !line.contains("hunter2")), "{listed:?}");
}

#[test]
fn no_syntax_error_quotes_its_line() {
    let quoted = [
        format!("password = {SECRET}"),
        format!("password = \"{SECRET}"),
        format!("password = '{SECRET}' extra"),
        format!("password = \"{SECRET}\\q\""),
        format!("password = \"{SECRET}\"\npassword = \"{SECRET}\""),
        format!("{SECRET} {SECRET}"),
        format!("[{SECRET}"),
        format!("password = 0x{SECRET}"),
        format!("password = [\"{SECRET}\", {SECRET}"),
        format!("password = {{ a = \"{SECRET}\" "),
    ];
    for text in quoted {
        let problems = Document::parse(&text, [], PREFIX).unwrap_err();
        assert!(!problems.to_string().contains("hunter2"), "{text}\n{problems}");
    }
}

#[test]
fn a_secret_in_the_wrong_form_is_not_shown() {
    let mut document = super::parse("a = 123456789\nb = [\"hunter2\"]\nc = \"\"");
    for key in ["a", "b", "c"] {
        assert!(document.root().required::<Secret>(key).is_none());
    }
    let problems = document.finish().unwrap_err();
    assert_eq!(
        problems.to_string(),
        "1. a: expected a secret text, found a whole number\n\
         2. b: expected a secret text, found an array\n\
         3. c: expected a secret, found an empty text"
    );
}

#[test]
fn deep_nesting_is_refused_not_followed() {
    for (open, close) in [("[", "]"), ("{a=", "}")] {
        let text = format!("a = {}1{}", open.repeat(100_000), close.repeat(100_000));
        assert!(Document::parse(&text, [], PREFIX).is_err());
        let env = with_env("", [("POSTERN_TEST__A", text.trim_start_matches("a = "))]);
        assert!(env.unwrap().finish().is_err());
    }
}

/// Text that is nearly TOML: its own pieces in any order.
fn nearly_toml() -> impl Strategy<Value = String> {
    let pieces = [
        "[listen]\n",
        "[[apps]]\n",
        "listen",
        "apps",
        "address",
        "name",
        ".",
        " = ",
        "\n",
        "\"",
        "'''",
        "\"\"\"",
        "[",
        "]",
        "{",
        "}",
        ",",
        "1",
        "-",
        "0x",
        "1e9",
        "inf",
        "nan",
        "true",
        "1979-05-27T07:32:00Z",
        "\\u0000",
        "#",
        "\u{1F511}",
        "127.0.0.1:1",
        "5s",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..40).prop_map(|pieces| pieces.concat())
}

/// Reads a text in every way there is.
fn read_everything(text: &str, env: Vec<(String, String)>) {
    let Ok(mut document) = Document::parse(text, env, PREFIX) else { return };
    for key in ["listen", "apps", "address", "name", "a"] {
        let mut root = document.root();
        root.optional::<u16>(key);
        root.optional::<Duration>(key);
        root.required::<String>(key);
        root.list::<bool>(key);
        root.section(key).required::<Secret>(key);
        for mut section in root.sections(key) {
            section.required::<f64>("name");
        }
    }
    complaints(document).iter().for_each(|line| assert!(!line.contains('\n')));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        read_everything(&text, Vec::new());
    }

    #[test]
    fn no_nearly_right_text_makes_it_panic(text in nearly_toml()) {
        read_everything(&text, Vec::new());
    }

    #[test]
    fn no_environment_makes_it_panic(name in "[A-Z_.\\[\\]0-9]{0,20}", value in nearly_toml(), text in nearly_toml()) {
        read_everything(&text, vec![(format!("{PREFIX}__{name}"), value)]);
    }

    #[test]
    fn any_written_duration_is_read_back(number in 0_u64..1_000_000, unit in prop::sample::select(vec![("ms", 1), ("s", 1000), ("m", 60_000)])) {
        let mut document = super::parse(&format!("wait = \"{number}{}\"", unit.0));
        prop_assert_eq!(document.root().required("wait"), Some(Duration::from_millis(number * unit.1)));
    }
}
