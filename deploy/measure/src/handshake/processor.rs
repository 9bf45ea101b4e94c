//! What handshakes and appraisals cost the processor.

use std::time::{Duration, Instant};

use super::Plan;
use super::attested::{AttestedTls, Flights};
use super::guest::Platform;
use super::plain::PlainTls;
use crate::cpu;
use crate::report::Row;
use crate::spread::{Spread, micros};

/// The most that one cold appraisal should take, in microseconds.
const COLD_APPRAISAL: f64 = 800.0;

/// The most that a warm handshake should cost, as a multiple of a plain one.
const WARM_OVER_PLAIN: f64 = 1.25;

/// The most that a server's flight should have. A larger one does not fit the ten segments that may be sent before the
/// first acknowledgement (RFC 6928), and costs a round trip.
const SERVER_FLIGHT: f64 = 14.0 * 1024.0;

/// The length of a quote from real hardware: 5006 bytes, of which the last 70 are padding that no certificate of ours
/// carries. Those of the simulator have shorter certificates.
const REAL_QUOTE: usize = 5006 - 70;

/// The costs that each round found: means of its batch, in microseconds of CPU time where nothing else is said.
pub(super) struct Costs {
    plain: Vec<f64>,
    warm: Vec<f64>,
    cold: Vec<f64>,
    appraisal: Vec<f64>,
    appraisal_elapsed: Vec<f64>,
    flights: Flights,
    /// What the server's flight grows by on a real platform.
    growth: usize,
}

/// Measures everything of the plan that one thread and an appraiser's do.
pub(super) fn measure(plan: &Plan) -> anyhow::Result<Costs> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(rounds(plan))
}

async fn rounds(plan: &Plan) -> anyhow::Result<Costs> {
    let plain = PlainTls::new()?;
    let attested = AttestedTls::new(&Platform::new()?).await?;
    let mut costs = Costs::new(attested.flights().await?, attested.growth(REAL_QUOTE)?);
    // The first round fills caches and starts threads.
    round(&plain, &attested, plan.batch, &mut Costs::new(costs.flights, 0)).await?;
    for _ in 0..plan.rounds {
        round(&plain, &attested, plan.batch, &mut costs).await?;
    }
    Ok(costs)
}

async fn round(plain: &PlainTls, attested: &AttestedTls, batch: u32, costs: &mut Costs) -> anyhow::Result<()> {
    costs.plain.push(mean(batch, || (), || plain.handshake()).await?.0);
    // Whoever was forgotten in the round before is known again.
    attested.handshake().await?;
    costs.warm.push(mean(batch, || (), || attested.handshake()).await?.0);
    costs.cold.push(mean(batch, || attested.forget(), || attested.handshake()).await?.0);
    let (appraisal, elapsed) = mean(batch, || attested.forget(), || attested.appraise()).await?;
    costs.appraisal.push(appraisal);
    costs.appraisal_elapsed.push(elapsed);
    Ok(())
}

/// What one of a batch took on average, each after a preparation that is not counted: CPU time and time on the wall.
async fn mean<F: Future<Output = anyhow::Result<()>>>(
    batch: u32,
    prepare: impl Fn(),
    work: impl Fn() -> F,
) -> anyhow::Result<(f64, f64)> {
    let (mut total, mut elapsed) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..batch {
        prepare();
        let started = Instant::now();
        let (outcome, spent) = cpu::of(work()).await;
        elapsed += started.elapsed();
        total += spent;
        outcome?;
    }
    Ok((micros(total) / f64::from(batch), micros(elapsed) / f64::from(batch)))
}

impl Costs {
    fn new(flights: Flights, growth: usize) -> Self {
        let [plain, warm, cold, appraisal, appraisal_elapsed] = [const { Vec::new() }; 5];
        Self { plain, warm, cold, appraisal, appraisal_elapsed, flights, growth }
    }

    pub(super) fn rows(&self) -> Vec<Row> {
        let cpu = |what, rounds: &[f64]| Row { what, rounds: Spread::of(rounds), ..Row::default() };
        let ratios: Vec<f64> = self.warm.iter().zip(&self.plain).map(|(warm, plain)| warm / plain).collect();
        let real = self.flights.server + self.growth;
        vec![
            cpu("plain mutual TLS, CPU µs", &self.plain),
            cpu("mutual RA-TLS, peers known, CPU µs", &self.warm),
            Row {
                decimals: 3,
                bar: Some(WARM_OVER_PLAIN),
                figure: Some("ratls_warm_over_mtls"),
                ..cpu("the same as a multiple of plain mutual TLS", &ratios)
            },
            cpu("mutual RA-TLS, peers unknown, CPU µs", &self.cold),
            Row {
                bar: Some(COLD_APPRAISAL),
                figure: Some("appraisal_cold_us"),
                ..cpu("cold appraisal, CPU µs", &self.appraisal)
            },
            cpu("cold appraisal, elapsed µs", &self.appraisal_elapsed),
            cpu("client's flights, bytes", &[bytes(self.flights.client)]),
            cpu("server's flight, bytes", &[bytes(self.flights.server)]),
            Row {
                bar: Some(SERVER_FLIGHT),
                figure: Some("server_flight_bytes"),
                ..cpu("server's flight with a quote as long as real ones, bytes", &[bytes(real)])
            },
        ]
    }
}

fn bytes(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}
