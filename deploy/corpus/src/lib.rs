//! Replays the corpora of fuzz targets, so that what a fuzzer once found is looked at with every test run.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "it is for tests alone, which stop where they cannot go on"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What a fuzzer calls with bytes of its choice. It panics at a mistake.
pub type Target = fn(&[u8]);

/// The corpora of a package: a folder for each of its targets, below `fuzz/corpus`.
#[derive(Debug)]
pub struct Corpus<'a> {
    folder: PathBuf,
    targets: &'a [(&'a str, Target)],
}

impl<'a> Corpus<'a> {
    /// Those of the package in this folder (`CARGO_MANIFEST_DIR`), whose targets these are, each under its name.
    #[must_use]
    pub fn new(package: &str, targets: &'a [(&'a str, Target)]) -> Self {
        Self { folder: Path::new(package).join("fuzz/corpus"), targets }
    }

    /// What a file of a target's corpus holds.
    ///
    /// # Panics
    /// When there is no such file.
    #[must_use]
    pub fn read(&self, target: &str, file: &str) -> Vec<u8> {
        fs::read(self.folder.join(target).join(file)).unwrap()
    }

    /// Gives a target every file of its corpus: itself, cut at some forty places, and with a byte changed at as many.
    ///
    /// # Panics
    /// When the target does, or has no corpus to speak of. The file that it was about is printed.
    pub fn replay(&self, name: &str) {
        let (_, target) = self.targets.iter().find(|(known, _)| *known == name).unwrap();
        let files = files(&self.folder.join(name));
        assert!(files.len() >= 3, "a corpus of {} files proves little", files.len());
        for file in files {
            println!("{}", file.display());
            around(&fs::read(&file).unwrap(), *target);
        }
    }

    /// Every target has a corpus and a program that runs it, and every corpus a target.
    ///
    /// # Panics
    /// When one has not.
    pub fn check(&self) {
        let folders = files(&self.folder);
        let folders: BTreeSet<&str> =
            folders.iter().map(|folder| folder.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(folders, self.targets.iter().map(|(name, _)| *name).collect());
        for (name, _) in self.targets {
            let program = fs::read_to_string(self.folder.join(format!("../fuzz_targets/{name}.rs"))).unwrap();
            assert!(program.contains(&format!("targets::{name}(data)")), "{name}");
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn around(data: &[u8], target: Target) {
    target(data);
    for at in (0..data.len()).step_by((data.len() / 40).max(1)) {
        target(data.get(..at).unwrap_or_default());
        let mut changed = data.to_vec();
        if let Some(byte) = changed.get_mut(at) {
            *byte = byte.wrapping_add(1);
        }
        target(&changed);
    }
}
