//! What a result says, in words.

use crate::result::{Ledger, Phase, RunResult};

use super::units::{count, float, many, micros, percent};

/// A sentence, and whether it is good news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sentence {
    /// What it is about, in a word or two.
    pub(crate) about: &'static str,
    /// Good, worth a look, bad, or neither.
    pub(crate) tone: Tone,
    /// The sentence.
    pub(crate) words: String,
}

/// How to take a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it should be.
    Good,
    /// A fact.
    Plain,
    /// Worth a look.
    Doubtful,
    /// Not as it should be.
    Bad,
}

/// Jain's index from which tenants are said to be served evenly, and below which they are said not to be.
const EVEN: f64 = 0.99;
const UNEVEN: f64 = 0.9;
/// The worst p99 over the median from which one tenant is said to have it much worse than the others.
const MUCH_WORSE: f64 = 5.0;
/// The part of failed work that is worth a look.
const MANY_FAILED: f64 = 0.001;

/// The sentences, the most important first.
pub(crate) fn headline(result: &RunResult) -> Vec<Sentence> {
    let wrong = |words: &String| Sentence { about: "Wrong", tone: Tone::Bad, words: sentence(words) };
    let mut sentences: Vec<Sentence> = result.failures.iter().map(wrong).collect();
    sentences.extend([work(result), writes(result.ledger.as_ref())]);
    sentences.extend(fairness(result));
    sentences.extend(neighbour(result));
    sentences.push(failures(&result.total));
    sentences.extend(generator(result));
    sentences
}

/// With a capital letter and a full stop.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}

fn work(result: &RunResult) -> Sentence {
    let total = &result.total;
    let sessions = match total.sessions {
        0 => String::new(),
        sessions => format!(" over {}", many(sessions, "session")),
    };
    let words = match total.latency.count {
        0 => format!("{}{sessions}: no work was done.", many(u64::from(result.subject.tenants), "tenant")),
        _ => format!(
            "{}: {} requests a second{sessions}. Half took no longer than {}, 99 of 100 no longer than {}.",
            many(u64::from(result.subject.tenants), "tenant"),
            count(total.per_second),
            micros(float(total.latency.p50_us)),
            micros(float(total.latency.p99_us)),
        ),
    };
    Sentence { about: "Work", tone: Tone::Plain, words }
}

fn writes(ledger: Option<&Ledger>) -> Sentence {
    let (tone, words) = match ledger {
        None => (Tone::Plain, "This workload writes nothing that could be read back.".to_owned()),
        Some(ledger) if ledger.is_sound() => (
            Tone::Good,
            format!(
                "No write was lost: {} were acknowledged, and every one was found once.{}",
                many(ledger.acknowledged, "write"),
                unknown(ledger)
            ),
        ),
        Some(ledger) => (Tone::Bad, unsound(ledger)),
    };
    Sentence { about: "Writes", tone, words }
}

fn unknown(ledger: &Ledger) -> String {
    match ledger.unknown {
        0 => String::new(),
        unknown => format!(
            " Of {} whose session ended before the answer, {} were done; either is right.",
            count(float(unknown)),
            count(float(ledger.unknown_found))
        ),
    }
}

fn unsound(ledger: &Ledger) -> String {
    let found = [
        (ledger.lost, "acknowledged and not there"),
        (ledger.twice, "there more than once"),
        (ledger.unexpected, "there although nobody may have written them"),
    ];
    let mut parts: Vec<String> = found
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{} {what}", count(float(number))))
        .collect();
    if !ledger.unread.is_empty() {
        parts.push(format!("{} could not be read back", many(ledger.unread.len() as u64, "tenant")));
    }
    format!("Writes are wrong: {}, of {} acknowledged.", parts.join(", "), count(float(ledger.acknowledged)))
}

fn fairness(result: &RunResult) -> Option<Sentence> {
    let total = &result.total;
    let quiet = total.tenants.iter().filter(|tenant| !tenant.noisy && !tenant.disturbed).count();
    if quiet < 2 || total.latency.count == 0 {
        return None;
    }
    let jain = total.fairness.index()?;
    let ratio = total.fairness.worst_over_median();
    let (tone, served) = match jain {
        jain if jain >= EVEN => (Tone::Good, "Tenants were served evenly"),
        jain if jain >= UNEVEN => (Tone::Doubtful, "Tenants were not served quite evenly"),
        _ => (Tone::Bad, "Tenants were served unevenly"),
    };
    let tone = if ratio >= MUCH_WORSE && tone == Tone::Good { Tone::Doubtful } else { tone };
    let words = format!(
        "{served}: Jain's index is {jain:.3} of 1 over {quiet} tenants. The worst p99, of {}, is {}: {ratio:.1} times the \
         median of all tenants, {}.",
        total.fairness.worst_tenant,
        micros(float(total.fairness.worst_p99_us)),
        micros(float(total.fairness.median_p99_us)),
    );
    Some(Sentence { about: "Fairness", tone, words })
}

/// What a tenant that takes more than its share does to the others, phase by phase.
fn neighbour(result: &RunResult) -> Option<Sentence> {
    let quiet: Vec<&Phase> = result.measured().filter(|phase| !has_noise(phase)).collect();
    let noisy: Vec<&Phase> = result.measured().filter(|phase| has_noise(phase)).collect();
    let base = quiet.first().map(|phase| float(phase.fairness.median_p99_us)).filter(|&base| base > 0.0);
    let first = noisy.first()?;
    let told = |phase: &&Phase| {
        let p99 = float(phase.fairness.median_p99_us);
        let times = base.map(|base| format!(", {:.1} times as long as without it", p99 / base)).unwrap_or_default();
        format!("{} in “{}”{times}", micros(p99), phase.name)
    };
    let phases: Vec<String> = noisy.iter().map(told).collect();
    let name = first.tenants.iter().find(|tenant| tenant.noisy).map_or("one tenant", |tenant| tenant.tenant.as_str());
    let words = format!(
        "Beside {name}, which takes more than its share, the others had a median p99 of {}.",
        phases.join("; ")
    );
    Some(Sentence { about: "Noisy neighbour", tone: Tone::Plain, words })
}

/// Whether somebody made noise in a phase.
fn has_noise(phase: &Phase) -> bool {
    phase.tenants.iter().any(|tenant| tenant.noisy && tenant.due > 0)
}

fn failures(total: &Phase) -> Sentence {
    let failed: u64 = total.failed.values().sum();
    if failed == 0 {
        return Sentence { about: "Failures", tone: Tone::Good, words: "Nothing failed.".to_owned() };
    }
    let part = float(failed) / float(total.due.max(1));
    let mut reasons: Vec<_> = total.failed.iter().collect();
    reasons.sort_by_key(|(_, number)| std::cmp::Reverse(**number));
    let reasons: Vec<String> =
        reasons.into_iter().take(4).map(|(reason, number)| format!("{reason} {}", count(float(*number)))).collect();
    let tone = if part >= MANY_FAILED { Tone::Doubtful } else { Tone::Plain };
    let words = format!(
        "{} of {} did not succeed ({}): {}.",
        count(float(failed)),
        count(float(total.due)),
        percent(part),
        reasons.join(", ")
    );
    Sentence { about: "Failures", tone, words }
}

fn generator(result: &RunResult) -> Option<Sentence> {
    if result.total.due == 0 {
        return None;
    }
    let late = micros(float(result.generator.p99_error_us));
    let (tone, words) = if result.generator.saturated {
        (
            Tone::Bad,
            format!(
                "The load generator was the limit: 99 of 100 pieces of work began up to {late} late. Latencies here say more \
                 about it than about the cluster."
            ),
        )
    } else {
        (Tone::Good, format!("The load generator kept its timetable: 99 of 100 pieces of work began within {late}."))
    };
    Some(Sentence { about: "Generator", tone, words })
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    fn about(result: &RunResult, about: &str) -> Option<Sentence> {
        headline(result).into_iter().find(|sentence| sentence.about == about)
    }

    #[test]
    fn a_sound_run_is_told_with_its_numbers() {
        let result = example::result();
        let work = about(&result, "Work").unwrap();
        assert!(work.words.starts_with("4 tenants: 800 requests a second over 16 sessions. Half"), "{}", work.words);
        let writes = about(&result, "Writes").unwrap();
        assert_eq!(
            (writes.tone, writes.words.contains("No write was lost: 9,000 writes")),
            (Tone::Good, true),
            "{writes:?}"
        );
        assert!(writes.words.contains("Of 3 whose session ended before the answer, 1 were done"));
        assert_eq!(about(&result, "Fairness").unwrap().tone, Tone::Good);
        assert_eq!(about(&result, "Generator").unwrap().tone, Tone::Good);
    }

    #[test]
    fn lost_writes_and_a_generator_that_was_the_limit_are_bad_news() {
        let mut result = example::result();
        result.failures.push("an app that was withdrawn was still served".to_owned());
        let wrong = headline(&result).into_iter().next().unwrap();
        assert_eq!((wrong.tone, wrong.words.as_str()), (Tone::Bad, "An app that was withdrawn was still served."));
        result.ledger = Some(Ledger { acknowledged: 10, lost: 1, twice: 2, ..Ledger::default() });
        result.generator.saturated = true;
        let writes = about(&result, "Writes").unwrap();
        assert_eq!(writes.tone, Tone::Bad);
        assert!(
            writes.words.contains("1 acknowledged and not there, 2 there more than once, of 10"),
            "{}",
            writes.words
        );
        assert_eq!(about(&result, "Generator").unwrap().tone, Tone::Bad);
        result.ledger = Some(Ledger { unread: vec!["t1: away".to_owned()], ..Ledger::default() });
        assert!(about(&result, "Writes").unwrap().words.contains("1 tenant could not be read back"));
    }

    #[test]
    fn uneven_service_is_told() {
        let mut result = example::result();
        result.total.fairness.jain = 0.95;
        assert_eq!(about(&result, "Fairness").unwrap().tone, Tone::Doubtful);
        result.total.fairness.jain = 0.5;
        assert_eq!(about(&result, "Fairness").unwrap().tone, Tone::Bad);
        result.total.fairness.jain = 1.0;
        result.total.fairness.worst_p99_us = 10 * result.total.fairness.median_p99_us;
        assert_eq!(about(&result, "Fairness").unwrap().tone, Tone::Doubtful);
        result.total.tenants.truncate(1);
        assert_eq!(about(&result, "Fairness"), None, "one tenant has nobody to compare with");
    }

    #[test]
    fn the_neighbours_of_a_noisy_tenant_are_compared_with_the_time_without_it() {
        let mut result = example::result();
        assert_eq!(about(&result, "Noisy neighbour"), None);
        let mut noisy = result.total.clone();
        noisy.name = "with limits".to_owned();
        noisy.fairness.median_p99_us *= 2;
        noisy.tenants.first_mut().unwrap().noisy = true;
        result.phases.push(noisy);
        let words = about(&result, "Noisy neighbour").unwrap().words;
        assert!(words.contains("t000") && words.contains("“with limits”") && words.contains("2.0 times"), "{words}");
    }

    #[test]
    fn failures_are_told_by_reason_the_most_frequent_first() {
        let mut result = example::result();
        result.total.failed = [("tls".to_owned(), 2), ("refused".to_owned(), 30)].into();
        let failures = about(&result, "Failures").unwrap();
        assert!(failures.words.contains("refused 30, tls 2") && failures.tone == Tone::Doubtful, "{failures:?}");
    }
}
