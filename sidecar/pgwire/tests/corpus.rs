//! Replays the corpora of the fuzz targets, so that what the fuzzer once found is looked at with every test run.

#[cfg(test)]
#[path = "../fuzz/targets.rs"]
mod targets;

#[cfg(test)]
mod tests {
    use postern_corpus::Corpus;

    use crate::targets::ALL;

    fn corpus() -> Corpus<'static> {
        Corpus::new(env!("CARGO_MANIFEST_DIR"), &ALL)
    }

    #[test]
    fn every_target_has_a_corpus_and_every_corpus_a_target() {
        corpus().check();
    }

    #[test]
    fn openings() {
        corpus().replay("opening");
    }

    #[test]
    fn startups() {
        corpus().replay("startup");
    }

    #[test]
    fn logins() {
        corpus().replay("login");
    }

    #[test]
    fn proofs() {
        corpus().replay("scram");
    }

    #[test]
    fn cancel_keys() {
        corpus().replay("cancel_key");
    }

    #[test]
    fn frames() {
        corpus().replay("frames");
    }

    #[test]
    fn boundaries() {
        corpus().replay("boundary");
    }

    #[test]
    fn trackers() {
        corpus().replay("tracker");
    }
}
