//! Connect mode: beside an application, plain Postgres in, verified RA-TLS out.

pub mod failure;
pub mod forward;
pub mod run;
