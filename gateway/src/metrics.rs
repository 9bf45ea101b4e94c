//! The gateway's metrics, by name. All of them are listed in [`describe`].

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use postern_gateway_core::refusal::Refusal;
use postern_gateway_core::table::Table;

const CONNECTIONS: &str = "postern_gateway_connections_total";
const CONNECTIONS_OPEN: &str = "postern_gateway_connections_open";
const SESSIONS_OPEN: &str = "postern_gateway_sessions_open";
const HANDED_ON: &str = "postern_gateway_connections_handed_on_total";
const REFUSALS: &str = "postern_gateway_refusals_total";
const BYTES: &str = "postern_gateway_bytes_total";
const CANCELS: &str = "postern_gateway_cancels_total";
const DIAL_ERRORS: &str = "postern_gateway_dial_errors_total";
const DIAL: &str = "postern_gateway_dial_seconds";
const SESSIONS_CUT: &str = "postern_gateway_sessions_cut_total";
const CUT: &str = "postern_gateway_cut_seconds";
const DISBELIEVED: &str = "postern_gateway_members_disbelieved_total";
const REGISTRATIONS: &str = "postern_gateway_registrations_total";
const INSTANCES: &str = "postern_gateway_instances";
const AUDIT_LINES: &str = "postern_gateway_audit_lines";
const AUDIT_LOST: &str = "postern_gateway_audit_lines_lost_total";
const INSECURE: &str = "postern_gateway_insecure";

/// What every connection touches, looked up once.
struct Handles {
    connections: Counter,
    connections_open: Gauge,
    sessions_open: Gauge,
    to_upstream: Counter,
    to_client: Counter,
    dial: Histogram,
}

/// The handles of the recorder that is there when they are first asked for.
fn handles() -> &'static Handles {
    static HANDLES: OnceLock<Handles> = OnceLock::new();
    HANDLES.get_or_init(|| Handles {
        connections: counter!(CONNECTIONS),
        connections_open: gauge!(CONNECTIONS_OPEN),
        sessions_open: gauge!(SESSIONS_OPEN),
        to_upstream: counter!(BYTES, "direction" => "to_upstream"),
        to_client: counter!(BYTES, "direction" => "to_client"),
        dial: histogram!(DIAL),
    })
}

/// Names every metric to the recorder, and starts those at zero whose absence would hide a first event.
pub fn describe() {
    describe_counter!(CONNECTIONS, "Client connections accepted");
    describe_gauge!(CONNECTIONS_OPEN, "Client connections open, in whatever phase");
    describe_counter!(HANDED_ON, "Client connections that a thread handed to one with fewer of them");
    describe_gauge!(SESSIONS_OPEN, "Sessions being relayed");
    describe_counter!(REFUSALS, "Client connections refused, by reason");
    describe_counter!(BYTES, Unit::Bytes, "Bytes relayed, by direction");
    describe_counter!(CANCELS, "Cancel requests, by outcome");
    describe_counter!(DIAL_ERRORS, "Attempts to connect to an instance that failed");
    describe_histogram!(DIAL, Unit::Seconds, "Time to connect to an instance through the tunnel");
    describe_counter!(SESSIONS_CUT, "Live sessions cut because their instance is not admitted any more");
    describe_histogram!(CUT, Unit::Seconds, "Time from a change on chain being seen to the sessions being cut");
    describe_counter!(DISBELIEVED, "Registered instances whose evidence is not believed any more, by reason");
    describe_counter!(REGISTRATIONS, "Registrations of instances, by outcome");
    describe_gauge!(INSTANCES, "Registered instances, by standing");
    describe_gauge!(AUDIT_LINES, "The number of the last line of the audit trail");
    describe_counter!(AUDIT_LOST, "Lines that could not be written to the audit trail; it counts them too");
    describe_gauge!(INSECURE, "1 for each dangerous switch that is on");
    counter!(CONNECTIONS).absolute(0);
    counter!(HANDED_ON).absolute(0);
    counter!(SESSIONS_CUT).absolute(0);
    counter!(AUDIT_LOST).absolute(0);
    for refusal in Refusal::ALL {
        counter!(REFUSALS, "reason" => refusal.label()).absolute(0);
    }
    bytes(0, 0);
}

/// A client connection was accepted; it is open until the answer is dropped.
#[must_use]
pub fn connection() -> Open {
    handles().connections.increment(1);
    Open::new(&handles().connections_open)
}

/// A thread handed a connection to another one.
pub fn handed_on() {
    counter!(HANDED_ON).increment(1);
}

/// A session is being relayed until the answer is dropped.
#[must_use]
pub fn session() -> Open {
    Open::new(&handles().sessions_open)
}

/// A client was refused.
pub fn refused(refusal: Refusal) {
    counter!(REFUSALS, "reason" => refusal.label()).increment(1);
}

/// Bytes were relayed.
pub fn bytes(to_upstream: u64, to_client: u64) {
    handles().to_upstream.increment(to_upstream);
    handles().to_client.increment(to_client);
}

/// A cancel request was dealt with.
pub fn cancel(outcome: &'static str) {
    counter!(CANCELS, "outcome" => outcome).increment(1);
}

/// An instance was connected to, or not.
pub fn dialled(succeeded: bool, took: Duration) {
    if succeeded {
        handles().dial.record(took);
    } else {
        counter!(DIAL_ERRORS).increment(1);
    }
}

/// Sessions were cut, so long after the change was seen, where that is known.
pub fn cut(sessions: usize, after: Option<Duration>) {
    counter!(SESSIONS_CUT).increment(u64::try_from(sessions).unwrap_or(u64::MAX));
    if let Some(after) = after {
        histogram!(CUT).record(after);
    }
}

/// The evidence of a registered instance is not believed any more.
pub fn disbelieved(reason: &'static str) {
    counter!(DISBELIEVED, "reason" => reason).increment(1);
}

/// An instance asked to be registered.
pub fn registration(outcome: &'static str) {
    counter!(REGISTRATIONS, "outcome" => outcome).increment(1);
}

/// The table changed.
pub fn table(table: &Table) {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let (admitted, refused) = table.counts();
    gauge!(INSTANCES, "standing" => "admitted").set(count(admitted));
    gauge!(INSTANCES, "standing" => "refused").set(count(refused));
}

/// The audit trail has so many lines.
#[expect(clippy::cast_precision_loss, reason = "a gauge for humans; there are far fewer than 2^53 lines")]
pub fn audit_lines(count: u64) {
    gauge!(AUDIT_LINES).set(count as f64);
}

/// Lines could not be written to the audit trail.
pub fn audit_lost(count: usize) {
    counter!(AUDIT_LOST).increment(u64::try_from(count).unwrap_or(u64::MAX));
}

/// A dangerous switch is on.
pub fn insecure(switch: &'static str) {
    gauge!(INSECURE, "switch" => switch).set(1);
}

/// Counts in a gauge while it exists.
#[derive(Debug)]
pub struct Open(&'static Gauge);

impl Open {
    fn new(gauge: &'static Gauge) -> Self {
        gauge.increment(1);
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}
