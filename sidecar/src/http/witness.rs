use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use postern_attest::event_log::EventLog;
use postern_attest::{Measurements, Rejection};
use postern_attest_io::agent::AgentError;
use postern_attest_io::{GuestAgent, IdentityKeeper, SourceLimit, Sources};
use postern_plumbing::clock::unix_now;
use thiserror::Error;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout};

use super::answer::{Answer, PostgresState, TcbInfo};
use super::problem::Problem;
use crate::postgres::state::{Database, StateError};

/// How long an answer for callers without a nonce is given again.
const KEPT: Duration = Duration::from_secs(1);
/// How long one answer may take to be made.
const DEADLINE: Duration = Duration::from_secs(12);
/// How many answers are made at a time. A guest agent that does not answer is asked for no more.
const AT_A_TIME: usize = 4;
/// All callers together, as a source of quotes.
const EVERYBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

const ITS_SHARE: Problem =
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "this address has had its share of quotes").again_in(1);
const ALL_GIVEN: Problem =
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "more quotes are asked for than are given").again_in(1);
const NO_DATABASE: Problem =
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Postgres does not say what its state is").again_in(5);
const NO_QUOTE: Problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the guest agent gives no quote").again_in(5);

/// How many quotes are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuoteLimits {
    /// To all callers together.
    pub total: SourceLimit,
    /// To each address.
    pub each: SourceLimit,
}

/// Gives evidence of what runs here, and of the database's state.
#[derive(Debug)]
pub struct Witness {
    keeper: Arc<IdentityKeeper>,
    agent: GuestAgent,
    database: Database,
    latest: Mutex<Option<Latest>>,
    each: Sources,
    total: Sources,
    making: Semaphore,
}

/// What was last said to callers without a nonce, and when.
#[derive(Debug)]
struct Latest {
    at: Instant,
    answer: Result<Bytes, Problem>,
}

/// A caller's nonce, in lower-case hex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Nonce(pub(super) String);

/// Why there is no answer.
#[derive(Debug, Error)]
enum Silent {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error("the guest agent's quote: {0}")]
    Quote(#[from] Rejection),
    #[error("the guest agent has quoted something else than it was asked to")]
    NotBound,
    #[error("the answer has no JSON form: {0}")]
    Json(#[from] serde_json::Error),
    #[error("neither Postgres nor the guest agent has answered in time")]
    Late,
}

impl Witness {
    /// A witness for the application that `keeper` has the identity of, with quotes by `agent`.
    #[must_use]
    pub fn new(keeper: Arc<IdentityKeeper>, agent: GuestAgent, database: Database, limits: QuoteLimits) -> Self {
        let (each, total) = (Sources::new(limits.each), Sources::new(limits.total));
        let (latest, making) = (Mutex::default(), Semaphore::new(AT_A_TIME));
        Self { keeper, agent, database, latest, each, total, making }
    }

    /// An answer that is at most a second old. Whoever comes while it is made waits for it.
    pub(super) async fn latest(&self) -> Result<Bytes, Problem> {
        let mut latest = self.latest.lock().await;
        if let Some(Latest { at, answer }) = latest.as_ref()
            && at.elapsed() < KEPT
        {
            count("kept");
            return answer.clone();
        }
        let answer = self.make(None).await;
        *latest = Some(Latest { at: Instant::now(), answer: answer.clone() });
        answer
    }

    /// An answer that is made now.
    pub(super) async fn fresh(&self, caller: IpAddr, nonce: &Nonce) -> Result<Bytes, Problem> {
        if !self.each.admit(caller, Instant::now()) {
            count("limited");
            return Err(ITS_SHARE);
        }
        self.make(Some(nonce)).await
    }

    async fn make(&self, nonce: Option<&Nonce>) -> Result<Bytes, Problem> {
        let place = self.making.try_acquire().ok();
        let Some(_place) = place.filter(|_| self.total.admit(EVERYBODY, Instant::now())) else {
            count("limited");
            return Err(ALL_GIVEN);
        };
        let said = Box::pin(timeout(DEADLINE, self.say(nonce))).await.unwrap_or(Err(Silent::Late));
        count(if said.is_ok() { "quoted" } else { "failed" });
        said.map_err(|silent| {
            tracing::warn!(error = %silent, "no attestation");
            if matches!(silent, Silent::State(_)) { NO_DATABASE } else { NO_QUOTE }
        })
    }

    async fn say(&self, nonce: Option<&Nonce>) -> Result<Bytes, Silent> {
        let state = self.database.state().await?;
        let identity = self.keeper.current();
        let app = identity.app();
        let empty = || String::new();
        let mut answer = Answer {
            app_id: app.app_id.to_string(),
            compose_hash: app.compose_hash.to_string(),
            instance_id: app.instance_id.to_string(),
            quote: empty(),
            tcb_info: TcbInfo { mrtd: empty(), rtmr0: empty(), rtmr1: empty(), rtmr2: empty(), rtmr3: empty() },
            postgres_state: PostgresState {
                wal_lsn: state.wal_lsn,
                controldata_hash: state.controldata_hash,
                pg_version: state.pg_version,
            },
            timestamp: unix_now(),
            report_data: None,
            event_log: None,
            nonce: nonce.map(|nonce| nonce.0.clone()),
            tls_public_key: nonce.map(|_| hex::encode(identity.public_key())),
        };
        let report_data = answer.bound();
        let quoted = self.agent.quote(&report_data).await?;
        let measured = Measurements::of_quote(&quoted.quote)?;
        if measured.report_data != report_data {
            return Err(Silent::NotBound);
        }
        let [rtmr0, rtmr1, rtmr2, rtmr3] = measured.rtmr.map(|register| register.to_string());
        answer.tcb_info = TcbInfo { mrtd: measured.mrtd.to_string(), rtmr0, rtmr1, rtmr2, rtmr3 };
        answer.quote = hex::encode(&quoted.quote);
        answer.report_data = Some(hex::encode(report_data));
        answer.event_log = Some(EventLog(quoted.event_log.runtime_events().map(|(_, event)| event.clone()).collect()));
        Ok(serde_json::to_vec(&answer)?.into())
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("postern_sidecar_attestations_total", "outcome" => outcome).increment(1);
}
