//! The page: one file that needs nothing from anywhere.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::headline::{Sentence, Tone, headline};
use super::units::{count, float, micros, percent, whole};
use super::{distribution, fairness, over_time, parts, tables};
use crate::result::RunResult;

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/reading.js");
/// The browser is told to fetch nothing, whatever a result holds.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The whole page of a result.
pub(crate) fn page(result: &RunResult) -> String {
    let title = format!("{}: {} tenants", result.scenario.name, result.subject.tenants);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (title) }
                    p.soft { (result.scenario.about) }
                    p.soft { (tables::origin(result)) }
                }
                (tiles(result))
                (sentences(&headline(result)))
                main {
                    section { h2 { "Over time" } div.plots { (over_time::plots(result)) } (over_time::marks(result)) }
                    section { h2 { "Latency and fairness" } div.plots { (distribution::plot(result)) (fairness::plots(result)) } }
                    section { h2 { "Where the processors' time went" } div.plots { (parts::plots(result)) } (parts::table(result)) }
                    section { h2 { "Numbers" } (tables::numbers(result)) }
                    section { h2 { "How it was measured" } (tables::circumstances(result)) }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

fn tiles(result: &RunResult) -> Markup {
    let total = &result.total;
    let failed: u64 = total.failed.values().sum();
    let mut tiles = vec![
        (count(total.per_second), "requests a second"),
        (micros(float(total.latency.p50_us)), "p50"),
        (micros(float(total.latency.p99_us)), "p99"),
        (whole(total.sessions), "sessions at most"),
        (percent(float(failed) / float(total.due.max(1))), "failed"),
    ];
    if let Some(jain) = total.fairness.index().filter(|_| total.tenants.len() > 1) {
        tiles.push((format!("{jain:.3}"), "Jain's index"));
    }
    if let Some(ledger) = &result.ledger {
        tiles.push((whole(ledger.lost), "lost writes"));
    }
    html! {
        div.tiles { @for (value, what) in &tiles { div { b { (value) } span { (what) } } } }
    }
}

fn sentences(sentences: &[Sentence]) -> Markup {
    html! {
        ul.words {
            @for sentence in sentences {
                li class=(class(sentence.tone)) { b { (sign(sentence.tone)) (sentence.about) } (sentence.words) }
            }
        }
    }
}

const fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "good",
        Tone::Plain => "plain",
        Tone::Doubtful => "doubtful",
        Tone::Bad => "bad",
    }
}

/// Colour alone does not tell everybody.
const fn sign(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "✓ ",
        Tone::Plain => "",
        Tone::Doubtful => "! ",
        Tone::Bad => "✗ ",
    }
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_anywhere() {
        let page = page(&example::result());
        for fetch in ["http://", "https://", "src=", "url(", "@import", "<link"] {
            assert!(!page.contains(fetch), "{fetch}");
        }
        assert_eq!(page.matches("</script>").count(), 1);
    }

    #[test]
    fn what_a_result_says_is_text_and_nothing_else() {
        let mut result = example::result();
        let hostile = "</style></script><script>alert(1)</script>";
        result.scenario.name = hostile.to_owned();
        result.scenario.settings.insert(hostile.to_owned(), hostile.to_owned());
        result.notes.push(hostile.to_owned());
        result.total.failed.insert(hostile.to_owned(), 1);
        result.marks.iter_mut().for_each(|mark| mark.text = hostile.to_owned());
        result.total.tenants.iter_mut().for_each(|tenant| tenant.tenant = hostile.to_owned());
        result.parts.iter_mut().for_each(|part| part.name = hostile.to_owned());
        let page = page(&result);
        assert_eq!(page.matches("<script>").count(), 1, "only our own");
    }

    #[test]
    fn a_result_in_which_nothing_happened_has_a_page_too() {
        let page = page(&example::empty());
        assert!(page.contains("no work was done") && page.contains("Nothing was measured."));
    }
}
