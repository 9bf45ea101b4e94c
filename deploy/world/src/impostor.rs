//! CVMs that are not what they claim to be.

use postern_simulator::Measurements;

use crate::config::{common, listen};
use crate::governance::by_file;
use crate::groundwork::Foundation;
use crate::sidecar::Sidecar;
use crate::tenant::Tenant;
use crate::{Admin, Guest, WorldError};

/// What is wrong with an impostor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disguise {
    /// It booted a compose file that is not on chain.
    OtherCompose,
    /// Its host can read its memory.
    DebugTd,
}

/// A CVM that claims to be of a tenant's database application.
#[derive(Debug)]
pub struct Impostor {
    /// Its sidecar, which tries to register.
    pub sidecar: Sidecar,
    /// The CVM.
    pub guest: Guest,
}

impl Impostor {
    /// Stops it.
    pub async fn stop(mut self) {
        self.sidecar.process().stop().await;
        self.guest.agent().stop().await;
    }
}

impl Tenant {
    pub(crate) async fn impostor(
        &self,
        foundation: Foundation<'_>,
        disguise: Disguise,
        admin: Admin,
    ) -> Result<Impostor, WorldError> {
        let Foundation { state, programs, platform, .. } = foundation;
        let genuine = self.database.guest.cvm();
        let (mut compose, mut measurements) = (genuine.compose().to_vec(), Measurements::default());
        match disguise {
            // One more newline is another hash.
            Disguise::OtherCompose => compose.push(b'\n'),
            Disguise::DebugTd => measurements.debug = true,
        }
        let folder = format!("{}/impostor-{}", self.name, admin.0.port());
        let guest = Guest::boot(foundation, &folder, genuine.app_id(), compose, measurements).await?;
        let config = common(guest.socket(), &by_file(platform), admin) + &listen(&[]) + &self.database.serve;
        let sidecar =
            Sidecar::prepare(state, &programs.sidecar, guest.name(), "serve", &config, admin)?.start(state)?;
        Ok(Impostor { sidecar, guest })
    }
}
