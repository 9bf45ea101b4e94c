use std::path::Path;
use std::sync::Mutex;

use super::*;
use crate::client::Login;
use crate::cluster::echoes;
use crate::echo::Echo;
use crate::result::{Phase, PhaseKind};

struct Silent;

impl Observer for Silent {
    fn tell(&self, _: &str) {}
    fn second(&self, _: &str, _: &Second) {}
}

#[derive(Default)]
struct Noting(Mutex<Vec<u64>>);

impl Observer for Noting {
    fn tell(&self, _: &str) {}
    fn second(&self, phase: &str, second: &Second) {
        assert_eq!(phase, "steady");
        self.0.lock().unwrap().push(second.due);
    }
}

fn scenario(rate: u32, timeout: &str) -> Scenario {
    let text = format!(
        "name = \"test\"\nabout = \"A test.\"\n[cluster]\ntenants = 2\nclients = 2\ndatabases = \"echo\"\n[work]\nkind = \
         \"ping\"\ntimeout = \"{timeout}\"\n[arrivals]\nrate = {rate}\n[[phases]]\nname = \"steady\"\nlength = \"1s\"\n"
    );
    Scenario::read(&text, &[], Path::new(".")).unwrap()
}

fn plan(scenario: &Scenario) -> PhasePlan {
    let phase = &scenario.phases[0];
    PhasePlan {
        number: 0,
        name: phase.name.clone(),
        measured: true,
        length: phase.length,
        load: scenario.load(phase),
        seed: 7,
        noisy: None,
        disturbed: Vec::new(),
    }
}

async fn driven(scenario: &Scenario, doors: Vec<Door>, observer: Arc<dyn Observer>) -> (Phase, Vec<Second>) {
    let mut drive = Drive::start(scenario, doors, observer).await.unwrap();
    drive.begin(vec!["steady".to_owned()]);
    let (phase, _) = drive.phase(&plan(scenario), 0).await.unwrap();
    (phase, drive.finish().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_due_is_done_and_counted() {
    let echo = Echo::start().await.unwrap();
    let scenario = scenario(500, "20s");
    let noting = Arc::new(Noting::default());
    let doors = echoes(&scenario, echo.address());
    let (phase, seconds) = driven(&scenario, doors, Arc::clone(&noting) as Arc<dyn Observer>).await;
    assert_eq!((phase.kind, phase.done), (PhaseKind::Measured, phase.due));
    let expected =
        crate::arrivals::Timetable::new(7, 0, &scenario.load(&scenario.phases[0]), Duration::from_secs(1), 0);
    assert_eq!(phase.due, u64::try_from(expected.count()).unwrap(), "the seed says how many");
    assert_eq!(phase.latency.count, phase.done);
    assert_eq!(phase.tenants.iter().map(|tenant| tenant.done).sum::<u64>(), phase.done);
    assert_eq!(seconds.iter().map(|second| second.due).collect::<Vec<_>>(), *noting.0.lock().unwrap());
    assert_eq!(phase.sessions, 4);
}

/// What a load without clients shares: two tenants, to whom nobody is connected.
pub(super) fn shared(timeout: &str) -> Arc<Shared> {
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    let door = |number: usize| Door {
        tenant: format!("t{number}"),
        address: nowhere,
        source: None,
        attested: None,
        login: Login { user: "u".into(), secret: String::new(), database: "d".into() },
    };
    let work = scenario(50, timeout).work;
    Arc::new(Shared {
        lanes: (0..2).map(|number| Arc::new(Lane::new(door(number), work.clone()))).collect(),
        is_alone: false,
        recorder: Recorder::new(2),
        stop: Shutdown::new(),
        opening: Semaphore::new(OPENING),
        observer: Arc::new(Silent),
    })
}

/// Nobody takes work that is due: it waits, and the wait is not left out.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_begun_has_failed_and_is_not_forgotten() {
    let scenario = scenario(50, "200ms");
    let shared = shared("200ms");
    let mut drive = Drive { shared, workers: Vec::new(), ticker: None };
    drive.begin(vec!["steady".to_owned()]);
    let (phase, next) = drive.phase(&plan(&scenario), 10).await.unwrap();
    drive.finish().await;
    assert_eq!((phase.done, phase.failed.get("not_begun").copied()), (0, Some(phase.due)));
    assert_eq!(next, 10 + phase.due);
    assert!(phase.due > 0 && phase.latency.count == 0);
}
