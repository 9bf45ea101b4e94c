//! The program as `deploy/bench` starts it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::process::{Command, Output};

fn measure(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_measure")).args(arguments).output().unwrap()
}

#[test]
fn the_parts_of_a_benchmark_are_named_and_no_others_are_taken() {
    let help = String::from_utf8(measure(&["admission", "--help"]).stdout).unwrap();
    for part in ["revocation", "memory", "view", "liar"] {
        assert!(help.contains(part), "{part} is missing in:\n{help}");
    }
    let wrong = measure(&["admission", "--parts", "view,everything"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    assert!(String::from_utf8(wrong.stderr).unwrap().contains("everything"));
}
