//! Replays the corpora of the fuzz targets, so that what the fuzzer once found is looked at with every test run.

#[cfg(test)]
#[path = "../fuzz/targets.rs"]
mod targets;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use crate::targets::ALL;

    fn corpus() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    /// Names the file that a panic is about.
    #[expect(clippy::print_stdout, reason = "it is seen only when the test fails")]
    fn tell(file: &Path) {
        println!("{}", file.display());
    }

    /// Every file itself, cut at some forty places, and with a byte changed at as many.
    fn replay(name: &str) {
        let (_, target) = ALL.into_iter().find(|(known, _)| *known == name).unwrap();
        let files = files(&corpus().join(name));
        assert!(files.len() >= 3, "a corpus of {} files proves little", files.len());
        for file in files {
            tell(&file);
            let data = std::fs::read(&file).unwrap();
            target(&data);
            for at in (0..data.len()).step_by((data.len() / 40).max(1)) {
                target(&data[..at]);
                let mut changed = data.clone();
                changed[at] = changed[at].wrapping_add(1);
                target(&changed);
            }
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
    fn headers_of_the_interface() {
        replay("vnet");
    }

    #[test]
    fn segments() {
        replay("segment");
    }

    #[test]
    fn what_the_kernel_hands_over() {
        replay("split");
    }

    #[test]
    fn what_came_in() {
        replay("join");
    }

    #[test]
    fn marks_of_congestion() {
        replay("congestion");
    }

    #[test]
    fn messages() {
        replay("messages");
    }
}
