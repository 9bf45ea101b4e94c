//! The rounds as tables.

use std::fmt;
use std::time::Duration;

use super::impairment::{DELAY, LOSS, RATE};
use super::measured::{BULK, Kind, Measured, Sum};
use super::network::Underlay;
use super::peers::Peer;
use super::turn::{CLIENTS, Turn, Work};
use super::{IDLE, Plan, SLOW};
use crate::report::{Report, Row, Table};
use crate::spread::{Spread, micros};

const CONNECT: Kind = Kind { work: Work::Connect, underlay: Underlay::Cable };
const REQUEST: Kind = Kind { work: Work::Request, underlay: Underlay::Cable };
const UNHINDERED: Kind = Kind { work: Work::Amid(0), underlay: Underlay::Cable };
const ALONE: Kind = Kind { work: Work::Beside(0), underlay: Underlay::Cable };
const BESIDE: Kind = Kind { work: Work::Beside(IDLE), underlay: Underlay::Cable };
const HINDERED: Kind = Kind { work: Work::Amid(SLOW), underlay: Underlay::Cable };
/// Bytes of a MiB.
const MIB: f64 = 1_048_576.0;

/// Everybody's values, and then what has a bar.
pub(crate) struct Outcome {
    tables: [Table; 5],
    report: Report,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for table in self.tables.iter().filter(|table| !table.rows.is_empty()) {
            writeln!(f, "{table}")?;
        }
        write!(f, "{}", self.report)
    }
}

/// Puts the rounds into tables. `remarks` go below them.
pub(super) fn report(plan: &Plan, peers: &[Peer], measured: &Measured, remarks: &[String]) -> Outcome {
    let mut notes = notes(plan);
    notes.extend(remarks.iter().chain(&measured.troubles).cloned());
    let (bulk, small) = (bulk(peers, measured), small(peers, measured));
    let tables = [bulk, small, slow(measured), beside(measured), lossy(plan, peers, measured)];
    Outcome { tables, report: Report { rows: rows(plan, measured), notes } }
}

/// What has a bar.
fn rows(plan: &Plan, measured: &Measured) -> Vec<Row> {
    let mut rows = Vec::from(bulk_rows(measured));
    rows.extend(small_rows(plan, measured));
    rows.extend(other_rows(plan, measured));
    rows.push(Row {
        what: "meanwhile, other programs on this machine, % of its CPUs",
        rounds: Spread::of(&measured.others),
        ..Row::default()
    });
    rows
}

/// One thing that has a bar.
fn row(what: &'static str, rounds: &[f64], decimals: usize, bar: f64, figure: &'static str) -> Row {
    Row { what, rounds: Spread::of(rounds), decimals, bar: Some(bar), figure: Some(figure) }
}

/// Bytes through the tunnel.
fn bulk_rows(measured: &Measured) -> [Row; 4] {
    let over = |theirs| faster(measured, Peer::Gateway, theirs);
    let cable = per_gib(measured, Underlay::Cable);
    let split = per_gib(measured, Underlay::Splitting);
    [
        row("bulk, over HAProxy and wireguard-go", &over(Peer::HaproxyWireguardGo), 2, 1.5, "edge_bulk_over_wggo"),
        row("bulk, over HAProxy and boringtun-cli", &over(Peer::HaproxyBoringtun), 2, 6.0, "edge_bulk_over_boringtun"),
        row("CPU-s per GiB", &cable, 2, 1.5, "edge_cpu_s_per_gib"),
        row("CPU-s per GiB, datagrams split before the cable", &split, 2, 2.4, "edge_cpu_s_per_gib_nouso"),
    ]
}

/// Connections and requests through the tunnel, and memory.
fn small_rows(plan: &Plan, measured: &Measured) -> [Row; 5] {
    let ours = Peer::Gateway;
    let connections = measured.ratios(ours, Peer::HaproxyBoringtun, CONNECT, Turn::rate);
    let cpu = measured.values(ours, CONNECT, |turn| turn.spent.seconds() * 1e4 / turn.count);
    let p99 = |turn: &Turn| micros(turn.p99);
    let requests = measured.values(ours, REQUEST, p99);
    let over_haproxy = measured.ratios(ours, Peer::HaproxyPostern, REQUEST, p99);
    // The bar is one for so many; of others the table has what they take.
    let idle = measured.idle.get(&ours).filter(|_| plan.idle == IDLE);
    let idle: Vec<f64> = idle.map(|(memory, _)| memory / MIB).into_iter().collect();
    [
        row("new connections, over HAProxy and boringtun-cli", &connections, 2, 1.2, "edge_conn_over_boringtun"),
        row("CPU-s per 10,000 connections", &cpu, 2, 1.8, "edge_cpu_s_per_10k"),
        row("request, p99 µs", &requests, 0, 3_000.0, "edge_rr_p99_us"),
        row("request, p99, over HAProxy's on the same tunnel", &over_haproxy, 2, 1.0, "edge_rr_p99_over_haproxy"),
        row("memory with 5,000 idle connections, MiB", &idle, 1, 32.0, "edge_idle5k_mib"),
    ]
}

/// Amid slow clients, beside idle connections, without a tunnel, and on a lossy way.
fn other_rows(plan: &Plan, measured: &Measured) -> [Row; 5] {
    let bulk = faster(measured, Peer::Passthrough, Peer::Haproxy);
    let connections = measured.ratios(Peer::Passthrough, Peer::Haproxy, CONNECT, Turn::rate);
    let slow = measured.changes(Peer::Gateway, [UNHINDERED, HINDERED], |turn| micros(turn.p99));
    let beside = measured.changes(Peer::GatewayNetstack, [ALONE, BESIDE], cost);
    let lossy = measured.ratios(Peer::Gateway, Peer::Haproxy, on_a_lossy_way(plan), Turn::gbps);
    [
        row("request, p99, with slow clients in all other places", &slow, 2, 1.2, "edge_loris_p99_ratio"),
        row(
            "CPU-s per GiB without an interface, beside 5,000 idle, over alone",
            &beside,
            2,
            1.1,
            "edge_netstack_idle5k_over_none",
        ),
        row("bulk without tunnel, over HAProxy", &bulk, 2, 1.0, "edge_plain_bulk_over_haproxy"),
        row("new connections without tunnel, over HAProxy", &connections, 2, 1.0, "edge_plain_conn_over_haproxy"),
        row("bulk on a lossy way, over plain TCP through HAProxy", &lossy, 2, 0.95, "edge_lossy_over_tcp"),
    ]
}

/// How much faster one moves bytes than another, all four ways together.
fn faster(measured: &Measured, ours: Peer, theirs: Peer) -> Vec<f64> {
    let sums = |peer| measured.sums(peer, Underlay::Cable, &BULK);
    let both = sums(ours).into_iter().zip(sums(theirs));
    both.filter_map(|(ours, theirs)| Some(ours?.over(theirs?))).collect()
}

/// What a GiB costs the gateway, all four ways together.
fn per_gib(measured: &Measured, underlay: Underlay) -> Vec<f64> {
    measured.sums(Peer::Gateway, underlay, &BULK).into_iter().flatten().map(Sum::per_gib).collect()
}

/// Bytes in bulk.
fn bulk(peers: &[Peer], measured: &Measured) -> Table {
    let head = vec![
        "bulk",
        "down 1, Gb/s",
        "up 1",
        "down 8",
        "up 8",
        "CPU-s/GiB down: proxy + tunnel",
        "up: proxy + tunnel",
        "of it in the kernel, down",
        "up",
    ];
    let mut table = Table { head, rows: Vec::new() };
    for underlay in [Underlay::Cable, Underlay::Splitting] {
        for peer in peers {
            let values = |work, value: &dyn Fn(&Turn) -> f64| measured.values(*peer, Kind { work, underlay }, value);
            if values(BULK[0], &Turn::gbps).is_empty() {
                continue;
            }
            let split = if underlay == Underlay::Splitting { ", split before the cable" } else { "" };
            let mut row = vec![format!("{peer}{split}")];
            row.extend(BULK.map(|work| cell(&values(work, &Turn::gbps), 2)));
            for work in [Work::Down(1), Work::Up(1)] {
                let proxy = values(work, &|turn| turn.spent.proxy.all().as_secs_f64() / turn.gib());
                let tunnel = values(work, &|turn| turn.spent.tunnel.all().as_secs_f64() / turn.gib());
                row.push(format!("{} + {}", cell(&proxy, 2), cell(&tunnel, 2)));
            }
            for work in [Work::Down(1), Work::Up(1)] {
                row.push(cell(&values(work, &|turn| turn.spent.system() / turn.gib()), 2));
            }
            table.rows.push(row);
        }
    }
    table
}

/// Everything small, and memory.
fn small(peers: &[Peer], measured: &Measured) -> Table {
    let head = vec![
        "small",
        "new connections/s",
        "p50 ms",
        "p99 ms",
        "CPU-s per 10,000: proxy + tunnel",
        "requests/s",
        "p50 µs",
        "p99 µs",
        "CPU µs per request",
        "MiB with idle connections: proxy + tunnel",
    ];
    let row = |peer: &Peer| {
        let connect = |value: &dyn Fn(&Turn) -> f64, decimals| cell(&measured.values(*peer, CONNECT, value), decimals);
        let request = |value: &dyn Fn(&Turn) -> f64, decimals| cell(&measured.values(*peer, REQUEST, value), decimals);
        let proxy = connect(&|turn| turn.spent.proxy.all().as_secs_f64() * 1e4 / turn.count, 2);
        let tunnel = connect(&|turn| turn.spent.tunnel.all().as_secs_f64() * 1e4 / turn.count, 2);
        let idle = measured.idle.get(peer).map(|(proxy, tunnel)| format!("{:.1} + {:.1}", proxy / MIB, tunnel / MIB));
        vec![
            peer.to_string(),
            connect(&Turn::rate, 0),
            connect(&|turn| micros(turn.p50) / 1e3, 1),
            connect(&|turn| micros(turn.p99) / 1e3, 1),
            format!("{proxy} + {tunnel}"),
            request(&Turn::rate, 0),
            request(&|turn| micros(turn.p50), 0),
            request(&|turn| micros(turn.p99), 0),
            request(&|turn| turn.spent.seconds() * 1e6 / turn.count, 1),
            idle.unwrap_or_default(),
        ]
    };
    let rows = peers.iter().map(row).filter(|row| row.iter().skip(1).any(|cell| cell.chars().any(char::is_numeric)));
    Table { head, rows: rows.collect() }
}

/// The gateway's answers, without and with slow clients.
fn slow(measured: &Measured) -> Table {
    let row = |(what, kind): (&str, Kind)| {
        let of = |value: &dyn Fn(&Turn) -> f64| measured.values(Peer::Gateway, kind, value);
        let micros_of = |part: &dyn Fn(&Turn) -> Duration| cell(&of(&|turn| micros(part(turn))), 0);
        let (p50, p99) = (micros_of(&|turn| turn.p50), micros_of(&|turn| turn.p99));
        (!p99.is_empty()).then(|| vec![what.to_owned(), cell(&of(&Turn::rate), 0), p50, p99])
    };
    let kinds = [("the gateway", UNHINDERED), ("the gateway, all other places held", HINDERED)];
    let head = vec!["amid slow clients", "requests/s", "p50 µs", "p99 µs"];
    Table { head, rows: kinds.into_iter().filter_map(row).collect() }
}

/// What one busy connection costs where TCP is in the process, without idle connections and with them.
fn beside(measured: &Measured) -> Table {
    let row = |(what, kind): (&str, Kind)| {
        let of = |value: &dyn Fn(&Turn) -> f64| measured.values(Peer::GatewayNetstack, kind, value);
        let costs = cell(&of(&cost), 2);
        (!costs.is_empty()).then(|| vec![what.to_owned(), cell(&of(&Turn::gbps), 2), costs])
    };
    let kinds = [("the gateway without an interface", ALONE), ("the same, beside 5,000 idle connections", BESIDE)];
    let head = vec!["one busy connection", "down, Gb/s", "CPU-s/GiB"];
    Table { head, rows: kinds.into_iter().filter_map(row).collect() }
}

/// CPU seconds of a GiB.
fn cost(turn: &Turn) -> f64 {
    turn.spent.seconds() / turn.gib()
}

/// Bytes on a lossy way.
fn lossy(plan: &Plan, peers: &[Peer], measured: &Measured) -> Table {
    let row = |peer: &Peer| {
        let rounds = measured.values(*peer, on_a_lossy_way(plan), Turn::gbps);
        (!rounds.is_empty()).then(|| vec![peer.to_string(), cell(&rounds, 3)])
    };
    Table { head: vec!["on a lossy way", "Gb/s"], rows: peers.iter().filter_map(row).collect() }
}

fn on_a_lossy_way(plan: &Plan) -> Kind {
    Kind { work: Work::Down(plan.lossy_connections), underlay: Underlay::Lossy }
}

/// The median, and between what the rounds lie.
fn cell(rounds: &[f64], decimals: usize) -> String {
    match Spread::of(rounds) {
        Some(Spread { median, lowest, highest }) if rounds.len() > 1 => {
            format!("{median:.decimals$} ({lowest:.decimals$}-{highest:.decimals$})")
        }
        Some(Spread { median, .. }) => format!("{median:.decimals$}"),
        None => String::new(),
    }
}

fn notes(plan: &Plan) -> Vec<String> {
    let Plan { rounds, idle, warm_up, turn, lossy_turn, lossy_connections, .. } = plan;
    vec![
        format!(
            "{rounds} rounds, in each of which everybody takes a turn with everything, in changing order: {warm_up:?} that are \
             not looked at, and {turn:?} that are. Ratios are of the same round. Client, edge and CVM are network namespaces \
             of this machine and share its processors, so that Gb/s are those of the whole path; CPU time is the edge's alone."
        ),
        "Everybody chooses by the server name of a TLS 1.3 handshake between the same client and server (rustls, P-256, \
         X25519MLKEM768, no tickets), and puts a PROXY header before it. Bulk is the mean of down and up by 1 and 8 connections."
            .to_owned(),
        "CPU time is what the kernel counts for the edge's processes, system calls and the network's work at their end \
         included; that of the kernel's own threads is nobody's. The gateway's tunnel are its threads of that name."
            .to_owned(),
        format!(
            "{CLIENTS} clients connect anew for each request, or ask on by one connection each, as fast as they can. Memory is \
             resident, with {idle} connections that have asked once; what the kernel holds for sockets is not part of it."
        ),
        format!(
            "Slow clients: {SLOW}, of many networks, begin a ClientHello, send a byte of it a second, and come again when the \
             gateway lets them go, which it does after the 5 s that an opening may take. They hold all places that those who \
             ask have left, and the turns without and with them follow each other."
        ),
        format!(
            "Without an interface: a gateway of its own whose tunnel is the netstack datapath, towards an instance that has an \
             interface. One connection downloads, alone and then beside {IDLE} that have asked once; the two turns follow each \
             other."
        ),
        "Without tunnel, the gateway's relay runs in a program of the benchmark's own, which accepts, reads the name and \
         relays with the gateway's code; the gateway itself serves nobody without a tunnel."
            .to_owned(),
        "Split before the cable: the cable does not take UDP datagrams joined (tx-udp-segmentation off), as most cards do not."
            .to_owned(),
        format!(
            "Lossy: a link of {} Mb/s between edge and CVM, in a stage of the benchmark's own, on which {} % of packets are lost \
             and all are {DELAY:?} late, each way; {lossy_connections} connections, {lossy_turn:?}, downwards. Plain TCP comes \
             through HAProxy.",
            RATE / 125_000,
            LOSS * 100.0
        ),
    ]
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::super::rounds::{kinds, takes_part};
    use super::super::usage::Spent;
    use super::super::{Part, Plan};
    use super::*;
    use crate::process::Times;

    /// Everybody moves a GiB and does a thousand things in a second of CPU time and two on the wall, the gateway twice as much.
    fn measured(plan: &Plan) -> Measured {
        let mut measured = Measured::default();
        for part in Part::value_variants() {
            for (kind, peer) in kinds(*part, plan)
                .into_iter()
                .flat_map(|kind| Peer::value_variants().iter().map(move |peer| (kind, *peer)))
            {
                let much = if matches!(peer, Peer::Gateway | Peer::Passthrough) { 2.0 } else { 1.0 };
                let spent =
                    Spent { proxy: Times { user: Duration::from_secs(1), ..Times::default() }, ..Spent::default() };
                let p99 = Duration::from_millis(4).div_f64(much);
                let bytes = much * f64::from(1 << 30);
                let turn = Turn { seconds: 2.0, bytes, count: much * 1e3, p50: p99, p99, spent };
                if takes_part(*part, peer) {
                    measured.push(peer, kind, Some(turn));
                }
            }
        }
        measured.idle.insert(Peer::Gateway, (24.0 * MIB, 0.0));
        measured
    }

    #[test]
    fn every_figure_that_is_promised_is_there() {
        let plan = Plan::of(1, 2.0, 4);
        let outcome = report(&plan, Peer::value_variants(), &measured(&plan), &["as it was".to_owned()]);
        let figures: Vec<(&str, String)> = outcome.report.figures().collect();
        let expected = [
            ("edge_bulk_over_wggo", "2.00"),
            ("edge_bulk_over_boringtun", "2.00"),
            ("edge_cpu_s_per_gib", "0.50"),
            ("edge_cpu_s_per_gib_nouso", "0.50"),
            ("edge_conn_over_boringtun", "2.00"),
            ("edge_cpu_s_per_10k", "5.00"),
            ("edge_rr_p99_us", "2000"),
            ("edge_rr_p99_over_haproxy", "0.50"),
            ("edge_idle5k_mib", "24.0"),
            ("edge_loris_p99_ratio", "1.00"),
            ("edge_netstack_idle5k_over_none", "1.00"),
            ("edge_plain_bulk_over_haproxy", "2.00"),
            ("edge_plain_conn_over_haproxy", "2.00"),
            ("edge_lossy_over_tcp", "2.00"),
        ];
        assert_eq!(figures, expected.map(|(name, value)| (name, value.to_owned())), "{outcome}");
        let text = outcome.to_string();
        for words in ["| HAProxy over wireguard-go | 4.29 |", "the gateway, split before the cable", "- as it was"] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn the_figure_of_five_thousand_is_of_five_thousand() {
        let plan = Plan { idle: 9_000, ..Plan::of(1, 2.0, 4) };
        let outcome = report(&plan, Peer::value_variants(), &measured(&plan), &[]);
        assert!(outcome.report.figures().all(|(name, _)| name != "edge_idle5k_mib"), "{outcome}");
        let text = outcome.to_string();
        assert!(text.contains("| 24.0 + 0.0 |") && text.contains("with 9000 connections"), "{text}");
    }

    #[test]
    fn who_is_not_there_has_no_figure() {
        let outcome = report(&Plan::of(1, 2.0, 4), &[], &Measured::default(), &[]);
        assert_eq!(outcome.report.figures().count(), 0, "{outcome}");
    }
}
