//! Serve mode: beside Postgres, mutual RA-TLS in, SCRAM over a Unix socket out.

pub mod accept;
pub mod arrival;
pub mod assemble;
pub mod authenticate;
pub mod backend;
pub mod cancel_room;
pub mod cancels;
pub mod clients;
pub mod dialect;
pub mod drain;
pub mod handshakes;
pub mod identities;
pub mod live;
pub mod places;
pub mod preamble;
pub mod proxy_header;
pub mod reappraisal;
pub mod refusal;
pub mod run;
pub mod server;
pub mod session;
pub mod throttle;
pub mod turned_away;
pub mod upstream;
