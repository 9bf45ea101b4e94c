//! Client certificates: good ones, written by the `sidecar` program, and forgeries.

use std::path::Path;
use std::sync::Arc;

use postern_identity::AppId;
use postern_plumbing::clock::unix_now;
use postern_simulator::certificate::{Attestation, CertificateRequest};
use postern_simulator::{Cvm, Measurements, Tee};
use postern_world::{Tenant, World};

use crate::client::{KeyPair, Tls};
use postern_world::report::words;

/// What a client shows instead of good evidence, and what it must hear.
pub(crate) struct Forgery {
    pub(crate) name: &'static str,
    pub(crate) tls: Tls,
    /// One of these has to be in the reason.
    pub(crate) reasons: &'static [&'static str],
}

/// Every forgery that the checks try.
pub(crate) struct Forgeries(Vec<Forgery>);

/// Has the `sidecar` program write a certificate that carries the quote of a tenant's application CVM.
pub(crate) async fn by_sidecar(world: &World, tenant: &Tenant) -> Result<KeyPair, String> {
    let (certificate, key) = world.client_certificate(tenant).await.map_err(words)?;
    Ok(KeyPair { certificate, key })
}

impl Forgeries {
    /// Forges certificates for the first tenant's application.
    pub(crate) fn write(world: &World) -> Result<Self, String> {
        let genuine = world.tenant(0).ok_or("no tenant")?.application().guest.cvm();
        let (app_id, compose) = (genuine.app_id(), genuine.compose().to_vec());
        let tee = world.platform().tee();
        let other_tee = Arc::new(Tee::new(rand::random()).map_err(words)?);
        let debug = Measurements { debug: true, ..Measurements::default() };
        let altered = [&compose[..], b"\n"].concat();

        let write = |name, cvm: &Cvm, attestation| write(world, name, cvm, attestation).map(Tls::Certificate);
        let on =
            |tee: &Arc<Tee>, app: AppId, compose: &[u8]| Cvm::new(Arc::clone(tee), app, compose.to_vec(), "forged");
        let in_debug = Cvm::with_measurements(Arc::clone(tee), app_id, compose.clone(), "forged", debug);
        let forgery = |name, tls, reasons| Forgery { name, tls, reasons };
        Ok(Self(vec![
            forgery("no certificate", Tls::Anonymous, &["none was shown"]),
            forgery(
                "a certificate without a quote",
                write("without-quote", genuine, Attestation::None)?,
                &["carries no TDX quote"],
            ),
            forgery(
                "a quote bound to another key",
                write("other-key", genuine, Attestation::OtherKey)?,
                &["does not vouch for the key"],
            ),
            forgery(
                "a quote under another root",
                write("other-root", &on(&other_tee, app_id, &compose), Attestation::Bound)?,
                &["not signed under the trusted root"],
            ),
            forgery("the quote of a debug TD", write("debug", &in_debug, Attestation::Bound)?, &["debug mode"]),
            forgery(
                "a compose hash that is not on chain",
                write("not-on-chain", &on(tee, app_id, &altered), Attestation::Bound)?,
                &["compose hash is not allowed on chain"],
            ),
        ]))
    }

    pub(crate) fn all(&self) -> &[Forgery] {
        &self.0
    }
}

fn write(world: &World, name: &str, cvm: &Cvm, attestation: Attestation) -> Result<KeyPair, String> {
    let request = CertificateRequest { subject: name.into(), attestation, client_auth: true, ..Default::default() };
    let certificate = cvm.certificate(&request, unix_now()).map_err(words)?;
    let folder = Path::new("forged");
    let chain = certificate.chain.concat();
    Ok(KeyPair {
        certificate: world.state().write(folder.join(format!("{name}.pem")), chain).map_err(words)?,
        key: world.state().write(folder.join(format!("{name}.key")), certificate.key.as_bytes()).map_err(words)?,
    })
}
