use std::io;
use std::sync::Arc;

use postern_attest::PeerPolicy;
use postern_attest_io::{Attestor, Connector};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::arguments::Verify;
use super::judge::Judge;
use super::not_accepted::NotAccepted;
use super::report::Subject;
use crate::deadline::Deadline;
use crate::dial::Place;

/// Postgres' SSLRequest: its length, and the code 80877103.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// The certificates of a server that has proven to hold the first one's key, and whose evidence is believed. Nothing is sent
/// to it inside TLS.
pub(super) async fn chain(
    arguments: &Verify,
    place: &Place,
    judge: &Judge,
    subject: &mut Subject,
) -> Result<Vec<CertificateDer<'static>>, NotAccepted> {
    let deadline = Deadline::after(arguments.timeout());
    let late = |_| NotAccepted::unknown("deadline", format!("no connection within {} s", arguments.timeout));
    let place = Place { address: arguments.address.or(place.address), ..place.clone() };
    let mut stream =
        deadline.limit(place.connect()).await.map_err(late)?.map_err(|error| unreachable(&place, &error))?;
    subject.address = stream.peer_addr().ok();
    if arguments.starttls {
        deadline.limit(start_tls(&mut stream)).await.map_err(late)??;
    }
    let now = judge.now;
    let attestor = Attestor::with_clock(judge.appraiser.clone(), judge.collateral.clone(), Arc::new(move || now));
    let connector = Connector::new(None, attestor, &["postgresql"]);
    let name = arguments.sni.as_deref().unwrap_or(&place.host);
    // Who is expected is compared later, so that the report can tell who it is instead.
    let anyone = PeerPolicy::default();
    let attested = Box::pin(connector.connect(stream, name, &anyone, deadline.left())).await?;
    subject.alpn = attested.alpn.map(|name| String::from_utf8_lossy(&name).into_owned());
    let mut stream = attested.stream;
    let chain = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec);
    // A server that is gone already has been judged all the same.
    drop(deadline.limit(stream.shutdown()).await);
    chain.ok_or_else(|| NotAccepted::refused("no_certificate", "the server showed no certificate"))
}

fn unreachable(place: &Place, error: &io::Error) -> NotAccepted {
    NotAccepted::unknown("unreachable", format!("{place} cannot be reached: {error}"))
}

/// Reads one byte and no more: what an attacker appends to it in clear is left to TLS, which fails over it.
async fn start_tls(stream: &mut TcpStream) -> Result<(), NotAccepted> {
    let answer = async {
        stream.write_all(&SSL_REQUEST).await?;
        stream.read_u8().await
    };
    let text = match answer.await {
        Ok(b'S') => return Ok(()),
        Ok(b'N') => "the server does not do TLS".to_owned(),
        Ok(b'E') => "the server answers the SSLRequest with an error".to_owned(),
        Ok(other) => format!("the server answers the SSLRequest with the byte {other:#04x}: it speaks no Postgres"),
        Err(error) => format!("the server does not answer the SSLRequest: {error}"),
    };
    Err(NotAccepted::unknown("starttls", text))
}
