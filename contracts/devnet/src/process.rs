//! The anvil process.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use url::Url;

use crate::StartError;

/// How long anvil has to say where it listens.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// A running process, killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    url: Url,
}

impl Process {
    pub(crate) fn start(arguments: &[&str]) -> Result<Self, StartError> {
        let program = program();
        if !program.is_file() {
            return Err(StartError::Missing(program));
        }
        let mut child = Command::new(&program)
            .args(["--host", "127.0.0.1"])
            .args(if arguments.contains(&"--port") { [].as_slice() } else { &["--port", "0"] })
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| StartError::Failed(error.to_string()))?;
        let address = child.stdout.take().map(address).and_then(|address| address.recv_timeout(START_DEADLINE).ok());
        match address.and_then(|address| format!("http://{address}").parse().ok()) {
            Some(url) => Ok(Self { child, url }),
            None => Err(StartError::Failed(last_words(&mut child))),
        }
    }

    pub(crate) const fn url(&self) -> &Url {
        &self.url
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

fn program() -> PathBuf {
    let installed = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../node_modules/.bin/anvil");
    std::env::var_os("ANVIL_BIN").map_or_else(installed, PathBuf::from)
}

/// Waits for the line that says where anvil listens, and goes on reading so that it is never blocked by what it prints.
fn address(output: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some(address) = line.strip_prefix("Listening on ") {
                // Nobody waits any more if this comes too late.
                drop(sender.send(address.trim().to_owned()));
            }
        }
    });
    receiver
}

fn last_words(child: &mut Child) -> String {
    stop(child);
    let mut words = String::new();
    match child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut words)) {
        Some(Ok(_)) if !words.trim().is_empty() => words.trim().to_owned(),
        _ => "it did not say where it listens".to_owned(),
    }
}

fn stop(child: &mut Child) {
    // Both fail only if it is gone already.
    drop(child.kill());
    drop(child.wait());
}
