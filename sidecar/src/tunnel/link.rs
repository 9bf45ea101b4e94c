//! Stays registered with one gateway, and keeps the tunnel to it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use postern_attest_io::{Attestor, Connector, IdentityKeeper, PeerRefused};
use thiserror::Error;

use super::message::{Request, Response};
use super::pauses::Pauses;
use super::registration::{Gateway, Registration, RegistrationError};
use super::status::Status;
use super::wire::{Sink, Wire, WireError, WireGuard};

/// Bounds on what a gateway may ask for between two registrations.
const REFRESH: (u64, u64) = (5, 3_600);

/// One gateway and what it takes to register there.
#[derive(Debug)]
pub struct Link {
    /// The gateway.
    pub gateway: Gateway,
    /// Our side of TLS.
    pub connector: Connector,
    /// The connector's judge, who is asked again while the connection is held.
    pub attestor: Arc<Attestor>,
    /// Our certificate.
    pub keeper: Arc<IdentityKeeper>,
    /// Our side of the tunnel.
    pub wireguard: WireGuard,
    /// Where connections go.
    pub sink: Sink,
    /// Where the outcome is reported.
    pub status: Status,
}

/// Why a registration ended.
#[derive(Debug, Error)]
enum Ended {
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the gateway closed the registration connection")]
    Closed,
    #[error("our certificate was renewed")]
    Renewed,
    #[error("the gateway's evidence is no longer good enough: {0}")]
    Disbelieved(PeerRefused),
}

impl Ended {
    /// Whether the gateway refuses us until somebody acts, on chain or here.
    const fn is_standing_refusal(&self) -> bool {
        matches!(self, Self::Registration(RegistrationError::Refused { status: 400 | 403 | 409, .. }))
    }
}

impl Link {
    /// Registers, holds the connection, and registers again as soon as it ends; for ever. Sessions go on meanwhile: the
    /// tunnel is replaced only when a registration brings another address.
    ///
    /// # Errors
    /// Never.
    pub async fn run(self: Arc<Self>) -> Result<Infallible, Infallible> {
        let name = self.gateway.place.to_string();
        let mut pauses = Pauses::default();
        let mut wire = None;
        let mut failed_before = false;
        loop {
            let Err(ended) = self.hold(&mut wire, &mut pauses).await;
            match &ended {
                Ended::Renewed => continue,
                Ended::Closed => tracing::info!(gateway = name, "the gateway closed the connection; registering again"),
                Ended::Registration(_) | Ended::Wire(_) if failed_before => {
                    tracing::debug!(gateway = name, reason = %ended, "still not registered");
                }
                Ended::Registration(_) | Ended::Wire(_) => {
                    tracing::warn!(gateway = name, reason = %ended, "not registered");
                }
                Ended::Disbelieved(refused) => {
                    metrics::counter!("postern_sidecar_gateways_disbelieved_total", "reason" => refused.label())
                        .increment(1);
                    tracing::warn!(gateway = name, reason = %ended, "the tunnel is closed");
                }
            }
            failed_before = !matches!(ended, Ended::Closed);
            self.status.failed(&name, ended.to_string());
            pauses.after(ended.is_standing_refusal()).wait().await;
        }
    }

    /// Registers and keeps registering over one connection.
    async fn hold(&self, wire: &mut Option<Wire>, pauses: &mut Pauses) -> Result<Infallible, Ended> {
        let name = self.gateway.place.to_string();
        let opened = Registration::open(&self.gateway, &self.connector, &self.attestor, &self.keeper);
        let mut registration = Box::pin(opened).await?;
        let mut disbelieved = std::pin::pin!(registration.disbelieved(&self.gateway));
        let request = Request::new(self.wireguard.key.public().to_string(), self.wireguard.port);
        let mut first = true;
        loop {
            let response = registration.register(&self.gateway, &request).await?;
            self.apply(wire, &response, first).await?;
            if first {
                tracing::info!(gateway = name, address = %response.wg.client_ip, "registered");
            }
            self.status.registered(&name);
            pauses.reset();
            first = false;
            let refresh = Duration::from_secs(response.postern.refresh_seconds.clamp(REFRESH.0, REFRESH.1));
            tokio::select! {
                () = registration.closed() => return Err(Ended::Closed),
                refused = disbelieved.as_mut() => {
                    // Whoever is not believed gets no more connections through to us, and those that it led here end.
                    if let Some(wire) = wire.take() {
                        wire.stop();
                    }
                    return Err(Ended::Disbelieved(refused));
                }
                () = tokio::time::sleep(refresh) => {}
            }
            if registration.is_outdated(&self.keeper) {
                return Err(Ended::Renewed);
            }
        }
    }

    async fn apply(&self, wire: &mut Option<Wire>, response: &Response, first: bool) -> Result<(), WireError> {
        if let Some(wire) = wire.as_mut().filter(|wire| wire.fits(response)) {
            wire.set_peers(response)?;
            if first {
                wire.greet();
            }
            return Ok(());
        }
        if let Some(old) = wire.take() {
            tracing::warn!("the gateway gave us another address or slot; the tunnel is replaced");
            old.stop();
        }
        *wire = Some(Wire::start(&self.wireguard, response, &self.sink).await?);
        Ok(())
    }
}
