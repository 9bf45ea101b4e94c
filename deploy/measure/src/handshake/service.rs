//! A server that answers verified peers.

use std::sync::Arc;

use postern_attest_io::{Acceptor, Attested};
use postern_plumbing::accept::{Fatal, accept};
use postern_plumbing::tasks::Tasks;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::attested::DEADLINE;

/// The size of a request, like that of a short query.
pub(super) const REQUEST: usize = 64;

/// The size of a response, like that of a few rows.
pub(super) const RESPONSE: usize = 512;

/// Accepts peers until the listener breaks.
pub(super) async fn serve(listener: TcpListener, acceptor: Acceptor, tasks: Tasks) -> Result<(), Fatal> {
    let acceptor = Arc::new(acceptor);
    loop {
        let (stream, from) = accept(&listener).await?;
        let acceptor = Arc::clone(&acceptor);
        tasks.spawn("session", async move {
            // Whoever is refused sees the end of the session, and is counted where it began.
            let Ok(accepted) = acceptor.accept_from(stream, from.ip(), DEADLINE).await else { return };
            let Ok(session) = accepted.admit() else { return };
            answer(session).await;
        });
    }
}

/// Answers requests until the peer leaves.
async fn answer(mut session: Attested<TcpStream>) {
    let mut request = [0; REQUEST];
    while session.stream.read_exact(&mut request).await.is_ok() {
        if session.stream.write_all(&[0; RESPONSE]).await.is_err() {
            return;
        }
    }
}
