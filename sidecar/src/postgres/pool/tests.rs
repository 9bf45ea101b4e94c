use std::time::Duration;

use postern_pgwire::cancel::CancelKey;
use postern_pgwire::tracker::Reported;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::{Backend, Pool, PoolBounds};

const BOUNDS: PoolBounds = PoolBounds { size: 2, idle: Duration::from_secs(30), lifetime: Duration::from_secs(3_600) };
const DISCARD: &[u8] = b"Q\0\0\0\x10DISCARD ALL\0";
const DISCARDED: &[u8] = b"C\0\0\0\x10DISCARD ALL\0";
const READY: &[u8] = b"Z\0\0\0\x05I";
const ZONE: &[u8] = b"S\0\0\0\x11TimeZone\0UTC\0";

fn backend(pool: &Pool, startup: &[u8], process: u32) -> (Backend, UnixStream) {
    let (stream, postgres) = UnixStream::pair().unwrap();
    let (key, origin) = (CancelKey::new(process, &[7; 4]).unwrap(), pool.origin(startup).unwrap());
    (Backend { stream, key, reported: Reported::default(), origin }, postgres)
}

/// A session of this process id ends, and Postgres answers what it is asked then with these bytes.
async fn leave(pool: &Pool, backend: Backend, postgres: &mut UnixStream, answer: &[u8]) {
    let answering = async {
        let mut asked = [0; DISCARD.len()];
        postgres.read_exact(&mut asked).await.unwrap();
        assert_eq!(asked, DISCARD);
        postgres.write_all(answer).await.unwrap();
    };
    tokio::join!(pool.put(backend), answering);
}

async fn left(pool: &Pool, startup: &[u8], process: u32) -> UnixStream {
    let (backend, mut postgres) = backend(pool, startup, process);
    leave(pool, backend, &mut postgres, &[DISCARDED, READY].concat()).await;
    postgres
}

fn taken(pool: &Pool, startup: &[u8]) -> Option<u32> {
    pool.take(startup).map(|backend| backend.key.process_id())
}

/// Waits for the end of a connection. What was not read makes it a hard one.
async fn closed(postgres: &mut UnixStream) {
    assert!(matches!(postgres.read(&mut [0; 1]).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn the_last_one_left_serves_the_next_session_with_the_same_startup_packet() {
    let pool = Pool::new(BOUNDS);
    let _open = [left(&pool, b"one", 1).await, left(&pool, b"one", 2).await];
    for other in [&b""[..], b"on", b"one ", b"two"] {
        assert_eq!(taken(&pool, other), None);
    }
    assert_eq!([taken(&pool, b"one"), taken(&pool, b"one"), taken(&pool, b"one")], [Some(2), Some(1), None]);
}

#[tokio::test]
async fn what_cleaning_has_changed_is_told_to_the_next_session() {
    let pool = Pool::new(BOUNDS);
    let (backend, mut postgres) = backend(&pool, b"one", 1);
    let notice: &[u8] = b"N\0\0\0\x05\0";
    leave(&pool, backend, &mut postgres, &[notice, DISCARDED, ZONE, READY].concat()).await;
    let greeting = pool.take(b"one").unwrap().reported.greeting();
    assert!(greeting.ends_with(ZONE), "{greeting:?}");
}

#[tokio::test]
async fn one_that_is_not_surely_clean_is_closed() {
    let pool = Pool::new(BOUNDS);
    let in_transaction: &[u8] = b"Z\0\0\0\x05T";
    for answer in [
        [DISCARDED, in_transaction].concat(),
        [DISCARDED, READY, b"N"].concat(),
        [DISCARDED, DISCARDED, READY].concat(),
        [&b"E\0\0\0\x05\0"[..], READY].concat(),
        [&b"C\0\0\0\x0bSELECT\0"[..], READY].concat(),
        [&b"D\0\0\0\x06\0\0"[..], DISCARDED, READY].concat(),
        READY.to_vec(),
        b"C\0\0\0\x01".to_vec(),
    ] {
        let (backend, mut postgres) = backend(&pool, b"one", 1);
        leave(&pool, backend, &mut postgres, &answer).await;
        closed(&mut postgres).await;
        assert_eq!(taken(&pool, b"one"), None, "{answer:?}");
    }
}

#[tokio::test]
async fn what_was_not_read_is_no_answer() {
    let pool = Pool::new(BOUNDS);
    let (backend, mut postgres) = backend(&pool, b"one", 1);
    postgres.write_all(&[DISCARDED, READY].concat()).await.unwrap();
    backend.stream.readable().await.unwrap();
    pool.put(backend).await;
    closed(&mut postgres).await;
    assert_eq!(taken(&pool, b"one"), None);
}

#[tokio::test(start_paused = true)]
async fn a_postgres_that_does_not_answer_is_not_waited_for() {
    let pool = Pool::new(BOUNDS);
    let (backend, _postgres) = backend(&pool, b"one", 1);
    tokio::time::timeout(Duration::from_secs(10), pool.put(backend)).await.unwrap();
    assert_eq!(taken(&pool, b"one"), None);
}

#[tokio::test]
async fn there_are_no_more_than_there_may_be_and_those_left_first_go_first() {
    let pool = Pool::new(BOUNDS);
    let mut first = left(&pool, b"one", 1).await;
    let _open = [left(&pool, b"two", 2).await, left(&pool, b"two", 3).await];
    closed(&mut first).await;
    pool.trim(1);
    assert_eq!([taken(&pool, b"one"), taken(&pool, b"two"), taken(&pool, b"two")], [None, Some(3), None]);
    assert!(Pool::new(PoolBounds { size: 0, ..BOUNDS }).origin(b"one").is_none(), "none is kept");
}

#[tokio::test]
async fn none_is_kept_that_waits_or_lives_too_long() {
    let pool = Pool::new(BOUNDS);
    let _open = left(&pool, b"one", 1).await;
    tokio::time::pause();
    tokio::time::advance(BOUNDS.idle).await;
    assert_eq!(taken(&pool, b"one"), None, "it has waited too long");
    let (backend, mut postgres) = backend(&pool, b"one", 2);
    tokio::time::advance(BOUNDS.lifetime).await;
    pool.put(backend).await;
    closed(&mut postgres).await;
    assert_eq!(taken(&pool, b"one"), None, "it is too old");
}

#[tokio::test]
async fn one_that_postgres_has_closed_serves_nobody() {
    let pool = Pool::new(BOUNDS);
    let (backend, mut postgres) = backend(&pool, b"one", 1);
    leave(&pool, backend, &mut postgres, &[DISCARDED, READY].concat()).await;
    let (near, mut far) = UnixStream::pair().unwrap();
    drop((postgres, near));
    // When this end is seen, the other one has been as well.
    closed(&mut far).await;
    tokio::task::yield_now().await;
    assert_eq!(taken(&pool, b"one"), None);
}

#[tokio::test]
async fn those_that_were_in_use_when_all_were_given_up_do_not_come_back() {
    let pool = Pool::new(BOUNDS);
    let mut waiting = left(&pool, b"one", 1).await;
    let (used, mut postgres) = backend(&pool, b"one", 2);
    pool.give_up();
    closed(&mut waiting).await;
    leave(&pool, used, &mut postgres, &[DISCARDED, READY].concat()).await;
    closed(&mut postgres).await;
    assert_eq!(taken(&pool, b"one"), None);
    let _open = left(&pool, b"one", 3).await;
    assert_eq!(taken(&pool, b"one"), Some(3), "but newer ones do");
}
