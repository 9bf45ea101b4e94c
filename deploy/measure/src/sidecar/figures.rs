//! The rounds as a table.

use super::Plan;
use super::rounds::{Connects, Measured, Selects, Sides};
use crate::report::{Report, Row};
use crate::spread::Spread;

/// The names of what is measured with one number of clients: of the sidecar's ratios to PgBouncer, and of their figures.
struct Names {
    clients: usize,
    tps: (&'static str, &'static str),
    p99: (&'static str, Option<&'static str>),
}

const NAMES: [Names; 3] = [
    Names {
        clients: 1,
        tps: ("1 client: tps, over PgBouncer's", "sidecar_tps_over_pgbouncer_1"),
        p99: ("1 client: p99, over PgBouncer's", None),
    },
    Names {
        clients: 16,
        tps: ("16 clients: tps, over PgBouncer's", "sidecar_tps_over_pgbouncer_16"),
        p99: ("16 clients: p99, over PgBouncer's", None),
    },
    Names {
        clients: 64,
        tps: ("64 clients: tps, over PgBouncer's", "sidecar_tps_over_pgbouncer_64"),
        p99: ("64 clients: p99, over PgBouncer's", Some("sidecar_p99_over_pgbouncer_64")),
    },
];

/// Puts the rounds into a table.
pub(super) fn report(plan: &Plan, measured: &Measured) -> Report {
    let mut rows = Vec::new();
    for selects in &measured.selects {
        if let Some(names) = NAMES.iter().find(|names| names.clients == selects.clients) {
            rows.extend(of_selects(names, selects));
        }
    }
    let Measured { connects, copies, idle_kb, .. } = measured;
    rows.extend(of_connects(connects));
    let copied = Row {
        what: "COPY out, over Postgres' TLS",
        rounds: Spread::of(&ratios(&copies.sidecar, &copies.postgres)),
        decimals: 2,
        bar: Some(0.9),
        figure: Some("sidecar_copy_over_pgtls"),
    };
    rows.push(copied);
    rows.extend(three(["— MB/s, sidecar", "— MB/s, PgBouncer", "— MB/s, Postgres' TLS"], copies, 0));
    rows.push(Row {
        what: "memory of an idle session, KiB",
        rounds: Spread::of(idle_kb),
        decimals: 1,
        bar: Some(48.0),
        figure: Some("sidecar_idle_kb"),
    });
    Report { rows, notes: notes(plan, &measured.tls) }
}

fn of_connects(connects: &Connects) -> Vec<Row> {
    let Connects { rate, cpu } = connects;
    let figure = Some("sidecar_connects_over_pgbouncer");
    let mut rows = vec![ratio("connections a second, over PgBouncer's", rate, 1.0, figure)];
    rows.push(Row {
        what: "— the same when neither keeps connections",
        rounds: Spread::of(&ratios(&rate.unpooled_sidecar, &rate.unpooled_pgbouncer)),
        decimals: 2,
        ..Row::default()
    });
    rows.extend(three(["— a second, sidecar", "— a second, PgBouncer", "— a second, Postgres' TLS"], rate, 0));
    rows.push(plain("— a second, sidecar that keeps none", &rate.unpooled_sidecar, 0));
    rows.push(plain("— a second, PgBouncer that keeps none", &rate.unpooled_pgbouncer, 0));
    rows.push(plain("— CPU per connection, µs, sidecar", &cpu.sidecar, 0));
    rows.push(plain("— CPU per connection, µs, PgBouncer", &cpu.pgbouncer, 0));
    rows.push(plain("— CPU per connection, µs, sidecar that keeps none", &cpu.unpooled_sidecar, 0));
    rows.push(plain("— CPU per connection, µs, PgBouncer that keeps none", &cpu.unpooled_pgbouncer, 0));
    rows
}

fn of_selects(names: &Names, selects: &Selects) -> Vec<Row> {
    let Selects { tps, p99, cpu, .. } = selects;
    let mut rows = vec![ratio(names.tps.0, tps, 1.0, Some(names.tps.1))];
    rows.extend(three(["— tps, sidecar", "— tps, PgBouncer", "— tps, Postgres' TLS"], tps, 0));
    rows.push(ratio(names.p99.0, p99, 1.0, names.p99.1));
    rows.extend(three(["— p99, ms, sidecar", "— p99, ms, PgBouncer", "— p99, ms, Postgres' TLS"], p99, 2));
    rows.push(plain("— CPU per transaction, µs, sidecar", &cpu.sidecar, 1));
    rows.push(plain("— CPU per transaction, µs, PgBouncer", &cpu.pgbouncer, 1));
    rows
}

/// The sidecar over PgBouncer, round by round.
fn ratio(what: &'static str, sides: &Sides, bar: f64, figure: Option<&'static str>) -> Row {
    let rounds = Spread::of(&ratios(&sides.sidecar, &sides.pgbouncer));
    Row { what, rounds, decimals: 2, bar: Some(bar), figure }
}

fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect()
}

fn three([sidecar, pgbouncer, postgres]: [&'static str; 3], sides: &Sides, decimals: usize) -> [Row; 3] {
    [
        plain(sidecar, &sides.sidecar, decimals),
        plain(pgbouncer, &sides.pgbouncer, decimals),
        plain(postgres, &sides.postgres, decimals),
    ]
}

fn plain(what: &'static str, rounds: &[f64], decimals: usize) -> Row {
    Row { what, rounds: Spread::of(rounds), decimals, ..Row::default() }
}

fn notes(plan: &Plan, tls: &str) -> Vec<String> {
    let Plan { rounds, turn, copied_rows, idle, .. } = plan;
    vec![
        format!(
            "{rounds} rounds, in each of which all three take a turn of {} s with everything, in changing order. pgbench, \
             Postgres and who stands between share this machine.",
            turn.as_secs()
        ),
        "All three speak TLS 1.3 with P-256 certificates on both sides. The sidecar's and its client's carry quotes, so its \
         handshake is several KB longer, and it judges them."
            .to_owned(),
        tls.to_owned(),
        "PgBouncer, in session mode, gives a new client a connection to Postgres that an earlier one has left, cleaned by \
         DISCARD ALL. The sidecar that is compared with it does the same (`postgres.pool.size`). Who keeps none is a second \
         sidecar with the default of 0, and a second PgBouncer whose `server_lifetime` is 0."
            .to_owned(),
        format!("COPY: {copied_rows} rows of 8 KiB by psql. Memory: private to the sidecar, with {idle} sessions that wait."),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_figure_that_is_promised_is_there() {
        let sides = || Sides {
            sidecar: vec![3.0, 1.0],
            unpooled_sidecar: vec![2.0],
            pgbouncer: vec![2.0, 1.0],
            unpooled_pgbouncer: vec![2.0],
            postgres: vec![4.0, 2.0],
        };
        let selects = |clients| Selects { clients, tps: sides(), p99: sides(), cpu: sides() };
        let plan = Plan::full(2, Duration::from_secs(1));
        let selects = plan.clients.map(selects).into_iter().collect();
        let connects = Connects { rate: sides(), cpu: sides() };
        let tls = "TLS".to_owned();
        let measured = Measured { selects, connects, copies: sides(), tls, idle_kb: vec![30.0] };
        let report = report(&plan, &measured);
        let figures: Vec<(&str, String)> = report.figures().collect();
        let expected = [
            ("sidecar_tps_over_pgbouncer_1", "1.25"),
            ("sidecar_tps_over_pgbouncer_16", "1.25"),
            ("sidecar_tps_over_pgbouncer_64", "1.25"),
            ("sidecar_p99_over_pgbouncer_64", "1.25"),
            ("sidecar_connects_over_pgbouncer", "1.25"),
            ("sidecar_copy_over_pgtls", "0.62"),
            ("sidecar_idle_kb", "30.0"),
        ];
        assert_eq!(figures, expected.map(|(name, value)| (name, value.to_owned())));
    }
}
