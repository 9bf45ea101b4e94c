//! Sessions that leave their connection to later ones.

use postern_pgwire::tracker::Reported;
use postern_plumbing::relay::{Progress, relay};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::Upstream;

const QUERY: &[u8] = b"Q\0\0\0\x06q\0";
const ANSWER: &[u8] = b"Z\0\0\0\x05I";
const TERMINATE: &[u8] = b"X\0\0\0\x04";

/// Relays what the client says, for one answer of Postgres to each query; gives what Postgres was told, and whether the
/// connection outlives the session.
async fn told(said: &[&[u8]], status: u8) -> (Vec<u8>, bool) {
    let ((mut client, mut near), (upstream, mut postgres)) = (tokio::io::duplex(100), tokio::io::duplex(100));
    let mut upstream = Upstream::reusable(upstream, Reported::default());
    let progress = Progress::default();
    let driver = async {
        let mut sent = 0;
        for said in said {
            near.write_all(said).await.unwrap();
            sent += said.len() as u64;
            // What was written is relayed before more is.
            while progress.to_upstream() < sent {
                tokio::task::yield_now().await;
            }
            if said.starts_with(QUERY) {
                near.read_exact(&mut [0; ANSWER.len()]).await.unwrap();
            }
        }
        let mut rest = Vec::new();
        near.shutdown().await.unwrap();
        near.read_to_end(&mut rest).await.unwrap();
    };
    let server = async move {
        let (mut told, mut answered) = (Vec::new(), 0);
        let mut space = [0; 100];
        while let Ok(length @ 1..) = postgres.read(&mut space).await {
            told.extend_from_slice(&space[..length]);
            while answered < told.windows(QUERY.len()).filter(|window| *window == QUERY).count() {
                answered += 1;
                postgres.write_all(&[&ANSWER[..5], &[status]].concat()).await.unwrap();
            }
        }
        told
    };
    let session = async {
        let end = relay(&mut client, &mut upstream, &progress).await;
        assert!(end.error.is_none(), "{end:?}");
        drop(client);
        upstream.into_rested().is_some()
    };
    let (told, (), kept) = tokio::join!(server, driver, session);
    (told, kept)
}

#[tokio::test(start_paused = true)]
async fn a_connection_outlives_a_session_that_rests_when_the_client_says_farewell() {
    for said in [&[TERMINATE][..], &[QUERY, TERMINATE], &[QUERY, QUERY, TERMINATE]] {
        let (told, kept) = told(said, b'I').await;
        assert_eq!((told, kept), (said[..said.len() - 1].concat(), true), "Postgres is not told");
    }
}

#[tokio::test(start_paused = true)]
async fn any_other_end_is_the_connections() {
    let parse: &[u8] = b"P\0\0\0\x08\0\0\0\0";
    let both = [parse, TERMINATE].concat();
    let cases: [(&[&[u8]], u8); 6] = [
        (&[QUERY, TERMINATE], b'T'),
        (&[QUERY], b'I'),
        (&[QUERY, parse, TERMINATE], b'I'),
        (&[both.as_slice()], b'I'),
        (&[QUERY, &TERMINATE[..3], &TERMINATE[3..]], b'I'),
        (&[QUERY, &TERMINATE[..3]], b'I'),
    ];
    for (said, status) in cases {
        let (told, kept) = told(said, status).await;
        assert_eq!((told, kept), (said.concat(), false), "Postgres is told all of it");
    }
}
