//! The PostgreSQL wire protocol as Postern needs it, without sockets or clocks.
//!
//! Every parser gives one of three answers: a value that was found, an error that more bytes cannot mend, or `None`
//! for "not yet". Sizes are capped in the parsers; deadlines belong to the callers.
//! Source: PostgreSQL documentation, chapter "Frontend/Backend Protocol".

pub mod authentication;
pub mod boundary;
pub mod cancel;
pub mod error_response;
pub mod frame;
pub mod login;
pub mod negotiation;
pub mod opening;
pub mod roles;
pub mod scram;
pub mod sqlstate;
pub mod startup;
pub mod tracker;
