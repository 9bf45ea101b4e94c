//! Mutual RA-TLS between simulated CVMs, and everything that must not pass for it.

#[cfg(test)]
mod agent;
#[cfg(test)]
mod attacks;
#[cfg(test)]
mod cache;
#[cfg(test)]
mod collateral;
#[cfg(test)]
mod flips;
#[cfg(test)]
mod issuers;
#[cfg(test)]
mod keeper;
#[cfg(test)]
mod legacy;
#[cfg(test)]
mod pccs;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod world;
