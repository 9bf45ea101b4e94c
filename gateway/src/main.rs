//! The binary `gateway`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use gateway::app::{self, Gateway, Ground, StartError};
use gateway::audit::Audit;
use gateway::audit::verify::Verify;
use gateway::config::{Config, DEFAULT};
use gateway::metrics;
use postern_attest_io::Attestor;
use postern_plumbing::admin::{self, Readiness, ReadinessCheck};
use postern_plumbing::backoff::Backoff;
use postern_plumbing::shutdown::Shutdown;
use postern_plumbing::tasks::Tasks;
use postern_plumbing::telemetry::{self, Metrics};
use postern_plumbing::{descriptors, exit, memory};
use tokio::net::TcpListener;

/// The edge in front of Postgres in confidential VMs.
///
/// Clients connect with any Postgres driver to <app-id>s.<domain>. The gateway reads the name from the TLS ClientHello,
/// looks up the instances of the app that are admitted on chain, and relays to one of them through WireGuard. It never
/// decrypts anything. Instances register by mutual RA-TLS: their TDX quote is verified, and KmsAuth.isAppAllowed is asked.
/// When the chain withdraws an admission, the live sessions of that instance are cut.
#[derive(Debug, Parser)]
#[command(name = "gateway", version, after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// The configuration file. Without one, the environment has to say everything that has no default.
    #[arg(short, long, value_name = "FILE", env = "POSTERN_GATEWAY_CONFIG")]
    config: Option<PathBuf>,

    /// Read the configuration and the files it names, report every mistake, and exit.
    #[arg(long)]
    check: bool,

    /// Print the default configuration with the meaning of every key, and exit.
    #[arg(long, conflicts_with_all = ["check", "config"])]
    print_config: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The audit trail
    #[command(subcommand)]
    Audit(AuditCommand),
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Find out whether a trail is as it was written
    ///
    /// Any line that was changed, removed, inserted or moved is found. That lines are missing at the end shows by an anchor:
    /// FILE.head beside the trail, which the gateway rewrites each second, or a head from elsewhere, such as the ones that it
    /// logs as `audit trail`. Whoever can write both files can write another trail; what an anchor out of their reach vouches
    /// for, they cannot change unnoticed.
    Verify(Verify),
}

const AFTER_HELP: &str = "\
Get started:
  gateway --print-config > gateway.toml    then fill in the keys without a default
  gateway --config gateway.toml --check
  gateway --config gateway.toml

Every key can be set from the environment: POSTERN_GATEWAY__SECTION__KEY=value.

SIGTERM and SIGINT drain: no new connections, and sessions may go on until limits.drain is
over. A second signal ends the process at once.

Exit codes:
  0   stopped as asked
  64  wrong usage
  65  the audit trail is not as it was written
  69  something needed is not there
  78  wrong configuration";

fn main() -> ExitCode {
    if let Err(error) = memory::protect() {
        complain(&error.to_string());
        return exit::SOFTWARE.into();
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            let code = if message.use_stderr() { exit::USAGE } else { exit::OK };
            return if message.print().is_ok() { code.into() } else { exit::SOFTWARE.into() };
        }
    };
    if let Some(Command::Audit(AuditCommand::Verify(trail))) = &arguments.command {
        return verify(trail);
    }
    if arguments.print_config {
        print(DEFAULT);
        return ExitCode::SUCCESS;
    }
    let config = match Config::load(arguments.config.as_deref()) {
        Ok(config) => config,
        Err(problems) => {
            complain(&problems.to_string());
            return exit::CONFIG.into();
        }
    };
    if arguments.check { check(&config) } else { run(config) }
}

fn check(config: &Config) -> ExitCode {
    let mistakes = config.attestation.check();
    if mistakes.is_empty() {
        print("the configuration is in order\n");
        return ExitCode::SUCCESS;
    }
    mistakes.iter().for_each(|mistake| complain(&mistake.to_string()));
    exit::CONFIG.into()
}

fn verify(trail: &Verify) -> ExitCode {
    match trail.run() {
        Ok(sound) => {
            print(&sound.to_string());
            ExitCode::SUCCESS
        }
        Err(unsound) => {
            complain(&unsound.to_string());
            exit::DATA.into()
        }
    }
}

fn run(config: Config) -> ExitCode {
    let telemetry = telemetry::init(config.log.format, config.log.filter.as_str());
    metrics::describe();
    let config = fit(config);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no runtime");
            return exit::SOFTWARE.into();
        }
    };
    match runtime.block_on(serve(&config, telemetry)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            error.exit_code().into()
        }
    }
}

/// Sees to descriptors, and takes no more connections than there are descriptors for.
fn fit(config: Config) -> Config {
    let descriptors = match descriptors::raise() {
        Ok(descriptors) => descriptors,
        Err(error) => {
            tracing::warn!(%error, "the limit of descriptors stays as it is");
            descriptors::limit()
        }
    };
    let wanted = config.limits.connections;
    let config = config.within(descriptors);
    let connections = config.limits.connections;
    tracing::info!(descriptors, connections, "descriptors");
    if connections < wanted {
        tracing::warn!(
            wanted,
            connections,
            "limits.connections is more than there are descriptors for (LimitNOFILE, ulimit -Hn)"
        );
    }
    config
}

async fn serve(config: &Config, telemetry: Metrics) -> Result<(), StartError> {
    let (shutdown, readiness) = (Shutdown::new(), Readiness::new());
    shutdown.on_signals();
    // Before anybody can ask: without a check, the answer would be that all is well.
    let _doors = readiness.register("doors");
    let (background, admin_end) = (Shutdown::new(), Shutdown::new());
    let tasks = Tasks::new();
    let address = config.admin;
    let listener = TcpListener::bind(address).await.map_err(|source| StartError::Bind { address, source })?;
    let admin = admin::serve(listener, telemetry, readiness.clone(), axum::Router::new(), admin_end.clone());
    tasks.spawn("admin", admin);

    let attestor = app::judge(&config.attestation, &readiness, &tasks).await?;
    let audit = app::audit(config)?;
    let watch = app::watch(config, &attestor, &tasks, background.clone())?;
    let ground = tokio::select! {
        ground = prepare(config, attestor, audit.clone(), &readiness, &tasks) => ground?,
        () = shutdown.triggered() => return Ok(()),
    };
    let gateway = Gateway::open(config, ground, Arc::new(watch), &readiness, shutdown).await?;
    gateway.run().await;
    audit.close().await;
    background.trigger();
    admin_end.trigger();
    tasks.close_and_wait(Duration::from_secs(2)).await;
    Ok(())
}

/// Who we are, and the tunnel.
async fn prepare(
    config: &Config,
    attestor: Arc<Attestor>,
    audit: Audit,
    readiness: &Readiness,
    tasks: &Tasks,
) -> Result<Ground, StartError> {
    let check = readiness.register("guest agent");
    let agent = patiently(&check, async || Ok(config.agent.agent()?)).await?;
    let keeper = patiently(&check, async || app::identity(&agent, config, tasks).await).await?;
    let tunnel = patiently(&check, async || app::tunnel(&agent, &keeper, &config.tunnel, tasks).await).await?;
    check.ready();
    Ok(Ground { keeper, attestor, tunnel, audit })
}

/// Tries for as long as it is the guest agent that is missing: it may start after us.
async fn patiently<T>(
    check: &ReadinessCheck,
    attempt: impl AsyncFn() -> Result<T, StartError>,
) -> Result<T, StartError> {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    loop {
        match attempt().await {
            Err(error @ (StartError::Agent(_) | StartError::Identity(_))) => {
                tracing::warn!(%error, "waiting for the guest agent");
                check.not_ready(error.to_string());
                backoff.wait().await;
            }
            done => return done,
        }
    }
}

#[expect(clippy::print_stdout, reason = "what was asked for goes to standard output")]
fn print(text: &str) {
    print!("{text}");
}

#[expect(clippy::print_stderr, reason = "there is no log before there is a configuration")]
fn complain(text: &str) {
    eprintln!("{text}");
}
