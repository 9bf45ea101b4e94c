//! What the kernel says of the processes that are compared.

pub(super) use crate::process::{cpu, memory};
