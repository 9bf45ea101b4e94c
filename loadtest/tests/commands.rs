//! The program as others call it: what it prints, and its exit codes.

#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use std::process::{Command, Output};

fn loadtest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_plan_is_printed_and_says_by_its_exit_code_whether_it_suffices() {
    let enough = loadtest(&["plan", "--tenants", "1000", "--gateways", "5"]);
    assert_eq!(enough.status.code(), Some(0), "{}", printed(&enough));
    assert!(printed(&enough).contains("1,000 CVMs, 5 gateways, in virtual time"));
    let short = loadtest(&["plan", "--tenants", "5000", "--gateways", "1", "--regions", "1"]);
    assert_eq!(short.status.code(), Some(1), "{}", printed(&short));
}

#[test]
fn mistakes_have_their_own_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.json");
    std::fs::write(&text, "{}").unwrap();
    let text = text.to_str().unwrap();
    for (arguments, code) in [
        (vec!["plan"], 64),
        (vec!["plan", "--tenants", "many"], 64),
        (vec!["plan", "--tenants", "1", "--costs", text], 78),
        (vec!["report", "/nowhere.json"], 69),
        (vec!["report", text], 65),
        (vec!["compare", text, text], 65),
    ] {
        let output = loadtest(&arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", printed(&output));
    }
}
