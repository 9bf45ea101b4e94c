//! Which block a quorum of endpoints takes for the head.

use std::sync::Arc;

use futures_util::future::join_all;
use postern_allowlist::{Block, quorum};

use crate::endpoint::{Endpoint, Fault, Header};

/// A head, and the endpoints that show it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AgreedHead {
    pub(crate) header: Header,
    /// By position among the endpoints.
    pub(crate) agreeing: Vec<usize>,
}

/// Finds the highest block that `quorum` endpoints agree on, given what each of them last reported as its head.
pub(crate) async fn head(endpoints: &[Arc<Endpoint>], reports: &[Option<Header>], quorum: usize) -> Option<AgreedHead> {
    let reached: Vec<u64> = reports.iter().flatten().map(|header| header.block.number).collect();
    for height in quorum::heights(&reached, quorum) {
        let votes =
            join_all(endpoints.iter().zip(reports).map(|(endpoint, report)| at(endpoint, report, height))).await;
        if let Some(agreement) = quorum::agreed(&votes, quorum) {
            for &position in &agreement.dissenting {
                if let Some(endpoint) = endpoints.get(position) {
                    endpoint.complain(&Fault::Disagrees(format!("the block at height {height}")));
                }
            }
            return Some(AgreedHead { header: *agreement.value, agreeing: agreement.agreeing });
        }
    }
    None
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
