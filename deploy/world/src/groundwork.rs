//! What every cluster stands on, whatever tenants it has: a chain with Postern's contracts, a simulated platform, and a gateway.

use std::net::SocketAddr;
use std::path::Path;

use postern_simulator::{Measurements, OS_IMAGE};

use crate::chain::Chain;
use crate::gateway::{Addresses, Bounds, Datapath, Gateway, Surroundings};
use crate::governance::CollateralService;
use crate::ports::Ports;
use crate::programs::Programs;
use crate::registrar::Registrar;
use crate::{Guest, Platform, State, WorldError};

/// Everything around a gateway. Dropping it stops every process, and blocks while it does.
#[derive(Debug)]
pub(crate) struct Groundwork {
    pub(crate) chain: Chain,
    collateral: CollateralService,
    pub(crate) registrar: Registrar,
    pub(crate) platform: Platform,
    pub(crate) ports: Ports,
    pub(crate) programs: Programs,
    pub(crate) state: State,
}

/// What a gateway is told beyond the usual.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wishes {
    /// Where CVMs are told to send their tunnel packets, when that is not the gateway's own address.
    pub(crate) tunnel_endpoint: Option<SocketAddr>,
    /// What it is to bear, when that is more than the default.
    pub(crate) bounds: Option<Bounds>,
    /// How its packets become connections.
    pub(crate) datapath: Datapath,
}

impl Groundwork {
    /// Starts a chain with this many accounts, deploys the contracts, and serves collateral.
    pub(crate) async fn lay(state: State, programs: Programs, accounts: usize) -> Result<Self, WorldError> {
        let mut ports = Ports::default();
        let chain = Chain::start(&state, &programs.anvil, ports.address()?, accounts).await?;
        let platform = Platform::new(&state)?;
        let registrar = Registrar::deploy(&programs.registrar, chain.client(), chain.key(0)?).await?;
        registrar.allow_image(OS_IMAGE).await?;
        let collateral = CollateralService::start(&state, &programs, &platform, ports.address()?).await?;
        Ok(Self { chain, collateral, registrar, platform, ports, programs, state })
    }

    /// Starts a gateway of an app of its own, which the contracts name as the fleet's gateway.
    pub(crate) async fn gateway(&self, addresses: Addresses, wishes: Wishes) -> Result<Gateway, WorldError> {
        let guest = self.foundation().new_app("gateway", "gateway").await?;
        self.registrar.trust_gateway(guest.cvm().app_id()).await?;
        Gateway::start(guest, addresses, &self.surroundings(wishes)).await
    }

    /// What a gateway needs besides its addresses.
    pub(crate) fn surroundings(&self, wishes: Wishes) -> Surroundings<'_> {
        Surroundings {
            state: &self.state,
            programs: &self.programs,
            platform: &self.platform,
            collateral: &self.collateral,
            chain: self.chain.client(),
            kms: self.registrar.kms(),
            wishes,
        }
    }

    /// What is there before the gateway.
    pub(crate) fn foundation(&self) -> Foundation<'_> {
        Foundation {
            state: &self.state,
            programs: &self.programs,
            platform: &self.platform,
            registrar: &self.registrar,
        }
    }

    pub(crate) fn collateral(&self) -> &CollateralService {
        &self.collateral
    }

    /// Stops what is left after the gateway, in order. Gives the state folder back.
    pub(crate) async fn stop(mut self) -> State {
        self.chain.process().stop().await;
        self.collateral.process().stop().await;
        self.state
    }
}

/// What is there before the gateway.
#[derive(Clone, Copy)]
pub(crate) struct Foundation<'a> {
    pub(crate) state: &'a State,
    pub(crate) programs: &'a Programs,
    pub(crate) platform: &'a Platform,
    pub(crate) registrar: &'a Registrar,
}

impl Foundation<'_> {
    /// Creates an application on chain and boots its first instance, whose disk is `folder`.
    pub(crate) async fn new_app(&self, folder: &str, name: &str) -> Result<Guest, WorldError> {
        let compose = compose(name);
        let file = self.state.write(Path::new(folder).join("app-compose.json"), &compose)?;
        let app_id = self.registrar.create_app(&file).await?;
        Guest::boot(*self, folder, app_id, compose, Measurements::default()).await
    }
}

/// What an application of this name runs, as `app-compose.json` says it.
pub(crate) fn compose(name: &str) -> Vec<u8> {
    let compose = serde_json::json!({
        "manifest_version": 2, "name": name, "runner": "docker-compose",
        "docker_compose_file": format!("# the compose file of {name}\n"),
    });
    compose.to_string().into_bytes()
}
