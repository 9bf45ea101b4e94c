use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::*;

/// A log that is kept in memory.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(format: LogFormat) -> String {
    let kept = Kept::default();
    let writer = kept.clone();
    let subscriber = tracing_subscriber::registry().with(log_layer(format, false, move || writer.clone()));
    tracing::subscriber::with_default(subscriber, || {
        let _span = tracing::info_span!("session", id = 7).entered();
        tracing::info!(bytes = 12, "closed");
    });
    let bytes = kept.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn auto_means_human_on_a_terminal_and_json_elsewhere() {
    assert_eq!(LogFormat::Auto.resolve(true), LogFormat::Human);
    assert_eq!(LogFormat::Auto.resolve(false), LogFormat::Json);
    for terminal in [true, false] {
        assert_eq!(LogFormat::Human.resolve(terminal), LogFormat::Human);
        assert_eq!(LogFormat::Json.resolve(terminal), LogFormat::Json);
    }
}

#[test]
fn names_of_formats_are_read() {
    let read = ["auto", "human", "json"].map(str::parse);
    assert_eq!(read, [Ok(LogFormat::Auto), Ok(LogFormat::Human), Ok(LogFormat::Json)]);
    assert_eq!("JSON".parse::<LogFormat>(), Err(UnknownLogFormat));
}

#[test]
fn json_lines_carry_fields_and_the_span() {
    let line = logged(LogFormat::Json);
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["message"], "closed");
    assert_eq!(event["level"], "INFO");
    assert_eq!(event["bytes"], 12);
    assert_eq!(event["span"]["id"], 7);
}

#[test]
fn human_lines_are_not_json_and_hold_no_colour_codes_in_a_file() {
    let line = logged(LogFormat::Human);
    assert!(line.contains("session{id=7}") && line.contains("closed bytes=12"), "{line}");
    assert!(!line.contains('\u{1b}'));
}

#[test]
fn metrics_are_rendered_and_a_second_start_changes_nothing() {
    let metrics = init(LogFormat::Json, "not a filter=[");
    let again = init(LogFormat::Human, "info");
    metrics::counter!("telemetry_test_total", "kind" => "one").increment(3);
    for metrics in [metrics, again] {
        assert!(metrics.render().contains("telemetry_test_total{kind=\"one\"} 3"));
    }
}

#[test]
fn a_filter_that_cannot_be_read_is_refused_and_the_default_can_be() {
    assert!("!!=x[[".parse::<LogFilter>().is_err());
    for text in ["debug", "info,gateway=debug", LogFilter::default().as_str()] {
        assert_eq!(text.parse::<LogFilter>().unwrap().as_str(), text);
    }
}
