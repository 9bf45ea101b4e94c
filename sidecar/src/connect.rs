//! Connect mode: beside an application, plain Postgres in, verified RA-TLS out.

pub mod choice;
pub mod circuit;
pub mod failure;
pub mod forward;
pub mod keys;
pub mod login;
pub mod pool;
pub mod run;
mod search;
pub mod target;
