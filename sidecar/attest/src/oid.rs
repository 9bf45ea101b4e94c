//! Object identifiers of the X.509 extensions that carry RA-TLS evidence, as dstack assigns them.
//!
//! All of them lie under 1.3.6.1.4.1.62397.1. An extension's value is the content wrapped in one more DER OCTET STRING,
//! and none is critical, because webpki refuses a critical extension that it does not know.

/// The raw TDX quote.
pub const QUOTE: &[u64] = &[1, 3, 6, 1, 4, 1, 62397, 1, 1];
/// The event log, a JSON list.
pub const EVENT_LOG: &[u64] = &[1, 3, 6, 1, 4, 1, 62397, 1, 2];
/// The application id, 20 bytes.
pub const APP_ID: &[u64] = &[1, 3, 6, 1, 4, 1, 62397, 1, 3];
/// What the certificate is for: `app:custom`, `app:ca` or `kms:rpc`.
pub const USAGE: &[u64] = &[1, 3, 6, 1, 4, 1, 62397, 1, 4];
/// The versioned attestation: quote, event log and configuration in one value.
pub const ATTESTATION: &[u64] = &[1, 3, 6, 1, 4, 1, 62397, 1, 8];
/// What a KMS says about the application, signed by the KMS alone.
pub const APP_INFO: &[u64] = &[1, 3, 6, 1, 4, 1, 62397, 1, 9];
