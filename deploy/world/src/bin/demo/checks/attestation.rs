//! What a database says about itself in HTTP.

use std::io::Write;

use serde_json::Value;

use super::{DEADLINE, Scene};
use postern_world::report::{Outcome, Report, words};

impl Scene {
    /// A client in Python reads it and recomputes what its quote is bound to; `sidecar verify` judges the quote as well.
    pub(super) async fn attestations(&self, report: &mut Report<impl Write>) {
        report.check("the attestation of a database, as TeeSQL's clients read it", DEADLINE, self.read()).await;
        report.check("the attestation of a database, judged by sidecar verify", DEADLINE, self.judged()).await;
    }

    /// What is written to the database moves the state that it attests.
    async fn read(&self) -> Outcome {
        let tenant = self.world.tenant(0).ok_or("no tenant")?;
        let url = format!("http://{}/attestation", tenant.database().public());
        let before = self.python.attestation(&url).await?;
        let login = self.connected(0).ok_or("no tenant")?;
        let script = "set client_min_messages = warning;\n\
                      drop table if exists attested;\n\
                      create table attested as select generate_series(1, 1000);\n";
        self.psql.run(&login, script).await?;
        let after = self.python.attestation(&url).await?;
        let said = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let position = |value: &Value| position(&said(value, "wal_lsn")).ok_or("the WAL position cannot be read");
        let cvm = tenant.database().guest.cvm();
        if said(&after, "app_id") != cvm.app_id().to_string() || said(&after, "controldata_hash").len() != 64 {
            return Err(format!("it says {after}"));
        }
        if position(&after)? <= position(&before)? {
            return Err(format!("the WAL did not move: {before}, then {after}"));
        }
        Ok(format!("PostgreSQL {}, WAL {}", said(&after, "pg_version"), said(&after, "wal_lsn")))
    }

    async fn judged(&self) -> Outcome {
        let tenant = self.world.tenant(0).ok_or("no tenant")?;
        let report = self.world.attestation(tenant).await.map_err(words)?;
        let report: Value = serde_json::from_str(&report).map_err(words)?;
        let proven = report.get("proven").and_then(Value::as_array).into_iter().flatten();
        let codes: Vec<_> = proven.filter_map(|one| one.get("code")?.as_str()).collect();
        if codes.contains(&"fresh") && codes.contains(&"state_bound") {
            Ok(format!("proven: {}", codes.join(", ")))
        } else {
            Err(format!("proven: {}", codes.join(", ")))
        }
    }
}

/// The number that a position in the write-ahead log stands for.
fn position(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let part = |digits| u64::from_str_radix(digits, 16).ok();
    Some((part(high)? << 32) | part(low)?)
}

#[cfg(test)]
mod tests {
    use super::position;

    #[test]
    fn positions_are_compared_as_numbers() {
        assert_eq!(position("0/16B3748"), Some(0x16B_3748));
        assert!(position("1/0") > position("0/FFFFFFFF"));
        assert_eq!(position("16B3748"), None);
    }
}
