//! A server, and the verified connections to it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postern_attest::{Appraisal, PeerPolicy};
use postern_attest_io::{Attested, Attestor, Connector};
use postern_identity::{AppId, InstanceId};
use postern_pgwire::cancel::CancelKey;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::choice::{Known, Said};
use super::circuit::{Away, Circuit};
use super::failure::Failure;
use super::pool::{Pool, PoolSize};
use crate::deadline::Deadline;
use crate::dial::Place;
use crate::packets;
use crate::serve::reappraisal::Evidence;

/// How long a driver waits for the end of a cancel request.
const CANCEL: Duration = Duration::from_secs(10);
/// How often warm connections are looked at, and how long after a failure a new one is tried.
const LOOK: Duration = Duration::from_secs(1);
/// How many certificates are remembered as logged, so that each is logged once.
const LOGGED: usize = 256;
/// The port of sidecars inside tunnels, as `[wireguard]` has it by default.
const SIDECAR_PORT: u16 = 5433;

/// What a server is, and what it must prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// What it is called in logs, metrics and refusals.
    pub name: String,
    /// Where it is.
    pub place: Place,
    /// What it must prove to be.
    pub peer: PeerPolicy,
}

/// A server.
#[derive(Debug)]
pub struct Target {
    expected: Expected,
    connector: Connector,
    attestor: Arc<Attestor>,
    /// How long one attempt to connect to it may take.
    attempt: Duration,
    circuit: Circuit,
    pool: Pool,
    said: Mutex<Option<Said>>,
    sessions: AtomicUsize,
    logged: Mutex<Logged>,
}

/// The certificates that were logged last.
#[derive(Debug, Default)]
struct Logged(VecDeque<[u8; 32]>);

impl Logged {
    /// Whether a certificate is not one of them. It is from now on.
    fn is_first(&mut self, fingerprint: [u8; 32]) -> bool {
        if self.0.contains(&fingerprint) {
            return false;
        }
        if self.0.len() >= LOGGED {
            self.0.pop_front();
        }
        self.0.push_back(fingerprint);
        true
    }
}

/// A server that was verified, and what it was verified by.
#[derive(Debug)]
pub struct Verified {
    /// The connection.
    pub server: Attested<TcpStream>,
    /// What it is judged by while it lasts.
    pub evidence: Evidence,
    /// Whether it has waited for its driver.
    pub warm: bool,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum Unmade {
    /// None was tried.
    Away(Away),
    /// One was tried.
    Failed(Arc<Failure>),
}

/// Counts a session of a server while it lives.
#[derive(Debug)]
pub struct Counted(Arc<Target>);

impl Target {
    /// A server that is judged by `attestor`, and asked by `connector`. Whoever waits for `changed` learns when it is away
    /// and when it is back.
    #[must_use]
    pub fn new(
        expected: Expected,
        connector: Connector,
        attestor: Arc<Attestor>,
        attempt: Duration,
        pool: PoolSize,
        changed: Arc<Notify>,
    ) -> Arc<Self> {
        let circuit = Circuit::new(expected.name.clone(), changed);
        let (said, sessions, logged) = Default::default();
        Arc::new(Self {
            expected,
            connector,
            attestor,
            attempt,
            circuit,
            pool: Pool::new(pool),
            said,
            sessions,
            logged,
        })
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.expected.name
    }

    /// What it must prove to be.
    #[must_use]
    pub fn peer(&self) -> &PeerPolicy {
        &self.expected.peer
    }

    /// What is known of it before it is tried.
    #[must_use]
    pub fn known(&self) -> Known {
        let said = *self.said.lock().unwrap_or_else(PoisonError::into_inner);
        Known { sessions: self.sessions.load(Ordering::Relaxed), said }
    }

    /// Remembers what it said at a login.
    pub fn said(&self, said: Said) {
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
    }

    /// Counts a session while what is returned lives.
    #[must_use]
    pub fn count(self: &Arc<Self>) -> Counted {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(self))
    }

    /// How many connections to it are kept ready.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.pool.count()
    }

    /// Whether its name is an app's at a gateway, behind which there may be several instances.
    #[must_use]
    pub fn has_instances(&self) -> bool {
        self.instance_name(InstanceId([0; 20])).is_some()
    }

    /// A connection that was kept ready, or else a new one.
    ///
    /// # Errors
    /// When it is known to be away, or the attempt fails.
    pub async fn connection(&self, deadline: Deadline) -> Result<Verified, Unmade> {
        match self.pool.take() {
            Some(verified) => Ok(verified),
            None => self.new_connection(deadline).await,
        }
    }

    /// A new connection, in which it is verified.
    ///
    /// # Errors
    /// As [`Target::connection`].
    pub async fn new_connection(&self, deadline: Deadline) -> Result<Verified, Unmade> {
        let attempt = self.circuit.enter(Instant::now()).map_err(Unmade::Away)?;
        // A driver that leaves little time for the attempt learns nothing about the server.
        let telling = deadline.left().saturating_mul(2) >= self.attempt;
        match Box::pin(self.connect(&self.expected.place.host, deadline)).await {
            Ok(verified) => {
                attempt.succeeded();
                Ok(verified)
            }
            Err(failure) => {
                let failure = Arc::new(failure);
                if telling || !failure.is_late() {
                    attempt.failed(Arc::clone(&failure));
                }
                Err(Unmade::Failed(failure))
            }
        }
    }

    /// Connects, asks for `name` and verifies who answers.
    async fn connect(&self, name: &str, deadline: Deadline) -> Result<Verified, Failure> {
        let place = || self.name().to_owned();
        let deadline = deadline.at_most(self.attempt);
        let stream = deadline.limit(self.expected.place.connect()).await;
        let stream = stream
            .map_err(|_| Failure::Deadline { place: place() })?
            .map_err(|source| Failure::Unreachable { place: place(), source })?;
        let evidence = Evidence::awaited(&self.attestor);
        let connect = self.connector.connect(stream, name, self.peer(), deadline.left());
        let server = Box::pin(connect).await.map_err(|source| Failure::Refused { place: place(), source })?;
        if let Some(peer) = &server.peer {
            self.log_once(peer);
        }
        let evidence = evidence.shown(server.stream.get_ref().1);
        Ok(Verified { server, evidence, warm: false })
    }

    /// Carries a cancel request inside TLS, to one of its instances where that is known. The driver takes the end of its
    /// connection for the sign that the request was acted on, so that end is awaited here.
    ///
    /// # Errors
    /// When the request cannot be carried.
    pub async fn cancel(
        &self,
        key: &CancelKey,
        instance: Option<InstanceId>,
        deadline: Deadline,
    ) -> Result<(), Failure> {
        let named = match instance.and_then(|instance| self.instance_name(instance)) {
            // A gateway that does not serve sidecars at this port leaves the name of the app.
            Some(name) => Box::pin(self.connect(&name, deadline)).await.ok(),
            None => None,
        };
        let verified = match named {
            Some(verified) => verified,
            None => Box::pin(self.connect(&self.expected.place.host, deadline)).await?,
        };
        let mut server = verified.server.stream;
        let delivered = async {
            packets::write(&mut server, &key.request()).await?;
            // Whatever ends the reading ends the wait: nothing is ever answered.
            drop(server.read(&mut [0; 1]).await);
            Ok(())
        };
        match tokio::time::timeout(CANCEL, delivered).await {
            Ok(delivered) => delivered.map_err(|source| self.broken(source)),
            Err(_) => Err(Failure::Deadline { place: self.name().to_owned() }),
        }
    }

    /// It closed, or broke off.
    #[must_use]
    pub fn broken(&self, source: std::io::Error) -> Failure {
        Failure::Broken { place: self.name().to_owned(), source }
    }

    /// Keeps connections ready, for ever. When collateral or policy change, those that were judged by the old ones make
    /// room for new ones.
    ///
    /// # Errors
    /// Never.
    pub async fn keep_warm(self: Arc<Self>) -> Result<Infallible, Infallible> {
        loop {
            for mut old in self.pool.sort_out() {
                packets::close(&mut old.server.stream).await;
            }
            let rules = self.attestor.changes();
            let mut changes = rules.clone();
            if self.pool.has_room() {
                if let Ok(mut verified) = Box::pin(self.new_connection(Deadline::after(self.attempt))).await {
                    verified.warm = true;
                    self.pool.put(verified, rules);
                    continue;
                }
                sleep(LOOK).await;
            }
            tokio::select! {
                () = self.pool.taken.notified() => {}
                _ = changes.changed() => {}
                () = sleep(LOOK) => {}
            }
        }
    }

    /// The name by which a gateway finds one instance of the app that our name for it stands for.
    fn instance_name(&self, instance: InstanceId) -> Option<String> {
        instance_name(&self.expected.place.host, instance)
    }

    fn log_once(&self, peer: &Appraisal) {
        if !self.logged.lock().unwrap_or_else(PoisonError::into_inner).is_first(peer.fingerprint) {
            return;
        }
        tracing::info!(
            server = self.name(),
            app_id = %peer.identity.app_id,
            compose_hash = %peer.identity.compose_hash,
            instance_id = %peer.identity.instance_id,
            tcb_status = peer.tcb_status,
            certificate = hex::encode(peer.fingerprint),
            "server verified"
        );
    }
}

impl Counted {
    /// What the server must prove to be.
    #[must_use]
    pub fn peer(&self) -> &PeerPolicy {
        self.0.peer()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

fn instance_name(host: &str, instance: InstanceId) -> Option<String> {
    let (label, domain) = host.split_once('.')?;
    let _app: AppId = label.strip_suffix('s')?.parse().ok()?;
    Some(format!("{instance}-{SIDECAR_PORT}s.{domain}"))
}

#[cfg(test)]
mod tests {
    use postern_identity::InstanceId;

    use super::{LOGGED, Logged, instance_name};

    #[test]
    fn an_instance_has_a_name_where_its_app_has_one_at_a_gateway() {
        let (app, instance) = ("0a".repeat(20), InstanceId([0x1f; 20]));
        let name = format!("{}-5433s.postern.test", "1f".repeat(20));
        assert_eq!(instance_name(&format!("{app}s.postern.test"), instance), Some(name));
        for host in [app.clone(), format!("{app}.postern.test"), "dbs.postern.test".to_owned(), "127.0.0.1".to_owned()]
        {
            assert_eq!(instance_name(&host, instance), None, "{host}");
        }
    }

    #[test]
    fn each_certificate_is_logged_once_and_few_are_remembered() {
        let mut logged = Logged::default();
        let number = |number: usize| number.to_be_bytes().repeat(4).try_into().unwrap();
        assert!(logged.is_first(number(0)) && logged.is_first(number(1)));
        assert!(!logged.is_first(number(0)) && !logged.is_first(number(1)), "they take turns");
        assert!((2..=LOGGED).all(|next| logged.is_first(number(next))));
        assert_eq!(logged.0.len(), LOGGED);
        assert!(logged.is_first(number(0)));
    }
}
