//! Contracts whose logs matter although they are neither the KMS contract nor an app's own.

use std::str::FromStr;

use alloy::primitives::Address;
use postern_identity::AppId;

/// A contract that keeps rules for others, such as the diamond of a cluster or an app's controller: when it logs something,
/// they may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSource {
    /// The contract.
    pub contract: Address,
    /// The app whose rules it keeps; `None` where those are more than one, so that everybody is asked about again.
    pub app: Option<AppId>,
}

/// A text names no such contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a contract's address, or CONTRACT=APP")]
pub struct NotASource;

impl FromStr for LogSource {
    type Err = NotASource;

    fn from_str(text: &str) -> Result<Self, NotASource> {
        let (contract, app) = text.split_once('=').map_or((text, None), |(contract, app)| (contract, Some(app)));
        let app = app.map(str::parse).transpose().map_err(|_| NotASource)?;
        Ok(Self { contract: contract.parse().map_err(|_| NotASource)?, app })
    }
}
