//! The sidecar in one process with a simulated TEE and a Postgres that is played; and before a real PostgreSQL, with real drivers,
//! where only those can show how it is.

#[cfg(test)]
#[path = "../../pgwire/src/login/scram_server.rs"]
mod scram_server;

#[cfg(test)]
mod driver;
#[cfg(test)]
mod gateway;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod real;
#[cfg(test)]
mod world;

#[cfg(test)]
mod access;
#[cfg(test)]
mod authentication;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod binary;
#[cfg(test)]
mod cancel;
#[cfg(test)]
mod connect;
#[cfg(test)]
mod copy;
#[cfg(test)]
mod crowd;
#[cfg(test)]
mod cut;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod evidence;
#[cfg(test)]
mod http;
#[cfg(test)]
mod libpq;
#[cfg(test)]
mod protocol;
#[cfg(test)]
mod releases;
#[cfg(test)]
mod reuse;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod second_opinion;
#[cfg(test)]
mod secrecy;
#[cfg(test)]
mod session;
#[cfg(test)]
mod standby;
#[cfg(test)]
mod targets;
#[cfg(test)]
mod tools;
#[cfg(test)]
mod trouble;
#[cfg(test)]
mod tunnel;
#[cfg(test)]
mod verify;
