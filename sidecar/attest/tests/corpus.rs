//! Replays the corpora of the fuzz targets, so that what the fuzzer once found is looked at with every test run.

#[cfg(test)]
#[path = "../fuzz/targets.rs"]
mod targets;

#[cfg(test)]
mod tests {
    use postern_attest::certificate::{Usage, evidence};
    use postern_corpus::Corpus;

    use crate::targets::{ALL, assembled};

    fn corpus() -> Corpus<'static> {
        Corpus::new(env!("CARGO_MANIFEST_DIR"), &ALL)
    }

    #[test]
    fn every_target_has_a_corpus_and_every_corpus_a_target() {
        corpus().check();
    }

    #[test]
    fn quotes() {
        corpus().replay("quote");
    }

    #[test]
    fn certificates() {
        corpus().replay("certificate");
    }

    #[test]
    fn extensions() {
        corpus().replay("extensions");
    }

    #[test]
    fn assembled_certificates_are_read_to_their_end() {
        let read = |name: &str| evidence(&assembled(&corpus().read("extensions", name)));
        assert!(read("ours").unwrap().claimed_app_id.is_some());
        let of_a_kms = read("of-a-kms").unwrap();
        assert!(of_a_kms.claimed_app_info.is_some() && of_a_kms.usage == Some(Usage::App));
        assert_eq!(read("none").unwrap_err().label(), "no_quote");
        assert_eq!(read("twice").unwrap_err().label(), "extension_duplicate");
        assert_eq!(read("quote-without-log").unwrap_err().label(), "no_event_log");
    }

    #[test]
    fn scale() {
        corpus().replay("scale");
    }

    #[test]
    fn msgpack() {
        corpus().replay("msgpack");
    }

    #[test]
    fn event_logs() {
        corpus().replay("event_log");
    }
}
