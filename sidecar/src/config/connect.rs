//! The section of connect mode.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use postern_attest::PeerPolicy;
use postern_plumbing::config::{Document, Problems, Section};
use postern_plumbing::net::Endpoint;

use super::common::{Common, peers};
use super::{ENVIRONMENT, positive, skip};
use crate::dial::Place;

/// Everything that can be configured in connect mode.
#[derive(Clone, Debug)]
pub struct ConnectConfig {
    /// What both modes need.
    pub common: Common,
    /// Where drivers connect.
    pub listen: Endpoint,
    /// Where their connections go.
    pub place: Place,
    /// What the server must prove to be.
    pub expected: PeerPolicy,
    /// From the driver's first byte to the server's verified end of TLS.
    pub deadline: Duration,
    /// How long sessions may go on after the sidecar was asked to stop.
    pub drain: Duration,
}

impl ConnectConfig {
    /// Reads the file, if there is one, and the environment.
    ///
    /// # Errors
    /// Every mistake in them.
    pub fn load(path: Option<&Path>) -> Result<Self, Problems> {
        Self::read(Document::load(path, ENVIRONMENT)?)
    }

    /// Reads a text, with variables that stand for the environment.
    ///
    /// # Errors
    /// Every mistake in them.
    pub fn parse(text: &str, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, Problems> {
        Self::read(Document::parse(text, variables, ENVIRONMENT)?)
    }

    fn read(mut document: Document) -> Result<Self, Problems> {
        let common = Common::read(&mut document);
        let mut section = document.section("connect");
        let listen = listen(&mut section);
        let deadline = positive(&mut section, "deadline", Duration::from_secs(15));
        let drain = section.or("drain", Duration::from_secs(30));
        let target = target(&mut section.section("target"));
        let of_serve = ["listen", "postgres", "roles", "clients", "chain", "gateways", "wireguard", "limits"];
        skip(document.root(), &of_serve);
        let config = || {
            let ((place, expected), common) = (target?, common?);
            Some(Self { common, listen, place, expected, deadline, drain })
        };
        let config = config();
        document.finish_with(config)
    }
}

fn listen(section: &mut Section<'_>) -> Endpoint {
    let listen = section.or("listen", Endpoint::Tcp(SocketAddr::from(([127, 0, 0, 1], 5432))));
    let open = section.or("insecure_listen_beyond_loopback", false);
    if let Endpoint::Tcp(address) = &listen
        && !address.ip().is_loopback()
        && !open
    {
        section.problem(
            "listen",
            "expected a loopback address or unix: and a path: drivers send their secret here in clear, and whoever reaches \
             this port uses our identity (insecure_listen_beyond_loopback = true allows it)",
        );
    }
    listen
}

fn target(section: &mut Section<'_>) -> Option<(Place, PeerPolicy)> {
    let host: Option<String> = section.required("host");
    if host.as_deref().is_some_and(str::is_empty) {
        section.problem("host", "expected a host name");
    }
    let port = section.or("port", 5432);
    let address = section.optional("address");
    let expected = peers(section);
    if expected.apps.is_none() {
        section.problem(
            "app_ids",
            "expected at least one: without it, any attested app could answer in the server's place",
        );
    }
    Some((Place { host: host?, port, address }, expected))
}
