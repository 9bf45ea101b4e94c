//! One node, as far as we ask it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{B256, U64};
use alloy::providers::{Provider as _, RootProvider};
use alloy::rpc::client::BatchRequest;
use alloy::rpc::types::{Filter, Header as RpcHeader, Log};
use alloy::transports::{TransportError, TransportErrorKind};
use postern_allowlist::Block;
use url::Url;

use crate::ask::BATCH;
use crate::complaints::Complaints;
use crate::touched::{Sources, Touched};
use crate::transport::{self, ConnectError, TooLong, timed_out};

/// How many addresses one query for logs may name; nodes refuse long lists.
const ADDRESSES_PER_QUERY: usize = 500;

/// For how long an endpoint that contradicted a quorum, or itself, is only heard where there is no quorum without it. It must
/// not be shut out altogether: a contract that anybody can write may give honest nodes reason to differ.
const EXCLUDED_FOR: Duration = Duration::from_secs(5 * 60);

/// Characters of a node's own message that are kept.
const MESSAGE_CHARS: usize = 200;

/// A block with its parent. Its hash is the one that we computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) block: Block,
    pub(crate) parent: [u8; 32],
    /// The root of the state behind the block, to which proofs lead.
    pub(crate) state_root: [u8; 32],
}

/// Why an endpoint gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("no answer in time")]
    TimedOut,
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    #[error("HTTP status {0}")]
    Status(u16),
    #[error("the answer is too long")]
    TooLong,
    #[error("refused the request: {0}")]
    Refused(String),
    #[error("the answer makes no sense: {0}")]
    Nonsense(String),
    #[error("the header it gave for block {0} does not have the hash that it claims")]
    ForgedHeader(u64),
    #[error("the proof it gave of {0} does not lead to the state root of the block")]
    ForgedProof(String),
    #[error("it is a node of chain {0}")]
    WrongChain(u64),
    #[error("it disagrees with the quorum about {0}")]
    Disagrees(String),
}

impl Fault {
    /// The word for metrics.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::TimedOut => "timed_out",
            Self::Unreachable(_) => "unreachable",
            Self::Status(_) => "http_status",
            Self::TooLong => "too_long",
            Self::Refused(_) => "refused",
            Self::Nonsense(_) => "nonsense",
            Self::ForgedHeader(_) => "forged_header",
            Self::ForgedProof(_) => "forged_proof",
            Self::WrongChain(_) => "wrong_chain",
            Self::Disagrees(_) => "disagrees",
        }
    }
}

impl From<TransportError> for Fault {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::ErrorResp(payload) => {
                let message: String = payload.message.chars().take(MESSAGE_CHARS).collect();
                Self::Refused(format!("{}: {message}", payload.code))
            }
            TransportError::Transport(TransportErrorKind::HttpError(error)) => match error.status {
                // It refuses to be asked, whatever the question.
                429 | 503 => Self::Unreachable(format!("HTTP status {}", error.status)),
                status => Self::Status(status),
            },
            TransportError::Transport(TransportErrorKind::Custom(error)) if error.is::<TooLong>() => Self::TooLong,
            TransportError::Transport(TransportErrorKind::Custom(error)) if timed_out(&*error) => Self::TimedOut,
            TransportError::Transport(error) => Self::Unreachable(causes(&error)),
            TransportError::DeserError { err, .. } => Self::Nonsense(err.to_string()),
            TransportError::NullResp => Self::Nonsense("it is empty".to_owned()),
            other @ (TransportError::UnsupportedFeature(_)
            | TransportError::LocalUsageError(_)
            | TransportError::SerError(_)) => Self::Nonsense(other.to_string()),
        }
    }
}

/// How an endpoint is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointStatus {
    /// Its host and port.
    pub name: String,
    /// Whether it answered when it was last asked for its head.
    pub answering: bool,
    /// How many requests it failed since the start.
    pub failures: u64,
    /// How often it contradicted a quorum, or itself, since the start.
    pub contradictions: u64,
    /// Whether it is only heard where there is no quorum without it, because it contradicted a short while ago.
    pub excluded: bool,
}

/// One configured endpoint.
#[derive(Debug)]
pub(crate) struct Endpoint {
    name: String,
    provider: RootProvider,
    deadline: Duration,
    complaints: Complaints,
    answering: AtomicBool,
    failures: AtomicU64,
    contradictions: AtomicU64,
    excluded_until: Mutex<Option<Instant>>,
}

impl Endpoint {
    pub(crate) fn new(url: &Url, deadline: Duration) -> Result<Self, ConnectError> {
        Ok(Self {
            name: transport::public_name(url),
            provider: transport::provider(url, deadline)?,
            deadline,
            complaints: Complaints::default(),
            answering: AtomicBool::new(false),
            failures: AtomicU64::new(0),
            contradictions: AtomicU64::new(0),
            excluded_until: Mutex::new(None),
        })
    }

    pub(crate) const fn provider(&self) -> &RootProvider {
        &self.provider
    }

    /// How long it has to answer a request.
    pub(crate) const fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(crate) fn status(&self) -> EndpointStatus {
        EndpointStatus {
            name: self.name.clone(),
            answering: self.answering.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            contradictions: self.contradictions.load(Ordering::Relaxed),
            excluded: self.is_excluded(Instant::now()),
        }
    }

    /// Whether it contradicted a short while ago.
    pub(crate) fn is_excluded(&self, now: Instant) -> bool {
        self.excluded_until().is_some_and(|until| now < until)
    }

    /// Leaves it out for a while, wherever there is a quorum without it.
    pub(crate) fn exclude(&self, now: Instant) {
        if !self.is_excluded(now) {
            tracing::warn!(endpoint = self.name, "chain endpoint excluded for contradicting the others");
        }
        *self.excluded_until() = Some(now + EXCLUDED_FOR);
        metrics::gauge!(crate::telemetry::ENDPOINT_EXCLUDED, "endpoint" => self.name.clone()).set(1.0);
    }

    /// Ends an exclusion whose time is over.
    pub(crate) fn forgive(&self, now: Instant) {
        let mut until = self.excluded_until();
        if until.take_if(|until| *until <= now).is_some() {
            metrics::gauge!(crate::telemetry::ENDPOINT_EXCLUDED, "endpoint" => self.name.clone()).set(0.0);
            tracing::info!(endpoint = self.name, "chain endpoint heard again");
        }
    }

    fn excluded_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.excluded_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The block that the node takes for the head.
    pub(crate) async fn head(&self) -> Result<Header, Fault> {
        self.numbered(BlockNumberOrTag::Latest).await?.ok_or_else(|| Fault::Nonsense("it has no head".to_owned()))
    }

    /// The block up to which the node takes the chain for safe, if there is one.
    pub(crate) async fn safe(&self) -> Result<Option<Header>, Fault> {
        self.numbered(BlockNumberOrTag::Safe).await
    }

    /// The block that the node has at a height, if it is there yet.
    pub(crate) async fn header_at(&self, number: u64) -> Result<Option<Header>, Fault> {
        self.numbered(BlockNumberOrTag::Number(number)).await
    }

    /// The block with a hash, if the node has it. No node can forge one.
    pub(crate) async fn header(&self, hash: [u8; 32]) -> Result<Option<Header>, Fault> {
        let request = self.provider.client().request("eth_getBlockByHash", (B256::from(hash), false));
        let Some(header) = self.within(async { request.await.map_err(Fault::from) }).await? else { return Ok(None) };
        let header = checked(&header)?;
        if header.block.hash == hash { Ok(Some(header)) } else { Err(Fault::ForgedHeader(header.block.number)) }
    }

    /// Whom the logs of some contracts concern in these blocks.
    ///
    /// Each block is asked for by its hash, so that a node that does not have it, or is on another branch, says so. Asked for a
    /// range of heights, one that lags behind its head tells of what it has, and of nothing missing.
    pub(crate) async fn touched(&self, blocks: &[Block], sources: &Sources<'_>) -> Result<Touched, Fault> {
        let addresses = sources.addresses();
        let filters: Vec<Filter> = blocks
            .iter()
            .flat_map(|block| addresses.chunks(ADDRESSES_PER_QUERY).map(move |some| (block, some)))
            .map(|(block, some)| Filter::new().address(some.to_vec()).at_block_hash(B256::from(block.hash)))
            .collect();
        let mut touched = Touched::default();
        for filters in filters.chunks(BATCH) {
            let logs = self.within(self.logs(filters)).await?;
            logs.iter().for_each(|log| touched.add(&log.inner, sources));
        }
        Ok(touched)
    }

    /// The logs that match any of these filters, in one request.
    async fn logs(&self, filters: &[Filter]) -> Result<Vec<Log>, Fault> {
        let mut batch = BatchRequest::new(self.provider.client());
        let waiters: Result<Vec<_>, _> =
            filters.iter().map(|filter| batch.add_call::<_, Vec<Log>>("eth_getLogs", &(filter,))).collect();
        let waiters = waiters?;
        batch.send().await?;
        let mut logs = Vec::new();
        for waiter in waiters {
            logs.extend(waiter.await?);
        }
        Ok(logs)
    }

    pub(crate) async fn chain_id(&self) -> Result<u64, Fault> {
        let request = self.provider.client().request_noparams::<U64>("eth_chainId");
        Ok(self.within(async { request.await.map_err(Fault::from) }).await?.to())
    }

    /// Gives a request until the deadline, and counts and reports what goes wrong with it.
    pub(crate) async fn within<T>(&self, request: impl Future<Output = Result<T, Fault>> + Send) -> Result<T, Fault> {
        let outcome = tokio::time::timeout(self.deadline, request).await.unwrap_or(Err(Fault::TimedOut));
        if let Err(fault) = &outcome {
            self.complain(fault);
        }
        outcome
    }

    /// Counts a fault, and logs it unless one of its kind was logged just now.
    pub(crate) fn complain(&self, fault: &Fault) {
        let contradiction = matches!(
            fault,
            Fault::ForgedHeader(_) | Fault::ForgedProof(_) | Fault::WrongChain(_) | Fault::Disagrees(_)
        );
        let counter = if contradiction { &self.contradictions } else { &self.failures };
        counter.fetch_add(1, Ordering::Relaxed);
        metrics::counter!(
            crate::telemetry::FAULTS, "endpoint" => self.name.clone(), "kind" => fault.label()
        )
        .increment(1);
        // A node computes no header and no proof wrongly. What it shows at a height it may only show late.
        if matches!(fault, Fault::ForgedHeader(_) | Fault::ForgedProof(_)) {
            self.exclude(Instant::now());
        }
        if self.complaints.should_log(fault.label(), Instant::now()) {
            tracing::warn!(endpoint = self.name, kind = fault.label(), "chain endpoint: {fault}");
        }
    }

    /// Notes whether the endpoint answered when asked for its head.
    pub(crate) fn note_answering(&self, answering: bool) {
        metrics::gauge!(crate::telemetry::ENDPOINT_UP, "endpoint" => self.name.clone()).set(if answering {
            1.0
        } else {
            0.0
        });
        if !self.answering.swap(answering, Ordering::Relaxed) && answering {
            self.complaints.forget();
            tracing::info!(endpoint = self.name, "chain endpoint answers");
        }
    }

    async fn numbered(&self, number: BlockNumberOrTag) -> Result<Option<Header>, Fault> {
        let request = self.provider.client().request::<_, Option<RpcHeader>>("eth_getBlockByNumber", (number, false));
        let header = self.within(async { request.await.map_err(Fault::from) }).await?;
        let header = header.map(|header| checked(&header)).transpose().inspect_err(|fault| self.complain(fault))?;
        match (header, number) {
            (Some(header), BlockNumberOrTag::Number(number)) if header.block.number != number => {
                Err(Fault::Nonsense("it is another block than was asked for".to_owned()))
            }
            _ => Ok(header),
        }
    }
}

/// Computes a header's hash, which must be the one that the node claims.
pub(crate) fn checked(header: &RpcHeader) -> Result<Header, Fault> {
    let hash = header.inner.hash_slow();
    let number = header.inner.number;
    if hash != header.hash {
        return Err(Fault::ForgedHeader(number));
    }
    let block = Block { number, hash: hash.0, timestamp: header.inner.timestamp };
    Ok(Header { block, parent: header.inner.parent_hash.0, state_root: header.inner.state_root.0 })
}

/// An error with all its causes, since the first one rarely says what happened.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
