use std::collections::BTreeMap;
use std::fmt::Display;

use postern_attest::policy::Cohorts;
use postern_attest::{Policy, TcbPolicy, TrustRoot};

use crate::print::{date, line, printable};

/// What a policy allows.
pub(super) fn words(policy: &Policy, now: u64) -> String {
    let mut text = format!("policy of version {}\n", policy.version);
    let expired = if now < policy.expires { "" } else { " EXPIRED: nobody is welcome" };
    line(&mut text, "expires", &format!("{}{expired}", date(policy.expires)));
    line(&mut text, "root", &root(&policy.root));
    platforms(&mut text, &policy.tcb);
    line(&mut text, "apps", &any_of(policy.peers.apps.as_ref()));
    line(&mut text, "compositions", &any_of(policy.peers.compose_hashes.as_ref()));
    match &policy.cohorts {
        None => line(&mut text, "images", "ANY: event logs prove nothing, since any image may write them"),
        Some(cohorts) => images(&mut text, cohorts),
    }
    text
}

fn root(root: &TrustRoot) -> String {
    if root.is_intel() {
        return "Intel's".to_owned();
    }
    format!("NOT Intel's: quotes prove nothing about hardware (SHA-256 {})", hex::encode(root.fingerprint()))
}

fn platforms(text: &mut String, tcb: &TcbPolicy) {
    let list = |names: Vec<String>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    line(text, "TCB statuses", &list(tcb.accept.iter().map(ToString::to_string).collect()));
    let days = tcb.out_of_date_grace.as_secs() / (24 * 60 * 60);
    line(text, "grace", &format!("{days} days for statuses that say OutOfDate"));
    line(text, "TCB evaluation", &format!("{} or newer", tcb.min_tcb_evaluation_number));
    let advisories = tcb.rejected_advisories.iter().map(|advisory| printable(advisory)).collect();
    line(text, "refused for", &list(advisories));
    let switches = [
        ("dynamic platforms", tcb.allow_dynamic_platform),
        ("cached keys", tcb.allow_cached_keys),
        ("hyper-threading", tcb.allow_smt),
    ];
    let allowed = switches.iter().filter(|(_, on)| *on).map(|(name, _)| (*name).to_owned()).collect();
    line(text, "allowed", &list(allowed));
}

/// One line an element; an absent list means anybody, and an empty one nobody.
fn any_of<T: Display>(welcome: Option<&std::collections::BTreeSet<T>>) -> String {
    let Some(welcome) = welcome else { return "any".to_owned() };
    if welcome.is_empty() {
        return "NONE: nobody is welcome".to_owned();
    }
    let elements: Vec<String> = welcome.iter().map(ToString::to_string).collect();
    elements.join("\n                 ")
}

fn images(text: &mut String, cohorts: &Cohorts) {
    let mut releases: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, name) in cohorts.iter() {
        *releases.entry(name).or_default() += 1;
    }
    let releases: Vec<String> = releases
        .into_iter()
        .map(|(name, shapes)| match shapes {
            1 => printable(name),
            shapes => format!("{} ({shapes} shapes)", printable(name)),
        })
        .collect();
    line(text, "images", &releases.join("\n                 "));
}
