//! Whether all servers do the same work for a handshake.

use std::process::Stdio;

use anyhow::{Context as _, bail};
use tokio::process::Command;

use super::scene::{Endpoint, Scene, Server};

/// What a client of the system's OpenSSL, which is libpq's, agrees on with a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Handshake {
    protocol: String,
    cipher: String,
    group: String,
    signature: String,
    asks_for_certificate: bool,
}

/// One handshake with each of the three, as a note.
///
/// # Errors
/// When they differ in what makes one dearer than another for each byte, or one does not ask for a certificate.
pub(super) async fn compare(scene: &Scene) -> anyhow::Result<String> {
    let servers = [Server::Sidecar, Server::PgBouncer, Server::Postgres];
    let mut agreed = Vec::new();
    for server in servers {
        agreed.push(handshake(scene.endpoint(server)).await.with_context(|| format!("{server:?}"))?);
    }
    judge(&agreed)?;
    let said = servers.iter().zip(&agreed).map(|(server, handshake)| {
        let Handshake { protocol, cipher, group, signature, .. } = handshake;
        format!("{server:?} {protocol}, {cipher}, {group}, {signature}")
    });
    let said = said.collect::<Vec<_>>().join("; ");
    Ok(format!(
        "Handshakes, looked at with OpenSSL before the rounds: {said}. All ask for a client certificate. No session is \
         resumed, as libpq keeps none."
    ))
}

fn judge(agreed: &[Handshake]) -> anyhow::Result<()> {
    let session = |handshake: &Handshake| (handshake.protocol.clone(), handshake.cipher.clone());
    let first = agreed.first().map(session);
    if agreed.iter().any(|handshake| Some(session(handshake)) != first) {
        bail!("the servers do not speak the same TLS: {agreed:?}");
    }
    if !agreed.iter().all(|handshake| handshake.asks_for_certificate) {
        bail!("a server asks for no client certificate: {agreed:?}");
    }
    Ok(())
}

async fn handshake(endpoint: &Endpoint) -> anyhow::Result<Handshake> {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-brief", "-starttls", "postgres", "-connect"]);
    command.arg(format!("127.0.0.1:{}", endpoint.port));
    command.arg("-cert").arg(&endpoint.certificate).arg("-key").arg(&endpoint.key);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    parse(&said).with_context(|| format!("openssl said: {said}"))
}

fn parse(said: &str) -> Option<Handshake> {
    let value = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let group = value("Server Temp Key").or_else(|| value("Negotiated TLS1.3 group"))?;
    Some(Handshake {
        protocol: value("Protocol version")?.to_owned(),
        cipher: value("Ciphersuite")?.to_owned(),
        group: group.split(", ").filter(|part| !part.ends_with(" bits")).collect::<Vec<_>>().join(" "),
        signature: format!("{} with {}", value("Signature type")?, value("Hash used")?),
        asks_for_certificate: value("Requested Signature Algorithms").is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "depth=0 CN = db\nCONNECTION ESTABLISHED\nProtocol version: TLSv1.3\n\
        Ciphersuite: TLS_AES_256_GCM_SHA384\nRequested Signature Algorithms: ECDSA+SHA256\n\
        Peer certificate: CN = db\nHash used: SHA256\nSignature type: ECDSA\nServer Temp Key: X25519, 253 bits\nDONE\n";

    #[test]
    fn what_openssl_says_is_understood() {
        let handshake = parse(SAID).unwrap();
        assert_eq!(handshake.group, "X25519");
        assert_eq!(handshake.signature, "ECDSA with SHA256");
        assert!(handshake.asks_for_certificate);
        assert_eq!(parse("connect: Connection refused"), None);
    }

    #[test]
    fn servers_that_do_other_work_are_not_compared() {
        let handshake = parse(SAID).unwrap();
        judge(&[handshake.clone(), handshake.clone()]).unwrap();
        let other_cipher = Handshake { cipher: "TLS_AES_128_GCM_SHA256".to_owned(), ..handshake.clone() };
        let no_request = Handshake { asks_for_certificate: false, ..handshake.clone() };
        for other in [other_cipher, no_request] {
            judge(&[handshake.clone(), other]).unwrap_err();
        }
    }
}
