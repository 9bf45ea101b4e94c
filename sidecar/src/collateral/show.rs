use postern_attest::{Collateral, TrustRoot};

use crate::print::{date, line, printable};

/// What is known of each kind of platform, and whether it is good at `now`.
pub(super) fn words(collateral: &Collateral, root: &TrustRoot, now: u64) -> String {
    let mut text = String::new();
    for ((fmspc, window), (_, issued)) in collateral.windows().zip(collateral.issued()) {
        text += &format!("FMSPC {fmspc}\n");
        line(&mut text, "in force from", &date(window.from));
        line(&mut text, "until", &date(window.until));
        line(&mut text, "TCB evaluation", &issued.tcb_evaluation_number.to_string());
        let verdict = match collateral.only(fmspc).unwrap_or_default().verify(root, now) {
            Ok(()) if root.is_intel() => "good: signed by Intel, and in force".to_owned(),
            Ok(()) => "good: signed under a root that is NOT Intel's, and in force".to_owned(),
            Err(error) => format!("NOT GOOD: {}", printable(&error.to_string())),
        };
        line(&mut text, "verdict", &verdict);
    }
    if text.is_empty() {
        text.push_str("there is no collateral\n");
    }
    text
}
