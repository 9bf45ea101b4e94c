//! The way from the gateways to the sidecar: registration, and a WireGuard tunnel for each gateway.

pub mod link;
pub mod message;
pub mod pauses;
pub mod registration;
pub mod status;
pub mod wire;
