//! A service that gives collateral, or does not.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postern_attest::{Collateral, CollateralSet, Fmspc};
use postern_plumbing::clock::unix_now;
use postern_plumbing::tasks::Task;
use postern_simulator::Tee;
use postern_simulator::collateral_service::{self, Document};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::TEE;

/// How the service behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Honest,
    /// Honest, after a while.
    Slow(Duration),
    /// It takes the question and says nothing.
    Silent,
    /// It answers with this status.
    Status(u16),
    /// It promises more than it sends.
    Truncated,
    /// It sends without end.
    Oversized,
    /// It does not speak HTTP.
    Garbage,
    /// Its answers are no collateral.
    NoJson,
    /// It leaves out who issued what.
    NoChain,
    /// It sends away to somebody else.
    Redirecting,
    /// It says that an old platform is up to date.
    Lying,
    /// It gives the collateral of another kind of platform.
    OtherPlatform,
}

pub(crate) struct Pccs {
    address: SocketAddr,
    state: Arc<State>,
    _serving: Task<()>,
}

struct State {
    mood: Mutex<Mood>,
    set: Mutex<CollateralSet>,
    requests: AtomicUsize,
}

impl Pccs {
    pub(crate) async fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = Arc::new(State {
            mood: Mutex::new(mood),
            set: Mutex::new(TEE.collateral(unix_now()).unwrap()),
            requests: AtomicUsize::new(0),
        });
        let (address, serving) = (listener.local_addr().unwrap(), Arc::clone(&state));
        let accepting = Task::spawn("pccs", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&serving);
                Task::spawn("pccs-connection", async move { serve(stream, &state).await }).detach();
            }
        });
        Self { address, state, _serving: accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn behave(&self, mood: Mood) {
        *self.state.mood.lock().unwrap() = mood;
    }

    /// Gives what `tee` issued as of `now`.
    pub(crate) fn give(&self, tee: &Tee, now: u64) {
        *self.state.set.lock().unwrap() = tee.collateral(now).unwrap();
    }

    /// How many documents were asked for. Four make a set.
    pub(crate) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }
}

/// The kind of platform that the simulator is.
pub(crate) fn fmspc() -> Fmspc {
    crate::world::collateral(&TEE).windows().next().unwrap().0
}

/// What a service gives at `now`.
pub(crate) fn issued_at(now: u64) -> Collateral {
    Collateral::from_json(TEE.collateral_bundle_json(now).unwrap().as_bytes()).unwrap()
}

async fn serve(mut stream: TcpStream, state: &State) {
    let mut head = Vec::new();
    loop {
        while !head.windows(4).any(|window| window == b"\r\n\r\n") {
            let mut buffer = [0; 1024];
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(read) => head.extend_from_slice(&buffer[..read]),
            }
        }
        let text = String::from_utf8(std::mem::take(&mut head)).unwrap();
        let target = text.split(' ').nth(1).unwrap().to_owned();
        state.requests.fetch_add(1, Ordering::SeqCst);
        let (mood, set) = (*state.mood.lock().unwrap(), state.set.lock().unwrap().clone());
        if !answer(&mut stream, mood, &target, &set).await {
            return;
        }
    }
}

/// Whether the connection goes on.
async fn answer(stream: &mut TcpStream, mood: Mood, target: &str, set: &CollateralSet) -> bool {
    if mood == Mood::Silent {
        std::future::pending::<()>().await;
    }
    if let Mood::Slow(delay) = mood {
        tokio::time::sleep(delay).await;
    }
    if mood == Mood::Garbage {
        stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").await.ok();
        return false;
    }
    let (mut headers, mut body) = document(target, set);
    let mut status = 200;
    match mood {
        Mood::Status(other) => status = other,
        Mood::Redirecting => {
            status = 302;
            headers.push_str("Location: http://127.0.0.1:9/\r\n");
        }
        Mood::NoJson => body = b"<html>".to_vec(),
        Mood::NoChain => headers.clear(),
        Mood::Oversized => body.resize(2 * 1024 * 1024, b' '),
        Mood::Lying => body = replaced(&body, "OutOfDate", "UpToDate"),
        Mood::OtherPlatform => body = replaced(&body, &fmspc().to_string().to_lowercase(), "00906ed50000"),
        Mood::Honest | Mood::Slow(_) | Mood::Silent | Mood::Truncated | Mood::Garbage => {}
    }
    let length = if mood == Mood::Truncated { body.len() + 1 } else { body.len() };
    let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n");
    let sent = stream.write_all(&[head.as_bytes(), &body].concat()).await;
    sent.is_ok() && mood != Mood::Truncated
}

fn replaced(body: &[u8], what: &str, with: &str) -> Vec<u8> {
    match std::str::from_utf8(body) {
        Ok(text) => text.replace(what, with).into_bytes(),
        Err(_) => body.to_vec(),
    }
}

/// The headers and the body.
fn document(target: &str, set: &CollateralSet) -> (String, Vec<u8>) {
    let found = collateral_service::document(target, set);
    let Document { issuer_chain, body } = found.unwrap_or_else(|| panic!("{target} is not part of the API"));
    (issuer_chain.map(|(name, chain)| format!("{name}: {chain}\r\n")).unwrap_or_default(), body)
}
