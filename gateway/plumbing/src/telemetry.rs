//! Logs and metrics of a program.

use std::io::IsTerminal as _;
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt};

/// What is logged when the configured filter cannot be read.
const FALLBACK_FILTER: &str = "info";

/// What is logged unless the configuration says otherwise. boringtun calls every unanswered handshake an error; what matters
/// of it is in the metrics.
const DEFAULT_FILTER: &str = "info,boringtun=off";

/// How often samples are folded into their histograms. Until then each of them takes memory, scraped or not.
const UPKEEP: Duration = Duration::from_secs(5);

/// How log lines look. They always go to standard error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For a human on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One line per event, for eyes.
    Human,
    /// One JSON object per line, for machines.
    Json,
}

/// A text names no log format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected `auto`, `human` or `json`")]
pub struct UnknownLogFormat;

impl LogFormat {
    /// The format that `Auto` stands for, when standard error is a terminal or is not; the others stand for themselves.
    #[must_use]
    pub fn resolve(self, terminal: bool) -> Self {
        match (self, terminal) {
            (Self::Auto, true) => Self::Human,
            (Self::Auto, false) => Self::Json,
            (format @ (Self::Human | Self::Json), _) => format,
        }
    }
}

impl FromStr for LogFormat {
    type Err = UnknownLogFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(UnknownLogFormat),
        }
    }
}

/// Which events are logged: a level, or levels per module, such as `info,gateway=debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

/// A text is no log filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a level, or levels per module, such as `info,gateway=debug`")]
pub struct NotALogFilter;

impl LogFilter {
    /// The filter as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self(DEFAULT_FILTER.to_owned())
    }
}

impl FromStr for LogFilter {
    type Err = NotALogFilter;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        EnvFilter::try_new(text).map(|_| Self(text.to_owned())).map_err(|_| NotALogFilter)
    }
}

/// The metrics of this process. Clones show the same ones.
#[derive(Debug, Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// All metrics in the Prometheus text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.run_upkeep();
        self.0.render()
    }
}

/// Starts logging and counting for this process. `filter` is what `tracing_subscriber::EnvFilter` takes, such as
/// `info,gateway=debug`. A second call returns the same metrics and leaves the log as it is.
pub fn init(format: LogFormat, filter: &str) -> Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS
        .get_or_init(|| {
            let unreadable = start_log(format, filter);
            if let Some(error) = unreadable {
                tracing::warn!(%error, using = FALLBACK_FILTER, "the log filter cannot be read");
            }
            log_panics();
            start_metrics()
        })
        .clone()
}

/// Returns what is wrong with the filter, when it is.
fn start_log(format: LogFormat, filter: &str) -> Option<String> {
    let (filter, unreadable) = match EnvFilter::try_new(filter) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(FALLBACK_FILTER), Some(error.to_string())),
    };
    let terminal = std::io::stderr().is_terminal();
    let layer = log_layer(format.resolve(terminal), terminal, std::io::stderr);
    let started: Result<(), TryInitError> = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
    if started.is_err() {
        tracing::debug!("a log was set up before");
    }
    unreadable
}

fn log_layer<W>(format: LogFormat, colours: bool, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'writer> fmt::MakeWriter<'writer> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer);
    match format {
        LogFormat::Json => layer.json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Auto | LogFormat::Human => layer.with_ansi(colours).boxed(),
    }
}

fn start_metrics() -> Metrics {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = Metrics(recorder.handle());
    keep_up(recorder.handle());
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::warn!("another recorder of metrics was set up before: /metrics will stay empty");
    }
    metrics
}

/// A thread rather than a task, as this process may have no runtime yet, or several.
fn keep_up(handle: PrometheusHandle) {
    let upkeep = move || {
        loop {
            std::thread::sleep(UPKEEP);
            handle.run_upkeep();
        }
    };
    if let Err(error) = std::thread::Builder::new().name("metrics-upkeep".into()).spawn(upkeep) {
        tracing::warn!(%error, "histograms will only be folded when /metrics is read");
    }
}

/// Panics go to the log like everything else; the default hook would write plain lines between JSON ones.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(location, message, "panic");
    }));
}

#[cfg(test)]
mod tests;
