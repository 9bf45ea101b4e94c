//! Datagrams that the socket had no room for.

use std::collections::VecDeque;

use super::Towards;
use crate::batch::Run;

/// Above this nothing new is made for the socket, in bytes.
const HIGH: usize = 256 * 1024;
/// Above this datagrams are dropped, in bytes: what was under way when the mark above was passed still fits.
const FULL: usize = 4 * 1024 * 1024;

/// A bounded queue in the order of sending.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    runs: VecDeque<Waiting>,
    size: usize,
}

#[derive(Debug)]
struct Waiting {
    to: Towards,
    bytes: Vec<u8>,
    stride: usize,
}

impl Backlog {
    /// Keeps datagrams; returns false, and keeps nothing, when there is no room.
    pub(super) fn push(&mut self, to: Towards, run: &Run<'_>) -> bool {
        if self.size + run.bytes.len() > FULL {
            return false;
        }
        self.size += run.bytes.len();
        self.runs.push_back(Waiting { to, bytes: run.bytes.to_vec(), stride: run.stride });
        true
    }

    /// What has waited longest.
    pub(super) fn first(&self) -> Option<(Towards, Run<'_>)> {
        self.runs.front().map(|run| (run.to, Run { bytes: &run.bytes, stride: run.stride }))
    }

    /// Forgets what has waited longest.
    pub(super) fn forget_first(&mut self) {
        self.size -= self.runs.pop_front().map_or(0, |run| run.bytes.len());
    }

    /// Whether enough waits already.
    pub(super) fn is_high(&self) -> bool {
        self.size >= HIGH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_order_and_its_bound() {
        let to = Towards { to: "127.0.0.1:1".parse().unwrap(), mark: postern_packets::congestion::Mark::Zero };
        let bytes = vec![1; 64 * 1024];
        let mut backlog = Backlog::default();
        let kept = (0..100).filter(|i| backlog.push(to, &Run { bytes: &bytes, stride: 1000 + i })).count();
        assert_eq!(kept, 64);
        assert!(backlog.is_high());
        for i in 0..kept {
            assert_eq!(backlog.first().map(|(_, run)| run.stride), Some(1000 + i));
            backlog.forget_first();
        }
        assert!(backlog.first().is_none() && !backlog.is_high());
        backlog.forget_first();
        assert!(backlog.push(to, &Run { bytes: &bytes, stride: 1 }));
    }
}
