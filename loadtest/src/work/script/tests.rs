use proptest::prelude::*;

use super::*;

/// pgbench's own script for TPC-B, but for how many branches there are.
const TPCB: &str = "\
\\set aid random(1, 100000 * 1)
\\set bid random(1, 1)
\\set tid random(1, 10 * :bid)
\\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime)
  VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
END;
";

#[test]
fn the_script_of_pgbench_is_understood() {
    let script = Script::parse(TPCB).unwrap();
    let once = script.statements(1);
    assert_eq!(once, script.statements(1), "the same salt gives the same values");
    assert_ne!(once, script.statements(2));
    assert!(once.starts_with("BEGIN;") && once.trim_end().ends_with("END;"), "{once}");
    assert!(!once.contains(':'), "{once}");
}

#[test]
fn values_are_computed_as_they_are_written() {
    let value = |expression: &str| {
        let text = format!("\\set a 7\n\\set b {expression}\nSELECT :b;");
        Script::parse(&text).map(|script| script.statements(1).trim().to_owned())
    };
    for (expression, expected) in [
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3", "9"),
        ("10 - 2 - 3", "5"),
        ("-:a + 10", "3"),
        ("17 / 5 * 2 + 17 % 5", "8"),
        ("random(4, 4)", "4"),
        ("1 / 0", "0"),
    ] {
        assert_eq!(value(expression), Ok(format!("SELECT {expected};")), "{expression}");
    }
    for wrong in ["", "1 +", "(1", "1.5", "gaussian(1, 2)", "random(1)", ":c", ":", "1 2"] {
        assert!(value(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn casts_quotes_and_comments_are_left_alone() {
    let script = Script::parse("\\set a 1\nSELECT ':b;', :a::text, '--' -- :c;\n, ':'; SELECT 2;").unwrap_err();
    assert_eq!(script, ["line 2: :b has no value here"], "pgbench replaces within quotes as well");
    let script = Script::parse("\\set a 1\nSELECT 'x;y', :a::text, '--' -- :c;\n, 3; SELECT 2;").unwrap();
    assert_eq!(script.statements(0).replace('\n', ""), "SELECT 'x;y', 1::text, '--', 3; SELECT 2;");
}

#[test]
fn every_mistake_is_told_with_its_line() {
    let text = "\\sleep 10 ms\n\\setshell a echo\nSELECT :nobody;\n\\set 1 2\nSELECT 1";
    let mistakes = Script::parse(text).unwrap_err();
    assert_eq!(
        mistakes,
        [
            "line 1: \\sleep is not supported: expected \\set or SQL",
            "line 2: \\setshell is not supported: expected \\set or SQL",
            "line 3: :nobody has no value here",
            "line 4: expected the name of a variable after \\set",
            "line 5: the statement has no end: expected `;`",
        ]
    );
    assert_eq!(Script::parse("-- nothing\n").unwrap_err(), ["there is no statement"]);
    assert!(Script::parse(&format!("\\set a {}1{}\nSELECT 1;", "(".repeat(9999), ")".repeat(9999))).is_err());
}

proptest! {
    #[test]
    fn no_text_is_too_strange(text in "[\\\\setrandom():;'a-c0-9 +*/%\n-]{0,200}", salt: u64) {
        if let Ok(script) = Script::parse(&text) {
            prop_assert_eq!(script.statements(salt), script.statements(salt));
        }
    }

    #[test]
    fn no_unicode_is_too_strange(text in "\\PC{0,100}") {
        drop(Script::parse(&text));
    }
}
