//! pg_regress' regression.diffs, by test.

use std::collections::BTreeMap;

/// What each test printed that was not expected.
pub(crate) struct Differences(BTreeMap<String, String>);

impl Differences {
    /// Reads the file of a run whose output is below `results`: the name of that folder is no difference between runs.
    pub(crate) fn parse(diffs: &str, results: &str) -> Self {
        let mut tests: BTreeMap<String, String> = BTreeMap::new();
        let mut current = None;
        for line in diffs.lines() {
            if line.starts_with("diff ") {
                current = line.rsplit(['/', ' ']).next().and_then(|file| file.strip_suffix(".out")).map(str::to_owned);
                continue;
            }
            // Headings name files and times.
            if line.starts_with("--- /") || line.starts_with("+++ /") {
                continue;
            }
            if let Some(test) = &current {
                let lines = tests.entry(test.clone()).or_default();
                lines.push_str(&line.replace(results, "<results>"));
                lines.push('\n');
            }
        }
        Self(tests)
    }

    /// The tests that differ, each with its lines.
    pub(crate) fn tests(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_told_apart_and_folders_and_times_are_not() {
        let file = |results: &str, time: &str| {
            format!(
                "diff -U3 /suite/expected/copy.out {results}/results/copy.out\n\
                 --- /suite/expected/copy.out\t{time}\n+++ {results}/results/copy.out\t{time}\n\
                 @@ -1 +1 @@\n-'a'\n+'{results}/a'\n\
                 diff -U3 /suite/expected/int4.out {results}/results/int4.out\n@@ -9 +9 @@\n-1\n"
            )
        };
        let one = Differences::parse(&file("/one", "10:00"), "/one");
        let two = Differences::parse(&file("/two", "11:00"), "/two");
        assert_eq!(one.tests(), two.tests());
        assert_eq!(one.tests()["copy"], "@@ -1 +1 @@\n-'a'\n+'<results>/a'\n");
        assert_eq!(one.tests()["int4"], "@@ -9 +9 @@\n-1\n");
    }
}
