//! What every edge made of the same work, side by side.

use std::collections::BTreeMap;
use std::fmt;

use super::edge::{Edge, Front};
use crate::Datapath;
use crate::compare::Number;
use crate::result::{PartKind, RunResult};

/// What is told of every edge, with which of our own the others are compared.
const NUMBERS: [(&str, Number); 8] = [
    ("requests a second", Number::Rate),
    ("p50", Number::P50),
    ("p99", Number::P99),
    ("p99 of new sessions", Number::ConnectP99),
    ("failed", Number::Failed),
    ("Jain's index", Number::Jain),
    ("CPU of the edge per 1,000 requests", Number::Cpu(PartKind::Edge)),
    ("memory of the edge", Number::Memory(PartKind::Edge)),
];

/// What scripts are told.
const RATIOS: [(&str, Number); 3] =
    [("qps", Number::Rate), ("p99", Number::P99), ("edge_cpu", Number::Cpu(PartKind::Edge))];

/// The results of all rounds, by edge.
#[derive(Debug, Default)]
pub(crate) struct Table {
    results: BTreeMap<Edge, Vec<RunResult>>,
    /// Edges that could not be had, and why.
    missing: Vec<(Edge, String)>,
    /// How packets of the tunnels became connections.
    datapath: Datapath,
}

impl Table {
    /// Without a round.
    pub(crate) fn new(datapath: Datapath, missing: Vec<(Edge, String)>) -> Self {
        Self { results: BTreeMap::new(), missing, datapath }
    }

    /// Adds what a round measured.
    pub(crate) fn add(&mut self, edge: Edge, result: RunResult) {
        self.results.entry(edge).or_default().push(result);
    }

    /// The median over an edge's rounds; `None` where there is no such number.
    fn median(&self, edge: Edge, number: &Number) -> Option<f64> {
        let rounds = self.results.get(&edge)?;
        crate::compare::median(rounds.iter().filter_map(|round| number.of(round)).collect())
    }

    /// Our number over a peer's, round by round, and the middle of that: what disturbed a round disturbed both.
    fn ratio(&self, peer: Edge, number: &Number) -> Option<f64> {
        let (ours, theirs) = (self.results.get(&Edge::Gateway)?, self.results.get(&peer)?);
        let of = |(ours, theirs): (&RunResult, &RunResult)| Some(number.of(ours)? / number.of(theirs)?);
        let ratios = ours.iter().zip(theirs).filter_map(of).filter(|ratio: &f64| ratio.is_finite());
        crate::compare::median(ratios.collect())
    }

    /// Our numbers over those of each peer, as lines for scripts.
    pub(crate) fn figures(&self) -> String {
        let peers = self.results.keys().filter(|&&edge| edge != Edge::Gateway);
        let lines = peers.flat_map(|&peer| {
            RATIOS.iter().filter_map(move |(name, number)| {
                let ratio = self.ratio(peer, number)?;
                Some(format!("figure load_{name}_vs_{}_ratio {ratio:.3}\n", peer.name()))
            })
        });
        lines.collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let edges: Vec<Edge> = self.results.keys().copied().collect();
        let peers: Vec<Edge> = edges.iter().copied().filter(|&edge| edge != Edge::Gateway).collect();
        write!(f, "| |")?;
        edges.iter().try_for_each(|edge| write!(f, " {} |", edge.name()))?;
        peers.iter().try_for_each(|peer| write!(f, " gateway / {} |", peer.name()))?;
        write!(f, "\n|---|")?;
        (0..edges.len() + peers.len()).try_for_each(|_| write!(f, "---:|"))?;
        writeln!(f)?;
        for (what, number) in &NUMBERS {
            let value = |edge: &Edge| self.median(*edge, number);
            if edges.iter().all(|edge| value(edge).is_none()) {
                continue;
            }
            write!(f, "| {what} |")?;
            for edge in &edges {
                write!(f, " {} |", value(edge).map(|value| number.words(value)).unwrap_or_default())?;
            }
            for peer in &peers {
                write!(f, " {} |", self.ratio(*peer, number).map(|ratio| format!("{ratio:.2}")).unwrap_or_default())?;
            }
            writeln!(f)?;
        }
        writeln!(f)?;
        for (edge, why) in &self.missing {
            writeln!(f, "- {} is left out: {why}", edge.name())?;
        }
        for peer in peers {
            writeln!(f, "- What {} does not do, and the gateway does:", peer.name())?;
            let front = Front { edge: peer, datapath: self.datapath };
            front.lacks().iter().try_for_each(|lack| writeln!(f, "  - {lack}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    fn round(factor: u64) -> RunResult {
        let mut result = example::result();
        result.total.latency.p99_us = 1_000 * factor;
        result
    }

    #[test]
    fn ratios_are_taken_within_rounds() {
        let mut table = Table::default();
        // The second round was disturbed, for all alike.
        for (gateway, haproxy) in [(4, 2), (40, 20), (4, 2)] {
            table.add(Edge::Gateway, round(gateway));
            table.add(Edge::Haproxy, round(haproxy));
        }
        table.missing.push((Edge::Nginx, "it is not installed".to_owned()));
        let text = table.to_string();
        assert!(text.starts_with("| | gateway | haproxy | gateway / haproxy |\n|---|---:|---:|---:|\n"), "{text}");
        assert!(text.contains("| p99 | 4.0 ms | 2.0 ms | 2.00 |"), "{text}");
        assert!(table.figures().contains("figure load_p99_vs_haproxy_ratio 2.000\n"), "{}", table.figures());
        assert!(text.contains("- nginx is left out: it is not installed"));
        assert!(text.contains("- What haproxy does not do") && text.contains("cancel requests in clear"));
    }

    #[test]
    fn an_edge_without_a_process_has_no_cost() {
        let mut direct = example::result();
        direct.parts.retain(|part| part.kind != PartKind::Edge);
        let mut table = Table::default();
        table.add(Edge::Gateway, example::result());
        table.add(Edge::Direct, direct);
        let text = table.to_string();
        assert!(text.contains("| CPU of the edge per 1,000 requests | 125 ms |  |  |"), "{text}");
    }
}
