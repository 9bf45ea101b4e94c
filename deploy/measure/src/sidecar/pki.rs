//! The certificates of those who have no attested ones.

use std::path::PathBuf;

use anyhow::Context as _;
use postern_world::World;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// The certificates of PgBouncer, of Postgres and of their client: P-256, as the sidecar's.
pub(super) struct Pki {
    pub(super) root: PathBuf,
    pub(super) server_certificate: PathBuf,
    pub(super) server_key: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Pki {
    pub(super) fn new(world: &World) -> anyhow::Result<Self> {
        let postgres = &world.tenant(0).context("no tenant")?.database().postgres;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "root");
        let root = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        let leaf = || -> anyhow::Result<(String, String)> {
            let key = KeyPair::generate()?;
            let params = CertificateParams::new(vec!["localhost".to_owned()])?;
            Ok((params.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
        };
        let (server, client) = (leaf()?, leaf()?);
        Ok(Self {
            root: postgres.write("root.crt", root)?,
            server_certificate: postgres.write("server.crt", server.0)?,
            server_key: postgres.write("server.key", server.1)?,
            certificate: world.state().write("bench/client.crt", client.0)?,
            key: world.state().write("bench/client.key", client.1)?,
        })
    }
}
