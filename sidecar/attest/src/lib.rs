//! Evidence in, verdict out: everything that says "this peer is that measured code".
//!
//! The crate is pure. It reads no clock, opens no socket and holds no state between calls; the time is an argument, in
//! seconds since 1970. Fetching collateral, talking to a guest agent and TLS itself belong to `postern_attest_io`.

pub mod certificate;
pub mod event_log;
pub mod oid;
mod report_data;

pub use event_log::AppIdentity;
pub use report_data::report_data;
