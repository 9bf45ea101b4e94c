//! A Postgres that is played: SCRAM, provisioning statements, cancels, and several ways to misbehave.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use postern_pgwire::cancel::CancelKey;
use postern_pgwire::error_response::ErrorResponse;
use postern_pgwire::negotiation::Version;
use postern_pgwire::opening::Opening;
use postern_pgwire::sqlstate::SqlState;
use postern_pgwire::startup::Startup;
use postern_plumbing::tasks::{Task, Tasks};
use postern_sidecar::packets::{self, ReadError};
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

use crate::scram_server::ScramServer;

/// The size of a row in a copy.
pub(crate) const ROW: usize = 8_187;

/// How it behaves towards those who log in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As Postgres does.
    #[default]
    Proper,
    /// As PostgreSQL 18 does: it speaks protocol 3.2, where cancel keys have 32 bytes.
    Newer,
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
    /// Announces a message that is longer than any.
    Huge,
    /// Announces a message of a negative length.
    Negative,
    /// Never answers.
    Stall,
    /// Begins the login and never ends it.
    StallInLogin,
    /// Lets the client in, and never gets ready.
    StallInGreeting,
    /// Lets the client in, and talks without end.
    Talkative,
    /// Is ready, answers the first query with half a message and closes.
    BreakOff,
    /// The same, but goes no further instead.
    Halt,
}

/// A row with the state that it says it has.
const STATE: &[u8] = b"\0\x03\0\0\0\x090/16B3748\0\0\0\x04c0de\0\0\0\x0417.0";

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
    /// Wakes the backend of this process id for its end.
    backends: Mutex<BTreeMap<u32, Arc<Notify>>>,
    sessions: AtomicU32,
    /// Backends of clients.
    open: AtomicUsize,
    /// Bytes that were copied in or out.
    copied: AtomicU64,
    /// Lets `copy in` read.
    may_read: Notify,
    standby: Mutex<Option<bool>>,
    tasks: Mutex<Tasks>,
}

impl Postgres {
    /// A server in `directory` whose superuser `postgres` has this password.
    pub(crate) fn start(directory: &Path, password: &str) -> Self {
        let state = Arc::new(State::default());
        let verifier = postern_pgwire::scram::verifier(password.as_bytes(), &[7; 16]);
        state.verifiers.lock().unwrap().insert("postgres".to_owned(), verifier);
        let listener = UnixListener::bind(directory.join(".s.PGSQL.5432")).unwrap();
        let accepting = Arc::clone(&state);
        let task = Task::spawn("played postgres", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&accepting);
                accepting
                    .tasks
                    .lock()
                    .unwrap()
                    .spawn("played session", async move { drop(state.connection(stream).await) });
            }
        });
        Self { state, _task: task }
    }

    /// Behaves differently from now on.
    pub(crate) fn set(&self, manner: Manner) {
        *self.state.manner.lock().unwrap() = manner;
    }

    /// Ends every connection that waits for nothing that would come.
    pub(crate) async fn forget_connections(&self) {
        let tasks = std::mem::take(&mut *self.state.tasks.lock().unwrap());
        tasks.close_and_wait(Duration::from_millis(50)).await;
    }

    /// Says from now on whether it is in recovery.
    pub(crate) fn stand_by(&self, standby: bool) {
        *self.state.standby.lock().unwrap() = Some(standby);
    }

    /// The startup packets of clients, without the sidecar's own sessions and questions.
    pub(crate) fn startups(&self) -> Vec<Startup> {
        let ours = |startup: &&Startup| {
            startup.parameter(b"application_name") != Some(b"postern-sidecar") && startup.version() != Version::GREASE
        };
        self.state.startups.lock().unwrap().iter().filter(ours).cloned().collect()
    }

    /// How many connections of clients are open that are logged in.
    pub(crate) fn open(&self) -> usize {
        self.state.open.load(Ordering::Relaxed)
    }

    /// The statements that were run.
    pub(crate) fn statements(&self) -> Vec<String> {
        self.state.statements.lock().unwrap().clone()
    }

    /// How many bytes were copied in or out.
    pub(crate) fn copied(&self) -> u64 {
        self.state.copied.load(Ordering::Relaxed)
    }

    /// Lets `copy in` read.
    pub(crate) fn let_copy_in(&self) {
        self.state.may_read.notify_one();
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
        self.startups.lock().unwrap().push(startup.clone());
        let manner = *self.manner.lock().unwrap();
        let newest = if manner == Manner::Newer { Version::V3_2 } else { Version::V3_0 };
        let version = self.negotiate(&mut stream, &startup, newest).await?;
        if let Some(early) = early(manner) {
            stream.write_all(&early).await?;
            if matches!(manner, Manner::Stall | Manner::StallInLogin) {
                std::future::pending::<()>().await;
            }
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
        // The sidecar's own sessions get what they need.
        if user != "postgres" {
            self.misbehave_in_greeting(&mut stream, manner).await?;
        }
        let pid = 1_000 + self.sessions.fetch_add(1, Ordering::Relaxed);
        let secret = if version >= Version::V3_2 { vec![9; 32] } else { vec![9; 4] };
        let key = CancelKey::new(pid, &secret).unwrap();
        stream.write_all(&message(b'S', b"server_version\x0017.0\0")).await?;
        let standby = *self.standby.lock().unwrap();
        if let Some(standby) = standby.map(|standby| if standby { "on" } else { "off" }) {
            stream.write_all(&message(b'S', format!("in_hot_standby\0{standby}\0").as_bytes())).await?;
            stream.write_all(&message(b'S', b"default_transaction_read_only\0off\0")).await?;
        }
        stream.write_all(&key.backend_key_data()).await?;
        stream.write_all(&message(b'Z', b"I")).await?;
        if matches!(manner, Manner::BreakOff | Manner::Halt) && user != "postgres" {
            packets::message(&mut stream, &mut buf, 10_000).await?;
            stream.write_all(b"D\0\0\x01\0half").await?;
            if manner == Manner::Halt {
                std::future::pending::<()>().await;
            }
            return Ok(());
        }
        let counted =
            usize::from(user != "postgres" && startup.parameter(b"application_name") != Some(b"postern-sidecar"));
        self.open.fetch_add(counted, Ordering::Relaxed);
        let served = self.backend(stream, buf, key).await;
        self.open.fetch_sub(counted, Ordering::Relaxed);
        served
    }

    async fn misbehave_in_greeting(&self, stream: &mut UnixStream, manner: Manner) -> Result<(), ReadError> {
        if manner == Manner::StallInGreeting {
            std::future::pending::<()>().await;
        }
        if manner != Manner::Talkative {
            return Ok(());
        }
        loop {
            stream.write_all(&message(b'S', &[b'x'; 60_000])).await?;
        }
    }

    /// Answers queries until the client leaves, or somebody ends the session.
    async fn backend(&self, mut stream: UnixStream, buf: BytesMut, key: CancelKey) -> Result<(), ReadError> {
        let (pid, ended) = (key.process_id(), Arc::new(Notify::new()));
        self.backends.lock().unwrap().insert(pid, Arc::clone(&ended));
        let last_words = tokio::select! {
            served = self.queries(&mut stream, buf, key) => served.map(|()| Bytes::new()),
            () = ended.notified() => {
                Ok(refusal(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command"))
            }
        };
        self.backends.lock().unwrap().remove(&pid);
        Ok(stream.write_all(&last_words?).await?)
    }

    /// Names the newest version and the unknown options where the client asked for others, as Postgres does.
    async fn negotiate(
        &self,
        stream: &mut UnixStream,
        startup: &Startup,
        newest: Version,
    ) -> Result<Version, ReadError> {
        let unknown: Vec<_> =
            startup.parameters().map(|(name, _)| name).filter(|name| name.starts_with(b"_pq_.")).collect();
        let version = startup.version().min(newest);
        if version < startup.version() || !unknown.is_empty() {
            let count = u32::try_from(unknown.len()).unwrap().to_be_bytes();
            let names: Vec<u8> = unknown.iter().flat_map(|name| [*name, &[0]].concat()).collect();
            let body = [version.code().to_be_bytes().as_slice(), &count, &names].concat();
            stream.write_all(&message(b'v', &body)).await?;
        }
        Ok(version)
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

    async fn queries(&self, stream: &mut UnixStream, mut buf: BytesMut, key: CancelKey) -> Result<(), ReadError> {
        loop {
            let query = packets::message(stream, &mut buf, 10_000_000).await?;
            if query.tag() != b'Q' {
                return Ok(());
            }
            let sql = String::from_utf8_lossy(query.body()).trim_end_matches('\0').to_owned();
            self.statements.lock().unwrap().push(sql.clone());
            self.remember_role(&sql);
            self.terminate(&sql);
            match sql.strip_prefix("copy out ") {
                Some(bytes) => self.copy_out(stream, bytes.parse().unwrap()).await?,
                None if sql == "copy in" => self.copy_in(stream, &mut buf).await?,
                None if sql.contains("pg_control_system") => stream.write_all(&message(b'D', STATE)).await?,
                None => {}
            }
            let answer = match sql.as_str() {
                "sleep" => self.sleep(&key).await,
                "DISCARD ALL" => message(b'C', b"DISCARD ALL\0"),
                _ => message(b'C', sql.as_bytes()),
            };
            stream.write_all(&answer).await?;
            stream.write_all(&message(b'Z', b"I")).await?;
        }
    }

    async fn copy_out(&self, stream: &mut UnixStream, bytes: u64) -> Result<(), ReadError> {
        stream.write_all(&message(b'H', &[0, 0, 0])).await?;
        let row = message(b'd', &[b'x'; ROW]);
        for _ in 0..bytes / ROW as u64 {
            stream.write_all(&row).await?;
            self.copied.fetch_add(ROW as u64, Ordering::Relaxed);
        }
        Ok(stream.write_all(&message(b'c', b"")).await?)
    }

    /// Reads nothing until it is told to.
    async fn copy_in(&self, stream: &mut UnixStream, buf: &mut BytesMut) -> Result<(), ReadError> {
        stream.write_all(&message(b'G', &[0, 0, 0])).await?;
        self.may_read.notified().await;
        loop {
            let message = packets::message(stream, buf, 1 << 20).await?;
            if message.tag() == b'c' {
                return Ok(());
            }
            self.copied.fetch_add(message.body().len() as u64, Ordering::Relaxed);
        }
    }

    async fn sleep(&self, key: &CancelKey) -> Bytes {
        let woken = Arc::new(Notify::new());
        self.sleepers.lock().unwrap().push((key.clone(), Arc::clone(&woken)));
        woken.notified().await;
        self.sleepers.lock().unwrap().retain(|(sleeper, _)| sleeper != key);
        refusal(SqlState::QUERY_CANCELED, "canceling statement due to user request")
    }

    fn terminate(&self, sql: &str) {
        let Some((_, list)) =
            sql.split_once("pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE pid IN (")
        else {
            return;
        };
        let backends = self.backends.lock().unwrap();
        for pid in list.trim_end_matches(')').split(", ") {
            backends[&pid.parse().unwrap()].notify_one();
        }
    }

    fn remember_role(&self, sql: &str) {
        let Some((_, altered)) = sql.split_once("ALTER ROLE \"") else { return };
        let (role, rest) = altered.split_once('"').unwrap();
        let verifier = rest.split_once("PASSWORD '").unwrap().1.split_once('\'').unwrap().0;
        self.verifiers.lock().unwrap().insert(role.to_owned(), verifier.to_owned());
    }
}

/// What is said instead of a login.
fn early(manner: Manner) -> Option<Bytes> {
    match manner {
        Manner::Proper
        | Manner::Newer
        | Manner::NoDatabase
        | Manner::StallInGreeting
        | Manner::Talkative
        | Manner::BreakOff
        | Manner::Halt => None,
        Manner::Trust => Some(message(b'R', &[0; 4])),
        Manner::Cleartext => Some(message(b'R', &[0, 0, 0, 3])),
        Manner::Forgetful => Some(refusal(SqlState::INVALID_PASSWORD, "password authentication failed")),
        Manner::Starting => Some(refusal(SqlState::CANNOT_CONNECT_NOW, "the database system is starting up")),
        Manner::Garbage => Some(Bytes::from_static(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        Manner::HangUp => Some(Bytes::from_static(b"R\0\0\0\x17\0\0")),
        Manner::Huge => Some(Bytes::from_static(b"R\x7f\xff\xff\xff\0\0")),
        Manner::Negative => Some(Bytes::from_static(b"R\xff\xff\xff\xff\0\0")),
        Manner::Stall => Some(Bytes::new()),
        Manner::StallInLogin => Some(authentication(10, b"SCRAM-SHA-256\0\0")),
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
