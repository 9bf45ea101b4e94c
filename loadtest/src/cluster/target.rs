//! A fleet that is there already, described by a file. Nothing is started, nothing is stopped, and nobody is asked but the
//! addresses that the file allows.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use postern_attest::PeerPolicy;
use postern_attest_io::{AgentSettings, AttestationSettings, Connector, IdentityKeeper};
use postern_identity::AppId;
use postern_plumbing::admin::Readiness;
use postern_plumbing::config::{Document, Section, Text};
use postern_plumbing::tasks::Tasks;

use super::ALPN;
use crate::Failure;
use crate::client::{Attested, Door, Login};

/// What the names of variables begin with that override keys.
const PREFIX: &str = "LOADTEST_TARGET";

/// A fleet that is there.
#[derive(Debug)]
pub(crate) struct Target {
    addresses: Vec<SocketAddr>,
    allow: Vec<IpAddr>,
    agent: AgentSettings,
    attestation: AttestationSettings,
    tenants: Vec<Tenant>,
}

#[derive(Debug)]
struct Tenant {
    host: String,
    app_id: AppId,
    login: Login,
}

impl Target {
    /// Reads the file, and looks the gateway's name up.
    ///
    /// # Errors
    /// Every mistake in it, and an address that it does not allow.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let wrong = |problems: &dyn std::fmt::Display| Failure::Scenario(format!("{}:\n{problems}", path.display()));
        let mut document = Document::load(Some(path), PREFIX).map_err(|problems| wrong(&problems))?;
        let mut root = document.root();
        let gateway: Option<String> = root.required("gateway");
        let allow: Vec<IpAddr> = root.list("allow");
        if allow.is_empty() {
            root.problem("allow", "name the addresses that may be put under load");
        }
        let addresses = gateway.map(|gateway| {
            let addresses: Vec<SocketAddr> = gateway.to_socket_addrs().into_iter().flatten().collect();
            if addresses.is_empty() {
                root.problem("gateway", "expected a name or an address with a port, and one that can be looked up");
            }
            for refused in refused(&addresses, &allow) {
                root.problem("gateway", format!("{refused} is not in `allow`, so it is left alone"));
            }
            addresses
        });
        let agent = AgentSettings::from_section(&mut document.section("agent"));
        let attestation = AttestationSettings::from_section(&mut document.section("attestation"));
        let mut tenants = Vec::new();
        for mut section in document.sections("tenants") {
            tenants.extend(Tenant::read(&mut section));
        }
        if tenants.is_empty() {
            document.root().problem("tenants", "at least one is needed");
        }
        let target = addresses.zip(attestation).map(|(addresses, attestation)| Self {
            addresses,
            allow,
            agent,
            attestation,
            tenants,
        });
        document.finish_with(target).map_err(|problems| wrong(&problems))
    }

    /// How many tenants it has.
    pub(crate) fn tenants(&self) -> usize {
        self.tenants.len()
    }

    /// The ways to its databases. All clients have the identity of the CVM that this program runs in.
    pub(crate) async fn doors(&self, tasks: &Tasks) -> Result<Vec<Door>, Failure> {
        let unavailable = |error: String| Failure::Unavailable(error);
        let readiness = Readiness::new();
        let attestor = self.attestation.judge(&readiness, tasks).await;
        let attestor = attestor.map_err(|error| unavailable(error.to_string()))?;
        let agent = self.agent.agent().map_err(|error| unavailable(error.to_string()))?;
        let validity = self.agent.certificate_validity;
        let keeper = IdentityKeeper::start(agent, vec!["loadtest".to_owned()], validity, tasks).await;
        let keeper = keeper.map_err(|error| unavailable(error.to_string()))?;
        let address = self.addresses.iter().find(|address| self.allow.contains(&address.ip()));
        let address = *address.ok_or_else(|| unavailable("no address is allowed".to_owned()))?;
        let door = |tenant: &Tenant| Door {
            tenant: tenant.host.clone(),
            address,
            source: None,
            attested: Some(Attested {
                connector: Connector::new(Some(Arc::clone(&keeper)), Arc::clone(&attestor), ALPN),
                host: tenant.host.clone(),
                expected: PeerPolicy::app(tenant.app_id),
            }),
            login: tenant.login.clone(),
        };
        Ok(self.tenants.iter().map(door).collect())
    }
}

/// The addresses that are not allowed.
fn refused<'a>(addresses: &'a [SocketAddr], allow: &'a [IpAddr]) -> impl Iterator<Item = IpAddr> {
    addresses.iter().map(SocketAddr::ip).filter(move |address| !allow.contains(address))
}

impl Tenant {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let (host, user) = (section.required("host"), section.required("user"));
        let app_id: Option<Text<AppId>> = section.required("app_id");
        let database = section.or("database", "postgres".to_owned());
        let file: Option<PathBuf> = section.required("secret_file");
        let secret = file.and_then(|file| match std::fs::read_to_string(&file) {
            Ok(secret) => Some(secret.trim().to_owned()),
            Err(error) => {
                section.problem("secret_file", error.to_string());
                None
            }
        });
        let login = Login { user: user?, secret: secret?, database };
        Some(Self { host: host?, app_id: app_id?.into_inner(), login })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_allowed_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("target.toml");
        let text = |gateway: &str, allow: &str| {
            let secret = folder.path().join("secret");
            std::fs::write(&secret, "s\n").unwrap();
            let text = format!(
                "gateway = \"{gateway}\"\nallow = [{allow}]\n[attestation]\ncollateral = \"none.json\"\n[[tenants]]\n\
                 host = \"a.test\"\napp_id = \"{}\"\nuser = \"u\"\nsecret_file = \"{}\"\n",
                "11".repeat(20),
                secret.display()
            );
            std::fs::write(&file, text).unwrap();
            Target::read(&file)
        };
        assert_eq!(text("127.0.0.1:5432", "\"127.0.0.1\"").unwrap().tenants(), 1);
        for (gateway, allow, said) in [
            ("127.0.0.1:5432", "\"127.0.0.2\"", "127.0.0.1 is not in `allow`"),
            ("127.0.0.1:5432", "", "may be put under load"),
            ("nonsense", "\"127.0.0.1\"", "can be looked up"),
        ] {
            let error = text(gateway, allow).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn every_mistake_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("target.toml");
        std::fs::write(&file, "nonsense = 1\n").unwrap();
        let error = Target::read(&file).unwrap_err().to_string();
        for said in ["gateway", "allow", "tenants", "nonsense"] {
            assert!(error.contains(said), "{said} in {error}");
        }
    }
}
