//! TLS alerts that the gateway sends before any server has spoken.

/// A fatal alert (RFC 8446 section 6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Alert {
    /// The peer broke off, or did not finish in time.
    HandshakeFailure = 40,
    /// A field is well-formed but its value is forbidden.
    IllegalParameter = 47,
    /// The name is known, but what stands behind it is not allowed.
    AccessDenied = 49,
    /// The message could not be read.
    DecodeError = 50,
    /// The failure is on our side.
    InternalError = 80,
    /// A required extension is missing.
    MissingExtension = 109,
    /// Nobody of this name is here.
    UnrecognizedName = 112,
}

/// The record that carries the alert, as every TLS version from 1.0 on reads it before keys exist.
#[must_use]
pub fn record(alert: Alert) -> [u8; 7] {
    const ALERT: u8 = 21;
    const FATAL: u8 = 2;
    [ALERT, 3, 3, 0, 2, FATAL, alert as u8]
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::AlertDescription;

    #[test]
    fn a_client_reads_the_alert_that_was_meant() {
        let known = [
            (Alert::HandshakeFailure, AlertDescription::HandshakeFailure),
            (Alert::IllegalParameter, AlertDescription::IllegalParameter),
            (Alert::AccessDenied, AlertDescription::AccessDenied),
            (Alert::DecodeError, AlertDescription::DecodeError),
            (Alert::InternalError, AlertDescription::InternalError),
            (Alert::MissingExtension, AlertDescription::MissingExtension),
            (Alert::UnrecognizedName, AlertDescription::UnrecognisedName),
        ];
        for (alert, description) in known {
            let mut client = crate::fixture::client("a.postern.test");
            client.read_tls(&mut record(alert).as_slice()).unwrap();
            assert_eq!(client.process_new_packets().unwrap_err(), rustls::Error::AlertReceived(description));
        }
    }
}
