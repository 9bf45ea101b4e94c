//! A Postgres that is played: SCRAM, provisioning statements, cancels, and several ways to misbehave.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{BufMut, Bytes, BytesMut};
use postern_pgwire::cancel::CancelKey;
use postern_pgwire::error_response::ErrorResponse;
use postern_pgwire::opening::Opening;
use postern_pgwire::sqlstate::SqlState;
use postern_pgwire::startup::Startup;
use postern_plumbing::tasks::{Task, Tasks};
use postern_sidecar::packets::{self, ReadError};
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

use crate::scram_server::ScramServer;

/// How it behaves towards those who log in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As Postgres does.
    #[default]
    Proper,
    /// As PostgreSQL 18 does towards protocol 3.2: cancel keys have 32 bytes.
    LongKeys,
    /// Lets everybody in without a password.
    Trust,
    /// Asks for the password in clear.
    Cleartext,
    /// Has the roles forgotten.
    Forgetful,
    /// Says that it is starting.
    Starting,
    /// Knows no database.
    NoDatabase,
    /// Answers with bytes that are no message.
    Garbage,
    /// Closes in the middle of a message.
    HangUp,
    /// Never answers.
    Stall,
}

/// The server. It ends when it is dropped.
pub(crate) struct Postgres {
    state: Arc<State>,
    _task: Task<()>,
}

#[derive(Default)]
struct State {
    manner: Mutex<Manner>,
    verifiers: Mutex<BTreeMap<String, String>>,
    startups: Mutex<Vec<Startup>>,
    statements: Mutex<Vec<String>>,
    sleepers: Mutex<Vec<(CancelKey, Arc<Notify>)>>,
    sessions: AtomicU32,
    tasks: Tasks,
}

impl Postgres {
    /// A server in `directory` whose superuser `postgres` has this password.
    pub(crate) fn start(directory: &Path, password: &str) -> Self {
        let state = Arc::new(State::default());
        let verifier = postern_pgwire::login::scram_verifier(password.as_bytes());
        state.verifiers.lock().unwrap().insert("postgres".to_owned(), verifier);
        let listener = UnixListener::bind(directory.join(".s.PGSQL.5432")).unwrap();
        let accepting = Arc::clone(&state);
        let task = Task::spawn("played postgres", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&accepting);
                accepting.tasks.spawn("played session", async move { drop(state.connection(stream).await) });
            }
        });
        Self { state, _task: task }
    }

    /// Behaves differently from now on.
    pub(crate) fn set(&self, manner: Manner) {
        *self.state.manner.lock().unwrap() = manner;
    }

    /// The startup packets of clients, without the sidecar's own sessions.
    pub(crate) fn startups(&self) -> Vec<Startup> {
        let ours = |startup: &&Startup| startup.parameter(b"application_name") != Some(b"postern-sidecar");
        self.state.startups.lock().unwrap().iter().filter(ours).cloned().collect()
    }

    /// The statements that were run.
    pub(crate) fn statements(&self) -> Vec<String> {
        self.state.statements.lock().unwrap().clone()
    }

    /// What is stored for a role.
    pub(crate) fn verifier(&self, role: &str) -> Option<String> {
        self.state.verifiers.lock().unwrap().get(role).cloned()
    }

    /// The keys of the sessions that sleep.
    pub(crate) fn sleepers(&self) -> Vec<CancelKey> {
        self.state.sleepers.lock().unwrap().iter().map(|(key, _)| key.clone()).collect()
    }
}

impl State {
    async fn connection(&self, mut stream: UnixStream) -> Result<(), ReadError> {
        let mut buf = BytesMut::new();
        match packets::opening(&mut stream, &mut buf).await? {
            Opening::Startup(startup) => self.session(stream, buf, startup).await,
            Opening::Cancel(key) => {
                let sleepers = self.sleepers.lock().unwrap();
                for (_, woken) in sleepers.iter().filter(|(sleeper, _)| *sleeper == key) {
                    woken.notify_one();
                }
                Ok(())
            }
            Opening::Tls | Opening::SslRequest | Opening::GssEncRequest => Ok(()),
        }
    }

    async fn session(&self, mut stream: UnixStream, mut buf: BytesMut, startup: Startup) -> Result<(), ReadError> {
        let user = String::from_utf8_lossy(startup.user()).into_owned();
        self.startups.lock().unwrap().push(startup);
        let manner = *self.manner.lock().unwrap();
        let early = match manner {
            Manner::Proper | Manner::LongKeys | Manner::NoDatabase => None,
            Manner::Trust => Some(message(b'R', &[0; 4])),
            Manner::Cleartext => Some(message(b'R', &[0, 0, 0, 3])),
            Manner::Forgetful => Some(refusal(SqlState::INVALID_PASSWORD, "password authentication failed")),
            Manner::Starting => Some(refusal(SqlState::CANNOT_CONNECT_NOW, "the database system is starting up")),
            Manner::Garbage => Some(Bytes::from_static(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
            Manner::HangUp => Some(Bytes::from_static(b"R\0\0\0\x17\0\0")),
            Manner::Stall => std::future::pending().await,
        };
        if let Some(early) = early {
            stream.write_all(&early).await?;
            return Ok(());
        }
        if !self.authenticate(&mut stream, &mut buf, &user).await? {
            stream.write_all(&refusal(SqlState::INVALID_PASSWORD, "password authentication failed")).await?;
            return Ok(());
        }
        stream.write_all(&message(b'R', &[0; 4])).await?;
        if manner == Manner::NoDatabase && user != "postgres" {
            stream.write_all(&refusal(SqlState::INVALID_AUTHORIZATION, "database does not exist")).await?;
            return Ok(());
        }
        let pid = 1_000 + self.sessions.fetch_add(1, Ordering::Relaxed);
        let secret = if manner == Manner::LongKeys { vec![9; 32] } else { vec![9; 4] };
        let key = CancelKey::new(pid, &secret).unwrap();
        stream.write_all(&message(b'S', b"server_version\x0017.0\0")).await?;
        stream.write_all(&key.backend_key_data()).await?;
        stream.write_all(&message(b'Z', b"I")).await?;
        self.queries(stream, buf, key).await
    }

    async fn authenticate(&self, stream: &mut UnixStream, buf: &mut BytesMut, user: &str) -> Result<bool, ReadError> {
        let verifier = self.verifiers.lock().unwrap().get(user).cloned();
        let Some(verifier) = verifier else { return Ok(false) };
        let mut scram = ScramServer::new(&verifier);
        stream.write_all(&authentication(10, b"SCRAM-SHA-256\0\0")).await?;
        let first = packets::message(stream, buf, 1_000).await?;
        let first = first.body().strip_prefix(b"SCRAM-SHA-256\0").unwrap();
        let challenge = scram.challenge(std::str::from_utf8(&first[4..]).unwrap());
        stream.write_all(&authentication(11, challenge.as_bytes())).await?;
        let last = packets::message(stream, buf, 1_000).await?;
        let Some(signature) = scram.conclude(std::str::from_utf8(last.body()).unwrap()) else { return Ok(false) };
        stream.write_all(&authentication(12, signature.as_bytes())).await?;
        Ok(true)
    }

    async fn queries(&self, mut stream: UnixStream, mut buf: BytesMut, key: CancelKey) -> Result<(), ReadError> {
        loop {
            let query = packets::message(&mut stream, &mut buf, 10_000_000).await?;
            if query.tag() != b'Q' {
                return Ok(());
            }
            let sql = String::from_utf8_lossy(query.body()).trim_end_matches('\0').to_owned();
            self.statements.lock().unwrap().push(sql.clone());
            self.remember_role(&sql);
            let answer = if sql == "sleep" { self.sleep(&key).await } else { message(b'C', sql.as_bytes()) };
            stream.write_all(&answer).await?;
            stream.write_all(&message(b'Z', b"I")).await?;
        }
    }

    async fn sleep(&self, key: &CancelKey) -> Bytes {
        let woken = Arc::new(Notify::new());
        self.sleepers.lock().unwrap().push((key.clone(), Arc::clone(&woken)));
        woken.notified().await;
        self.sleepers.lock().unwrap().retain(|(sleeper, _)| sleeper != key);
        refusal(SqlState::QUERY_CANCELED, "canceling statement due to user request")
    }

    fn remember_role(&self, sql: &str) {
        let Some((_, altered)) = sql.split_once("ALTER ROLE \"") else { return };
        let (role, rest) = altered.split_once('"').unwrap();
        let verifier = rest.split_once("PASSWORD '").unwrap().1.split_once('\'').unwrap().0;
        self.verifiers.lock().unwrap().insert(role.to_owned(), verifier.to_owned());
    }
}

/// One message.
pub(crate) fn message(tag: u8, body: &[u8]) -> Bytes {
    let mut message = BytesMut::new();
    message.put_u8(tag);
    message.put_u32(u32::try_from(body.len() + 4).unwrap());
    message.put_slice(body);
    message.freeze()
}

fn authentication(method: u32, data: &[u8]) -> Bytes {
    message(b'R', &[method.to_be_bytes().as_slice(), data].concat())
}

fn refusal(sqlstate: SqlState, text: &str) -> Bytes {
    ErrorResponse::fatal(sqlstate, text).encode()
}
