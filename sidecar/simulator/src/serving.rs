//! The listeners: of the guest agent, and of the service with collateral.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use postern_plumbing::clock::unix_now;
use postern_plumbing::shutdown::Shutdown;
use postern_simulator::{Cvm, Faults, Measurements, Tee, agent, collateral_service};
use tokio::net::{TcpListener, UnixListener};

use crate::arguments::AgentArguments;
use crate::{Outcome, at, seed};

/// Serves one simulated CVM where the arguments say, until a signal asks for the end.
pub(crate) async fn serve(arguments: &AgentArguments) -> Outcome {
    let compose = fs::read(&arguments.compose).map_err(|error| at(&arguments.compose, &error))?;
    let measurements = Measurements {
        debug: arguments.debug_td,
        sept_ve_disable: !arguments.sept_ve_off,
        module_svn: if arguments.old_module { 3 } else { Measurements::default().module_svn },
        ..Measurements::default()
    };
    let tee = Arc::new(Tee::new(seed(&arguments.seed_file)?)?);
    let cvm = Arc::new(Cvm::with_measurements(tee, arguments.app_id, compose, &arguments.instance, measurements));

    let shutdown = Shutdown::new();
    shutdown.on_signals();
    let (unix, tcp) = (unix_listener(arguments)?, tcp_listener(arguments).await?);
    announce(unix.as_ref(), tcp.as_ref());
    let (unix_cvm, unix_shutdown) = (Arc::clone(&cvm), shutdown.clone());
    tokio::try_join!(
        async {
            let Some(listener) = unix else { return Ok(()) };
            agent::serve(listener, unix_cvm, unix_now, async move { unix_shutdown.triggered().await }).await
        },
        async {
            let Some(listener) = tcp else { return Ok(()) };
            agent::serve(listener, cvm, unix_now, async move { shutdown.triggered().await }).await
        },
    )?;
    Ok(())
}

/// Serves the collateral of a platform, until a signal asks for the end. Nothing in it is secret.
pub(crate) async fn collateral(seed_file: &Path, listen: SocketAddr, faults: Faults) -> Outcome {
    let tee = Arc::new(Tee::with_faults(seed(seed_file)?, faults)?);
    let listener = TcpListener::bind(listen).await.map_err(|error| format!("--listen {listen}: {error}"))?;
    let shutdown = Shutdown::new();
    shutdown.on_signals();
    drop(writeln!(std::io::stdout(), "http://{}", listener.local_addr()?));
    collateral_service::serve(listener, tee, unix_now, async move { shutdown.triggered().await }).await?;
    Ok(())
}

fn unix_listener(arguments: &AgentArguments) -> Result<Option<UnixListener>, String> {
    let Some(path) = &arguments.socket else { return Ok(None) };
    // A socket that a killed agent left behind would make the bind fail.
    if path.exists() {
        fs::remove_file(path).map_err(|error| at(path, &error))?;
    }
    UnixListener::bind(path).map(Some).map_err(|error| at(path, &error))
}

async fn tcp_listener(arguments: &AgentArguments) -> Result<Option<TcpListener>, String> {
    let Some(address) = arguments.listen else { return Ok(None) };
    if !address.ip().is_loopback() && !arguments.insecure_listen_anywhere {
        return Err(format!(
            "--listen {address}: not a loopback address, and whoever reaches this port gets the keys; \
             --insecure-listen-anywhere allows it"
        ));
    }
    TcpListener::bind(address).await.map(Some).map_err(|error| format!("--listen {address}: {error}"))
}

/// Says where the agent serves, in the form that dstack's SDKs take it. Nobody has to listen.
fn announce(unix: Option<&UnixListener>, tcp: Option<&TcpListener>) {
    let path =
        unix.and_then(|listener| listener.local_addr().ok()?.as_pathname().map(|path| path.display().to_string()));
    let url = tcp.and_then(|listener| listener.local_addr().ok()).map(|address| format!("http://{address}"));
    let lines: String =
        path.into_iter().chain(url).map(|place| format!("DSTACK_SIMULATOR_ENDPOINT={place}\n")).collect();
    drop(std::io::stdout().write_all(lines.as_bytes()));
}
