use std::io;
use std::sync::atomic::AtomicU64;

use postern_gateway_core::trail::Verifier;

use super::super::file::AuditSettings;
use super::super::file::tests::place;
use super::*;

/// A disk with room for so many bytes more.
pub(in crate::audit) struct Small {
    file: fs::File,
    room: Arc<AtomicU64>,
}

impl Disk for Small {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = usize::try_from(self.room.load(Ordering::SeqCst)).unwrap_or(usize::MAX);
        let fits = &bytes[..bytes.len().min(room)];
        self.file.append(fits)?;
        if fits.len() < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.truncate(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }
}

fn keeper(settings: &AuditSettings, room: &Arc<AtomicU64>) -> Keeper {
    let file = TrailFile::open(settings.clone()).unwrap();
    let file = file.on(|file| Small { file, room: Arc::clone(room) });
    Keeper::of(file, |_| Ok(())).unwrap()
}

/// The lines of a sound trail.
fn lines(settings: &AuditSettings) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(&settings.file).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    let mut verifier = Verifier::behind(Head::default());
    text.lines().for_each(|line| verifier.line(line.as_bytes()).unwrap());
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_line_is_in_the_file_when_its_writer_goes_on() {
    let (_folder, settings) = place();
    let keeper = keeper(&settings, &Arc::new(AtomicU64::new(u64::MAX)));
    keeper.hand_in(&Event::now("refused"));
    keeper.write(&Event::now("admitted")).await.unwrap();
    let events: Vec<_> = lines(&settings).iter().map(|line| line["event"].clone()).collect();
    assert_eq!(events, ["refused", "admitted"]);
    keeper.close(&Event::now("stopped")).await;
    assert_eq!(lines(&settings).len(), 3);
    assert_eq!(keeper.write(&Event::now("admitted")).await, Err(Unwritten), "after the last line there is none");
}

#[tokio::test]
async fn a_full_disk_refuses_what_must_be_written_and_the_trail_says_later_what_is_missing() {
    let (_folder, settings) = place();
    let room = Arc::new(AtomicU64::new(u64::MAX));
    let keeper = keeper(&settings, &room);
    keeper.write(&Event::now("admitted")).await.unwrap();
    // Half of a line fits, and is taken back.
    room.store(60, Ordering::SeqCst);
    assert_eq!(keeper.write(&Event::now("admitted")).await, Err(Unwritten));
    assert!(keeper.is_broken());
    assert_eq!(lines(&settings).len(), 1);
    keeper.hand_in(&Event::now("revoked"));
    assert_eq!(keeper.write(&Event::now("admitted")).await, Err(Unwritten));

    room.store(u64::MAX, Ordering::SeqCst);
    keeper.write(&Event::now("restored")).await.unwrap();
    assert!(!keeper.is_broken());
    let lines = lines(&settings);
    let told: Vec<_> = lines[1..].iter().map(|line| (&line["event"], &line["of"], &line["count"])).collect();
    let expected = serde_json::json!(["lost", "admitted", 2, "lost", "revoked", 1, "restored", null, null]);
    let told: Vec<_> = told.into_iter().flat_map(|(event, of, count)| [event, of, count]).cloned().collect();
    assert_eq!(serde_json::Value::from(told), expected);
}

/// A disk that counts the trips to it.
struct Counting(fs::File, Arc<AtomicU64>);

impl Disk for Counting {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.append(bytes)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.0.truncate(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync()
    }
}

#[tokio::test]
async fn lines_that_nobody_waits_for_go_to_the_disk_together() {
    const LINES: u64 = 200;
    let (_folder, settings) = place();
    let trips = Arc::new(AtomicU64::new(0));
    let file = TrailFile::open(settings.clone()).unwrap().on(|file| Counting(file, Arc::clone(&trips)));
    let keeper = Keeper::of(file, |_| Ok(())).unwrap();
    let started = Instant::now();
    for _ in 0..LINES {
        keeper.hand_in(&Event::now("refused"));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    keeper.write(&Event::now("admitted")).await.unwrap();
    let gathered = u64::try_from(started.elapsed().as_nanos() / GATHERED.as_nanos()).unwrap();
    let made = trips.load(Ordering::SeqCst);
    // One more for what had not gathered for long enough, and one for the line that was waited for.
    assert!(made <= gathered + 2, "{made} trips in the time of {gathered}");
    keeper.close(&Event::now("stopped")).await;
    assert_eq!(lines(&settings).len() as u64, LINES + 2);
}

#[tokio::test]
async fn more_lines_than_the_queue_holds_are_counted_and_hold_nobody_up() {
    let (_folder, settings) = place();
    let keeper = keeper(&settings, &Arc::new(AtomicU64::new(u64::MAX)));
    let all = 4 * QUEUE;
    let flood = async { (0..all).for_each(|_| keeper.hand_in(&Event::now("refused"))) };
    tokio::time::timeout(Duration::from_secs(20), flood).await.unwrap();
    keeper.close(&Event::now("stopped")).await;
    let lines = lines(&settings);
    let written = lines.iter().filter(|line| line["event"] == "refused").count();
    let lost: u64 = lines.iter().filter(|line| line["of"] == "refused").filter_map(|line| line["count"].as_u64()).sum();
    let untold = keeper.shared.lost().values().sum::<u64>();
    assert_eq!(u64::try_from(written).unwrap() + lost + untold, u64::try_from(all).unwrap() + untold_last(&lines));
}

/// The last line may itself have found no room.
fn untold_last(lines: &[serde_json::Value]) -> u64 {
    u64::from(lines.iter().all(|line| line["event"] != "stopped"))
}
