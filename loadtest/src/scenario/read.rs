//! Reads a scenario, and reports every mistake at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_plumbing::config::{Document, Problems, Section};

use super::events::are_apart;
use super::{Arrivals, Churn, Cluster, Databases, Event, MAX_TENANTS, Noisy, Phase, Scenario, Work, WorkKind};
use crate::arrivals::Pace;
use crate::work::Script;

/// What changes keys.
const OPTION: &str = "--set";

/// The longest script or setup file, in bytes.
const MAX_SCRIPT: u64 = 1024 * 1024;

/// The fastest that one generator is asked to be, in pieces of work a second.
const MAX_RATE: f64 = 1_000_000.0;

impl Scenario {
    /// Reads a scenario from a text. `changes` are keys with their values, such as `cluster.tenants=3`; files that it names
    /// are looked for in `folder`.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn read(text: &str, changes: &[(String, String)], folder: &Path) -> Result<Self, Problems> {
        let mut document = Document::parse_with(text, changes.iter().cloned(), OPTION)?;
        let scenario = read(&mut document, folder);
        let mut scenario = document.finish_with(scenario)?;
        scenario.settings = settings(text, changes);
        Ok(scenario)
    }
}

fn read(document: &mut Document, folder: &Path) -> Option<Scenario> {
    let mut root = document.root();
    let (name, about) = (root.required("name"), root.required("about"));
    let seed = root.optional("seed");
    let cluster = read_cluster(&mut document.section("cluster"));
    let timeout = read_timeout(&mut document.section("work"));
    let work = read_work(&mut document.section("work"), timeout, folder);
    let mixes = read_mixes(document, work.as_ref(), timeout, folder);
    let arrivals = read_arrivals(&mut document.section("arrivals"), work.as_ref().map(|work| &work.kind));
    let noisy = read_noisy(&mut document.section("noisy"), cluster.tenants);
    let is_noisy = !document.section("noisy").keys().is_empty();
    let phases = read_phases(document, is_noisy);
    let events = read_events(document, &phases, cluster.tenants);
    let churn = Churn::read(&mut document.section("churn"));
    let is_left_alone = churn.is_none() && events.is_empty();
    if churn.is_some() && !events.is_empty() {
        document.root().problem("churn", "a scenario has either [churn] or [[events]]");
    }
    if cluster.databases == Databases::Echo {
        if !is_left_alone {
            document.root().problem("events", "nothing can be done to a cluster that is not there (cluster.databases)");
        }
        if work.iter().chain(&mixes).any(|work| work.kind != WorkKind::Ping) {
            document.section("work").problem("kind", "an echo server has no tables: expected \"ping\"");
        }
    }
    let settings = BTreeMap::new();
    Some(Scenario {
        name: name?,
        about: about?,
        seed,
        cluster,
        work: work?,
        mixes,
        arrivals,
        noisy,
        phases,
        events,
        churn,
        settings,
    })
}

fn read_phases(document: &mut Document, is_noisy: bool) -> Vec<Phase> {
    let mut phases: Vec<Phase> = Vec::new();
    let mut sections = document.sections("phases");
    let is_empty = sections.is_empty();
    for section in &mut sections {
        let Some(phase) = read_phase(section) else { continue };
        if phase.noisy && !is_noisy {
            section.problem("noisy", "there is no section [noisy]");
        }
        if phases.iter().any(|other| other.name == phase.name) {
            section.problem("name", "there is another phase of this name");
        }
        phases.push(phase);
    }
    if is_empty {
        document.root().problem("phases", "at least one is needed, each with its name and length");
    } else if !phases.iter().any(|phase| phase.measured) {
        document.root().problem("phases", "none of them is measured");
    }
    phases
}

fn read_events(document: &mut Document, phases: &[Phase], tenants: usize) -> Vec<Event> {
    let sections = document.sections("events").into_iter();
    let mut events: Vec<Event> =
        sections.filter_map(|mut section| Event::read(&mut section, phases, tenants)).collect();
    events.sort_by_key(|event| (event.phase, event.at));
    if !are_apart(&events) {
        document.root().problem("events", "each has to be over when the next one begins");
    }
    events
}

fn read_cluster(section: &mut Section<'_>) -> Cluster {
    let tenants = section.or("tenants", 3);
    if !(1..=MAX_TENANTS).contains(&tenants) {
        section.problem("tenants", format!("expected 1 to {MAX_TENANTS}"));
    }
    let gateways = section.or("gateways", 1_u32);
    if gateways != 1 {
        section.problem("gateways", "gateways do not share a registry yet: expected 1");
    }
    let clients = section.or("clients", 4);
    if clients == 0 {
        section.problem("clients", "expected at least 1");
    }
    let databases: String = section.or("databases", "shared".to_owned());
    let databases = match databases.as_str() {
        "shared" => Databases::Shared,
        "each" => Databases::Each,
        "echo" => Databases::Echo,
        _ => {
            section.problem("databases", "expected \"shared\", \"each\" or \"echo\"");
            Databases::Shared
        }
    };
    let tenants = tenants.clamp(1, MAX_TENANTS);
    Cluster { tenants, clients, databases, connections_per_app: read_limit(section) }
}

fn read_limit(section: &mut Section<'_>) -> Option<u32> {
    let limit = section.optional("connections_per_app");
    if limit == Some(0) {
        section.problem("connections_per_app", "expected at least 1");
    }
    limit
}

fn read_work(section: &mut Section<'_>, timeout: Duration, folder: &Path) -> Option<Work> {
    let word: Option<String> = section.required("kind");
    let kind = word.and_then(|word| match word.as_str() {
        "ping" => Some(WorkKind::Ping),
        "connect" => Some(WorkKind::Connect),
        "key-value" => Some(WorkKind::KeyValue),
        "tpcb" => Some(WorkKind::TpcB),
        "copy" => Some(WorkKind::Copy),
        "idle" => Some(WorkKind::Idle),
        "script" => read_script(section, folder),
        _ => {
            section.problem(
                "kind",
                "expected \"ping\", \"connect\", \"key-value\", \"tpcb\", \"copy\", \"script\" or \"idle\"",
            );
            None
        }
    });
    let rows = section.or("rows", 10_000);
    if rows == 0 {
        section.problem("rows", "expected at least 1");
    }
    let writes = section.or("writes", 0.2);
    if !(0.0..=1.0).contains(&writes) {
        section.problem("writes", "expected a part, from 0 to 1");
    }
    let bytes = section.or("bytes", 4 * 1024 * 1024);
    Some(Work { kind: kind?, rows, writes, bytes, timeout })
}

fn read_timeout(section: &mut Section<'_>) -> Duration {
    let timeout = section.or("timeout", Duration::from_secs(10));
    if timeout.is_zero() {
        section.problem("timeout", "expected more than nothing");
    }
    timeout
}

/// What tenants ask beside `[work]`. How long they wait for it is said there.
fn read_mixes(document: &mut Document, work: Option<&Work>, timeout: Duration, folder: &Path) -> Vec<Work> {
    const KEPT: &str =
        "where tenants have work of several kinds, all of them keep their sessions: neither \"connect\" nor \"idle\"";
    let leaves = |work: &Work| matches!(work.kind, WorkKind::Connect | WorkKind::Idle);
    let mut sections = document.sections("mixes");
    let is_mixed = !sections.is_empty();
    let mut mixes = Vec::new();
    for section in &mut sections {
        let mix = read_work(section, timeout, folder);
        if mix.as_ref().is_some_and(leaves) {
            section.problem("kind", KEPT);
        }
        mixes.extend(mix);
    }
    if is_mixed && work.is_some_and(leaves) {
        document.section("work").problem("kind", KEPT);
    }
    mixes
}

fn read_script(section: &mut Section<'_>, folder: &Path) -> Option<WorkKind> {
    let (script, setup): (Option<PathBuf>, Option<PathBuf>) = (section.required("script"), section.optional("setup"));
    let script = script.and_then(|path| {
        let text = read_file(section, "script", &folder.join(path))?;
        Script::parse(&text).map_err(|mistakes| section.problem("script", mistakes.join("; "))).ok()
    });
    let setup = match setup {
        Some(path) => read_file(section, "setup", &folder.join(path))?,
        None => String::new(),
    };
    Some(WorkKind::Script { script: script?, setup })
}

fn read_file(section: &mut Section<'_>, key: &str, path: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_SCRIPT + 1).read_to_string(&mut text));
    match read {
        Ok(length) if length as u64 <= MAX_SCRIPT => Some(text),
        Ok(_) => {
            section.problem(key, format!("{} is longer than 1 MiB", path.display()));
            None
        }
        Err(error) => {
            section.problem(key, format!("{}: {error}", path.display()));
            None
        }
    }
}

fn read_arrivals(section: &mut Section<'_>, kind: Option<&WorkKind>) -> Arrivals {
    let rate = if kind == Some(&WorkKind::Idle) {
        section.or("rate", 0.0)
    } else {
        section.required("rate").unwrap_or_default()
    };
    if section.has("rate") && !(0.0..=MAX_RATE).contains(&rate) {
        section.problem("rate", "expected 0 to 1000000 pieces of work a second");
    }
    let pace: String = section.or("pace", "poisson".to_owned());
    let pace = match pace.as_str() {
        "poisson" => Pace::Poisson,
        "even" => Pace::Even,
        _ => {
            section.problem("pace", "expected \"poisson\" or \"even\"");
            Pace::Poisson
        }
    };
    let zipf = section.or("zipf", 0.0);
    if !(0.0..=10.0).contains(&zipf) {
        section.problem("zipf", "expected an exponent from 0 to 10");
    }
    Arrivals { rate, pace, zipf }
}

fn read_noisy(section: &mut Section<'_>, tenants: usize) -> Option<Noisy> {
    if section.keys().is_empty() {
        return None;
    }
    let noisy = Noisy {
        tenant: section.or("tenant", 0),
        factor: section.required("factor")?,
        clients: section.required("clients")?,
    };
    if noisy.tenant >= tenants {
        section.problem("tenant", format!("there are {tenants} tenants, counted from 0"));
    }
    if !(1.0..=10_000.0).contains(&noisy.factor) {
        section.problem("factor", "expected 1 to 10000");
    }
    if noisy.clients == 0 {
        section.problem("clients", "expected at least 1");
    }
    Some(noisy)
}

fn read_phase(section: &mut Section<'_>) -> Option<Phase> {
    let (name, length): (Option<String>, Option<Duration>) = (section.required("name"), section.required("length"));
    if length.is_some_and(|length| length.is_zero()) {
        section.problem("length", "expected more than nothing");
    }
    let rate = section.optional("rate");
    if rate.is_some_and(|rate| !(0.0..=MAX_RATE).contains(&rate)) {
        section.problem("rate", "expected 0 to 1000000 pieces of work a second");
    }
    let (measured, noisy) = (section.or("measured", true), section.or("noisy", false));
    let connections_per_app = read_limit(section);
    Some(Phase { name: name?, length: length?, measured, rate, noisy, connections_per_app })
}

/// Every key of the scenario with its value, for the record.
fn settings(text: &str, changes: &[(String, String)]) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    if let Ok(table) = text.parse::<toml::Table>() {
        flatten("", &toml::Value::Table(table), &mut settings);
    }
    settings.extend(changes.iter().cloned());
    settings
}

fn flatten(place: &str, value: &toml::Value, settings: &mut BTreeMap<String, String>) {
    let tables = value.as_array().filter(|values| values.iter().any(toml::Value::is_table));
    if let Some(table) = value.as_table() {
        for (name, value) in table {
            let place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
            flatten(&place, value, settings);
        }
    } else if let Some(values) = tables {
        for (index, value) in values.iter().enumerate() {
            flatten(&format!("{place}[{index}]"), value, settings);
        }
    } else {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        settings.insert(place.to_owned(), text);
    }
}
