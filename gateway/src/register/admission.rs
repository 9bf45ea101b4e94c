//! Decides about one registration, and performs it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use postern_allowlist::{Admission, BootInfo, NotAdmitted, Proven};
use postern_attest::Appraisal;
use postern_attest_io::Attestor;
use postern_gateway_core::registration::{Assignment, Claim, Link};
use postern_identity::AppId;
use postern_plumbing::clock::unix_now;
use postern_wireguard::PublicKey;

use super::message::{AgentFields, Gateway, GatewayFields, Info, RegisterCvm, Registered, WireGuard, WireGuardPeer};
use super::problem::Problem;
use crate::audit::Audit;
use crate::chain::Chain;
use crate::members::{Evidence, Members};
use crate::metrics;

/// The prefix of TXT records by which owners of domains point at apps.
const TXT_PREFIX: &str = "_dstack-app-address";
/// The port of dstack's guest agent.
const GUEST_AGENT_PORT: u16 = 8090;

/// Who registers instances.
#[derive(Debug)]
pub struct Registrar {
    /// The members.
    pub members: Members,
    /// What the chain allows.
    pub chain: Arc<dyn Chain>,
    /// Who has judged the evidence, and by what time.
    pub attestor: Arc<Attestor>,
    /// Where admissions and refusals are written down.
    pub audit: Audit,
    /// What is told to instances.
    pub about: About,
    /// How often instances are asked to renew.
    pub refresh: Duration,
    /// How long the chain may take to answer.
    pub deadline: Duration,
}

/// What is told to instances about this gateway.
#[derive(Debug, Clone)]
pub struct About {
    /// Its app, as its own quote has it.
    pub app: AppId,
    /// Its instance id, in hex.
    pub uuid: String,
    /// Where it takes registrations.
    pub url: Option<String>,
    /// The base domain.
    pub domain: String,
    /// The port to which clients connect.
    pub client_port: u16,
    /// Its WireGuard key.
    pub key: PublicKey,
    /// Its inner address.
    pub address: std::net::IpAddr,
    /// Where its tunnel arrives.
    pub endpoint: SocketAddr,
}

impl Registrar {
    /// Registers the instance that proved `appraisal`, or renews its registration. `proof` is by what it did, and the
    /// connection by which that came.
    ///
    /// # Errors
    /// Why not.
    pub async fn register(
        &self,
        appraisal: &Appraisal,
        request: &RegisterCvm,
        proof: (Link, Evidence),
    ) -> Result<Registered, Problem> {
        let boot = Arc::new(BootInfo::from(appraisal));
        let admission = self.admit(&boot, appraisal).await?;
        let assignment = self.join(appraisal, request, proof, &boot, &admission).await?;
        self.follow(&boot, appraisal).await?;
        Ok(self.registered(assignment))
    }

    /// What anybody may know.
    #[must_use]
    pub fn info(&self) -> Info {
        Info {
            base_domain: self.about.domain.clone(),
            external_port: self.about.client_port,
            app_address_ns_prefix: TXT_PREFIX.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    async fn admit(&self, boot: &Arc<BootInfo>, appraisal: &Appraisal) -> Result<Admission, Problem> {
        let evaluated = self.chain.evaluate(proven(boot, appraisal), self.deadline).await;
        evaluated.map_err(|not_admitted| {
            self.audit.refused(boot, &appraisal.fingerprint, &not_admitted);
            // A member that was refused is followed further: it comes back by itself when it is allowed again.
            self.members.unless_known(boot, || self.chain.forget(boot));
            Problem::from(&not_admitted)
        })
    }

    async fn join(
        &self,
        appraisal: &Appraisal,
        request: &RegisterCvm,
        proof: (Link, Evidence),
        boot: &Arc<BootInfo>,
        admission: &Admission,
    ) -> Result<Assignment, Problem> {
        let key: PublicKey = request
            .client_public_key
            .parse()
            .map_err(|_| Problem::new(400, "key", "client_public_key is not a WireGuard key in base64"))?;
        if !self.members.would_renew(boot, &key) {
            self.audit.admit(boot, &appraisal.fingerprint, admission, &key).await?;
        }
        let claim = Claim {
            app: boot.app_id,
            instance: boot.instance_id,
            key: *key.as_bytes(),
            sidecar_port: request.postern.sidecar_port,
            ports: request.ports(),
            block: admission.block.number,
            fingerprint: appraisal.fingerprint,
            evidence_until: appraisal.valid_until,
        };
        let joined =
            self.members.register(claim, Arc::clone(boot), proof, self.attestor.now()).inspect_err(|error| {
                self.audit.turned_away(boot, &appraisal.fingerprint, error.label());
                self.members.unless_known(boot, || self.chain.forget(boot));
            })?;
        if let Some(before) = &joined.before {
            self.chain.forget(before);
        }
        self.look_again(boot, appraisal)?;
        if joined.entered {
            metrics::registration("admitted");
            self.audit.entered(boot, admission, &joined.assignment, &key);
        } else {
            metrics::registration("renewed");
        }
        Ok(joined.assignment)
    }

    /// Another registration of the same instance may have failed since the chain was asked, and had it forgotten.
    async fn follow(&self, boot: &Arc<BootInfo>, appraisal: &Appraisal) -> Result<(), Problem> {
        if self.chain.current(proven(boot, appraisal)) != Err(NotAdmitted::NotEvaluated) {
            return Ok(());
        }
        let admitted = self.admit(boot, appraisal).await;
        self.look_again(boot, appraisal)?;
        admitted.map(drop)
    }

    /// A revocation that came between the answer of the chain and the registration found no member to refuse.
    fn look_again(&self, boot: &BootInfo, appraisal: &Appraisal) -> Result<(), Problem> {
        match self.chain.current(proven(boot, appraisal)) {
            Err(not_admitted) if not_admitted.is_the_chains_word() => {
                let cut = self.members.refuse(boot).map_or(0, |cut| cut.sessions);
                self.audit.revoked(boot, &appraisal.fingerprint, &not_admitted, cut, None);
                Err(Problem::from(&not_admitted))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn registered(&self, assignment: Assignment) -> Registered {
        let About { app, uuid, url, domain, client_port, key, address, endpoint } = self.about.clone();
        let server = WireGuardPeer { pk: key.to_string(), ip: address, endpoint };
        let gateway = Gateway {
            id: 1,
            uuid,
            url: url.unwrap_or_default(),
            last_seen: unix_now(),
            wg_public_key: key.to_string(),
            wg_ip: address,
            wg_endpoint: endpoint,
        };
        Registered {
            wg: WireGuard { client_ip: assignment.address, servers: vec![server] },
            agent: AgentFields {
                external_port: client_port,
                internal_port: GUEST_AGENT_PORT,
                domain,
                app_address_ns_prefix: TXT_PREFIX.to_owned(),
            },
            gateways: vec![gateway],
            postern: GatewayFields {
                cancel_slot: assignment.slot.number(),
                refresh_seconds: self.refresh.as_secs(),
                gateway_app_id: app,
            },
        }
    }
}

/// What is to be admitted: a workload, on its evidence.
fn proven<'a>(boot: &'a BootInfo, appraisal: &Appraisal) -> Proven<'a> {
    Proven { boot, until: appraisal.valid_until }
}
