use postern_attest::Statement;
use postern_attest::event_log::EventLog;
use serde::{Deserialize, Serialize};

/// What `/attestation` says. The fields up to `timestamp` are TeeSQL's; an answer that has no others is read as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The application, in hex.
    pub app_id: String,
    /// Its composition, in hex.
    pub compose_hash: String,
    /// The CVM, in hex.
    pub instance_id: String,
    /// The quote, in hex.
    pub quote: String,
    /// What the quote measures.
    pub tcb_info: TcbInfo,
    /// What Postgres says.
    pub postgres_state: PostgresState,
    /// When Postgres was asked, in seconds since 1970.
    pub timestamp: u64,
    /// What the quote carries, in hex.
    #[serde(default)]
    pub report_data: Option<String>,
    /// The events that RTMR3 was extended with.
    #[serde(default)]
    pub event_log: Option<EventLog>,
    /// The caller's nonce, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// The key of the RA-TLS certificate, as SubjectPublicKeyInfo in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_public_key: Option<String>,
}

/// The registers of a TD, in hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcbInfo {
    /// The TD's initial memory.
    pub mrtd: String,
    /// The virtual hardware.
    pub rtmr0: String,
    /// The kernel.
    pub rtmr1: String,
    /// What the kernel was started with.
    pub rtmr2: String,
    /// Runtime events.
    pub rtmr3: String,
}

/// What Postgres says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresState {
    /// Where the write-ahead log ends.
    pub wal_lsn: String,
    /// SHA-256 of the control data, in hex.
    pub controldata_hash: String,
    /// The version of Postgres.
    pub pg_version: String,
}

impl Answer {
    /// What the quote is bound to.
    #[must_use]
    pub fn statement(&self) -> Statement<'_> {
        Statement {
            app_id: &self.app_id,
            compose_hash: &self.compose_hash,
            instance_id: &self.instance_id,
            wal_lsn: &self.postgres_state.wal_lsn,
            controldata_hash: &self.postgres_state.controldata_hash,
            pg_version: &self.postgres_state.pg_version,
            timestamp: self.timestamp,
        }
    }

    /// What the quote must carry as its report data.
    #[must_use]
    pub fn bound(&self) -> [u8; 64] {
        match &self.nonce {
            Some(nonce) => {
                let key = self.tls_public_key.as_deref().unwrap_or_default();
                self.statement().fresh_report_data(nonce, key)
            }
            None => self.statement().report_data(),
        }
    }
}
