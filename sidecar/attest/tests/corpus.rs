//! Replays the corpora of the fuzz targets, so that what the fuzzer once found is looked at with every test run.

#[cfg(test)]
#[path = "../fuzz/targets.rs"]
mod targets;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use postern_attest::certificate::{Usage, evidence};

    use crate::targets::{ALL, Target, assembled};

    fn corpus() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    fn replay(name: &str, change: impl Fn(&[u8], Target)) {
        let (_, target) = ALL.into_iter().find(|(known, _)| *known == name).unwrap();
        let files = files(&corpus().join(name));
        assert!(files.len() >= 3, "a corpus of {} files proves little", files.len());
        for file in files {
            tell(&file);
            change(&std::fs::read(&file).unwrap(), target);
        }
    }

    /// Names the file that a panic is about.
    #[expect(clippy::print_stdout, reason = "it is seen only when the test fails")]
    fn tell(file: &Path) {
        println!("{}", file.display());
    }

    /// The file itself, then cut at some forty places, then with a byte changed at as many.
    fn around(data: &[u8], target: Target) {
        target(data);
        let step = (data.len() / 40).max(1);
        for at in (0..data.len()).step_by(step) {
            target(&data[..at]);
            let mut changed = data.to_vec();
            changed[at] = changed[at].wrapping_add(1);
            target(&changed);
        }
    }

    #[test]
    fn every_target_has_a_corpus_and_every_corpus_a_target() {
        let folders: BTreeSet<String> =
            files(&corpus()).iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        assert_eq!(folders, ALL.iter().map(|(name, _)| (*name).to_owned()).collect());
        for (name, _) in ALL {
            let program = corpus().join(format!("../fuzz_targets/{name}.rs"));
            assert!(std::fs::read_to_string(program).unwrap().contains(&format!("targets::{name}(data)")));
        }
    }

    #[test]
    fn quotes() {
        replay("quote", around);
    }

    #[test]
    fn certificates() {
        replay("certificate", around);
    }

    #[test]
    fn extensions() {
        replay("extensions", around);
    }

    #[test]
    fn assembled_certificates_are_read_to_their_end() {
        let read = |name: &str| {
            let data = std::fs::read(corpus().join("extensions").join(name)).unwrap();
            evidence(&assembled(&data))
        };
        assert!(read("ours").unwrap().claimed_app_id.is_some());
        let of_a_kms = read("of-a-kms").unwrap();
        assert!(of_a_kms.claimed_app_info.is_some() && of_a_kms.usage == Some(Usage::App));
        assert_eq!(read("none").unwrap_err().label(), "no_quote");
        assert_eq!(read("twice").unwrap_err().label(), "extension_duplicate");
        assert_eq!(read("quote-without-log").unwrap_err().label(), "no_event_log");
    }

    #[test]
    fn scale() {
        replay("scale", around);
    }

    #[test]
    fn msgpack() {
        replay("msgpack", around);
    }

    #[test]
    fn event_logs() {
        replay("event_log", around);
    }
}
