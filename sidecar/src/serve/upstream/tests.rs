mod reuse;

use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use postern_pgwire::boundary::Boundary;
use postern_pgwire::error_response::ErrorResponse;
use postern_pgwire::sqlstate::SqlState;
use postern_plumbing::relay::{Progress, RelayEnd};
use postern_plumbing::tasks::Task;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::{AFTER_THE_END, PARTING, REST, Severed, Upstream, carry};

const READY: &[u8] = b"Z\0\0\0\x05I";
const LONG: Duration = Duration::from_secs(3_600);

fn words() -> ErrorResponse {
    ErrorResponse::fatal(SqlState::ADMIN_SHUTDOWN, "enough")
}

/// A session with both of its peers.
struct Session {
    client: DuplexStream,
    postgres: DuplexStream,
    cut: Option<oneshot::Sender<()>>,
    ended: Task<Result<RelayEnd, Severed<()>>>,
}

impl Session {
    fn start(heard: &[u8]) -> Self {
        let ((client, mut near), (far, postgres)) = (duplex(1 << 20), duplex(1 << 20));
        let (cut, awaited) = oneshot::channel();
        let heard = Boundary::after(heard);
        let ended = Task::spawn("session", async move {
            let cut = async move {
                if awaited.await.is_err() {
                    pending::<()>().await;
                }
            };
            carry(&mut near, &mut Upstream::new(far, heard), &Progress::default(), cut, |()| words()).await
        });
        Self { client, postgres, cut: Some(cut), ended }
    }

    /// Has Postgres say something, waits until the client has read it, and cuts the session.
    async fn cut_after(&mut self, said: &[u8]) {
        self.postgres.write_all(said).await.unwrap();
        self.client.read_exact(&mut vec![0; said.len()]).await.unwrap();
        self.cut.take().unwrap().send(()).unwrap();
        sleep(Duration::from_millis(1)).await;
    }

    /// What the client reads until the end, and whether it is said to have been told.
    async fn end(mut self) -> (Vec<u8>, bool) {
        let mut said = Vec::new();
        self.client.read_to_end(&mut said).await.unwrap();
        drop(self.client);
        (said, self.ended.join().await.unwrap().unwrap_err().told)
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_notice_the_end_of_postgres_is_not_waited_for() {
    let mut session = Session::start(b"");
    session.client.write_all(b"question").await.unwrap();
    session.postgres.read_exact(&mut [0; 8]).await.unwrap();
    sleep(AFTER_THE_END * 100).await;
    session.postgres.write_all(b"the end").await.unwrap();
    drop(session.postgres);
    let mut said = Vec::new();
    session.client.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, b"the end");
    let ended = timeout(AFTER_THE_END * 2, session.ended.join()).await.expect("the session lasts");
    assert!(ended.unwrap().unwrap().error.is_none());
}

#[tokio::test(start_paused = true)]
async fn between_two_messages_a_client_is_told_why_its_session_is_cut() {
    let started = Instant::now();
    let mut session = Session::start(b"");
    session.cut_after(READY).await;
    assert_eq!(session.postgres.read(&mut [0; 9]).await.unwrap(), 0, "Postgres is left at once");
    session.client.write_all(b"and what it says then reaches nobody").await.unwrap();
    assert_eq!(session.end().await, (words().encode().to_vec(), true));
    assert!(started.elapsed() < PARTING);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_has_begun_is_ended_first() {
    let row = [b"D\0\0\0\x0eZ\0\0\0\x05I".as_slice(), b"rest"].concat();
    for cut in 1..row.len() {
        let mut session = Session::start(b"");
        session.cut_after(&row[..cut]).await;
        session.postgres.write_all(&row[cut..]).await.unwrap();
        session.postgres.write_all(&row).await.unwrap();
        let expected = [&row[cut..], &words().encode()].concat();
        assert_eq!(session.end().await, (expected, true), "cut after {cut} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_heard_before_the_relay_counts() {
    let mut session = Session::start(b"N\0\0\0\x06a");
    session.cut_after(b"").await;
    session.postgres.write_all(b"b").await.unwrap();
    assert_eq!(session.end().await, ([b"b".as_slice(), &words().encode()].concat(), true));
}

#[tokio::test(start_paused = true)]
async fn inside_a_message_that_does_not_end_nothing_is_said() {
    let huge = [b"d".as_slice(), &u32::try_from(REST + 100).unwrap().to_be_bytes(), b"begun"].concat();
    for (said, more) in
        [(&b"D\0\0\0\x10half"[..], false), (b"D\0\0\0\x10half", true), (&huge, false), (b"D\0\0\0\x01", false)]
    {
        let started = Instant::now();
        let mut session = Session::start(b"");
        session.cut_after(said).await;
        if more {
            // It breaks off in the middle.
            session.postgres.write_all(b"more").await.unwrap();
            session.postgres.shutdown().await.unwrap();
        }
        let rest = if more { b"more".as_slice() } else { b"" };
        assert_eq!(session.end().await, (rest.to_vec(), false), "{said:?}");
        assert!(started.elapsed() < PARTING * 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_not_waited_for() {
    let ((client, mut near), (far, mut postgres)) = (duplex(10), duplex(1_000));
    let rows = Bytes::from_static(READY).repeat(100);
    postgres.write_all(&rows).await.unwrap();
    let (mut upstream, progress) = (Upstream::new(far, Boundary::default()), Progress::default());
    let carrying = carry(&mut near, &mut upstream, &progress, sleep(LONG), |()| words());
    let started = Instant::now();
    let severed = carrying.await.unwrap_err();
    assert!(!severed.told && started.elapsed() < LONG + PARTING * 2, "{severed:?}");
    drop((client, postgres));
}
