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
    fn headers_of_the_interface() {
        corpus().replay("vnet");
    }

    #[test]
    fn segments() {
        corpus().replay("segment");
    }

    #[test]
    fn what_the_kernel_hands_over() {
        corpus().replay("split");
    }

    #[test]
    fn what_came_in() {
        corpus().replay("join");
    }

    #[test]
    fn marks_of_congestion() {
        corpus().replay("congestion");
    }

    #[test]
    fn messages() {
        corpus().replay("messages");
    }
}
