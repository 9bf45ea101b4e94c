//! What the gateway decides, without doing it: pure functions and state machines, no sockets, no runtime, no clock.
//!
//! One connection goes through [`opening`] (an [`introduction`] by a load balancer, Postgres' preamble and the ClientHello
//! of [`hello`]), [`route`] (a host name becomes an app and a port), [`table`] (the instances that may be reached now) and [`select`] (one of them); whatever
//! stands in its way is a [`refusal`]. The other side is [`registration`], from which the table is made. What was decided
//! about whom is kept in the [`trail`].

pub mod alert;
pub mod hello;
pub mod host;
pub mod introduction;
pub mod opening;
pub mod packets;
pub mod pool;
pub mod refusal;
pub mod registration;
pub mod route;
pub mod select;
pub mod spread;
pub mod table;
pub mod trail;

#[cfg(test)]
mod fixture;
