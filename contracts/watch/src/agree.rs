//! Which block a quorum of endpoints takes for the head.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use postern_allowlist::{Block, quorum};
use postern_plumbing::tasks::Task;

use crate::endpoint::{Endpoint, Fault, Header};

/// How long is waited for endpoints that claim to be higher and do not say at once what is below. One that boasts could hold
/// everything up; one that is only slow has soon reported the block itself.
const PATIENCE: Duration = Duration::from_millis(300);

/// A head, and the endpoints that show it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AgreedHead {
    pub(crate) header: Header,
    /// By position among the endpoints.
    pub(crate) agreeing: Vec<usize>,
}

/// Finds the highest block that `quorum` endpoints agree on, given what each of them last reported as its head. Those that
/// contradicted a short while ago are only heard where the others are no quorum.
pub(crate) async fn head(endpoints: &[Arc<Endpoint>], reports: &[Option<Header>], quorum: usize) -> Option<AgreedHead> {
    let now = Instant::now();
    endpoints.iter().for_each(|endpoint| endpoint.forgive(now));
    let trusted: Vec<Option<Header>> =
        endpoints.iter().zip(reports).map(|(endpoint, report)| report.filter(|_| !endpoint.is_excluded(now))).collect();
    match highest(endpoints, &trusted, quorum).await {
        None if trusted != reports => highest(endpoints, reports, quorum).await,
        found => found,
    }
}

async fn highest(endpoints: &[Arc<Endpoint>], reports: &[Option<Header>], quorum: usize) -> Option<AgreedHead> {
    let reached: Vec<u64> = reports.iter().flatten().map(|header| header.block.number).collect();
    for height in quorum::heights(&reached, quorum) {
        let votes = votes(endpoints, reports, height, quorum).await;
        if let Some(agreement) = quorum::agreed(&votes, quorum) {
            for endpoint in agreement.dissenting.iter().filter_map(|&position| endpoints.get(position)) {
                complain(endpoint, height);
            }
            return Some(AgreedHead { header: *agreement.value, agreeing: agreement.agreeing });
        }
    }
    None
}

/// What the endpoints show at a height, once a quorum of them agrees or all that answer in time have. The others are heard to
/// the end, so that one that shows another block is found out, but nobody waits for them.
async fn votes(
    endpoints: &[Arc<Endpoint>],
    reports: &[Option<Header>],
    height: u64,
    quorum: usize,
) -> Vec<Option<Header>> {
    let reached = |report: &&Header| report.block.number == height;
    let mut votes: Vec<Option<Header>> =
        reports.iter().map(|report| report.as_ref().filter(reached).copied()).collect();
    // Whoever is higher has to be asked.
    let higher = endpoints.iter().zip(reports).enumerate().filter(|(_, (_, report))| is_above(report, height));
    let mut pending: FuturesUnordered<_> = higher
        .map(|(position, (endpoint, _))| {
            let endpoint = Arc::clone(endpoint);
            async move { (position, endpoint.header_at(height).await.ok().flatten(), endpoint) }
        })
        .collect();
    let heard = async {
        while quorum::agreed(&votes, quorum).is_none()
            && let Some((position, vote, _)) = pending.next().await
        {
            if let Some(slot) = votes.get_mut(position) {
                *slot = vote;
            }
        }
    };
    // What was heard until then is what counts.
    let _in_time: Result<(), _> = tokio::time::timeout(PATIENCE, heard).await;
    if let Some(agreed) = quorum::agreed(&votes, quorum).map(|agreement| *agreement.value)
        && !pending.is_empty()
    {
        Task::spawn("chain-dissent", async move {
            while let Some((_, vote, endpoint)) = pending.next().await {
                if vote.is_some_and(|vote| vote != agreed) {
                    complain(&endpoint, height);
                }
            }
        })
        .detach();
    }
    votes
}

fn is_above(report: &Option<Header>, height: u64) -> bool {
    report.as_ref().is_some_and(|report| report.block.number > height)
}

fn complain(endpoint: &Endpoint, height: u64) {
    endpoint.complain(&Fault::Disagrees(format!("the block at height {height}")));
}

/// Whether any endpoint that answers still has `block` in its chain. If so, a lower head is only somebody's delay.
pub(crate) async fn anyone_still_has(endpoints: &[Arc<Endpoint>], reports: &[Option<Header>], block: &Block) -> bool {
    let seen =
        join_all(endpoints.iter().zip(reports).map(|(endpoint, report)| at(endpoint, report, block.number))).await;
    seen.iter().flatten().any(|header| header.block.hash == block.hash)
}

/// The block at a height in the chain of an endpoint that has reported a head, if it is that long.
async fn at(endpoint: &Endpoint, report: &Option<Header>, height: u64) -> Option<Header> {
    let head = report.as_ref().filter(|head| head.block.number >= height)?;
    if head.block.number == height { Some(*head) } else { endpoint.header_at(height).await.ok().flatten() }
}
