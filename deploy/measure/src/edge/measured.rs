//! What was found: for everybody and everything, one turn a round.

use std::collections::BTreeMap;

use super::network::Underlay;
use super::peers::Peer;
use super::turn::{Turn, Work};

/// What is done over what: the name of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    pub(super) work: Work,
    pub(super) underlay: Underlay,
}

/// The four turns that make up what is called bulk.
pub(super) const BULK: [Work; 4] = [Work::Down(1), Work::Up(1), Work::Down(8), Work::Up(8)];

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Measured {
    turns: BTreeMap<(Peer, Kind), Vec<Option<Turn>>>,
    /// Memory with idle connections, in bytes: of the proxy, and of the tunnel.
    pub(super) idle: BTreeMap<Peer, (f64, f64)>,
    /// What others took of the machine's processors in each round, in percent.
    pub(super) others: Vec<f64>,
    /// What went wrong.
    pub(super) troubles: Vec<String>,
}

/// Some turns of a round, together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sum {
    gbps: f64,
    gib: f64,
    seconds: f64,
}

impl Sum {
    /// The mean of the turns' gigabits a second, as a multiple of somebody else's.
    pub(super) fn over(self, other: Self) -> f64 {
        self.gbps / other.gbps
    }

    /// CPU seconds of the edge for each GiB.
    pub(super) fn per_gib(self) -> f64 {
        self.seconds / self.gib
    }
}

impl Measured {
    /// Notes a turn of the next round; none if it could not be had.
    pub(super) fn push(&mut self, peer: Peer, kind: Kind, turn: Option<Turn>) {
        self.turns.entry((peer, kind)).or_default().push(turn);
    }

    /// The turns of all rounds; none where one could not be had.
    pub(super) fn rounds(&self, peer: Peer, kind: Kind) -> &[Option<Turn>] {
        self.turns.get(&(peer, kind)).map_or(&[], Vec::as_slice)
    }

    /// A value of each turn that could be had.
    pub(super) fn values(&self, peer: Peer, kind: Kind, value: impl Fn(&Turn) -> f64) -> Vec<f64> {
        self.rounds(peer, kind).iter().flatten().map(value).collect()
    }

    /// One peer's value over another's of the same round.
    pub(super) fn ratios(&self, ours: Peer, theirs: Peer, kind: Kind, value: impl Fn(&Turn) -> f64) -> Vec<f64> {
        let both = self.rounds(ours, kind).iter().zip(self.rounds(theirs, kind));
        both.filter_map(|(ours, theirs)| Some(value(ours.as_ref()?) / value(theirs.as_ref()?))).collect()
    }

    /// A peer's value in the second of two kinds of turns over that in the first, of the same round.
    pub(super) fn changes(&self, peer: Peer, [before, after]: [Kind; 2], value: impl Fn(&Turn) -> f64) -> Vec<f64> {
        let both = self.rounds(peer, after).iter().zip(self.rounds(peer, before));
        both.filter_map(|(after, before)| Some(value(after.as_ref()?) / value(before.as_ref()?))).collect()
    }

    /// Some kinds of work taken together, for each round; none where a turn is missing.
    pub(super) fn sums(&self, peer: Peer, underlay: Underlay, works: &[Work]) -> Vec<Option<Sum>> {
        let of = |work: &Work| self.rounds(peer, Kind { work: *work, underlay });
        let rounds = works.iter().map(|work| of(work).len()).min().unwrap_or(0);
        let sum = |round: usize| {
            let mut sum = Sum::default();
            for work in works {
                let turn = of(work).get(round).copied().flatten()?;
                sum.gbps += turn.gbps();
                sum.gib += turn.gib();
                sum.seconds += turn.spent.seconds();
            }
            Some(sum)
        };
        (0..rounds).map(sum).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::usage::Spent;
    use super::*;
    use crate::process::Times;

    const CABLE: Underlay = Underlay::Cable;

    fn turn(gib: f64, cpu: u64) -> Turn {
        let proxy = Times { user: Duration::from_secs(cpu), system: Duration::ZERO };
        let spent = Spent { proxy, ..Spent::default() };
        Turn { seconds: 1.0, bytes: gib * f64::from(1 << 30), spent, ..Turn::default() }
    }

    #[test]
    fn what_is_compared_is_of_the_same_round() {
        let mut measured = Measured::default();
        let kind = Kind { work: Work::Down(1), underlay: CABLE };
        for (ours, theirs) in [(Some(3.0), Some(1.0)), (None, Some(9.0)), (Some(4.0), Some(2.0))] {
            measured.push(Peer::Gateway, kind, ours.map(|gib| turn(gib, 1)));
            measured.push(Peer::Haproxy, kind, theirs.map(|gib| turn(gib, 1)));
        }
        assert_eq!(measured.ratios(Peer::Gateway, Peer::Haproxy, kind, Turn::gbps), [3.0, 2.0]);
        assert_eq!(measured.values(Peer::Gateway, kind, Turn::gib), [3.0, 4.0]);
        assert!(measured.ratios(Peer::Gateway, Peer::Nginx, kind, Turn::gbps).is_empty());
    }

    #[test]
    fn a_round_without_one_of_its_turns_has_no_sum() {
        let (mut measured, works) = (Measured::default(), [Work::Down(1), Work::Up(1)]);
        for (round, work) in [(1, works[0]), (1, works[1]), (2, works[0]), (2, works[1])] {
            let had = (round, work) != (2, works[1]);
            measured.push(Peer::Gateway, Kind { work, underlay: CABLE }, had.then(|| turn(2.0, 3)));
        }
        let sums = measured.sums(Peer::Gateway, CABLE, &works);
        assert_eq!(sums.iter().map(|sum| sum.map(Sum::per_gib)).collect::<Vec<_>>(), [Some(1.5), None]);
        assert!(measured.sums(Peer::Gateway, Underlay::Lossy, &works).is_empty());
    }
}
