use super::*;
use postern_simulator::Tee;

const NOON: u64 = 1_800_000_000;

/// A host's clock, which the host sets.
fn host(time: u64) -> (Arc<AtomicU64>, Clock) {
    let time = Arc::new(AtomicU64::new(time));
    let reading = Arc::clone(&time);
    (time, Arc::new(move || reading.load(Ordering::Relaxed)))
}

struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("high-water")
    }

    fn start(&self, time: u64) -> (Arc<AtomicU64>, Arc<HighWater>) {
        let (host, clock) = host(time);
        (host, HighWater::open(self.path(), clock).unwrap())
    }
}

fn collateral(now: u64) -> Collateral {
    Collateral::from_json(Tee::new([7; 32]).unwrap().collateral_bundle_json(now).unwrap().as_bytes()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_is_caught_while_running() {
    let disk = Disk::new();
    let (host, clock) = disk.start(NOON);
    assert_eq!((clock.now(), clock.behind()), (NOON, 0));
    host.store(NOON + 100, Ordering::Relaxed);
    assert_eq!(clock.now(), NOON + 100);
    host.store(NOON - 1000, Ordering::Relaxed);
    assert_eq!((clock.now(), clock.behind()), (NOON + 100, 1100));
    // The processor counts on from the start.
    tokio::time::advance(Duration::from_secs(160)).await;
    assert_eq!(clock.now(), NOON + 160);
    host.store(NOON + 200, Ordering::Relaxed);
    assert_eq!((clock.clock()(), clock.behind()), (NOON + 200, 0));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_is_caught_across_a_restart() {
    let disk = Disk::new();
    let (host, clock) = disk.start(NOON);
    host.store(NOON + 3600, Ordering::Relaxed);
    clock.save().unwrap();
    drop(clock);
    let (_, clock) = disk.start(NOON - 86_400 * 365);
    assert_eq!((clock.now(), clock.behind()), (NOON + 3600, 3600 + 86_400 * 365));
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(clock.now(), NOON + 3660, "and it goes on from there");
}

#[tokio::test(start_paused = true)]
async fn the_mark_is_written_now_and_then_and_only_when_it_rose() {
    let disk = Disk::new();
    let (host, clock) = disk.start(NOON);
    let written = || serde_json::from_slice::<State>(&std::fs::read(disk.path()).unwrap()).unwrap().now;
    assert_eq!(written(), NOON, "at start, so that a disk that cannot be written is known at once");
    let keeping = postern_plumbing::tasks::Task::spawn("clock", Arc::clone(&clock).keep(Duration::from_secs(60)));
    host.store(NOON + 30, Ordering::Relaxed);
    assert_eq!(clock.now(), NOON + 30);
    assert_eq!(written(), NOON, "reading the clock does not write");
    while written() == NOON {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!((NOON + 60..NOON + 90).contains(&written()), "{}", written());
    keeping.stop().await;
    let before = std::fs::metadata(disk.path()).unwrap().modified().unwrap();
    let state = clock.state().clone();
    clock.write(&mut clock.state(), state).unwrap();
    assert_eq!(std::fs::metadata(disk.path()).unwrap().modified().unwrap(), before);
}

#[test]
fn a_mark_that_cannot_be_read_or_written_stops_the_start() {
    let disk = Disk::new();
    std::fs::write(disk.path(), b"{\"now\": \"noon\"}").unwrap();
    assert!(matches!(HighWater::open(disk.path(), host(NOON).1), Err(HighWaterError::Malformed { .. })));
    let nowhere = disk.path().join("below/a/file");
    assert!(matches!(HighWater::open(nowhere, host(NOON).1), Err(HighWaterError::File { .. })));
}

#[test]
fn collateral_from_before_the_mark_is_refused_also_after_a_restart() {
    let disk = Disk::new();
    let (_, clock) = disk.start(NOON);
    let (old, new) = (collateral(NOON - 86_400), collateral(NOON));
    assert_eq!(clock.check(&old), Ok(()));
    clock.record(&new).unwrap();
    clock.record(&old).unwrap();
    let refused = clock.check(&old).unwrap_err();
    assert_eq!(refused.part, "TCB info");
    assert_eq!(clock.check(&new), Ok(()), "the same again is no step back");
    drop(clock);
    // The host's old clock and its old collateral, which fit each other.
    let (_, clock) = disk.start(NOON - 86_400);
    assert_eq!(clock.check(&old), Err(refused));
    assert!(clock.now() >= NOON);
}

#[tokio::test(start_paused = true)]
async fn a_mark_in_memory_catches_what_happens_while_running() {
    let (host, source) = host(NOON);
    let clock = HighWater::in_memory(source);
    host.store(NOON - 1000, Ordering::Relaxed);
    assert_eq!((clock.now(), clock.behind()), (NOON, 1000));
    clock.record(&collateral(NOON)).unwrap();
    assert!(clock.check(&collateral(NOON - 86_400)).is_err());
    clock.save().unwrap();
}

#[test]
fn a_look_at_the_mark_leaves_it_as_it_is() {
    let disk = Disk::new();
    assert_eq!(HighWater::look(&disk.path(), host(NOON).1).unwrap().now(), NOON);
    assert!(!disk.path().exists());
    drop(disk.start(NOON));
    let clock = HighWater::look(&disk.path(), host(NOON + 60).1).unwrap();
    clock.save().unwrap();
    drop(clock);
    assert_eq!(HighWater::look(&disk.path(), host(0).1).unwrap().now(), NOON);
}
