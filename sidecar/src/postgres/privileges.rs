//! The statements that make a role and give it its privileges. They may be run any number of times.

/// What a role may do in the schema `public` of the provisioned databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privileges {
    /// SELECT.
    Read,
    /// SELECT, INSERT, UPDATE, DELETE and CREATE.
    ReadWrite,
    /// What the operator grants.
    None,
}

impl std::str::FromStr for Privileges {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "read" => Ok(Self::Read),
            "readwrite" => Ok(Self::ReadWrite),
            "none" => Ok(Self::None),
            _ => Err("expected \"read\", \"readwrite\" or \"none\"".to_owned()),
        }
    }
}

/// Whether a name can stand in the statements below: a plain lower-case identifier that is not Postgres' own.
#[must_use]
pub fn is_plain_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (1..=63).contains(&name.len())
        && name.chars().all(plain)
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.starts_with("pg_")
}

/// Keeps everything that the session does from now on out of Postgres' log, its statistics and its list of activities, since
/// verifiers are part of it. A statement of its own: what comes in one message with it is logged before it takes effect.
pub const QUIET: &str = "SET log_statement = 'none';
    SET log_min_duration_statement = -1;
    SET log_min_duration_sample = -1;
    SET log_transaction_sample_rate = 0;
    SET log_min_error_statement = 'panic';
    SET debug_print_parse = off;
    SET debug_print_rewritten = off;
    SET track_activities = off;
    SET pg_stat_statements.track = 'none';
    SET pgaudit.log = 'none'";

/// What [`NO_TRUST`] fails with: a class that PostgreSQL leaves to its users.
pub const TRUSTED: &str = "PT001";

/// Fails with [`TRUSTED`] when the server's pg_hba.conf lets anybody in without proof, whoever that is and however they come. A
/// role that is trusted in one database only would go unnoticed in logins to others.
pub const NO_TRUST: &str = "DO $postern$ DECLARE rule record; BEGIN
    FOR rule IN SELECT line_number, type, database, user_name FROM pg_catalog.pg_hba_file_rules
                WHERE auth_method = 'trust' ORDER BY line_number LIMIT 1
    LOOP
      RAISE EXCEPTION USING ERRCODE = 'PT001', MESSAGE = pg_catalog.format(
        'line %s of pg_hba.conf trusts whoever comes (%s, databases %s, roles %s)',
        rule.line_number, rule.type, rule.database, rule.user_name);
    END LOOP;
  END $postern$";

/// Whether the server repeats the changes of another and takes none itself.
pub const IN_RECOVERY: &str = "SELECT pg_catalog.pg_is_in_recovery()";

/// Creates the role if it is missing and sets its verifier.
#[must_use]
pub fn role(name: &str, verifier: &str, replication: bool) -> String {
    let replication = if replication { "REPLICATION" } else { "NOREPLICATION" };
    format!(
        "BEGIN;
         DO $postern$ BEGIN
           IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '{name}') THEN
             CREATE ROLE \"{name}\";
           END IF;
         END $postern$;
         ALTER ROLE \"{name}\" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE {replication} NOBYPASSRLS
           VALID UNTIL 'infinity' PASSWORD '{verifier}';
         COMMIT;"
    )
}

/// Grants what a role may do in the current database. `writers` are the roles with [`Privileges::ReadWrite`] and the
/// superuser: what they create later is granted as well.
#[must_use]
pub fn grants(name: &str, privileges: Privileges, writers: &[&str]) -> String {
    let (schema, tables, sequences) = match privileges {
        Privileges::None => return String::new(),
        Privileges::Read => ("USAGE", "SELECT", "SELECT"),
        Privileges::ReadWrite => ("USAGE, CREATE", "SELECT, INSERT, UPDATE, DELETE", "USAGE, SELECT, UPDATE"),
    };
    let mut sql = format!(
        "BEGIN;
         REVOKE CREATE ON SCHEMA public FROM PUBLIC;
         GRANT {schema} ON SCHEMA public TO \"{name}\";
         GRANT {tables} ON ALL TABLES IN SCHEMA public TO \"{name}\";
         GRANT {sequences} ON ALL SEQUENCES IN SCHEMA public TO \"{name}\";\n"
    );
    for writer in writers.iter().filter(|writer| **writer != name) {
        for (kind, granted) in [("TABLES", tables), ("SEQUENCES", sequences)] {
            sql.push_str(&format!(
                "ALTER DEFAULT PRIVILEGES FOR ROLE \"{writer}\" IN SCHEMA public GRANT {granted} ON {kind} TO \"{name}\";\n"
            ));
        }
    }
    sql + "COMMIT;"
}

#[cfg(test)]
mod tests {
    use super::{Privileges, grants, is_plain_name};

    #[test]
    fn names_that_would_need_quoting_are_refused() {
        for name in ["teesql_read", "a", "_x9"] {
            assert!(is_plain_name(name), "{name}");
        }
        for name in ["", "A", "a b", "a\"b", "a'b", "9a", "pg_monitor", "ä", &"a".repeat(64)] {
            assert!(!is_plain_name(name), "{name}");
        }
    }

    #[test]
    fn readers_see_what_writers_create() {
        let sql = grants("teesql_read", Privileges::Read, &["teesql_readwrite", "postgres"]);
        assert!(
            sql.contains("FOR ROLE \"teesql_readwrite\" IN SCHEMA public GRANT SELECT ON TABLES TO \"teesql_read\"")
        );
        assert!(!sql.contains("INSERT") && !sql.contains("USAGE, CREATE"), "{sql}");
        assert_eq!(grants("custom", Privileges::None, &["postgres"]), "");
        let own = grants("teesql_readwrite", Privileges::ReadWrite, &["teesql_readwrite", "postgres"]);
        assert!(!own.contains("FOR ROLE \"teesql_readwrite\""), "{own}");
    }
}
