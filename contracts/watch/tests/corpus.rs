//! Replays the corpora of the fuzz targets, so that what the fuzzer once found is looked at with every test run.

#[cfg(test)]
#[path = "../fuzz/targets.rs"]
mod targets;

#[cfg(test)]
mod tests {
    use alloy::primitives::Address;
    use postern_allowlist::Decision;
    use postern_corpus::Corpus;
    use postern_watch::reading;

    use crate::targets::ALL;

    fn corpus() -> Corpus<'static> {
        Corpus::new(env!("CARGO_MANIFEST_DIR"), &ALL)
    }

    #[test]
    fn every_target_has_a_corpus_and_every_corpus_a_target() {
        corpus().check();
    }

    #[test]
    fn headers() {
        assert!(reading::header(&corpus().read("header", "head")).is_some(), "an honest one is read");
        assert!(reading::header(&corpus().read("header", "forged-time")).is_none());
        corpus().replay("header");
    }

    #[test]
    fn proofs() {
        assert!(crate::targets::is_proven(&corpus().read("proof", "app")), "an honest one is believed");
        assert!(crate::targets::is_proven(&corpus().read("proof", "kms")));
        assert!(!crate::targets::is_proven(&corpus().read("proof", "forged-values")));
        corpus().replay("proof");
    }

    #[test]
    fn decisions() {
        assert_eq!(reading::decision(&corpus().read("decision", "yes")), Some(Decision::Allowed));
        assert!(matches!(reading::decision(&corpus().read("decision", "no")), Some(Decision::Refused(_))));
        corpus().replay("decision");
    }

    #[test]
    fn logs() {
        let all = reading::logs(Address::ZERO, &[], &[], &corpus().read("logs", "history"));
        assert!(all.is_some(), "they are read");
        corpus().replay("logs");
    }
}
