//! Everything a client can be refused for, and how it is told.

use postern_pgwire::error_response::ErrorResponse;
use postern_pgwire::sqlstate::SqlState;

use crate::alert::{self, Alert};
use crate::hello::HelloError;

/// Why a connection was refused. The set is closed: each reason has a metric label, a sentence that a stranger may read
/// and a form on the wire. Details stay in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The first bytes are neither TLS nor Postgres.
    UnknownProtocol,
    /// A load balancer that has to introduce its connections did not.
    NotIntroduced,
    /// A Postgres session without TLS.
    PlaintextStartup,
    /// GSSENCRequest came again after it was declined.
    RepeatedRequest,
    /// Bytes came behind an SSLRequest or GSSENCRequest before it was answered (the class of CVE-2021-23214).
    GluedBytes,
    /// Bytes came behind a CancelRequest, which is the last thing a client sends on its connection.
    TrailingCancel,
    /// After the answer to SSLRequest came something other than TLS, or the ClientHello could not be read.
    MalformedHello,
    /// The ClientHello breaks a rule of TLS: an extension or a name that comes twice.
    ContradictoryHello,
    /// The ClientHello is longer than this gateway accepts.
    OversizedHello,
    /// The ClientHello lacks an extension without which no TLS 1.3 server can answer (RFC 8446 section 9.2).
    IncompleteHello,
    /// The client did not say which host it wants.
    MissingServerName,
    /// The name is no host name that can be routed.
    InvalidServerName,
    /// The name leads nowhere under the domains of this gateway.
    NoRoute,
    /// Nothing of this name is registered.
    UnknownApp,
    /// The app is registered, but its code is not allowed on chain.
    NotAdmitted,
    /// The app does not offer this port.
    PortClosed,
    /// The chain has not said yet whether the app is allowed.
    ChainUnknown,
    /// What is known of the chain is too old to admit anybody by.
    ChainStale,
    /// No instance of the app could be reached.
    Unreachable,
    /// The app has as many connections as it may have.
    AppFull,
    /// The gateway has as many connections as it may have.
    GatewayFull,
    /// The client's network has as many connections as it may have that are not opened yet.
    NetworkFull,
    /// The client did not open its connection in time.
    Timeout,
    /// The client sent its last byte before its opening was complete; it may still read.
    ClientGone,
    /// A cancel request whose key names no instance here.
    UnknownCancelKey,
}

/// What the client speaks at the moment at which it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaking {
    /// Nothing came yet.
    Nothing,
    /// Postgres in the clear; it waits for one byte or a message.
    Postgres,
    /// TLS; it waits for a record.
    Tls,
}

impl Refusal {
    /// Every reason, for metrics that start at zero.
    pub const ALL: [Self; 25] = [
        Self::UnknownProtocol,
        Self::NotIntroduced,
        Self::PlaintextStartup,
        Self::RepeatedRequest,
        Self::GluedBytes,
        Self::TrailingCancel,
        Self::MalformedHello,
        Self::ContradictoryHello,
        Self::OversizedHello,
        Self::IncompleteHello,
        Self::MissingServerName,
        Self::InvalidServerName,
        Self::NoRoute,
        Self::UnknownApp,
        Self::NotAdmitted,
        Self::PortClosed,
        Self::ChainUnknown,
        Self::ChainStale,
        Self::Unreachable,
        Self::AppFull,
        Self::GatewayFull,
        Self::NetworkFull,
        Self::Timeout,
        Self::ClientGone,
        Self::UnknownCancelKey,
    ];

    /// The value of the metric label `reason`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::UnknownProtocol => "unknown_protocol",
            Self::NotIntroduced => "not_introduced",
            Self::PlaintextStartup => "plaintext_startup",
            Self::RepeatedRequest => "repeated_request",
            Self::GluedBytes => "glued_bytes",
            Self::TrailingCancel => "trailing_cancel",
            Self::MalformedHello => "malformed_hello",
            Self::ContradictoryHello => "contradictory_hello",
            Self::OversizedHello => "oversized_hello",
            Self::IncompleteHello => "incomplete_hello",
            Self::MissingServerName => "missing_server_name",
            Self::InvalidServerName => "invalid_server_name",
            Self::NoRoute => "no_route",
            Self::UnknownApp => "unknown_app",
            Self::NotAdmitted => "not_admitted",
            Self::PortClosed => "port_closed",
            Self::ChainUnknown => "chain_unknown",
            Self::ChainStale => "chain_stale",
            Self::Unreachable => "unreachable",
            Self::AppFull => "app_full",
            Self::GatewayFull => "gateway_full",
            Self::NetworkFull => "network_full",
            Self::Timeout => "timeout",
            Self::ClientGone => "client_gone",
            Self::UnknownCancelKey => "unknown_cancel_key",
        }
    }

    /// The sentence that the client may read.
    #[must_use]
    pub fn public(self) -> &'static str {
        match self {
            Self::UnknownProtocol => "this port speaks TLS and the PostgreSQL protocol only",
            Self::NotIntroduced => "a PROXY protocol header is expected from this address",
            Self::PlaintextStartup => "TLS required: connect with sslmode=require or stronger",
            Self::RepeatedRequest => "GSSAPI encryption was requested twice",
            Self::GluedBytes => "received unencrypted data after an encryption request",
            Self::TrailingCancel => "received data after a cancel request",
            Self::MalformedHello => "the TLS ClientHello could not be read",
            Self::ContradictoryHello => "the TLS ClientHello contradicts itself",
            Self::OversizedHello => "the TLS ClientHello is too large",
            Self::IncompleteHello => "the TLS ClientHello lacks a required extension",
            Self::MissingServerName => "the client did not send a server name (SNI)",
            Self::InvalidServerName => "the server name (SNI) is not a host name",
            Self::NoRoute => "the server name (SNI) is not one of this gateway's",
            Self::UnknownApp => "no such app is registered here",
            Self::NotAdmitted => "the app is not admitted on chain",
            Self::PortClosed => "the app does not offer this port",
            Self::ChainUnknown => "the chain has not said yet whether the app is allowed; try again shortly",
            Self::ChainStale => "what this gateway knows of the chain is too old to admit anybody; try again later",
            Self::Unreachable => "no instance of the app can be reached at the moment",
            Self::AppFull => "the app has too many connections",
            Self::GatewayFull => "the gateway has too many connections",
            Self::NetworkFull => "too many connections of this network are being opened; try again shortly",
            Self::Timeout => "the connection was not opened in time",
            Self::ClientGone => "the connection ended before it was opened",
            Self::UnknownCancelKey => "no such session",
        }
    }

    /// The bytes that tell the client, to be sent before the connection is closed; empty where it expects none.
    #[must_use]
    pub fn wire(self, speaking: Speaking) -> Vec<u8> {
        match (self, speaking) {
            (Self::UnknownCancelKey, _) | (_, Speaking::Nothing) => Vec::new(),
            (_, Speaking::Tls) => alert::record(self.alert()).to_vec(),
            (_, Speaking::Postgres) => self.error_response().encode().to_vec(),
        }
    }

    fn alert(self) -> Alert {
        match self {
            Self::ContradictoryHello | Self::OversizedHello => Alert::IllegalParameter,
            Self::MissingServerName | Self::IncompleteHello => Alert::MissingExtension,
            Self::InvalidServerName | Self::NoRoute | Self::UnknownApp => Alert::UnrecognizedName,
            Self::NotAdmitted | Self::PortClosed => Alert::AccessDenied,
            Self::ChainUnknown
            | Self::ChainStale
            | Self::Unreachable
            | Self::AppFull
            | Self::GatewayFull
            | Self::NetworkFull => Alert::InternalError,
            Self::Timeout | Self::ClientGone | Self::UnknownCancelKey => Alert::HandshakeFailure,
            Self::UnknownProtocol
            | Self::NotIntroduced
            | Self::PlaintextStartup
            | Self::RepeatedRequest
            | Self::GluedBytes
            | Self::TrailingCancel
            | Self::MalformedHello => Alert::DecodeError,
        }
    }

    fn error_response(self) -> ErrorResponse {
        let code = match self {
            Self::PlaintextStartup => SqlState::INVALID_AUTHORIZATION,
            Self::AppFull | Self::GatewayFull | Self::NetworkFull => SqlState::TOO_MANY_CONNECTIONS,
            Self::UnknownProtocol
            | Self::NotIntroduced
            | Self::RepeatedRequest
            | Self::GluedBytes
            | Self::TrailingCancel
            | Self::MalformedHello
            | Self::ContradictoryHello
            | Self::OversizedHello
            | Self::IncompleteHello
            | Self::MissingServerName
            | Self::InvalidServerName => SqlState::PROTOCOL_VIOLATION,
            Self::NoRoute
            | Self::UnknownApp
            | Self::NotAdmitted
            | Self::PortClosed
            | Self::ChainUnknown
            | Self::ChainStale
            | Self::Unreachable
            | Self::Timeout
            | Self::ClientGone
            | Self::UnknownCancelKey => SqlState::CONNECTION_REJECTED,
        };
        let response = ErrorResponse::fatal(code, self.public());
        match self.hint() {
            Some(hint) => response.hint(hint),
            None => response,
        }
    }

    fn hint(self) -> Option<&'static str> {
        (self == Self::PlaintextStartup).then_some("the host name must be <app-id>s.<domain>, which TLS carries as SNI")
    }
}

impl From<HelloError> for Refusal {
    fn from(error: HelloError) -> Self {
        match error {
            HelloError::TooLarge => Self::OversizedHello,
            HelloError::DuplicateExtension | HelloError::ServerNameList => Self::ContradictoryHello,
            HelloError::ServerName(_) => Self::InvalidServerName,
            HelloError::MissingServerName => Self::MissingServerName,
            HelloError::MissingSignatureAlgorithms => Self::IncompleteHello,
            HelloError::NotTls
            | HelloError::RecordLength
            | HelloError::NotClientHello
            | HelloError::TrailingData
            | HelloError::Malformed => Self::MalformedHello,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn labels_are_distinct_and_fit_a_metric() {
        let labels: BTreeSet<_> = Refusal::ALL.iter().map(|refusal| refusal.label()).collect();
        assert_eq!(labels.len(), Refusal::ALL.len());
        assert!(labels.iter().all(|label| label.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
    }

    #[test]
    fn plaintext_startup_is_answered_with_the_postgres_error_that_says_what_to_do() {
        let wire = Refusal::PlaintextStartup.wire(Speaking::Postgres);
        let text = String::from_utf8_lossy(&wire);
        assert_eq!(wire[0], b'E');
        assert_eq!(usize::try_from(u32::from_be_bytes(wire[1..5].try_into().unwrap())).unwrap(), wire.len() - 1);
        for field in ["SFATAL\0", "VFATAL\0", "C28000\0", "MTLS required: connect with sslmode=require"] {
            assert!(text.contains(field), "{field} in {text:?}");
        }
    }

    #[test]
    fn who_breaks_no_rule_is_not_told_so() {
        let code = |refusal: Refusal| refusal.error_response().sqlstate().code();
        assert_eq!((code(Refusal::Timeout), code(Refusal::ClientGone)), ("08004", "08004"));
        assert_eq!((code(Refusal::GluedBytes), code(Refusal::TrailingCancel)), ("08P01", "08P01"));
        assert_eq!(code(Refusal::GatewayFull), "53300");
    }

    #[test]
    fn a_tls_client_hears_an_alert_and_a_silent_one_hears_nothing() {
        let alert = |refusal: Refusal| refusal.wire(Speaking::Tls);
        assert_eq!(alert(Refusal::UnknownApp), [21, 3, 3, 0, 2, 2, 112]);
        assert_eq!(alert(Refusal::MissingServerName), [21, 3, 3, 0, 2, 2, 109]);
        assert_eq!(alert(HelloError::MissingSignatureAlgorithms.into()), [21, 3, 3, 0, 2, 2, 109]);
        assert_eq!(alert(Refusal::NotAdmitted), [21, 3, 3, 0, 2, 2, 49]);
        assert_eq!(alert(Refusal::Unreachable), [21, 3, 3, 0, 2, 2, 80]);
        assert_eq!(alert(Refusal::MalformedHello), [21, 3, 3, 0, 2, 2, 50]);
        assert_eq!(alert(Refusal::ClientGone), [21, 3, 3, 0, 2, 2, 40]);
        assert_eq!(alert(Refusal::UnknownCancelKey), [], "who sends a cancel request expects no answer");
        assert!(Refusal::ALL.iter().all(|refusal| refusal.wire(Speaking::Nothing).is_empty()));
    }
}
