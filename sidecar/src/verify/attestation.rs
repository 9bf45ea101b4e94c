//! What a sidecar's `/attestation` says.

use postern_attest::{MAX_NONCE, MIN_NONCE};
use postern_plumbing::http::{self, Request};
use url::Url;

use super::arguments::{Nonce, Verify};
use super::files;
use super::judge::{Judge, Proof};
use super::not_accepted::NotAccepted;
use super::report::{Database, Subject};
use crate::deadline::Deadline;
use crate::dial::Place;
use crate::http::Answer;

/// A quote of 16 KB and its event log are far below this.
const MAX_ANSWER: usize = 512 * 1024;

/// An answer, and the nonce that it must be made for.
pub(super) struct Given {
    answer: Answer,
    nonce: Option<String>,
}

/// Asks a server, with a nonce that nobody has seen before unless the arguments say otherwise.
pub(super) async fn fetched(arguments: &Verify, url: &Url, subject: &mut Subject) -> Result<Given, NotAccepted> {
    let nonce = match &arguments.nonce {
        Some(Nonce(chosen)) => chosen.clone(),
        None => Some(hex::encode(rand::random::<[u8; 32]>())),
    };
    let deadline = Deadline::after(arguments.timeout());
    let late = |_| NotAccepted::unknown("deadline", format!("no connection within {} s", arguments.timeout));
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let place = Place { host: bare, port: url.port_or_known_default().unwrap_or(80), address: arguments.address };
    let unreachable = |error| NotAccepted::unknown("unreachable", format!("{place} cannot be reached: {error}"));
    let stream = deadline.limit(place.connect()).await.map_err(late)?.map_err(unreachable)?;
    subject.address = stream.peer_addr().ok();
    let path = match &nonce {
        Some(nonce) => format!("{}?nonce={nonce}", url.path()),
        None => url.path().to_owned(),
    };
    let answer = http::send(stream, Request::get(host, &path), MAX_ANSWER, deadline.left()).await;
    let answer = answer.map_err(|error| NotAccepted::unknown("http", format!("{place}: {error}")))?;
    if !answer.is_success() {
        let text = format!("{place} answers with status {}: {}", answer.status, detail(&answer.body));
        return Err(NotAccepted::unknown("http_status", text));
    }
    Ok(Given { answer: parse(&answer.body)?, nonce })
}

/// Reads an answer from a file.
pub(super) fn read(arguments: &Verify, path: &std::path::Path) -> Result<Given, NotAccepted> {
    let answer = parse(&files::attestation(path)?)?;
    let nonce = arguments.nonce.as_ref().and_then(|Nonce(nonce)| nonce.clone());
    Ok(Given { answer, nonce })
}

impl Judge {
    /// An answer proves what its quote is bound to.
    pub(super) fn attestation(&self, given: &Given) -> Result<Proof, NotAccepted> {
        let Given { answer, nonce } = given;
        let raw = hex::decode(&answer.quote).map_err(|_| malformed("its quote is not in hex"))?;
        let mut proof = self.quote(&raw, answer.event_log.as_ref())?;
        if nonce.is_some() && answer.nonce != *nonce {
            let text = "the answer was not made for the nonce that was given; --nonce none accepts one that may be old";
            return Err(NotAccepted::refused("nonce", text));
        }
        if proof.claims.report_data != answer.bound() {
            let text = "the quote vouches for something else than the state, time and nonce in the answer";
            return Err(NotAccepted::refused("state_not_bound", text));
        }
        compare(answer, &proof)?;
        proof.database = Some(Database {
            wal_lsn: answer.postgres_state.wal_lsn.clone(),
            controldata_hash: answer.postgres_state.controldata_hash.clone(),
            pg_version: answer.postgres_state.pg_version.clone(),
            timestamp: answer.timestamp,
            // One that nobody has asked for shows nothing.
            nonce: nonce.clone(),
            tls_public_key: answer.nonce.as_ref().and(answer.tls_public_key.clone()),
        });
        Ok(proof)
    }
}

/// Whether what the answer says besides is what the quote and the event log say.
fn compare(answer: &Answer, proof: &Proof) -> Result<(), NotAccepted> {
    let claims = &proof.claims;
    let [rtmr0, rtmr1, rtmr2, rtmr3] = claims.rtmr.map(|register| register.to_string());
    let info = &answer.tcb_info;
    let mut pairs = vec![
        ("tcb_info.mrtd", &info.mrtd, claims.mrtd.to_string()),
        ("tcb_info.rtmr0", &info.rtmr0, rtmr0),
        ("tcb_info.rtmr1", &info.rtmr1, rtmr1),
        ("tcb_info.rtmr2", &info.rtmr2, rtmr2),
        ("tcb_info.rtmr3", &info.rtmr3, rtmr3),
    ];
    if let Some(app) = &proof.app {
        pairs.push(("app_id", &answer.app_id, app.app_id.to_string()));
        pairs.push(("compose_hash", &answer.compose_hash, app.compose_hash.to_string()));
        pairs.push(("instance_id", &answer.instance_id, app.instance_id.to_string()));
    }
    if let Some(said) = &answer.report_data {
        pairs.push(("report_data", said, hex::encode(claims.report_data)));
    }
    for (name, said, is) in pairs {
        if !said.eq_ignore_ascii_case(&is) {
            let text = format!("the answer's {name} is not what the quote says that it is");
            return Err(NotAccepted::refused("contradicted", text));
        }
    }
    Ok(())
}

fn parse(body: &[u8]) -> Result<Answer, NotAccepted> {
    serde_json::from_slice(body).map_err(|error| malformed(&error.to_string()))
}

fn malformed(detail: &str) -> NotAccepted {
    NotAccepted::refused("attestation_malformed", format!("the answer is no attestation: {detail}"))
}

/// What a refusal says about itself.
fn detail(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Problem {
        detail: String,
    }
    let problem = serde_json::from_slice(body).map(|Problem { detail }| detail);
    problem.unwrap_or_else(|_| "it does not say why".to_owned()).chars().take(200).collect()
}

/// Reads the address of an `/attestation`; one without a path is given that.
pub(super) fn url(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text).map_err(|error| error.to_string())?;
    if url.scheme() != "http" {
        return Err("expected http://: what is fetched proves itself, and needs no certificate".to_owned());
    }
    if !url.has_host() || !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err("expected http://, a host and a path, and nothing else".to_owned());
    }
    if url.path() == "/" {
        url.set_path("/attestation");
    }
    Ok(url)
}

/// Reads a nonce, or the word for none.
pub(super) fn nonce(text: &str) -> Result<Nonce, String> {
    if text == "none" {
        return Ok(Nonce(None));
    }
    let bytes = hex::decode(text).map_err(|_| "expected hex, or none".to_owned())?;
    if !(MIN_NONCE..=MAX_NONCE).contains(&bytes.len()) {
        return Err(format!("expected {MIN_NONCE} to {MAX_NONCE} bytes in hex, or none"));
    }
    Ok(Nonce(Some(hex::encode(bytes))))
}

#[cfg(test)]
mod tests {
    use super::{nonce, url};

    #[test]
    fn addresses_are_plain_http_and_have_a_path() {
        for (text, address) in [
            ("http://db.example:8080", "http://db.example:8080/attestation"),
            ("http://db.example/attestation", "http://db.example/attestation"),
            ("http://[::1]:8080/a", "http://[::1]:8080/a"),
        ] {
            assert_eq!(url(text).unwrap().as_str(), address);
        }
        for text in ["https://db.example", "http://", "http://a@b/", "http://a/?nonce=1", "db.example:8080"] {
            assert!(url(text).is_err(), "{text}");
        }
        assert_eq!(nonce(&"AB".repeat(16)).unwrap().0, Some("ab".repeat(16)));
        assert_eq!(nonce("none").unwrap().0, None);
        assert!(nonce("abcd").is_err() && nonce("no").is_err());
    }
}
