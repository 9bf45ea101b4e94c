//! How the heads that we saw descend from each other.
//!
//! A header names its parent by hash, so that once a quorum agrees on a head, its ancestors can be taken from any single
//! node: it cannot forge them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use postern_allowlist::Block;

use crate::endpoint::{Endpoint, Header};

/// How many blocks may lie between two heads for their descent to be followed.
const LONGEST_STEP: u64 = 64;

/// The last blocks of the chain that we follow, without gaps.
#[derive(Debug, Default)]
pub(crate) struct Lineage {
    blocks: BTreeMap<u64, Header>,
}

/// An ancestor of a head could not be had.
#[derive(Debug, thiserror::Error)]
#[error("no endpoint shows an ancestor of block {0}")]
pub(crate) struct Untraceable(u64);

impl Lineage {
    /// Takes a head with its ancestors, as far as is needed to see whether it descends from `before` and to know the
    /// block `depth` below it. Returns whether it descends from `before`.
    pub(crate) async fn follow(
        &mut self,
        head: Header,
        before: Option<&Block>,
        depth: u64,
        nodes: &[Arc<Endpoint>],
    ) -> Result<bool, Untraceable> {
        let number = head.block.number;
        let furthest = number.saturating_sub(LONGEST_STEP.max(depth));
        let floor = before.map_or(number, |before| before.number).min(number.saturating_sub(depth)).max(furthest);
        let mut path = vec![head];
        let mut lowest = head;
        while lowest.block.number > floor && !self.has(lowest.block.number - 1, &lowest.parent) {
            lowest = parent(nodes, &lowest).await.ok_or(Untraceable(number))?;
            path.push(lowest);
        }
        self.adopt(&path, &lowest, depth);
        Ok(before.is_some_and(|before| before.number < number && self.has(before.number, &before.hash)))
    }

    /// The block at a height, if it is among the last ones.
    pub(crate) fn at(&self, number: u64) -> Option<&Header> {
        self.blocks.get(&number)
    }

    /// The blocks above one height up to another.
    pub(crate) fn between(&self, below: u64, last: u64) -> Vec<Block> {
        let blocks = self.blocks.range((Bound::Excluded(below), Bound::Included(last.max(below))));
        blocks.map(|(_, header)| header.block).collect()
    }

    fn has(&self, number: u64, hash: &[u8; 32]) -> bool {
        self.blocks.get(&number).is_some_and(|header| header.block.hash == *hash)
    }

    /// Puts a path of descendants in the place of what was known at their heights and above.
    fn adopt(&mut self, path: &[Header], lowest: &Header, depth: u64) {
        let connected = lowest.block.number.checked_sub(1).is_some_and(|below| self.has(below, &lowest.parent));
        if connected {
            self.blocks.split_off(&lowest.block.number);
        } else {
            self.blocks.clear();
        }
        self.blocks.extend(path.iter().map(|header| (header.block.number, *header)));
        while u64::try_from(self.blocks.len()).is_ok_and(|count| count > LONGEST_STEP.max(depth) + 1) {
            self.blocks.pop_first();
        }
    }
}

/// A block's parent, from whichever node gives it first.
async fn parent(nodes: &[Arc<Endpoint>], header: &Header) -> Option<Header> {
    let mut pending: FuturesUnordered<_> = nodes.iter().map(|node| node.header(header.parent)).collect();
    while let Some(answer) = pending.next().await {
        if let Ok(Some(parent)) = answer
            && parent.block.number.checked_add(1) == Some(header.block.number)
        {
            return Some(parent);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(number: u64, branch: u8, parent_branch: u8) -> Header {
        let hash = |number: u64, branch: u8| {
            let mut hash = [branch; 32];
            hash[..8].copy_from_slice(&number.to_be_bytes());
            hash
        };
        let block = Block { number, hash: hash(number, branch), timestamp: number };
        Header { block, parent: hash(number.wrapping_sub(1), parent_branch), state_root: [0; 32] }
    }

    async fn follow(lineage: &mut Lineage, head: Header, before: Option<Header>) -> Result<bool, Untraceable> {
        lineage.follow(head, before.map(|header| header.block).as_ref(), 0, &[]).await
    }

    #[tokio::test]
    async fn a_child_descends_without_asking_anybody() {
        let mut lineage = Lineage::default();
        assert!(!follow(&mut lineage, header(7, 0, 0), None).await.unwrap(), "the first head descends from nothing");
        for number in 8..200 {
            assert!(follow(&mut lineage, header(number, 0, 0), Some(header(number - 1, 0, 0))).await.unwrap());
        }
        assert_eq!(lineage.at(199), Some(&header(199, 0, 0)));
        assert_eq!(lineage.at(135), Some(&header(135, 0, 0)));
        assert_eq!(lineage.at(134), None, "it does not grow");
        assert_eq!(lineage.between(197, 199), [header(198, 0, 0).block, header(199, 0, 0).block]);
        assert_eq!(lineage.between(199, 199), []);
    }

    #[tokio::test]
    async fn a_sibling_does_not_descend_and_takes_its_place() {
        let mut lineage = Lineage::default();
        follow(&mut lineage, header(1, 0, 0), None).await.unwrap();
        for number in 2..=3 {
            follow(&mut lineage, header(number, 0, 0), Some(header(number - 1, 0, 0))).await.unwrap();
        }
        assert!(!follow(&mut lineage, header(3, 1, 0), Some(header(3, 0, 0))).await.unwrap());
        assert_eq!(lineage.at(3), Some(&header(3, 1, 0)));
        assert!(follow(&mut lineage, header(4, 1, 1), Some(header(3, 1, 0))).await.unwrap());
        assert!(!follow(&mut lineage, header(2, 2, 0), Some(header(4, 1, 1))).await.unwrap(), "nor does a lower head");
        assert_eq!(lineage.at(3), None);
    }

    #[tokio::test]
    async fn without_its_ancestors_a_head_is_not_taken() {
        let mut lineage = Lineage::default();
        follow(&mut lineage, header(1, 0, 0), None).await.unwrap();
        assert!(follow(&mut lineage, header(3, 0, 0), Some(header(1, 0, 0))).await.is_err());
        assert_eq!(lineage.at(1), Some(&header(1, 0, 0)));
    }
}
