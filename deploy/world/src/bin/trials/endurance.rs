//! pgbench, in long sessions and with a new connection for each transaction, while parts of the cluster come and go.
//!
//! What no protocol permits is not asked for: a session that is cut in a transaction cannot be carried on by anybody, since
//! nobody but Postgres knows its state. So the killed gateway is the one scene in which sessions are expected to fail.

mod pgbench;
mod rotation;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use postern_world::report::{Outcome, Report, seconds, words};
use postern_world::{Keys, World};

use pgbench::{Bench, Ended, Work};

/// How long one scene may take.
const DEADLINE: Duration = Duration::from_secs(180);
/// How long pgbench works in a scene.
const TURN: Duration = Duration::from_secs(15);
/// When something happens in it.
const MIDST: Duration = Duration::from_secs(4);

/// Drivers wait for what restarts: a debug build on a busy machine takes longer than the usual 5 s.
pub(crate) const KEYS: Keys = Keys { clients: "", drivers: "patience = \"40s\"\ndeadline = \"60s\"" };

/// What the scenes need.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// pgbench
    #[arg(long, value_name = "FILE", default_value = "pgbench")]
    pgbench: PathBuf,
}

/// Walks the scenes, and says whether each went as it should.
pub(crate) async fn run(arguments: &Arguments, mut world: World) -> Result<(bool, World), String> {
    let bench = Bench::new(&arguments.pgbench, &world)?;
    let mut report = Report::new(std::io::stdout());
    report.check("pgbench's tables are made", DEADLINE, bench.initialize()).await;
    for (name, work) in [("long sessions", Work::Session), ("a connection for each transaction", Work::Connect)] {
        report.check(name, DEADLINE, undisturbed(&bench, work)).await;
    }
    for (name, part, work) in [
        ("long sessions while the gateway is asked to stop", Part::Gateway, Work::Session),
        ("a connection for each transaction while the gateway restarts", Part::Gateway, Work::Connect),
        ("long sessions while the database's sidecar is asked to stop", Part::Sidecar, Work::Session),
        ("a connection for each transaction while the database's sidecar restarts", Part::Sidecar, Work::Connect),
    ] {
        report.check(name, DEADLINE, drained(&mut world, &bench, part, work)).await;
    }
    report.check("long sessions when the gateway is killed: cut, and told so", DEADLINE, cut(&mut world, &bench)).await;
    let scene = Box::pin(rotation::without_downtime(&world, &bench));
    report
        .check("sessions, and a connection for each transaction, while the secret is replaced", DEADLINE, scene)
        .await;
    Ok((report.finish(), world))
}

/// What is restarted.
#[derive(Clone, Copy)]
enum Part {
    Gateway,
    Sidecar,
}

async fn undisturbed(bench: &Bench, work: Work) -> Outcome {
    bench.work(work, TURN).await?.without_failure()
}

/// Sessions that end within the drain's deadline are not disturbed by a restart, and new ones work afterwards.
async fn drained(world: &mut World, bench: &Bench, part: Part, work: Work) -> Outcome {
    let mut asked = Instant::now();
    let restart = async {
        tokio::time::sleep(MIDST).await;
        process(world, part)?.ask_to_end();
        asked = Instant::now();
        // It ends by itself when it has drained; this only waits.
        let process = process(world, part)?;
        let gone = process.ready(DEADLINE, async || Err("it still runs".to_owned())).await;
        process.start().map_err(words)?;
        if gone.is_err_and(|error| error.to_string().contains("exit status: 0")) {
            return Ok(());
        }
        Err("it did not end in order".to_owned())
    };
    let (ended, restarted) = tokio::join!(bench.work(work, TURN), restart);
    restarted?;
    let figure = ended?.without_failure()?;
    let after = works_again(bench, asked).await?;
    Ok(format!("{figure}; {after}"))
}

/// A killed gateway takes its sessions with it: pgbench has to notice at once, not to hang.
async fn cut(world: &mut World, bench: &Bench) -> Outcome {
    let killed = async {
        tokio::time::sleep(MIDST).await;
        world.gateway_mut().crash().await.map_err(words)?;
        Ok::<_, String>(Instant::now())
    };
    let (ended, killed) = tokio::join!(bench.work(Work::Session, TURN), killed);
    let killed = killed?;
    match ended? {
        // No protocol carries a transaction on whose connection is gone.
        Ended::Aborted(said) => Ok(format!("cut, as pgbench said: {said}; {}", works_again(bench, killed).await?)),
        Ended::Done { .. } => Err("sessions through a killed gateway went on".to_owned()),
    }
}

async fn works_again(bench: &Bench, since: Instant) -> Outcome {
    loop {
        match bench.work(Work::Connect, Duration::from_secs(1)).await? {
            Ended::Done { failed: 0, .. } => return Ok(format!("new ones work {} later", seconds(since))),
            Ended::Done { failed, .. } => return Err(format!("{failed} transactions failed afterwards")),
            Ended::Aborted(said) if since.elapsed() > DEADLINE / 2 => return Err(said),
            Ended::Aborted(_) => {}
        }
    }
}

fn process(world: &mut World, part: Part) -> Result<&mut postern_world::Process, String> {
    match part {
        Part::Gateway => Ok(world.gateway_mut().process()),
        Part::Sidecar => Ok(world.tenant_mut(0).ok_or("no tenant")?.database_mut().sidecar.process()),
    }
}
