//! What a database says about itself, and how a quote is bound to it.

use sha2::{Digest, Sha256, Sha512};

/// Begins what is hashed for a caller that gives a nonce. No other report data of a dstack guest begins so: those of
/// certificates begin with `ratls-cert:`.
const LABEL: &[u8] = b"postern-attestation-2:";

/// Shortest nonce that proves freshness, in bytes.
pub const MIN_NONCE: usize = 16;
/// Longest nonce, in bytes.
pub const MAX_NONCE: usize = 64;

/// What a database says about itself, each part exactly as it is written in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    /// The application, in hex.
    pub app_id: &'a str,
    /// Its composition, in hex.
    pub compose_hash: &'a str,
    /// The CVM, in hex.
    pub instance_id: &'a str,
    /// Where the write-ahead log ends, or how far it was replayed; as Postgres writes it.
    pub wal_lsn: &'a str,
    /// SHA-256 of the control data, in hex.
    pub controldata_hash: &'a str,
    /// The version of Postgres.
    pub pg_version: &'a str,
    /// When Postgres was asked, in seconds since 1970.
    pub timestamp: u64,
}

impl Statement<'_> {
    /// What a quote must carry for a caller without a nonce, as TeeSQL has it:
    /// `SHA-256(wal_lsn || controldata_hash || timestamp)`, with 32 zero bytes behind it. The terms are the texts of the
    /// answer, the last one in decimal, and nothing stands between them. It names neither the application nor the version,
    /// and it does not show when the quote was made.
    #[must_use]
    pub fn report_data(&self) -> [u8; 64] {
        let Self { wal_lsn, controldata_hash, timestamp, .. } = self;
        let digest = Sha256::digest(format!("{wal_lsn}{controldata_hash}{timestamp}"));
        let mut report_data = [0; 64];
        report_data.iter_mut().zip(digest).for_each(|(byte, digested)| *byte = digested);
        report_data
    }

    /// What a quote must carry for a caller with a nonce: SHA-512 of `postern-attestation-2:` and of all terms, each with
    /// its length in front as four big-endian bytes: app id, compose hash, instance id, WAL position, control data hash,
    /// version, timestamp in decimal, nonce and TLS public key, all as the texts of the answer. So no term can be read as part
    /// of another, and none can be exchanged.
    ///
    /// `nonce` is the caller's and `tls_public_key` the SubjectPublicKeyInfo of the RA-TLS certificate, both in lower-case
    /// hex.
    #[must_use]
    pub fn fresh_report_data(&self, nonce: &str, tls_public_key: &str) -> [u8; 64] {
        let timestamp = self.timestamp.to_string();
        let terms = [
            self.app_id,
            self.compose_hash,
            self.instance_id,
            self.wal_lsn,
            self.controldata_hash,
            self.pg_version,
            &timestamp,
            nonce,
            tls_public_key,
        ];
        let mut hash = Sha512::new().chain_update(LABEL);
        for term in terms {
            // A term of 4 GiB is beyond every answer that is read.
            hash.update(u32::try_from(term.len()).unwrap_or(u32::MAX).to_be_bytes());
            hash.update(term);
        }
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const STATEMENT: Statement<'_> = Statement {
        app_id: "5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e",
        compose_hash: "c0",
        instance_id: "11",
        wal_lsn: "0/16B3748",
        controldata_hash: "abcd",
        pg_version: "17.2",
        timestamp: 1_751_000_000,
    };

    #[test]
    fn without_a_nonce_the_terms_stand_one_behind_the_other() {
        let report_data = STATEMENT.report_data();
        assert_eq!(report_data[..32], Sha256::digest("0/16B3748abcd1751000000")[..]);
        assert_eq!(report_data[32..], [0; 32]);
    }

    /// Made with Python's hashlib, as the documentation shows.
    #[test]
    fn with_a_nonce_the_bytes_are_the_documented_ones() {
        let expected = "82e074318c0cc07b4b31c85dbadcaa3563b4af36ff3aa8de6929565adc42592dd058798472402ba3f69b1158a56240c261faa6bcb7ef43755be7fd57716e07c1";
        assert_eq!(hex::encode(STATEMENT.fresh_report_data("00ff", "3059")), expected);
    }

    #[test]
    fn with_a_nonce_every_term_counts_and_none_can_be_moved_into_another() {
        let fresh = |statement: Statement<'_>| statement.fresh_report_data("00ff", "3059");
        let others = [
            Statement { app_id: "5e", ..STATEMENT },
            Statement { compose_hash: "c", instance_id: "011", ..STATEMENT },
            Statement { compose_hash: "c1", ..STATEMENT },
            Statement { instance_id: "12", ..STATEMENT },
            Statement { wal_lsn: "0/16B3748a", controldata_hash: "bcd", ..STATEMENT },
            Statement { controldata_hash: "abce", ..STATEMENT },
            Statement { pg_version: "17.3", ..STATEMENT },
            Statement { timestamp: 1_751_000_001, ..STATEMENT },
        ];
        let mut seen: BTreeSet<_> = others.into_iter().map(fresh).collect();
        seen.extend([fresh(STATEMENT), STATEMENT.fresh_report_data("00fe", "3059")]);
        seen.extend([STATEMENT.fresh_report_data("00ff", "3058"), STATEMENT.fresh_report_data("00ff3", "059")]);
        assert_eq!(seen.len(), others.len() + 4);
        // The formula without a nonce is ambiguous, which is why there is another.
        let moved = Statement { wal_lsn: "0/16B3748a", controldata_hash: "bcd", ..STATEMENT };
        assert_eq!(moved.report_data(), STATEMENT.report_data());
    }
}
