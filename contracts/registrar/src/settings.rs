//! What the command line, the environment and the configuration file say together.

use std::path::PathBuf;
use std::time::Duration;

use alloy::primitives::Address;
use alloy::signers::local::PrivateKeySigner;
use postern_plumbing::config::{Document, Problems, Section, Text};
use postern_plumbing::secret::Secret;
use postern_watch::Url;

use crate::cli::Options;
use crate::key;

/// The commented default configuration.
pub(crate) const DEFAULT: &str = include_str!("../registrar.toml");

/// The prefix of environment variables.
const PREFIX: &str = "POSTERN_REGISTRAR";

/// What a command cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) kms: bool,
    pub(crate) key: bool,
}

/// What is to be done with a call that changes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Sign and send it.
    Send,
    /// Show it.
    Show,
    /// Write it to a file from which a Safe makes it.
    Safe(PathBuf),
}

/// Everything that was set.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) rpc_url: Url,
    pub(crate) chain_id: Option<u64>,
    pub(crate) kms: Option<Address>,
    pub(crate) signer: Option<PrivateKeySigner>,
    pub(crate) delivery: Delivery,
    /// The timelock that governs, if one does.
    pub(crate) timelock: Option<Address>,
    pub(crate) confirmations: u64,
    pub(crate) call_deadline: Duration,
    pub(crate) transaction_deadline: Duration,
    pub(crate) raise_fee_after: Duration,
    pub(crate) command_deadline: Duration,
    pub(crate) from_block: u64,
    pub(crate) blocks_per_query: u64,
}

impl Settings {
    /// Who makes calls: the key that signs, if there is one. A Safe makes them itself.
    pub(crate) fn sender(&self) -> Option<Address> {
        self.signer.as_ref().map(PrivateKeySigner::address)
    }
}

/// Reads all settings. The command line wins over the environment, and that over the file.
pub(crate) fn load(options: &Options, needs: Needs) -> Result<Settings, Problems> {
    let document = Document::load(options.config.as_deref(), PREFIX)?;
    read(document, options, needs)
}

fn read(mut document: Document, options: &Options, needs: Needs) -> Result<Settings, Problems> {
    let settings = from_document(&mut document, options, needs);
    document.finish()?;
    // Whatever is missing has been recorded, so that there is something to report.
    settings.ok_or_else(|| Problems::one("configuration", "incomplete"))
}

fn from_document(document: &mut Document, options: &Options, needs: Needs) -> Option<Settings> {
    let deadlines = deadlines(&mut document.section("deadlines"));
    let logs = logs(&mut document.section("logs"));
    let mut root = document.root();
    let rpc_url = wanted(&mut root, "rpc_url", options.rpc_url.clone(), true);
    if rpc_url.as_ref().is_some_and(|url| !matches!(url.scheme(), "http" | "https")) {
        root.problem("rpc_url", "expected an http or https URL");
    }
    let kms = wanted(&mut root, "kms_contract", options.kms, needs.kms);
    let chain_id = root.optional("chain_id");
    let timelock = wanted(&mut root, "timelock", options.timelock, false);
    if timelock.is_some() && matches!(options.delivery(), Delivery::Safe(_)) {
        root.problem("timelock", "a file for a Safe holds direct calls only: leave one of the two out");
    }
    let signer = signer(&mut root, options, needs.key);
    let confirmations = root.or("confirmations", 1);
    if confirmations == 0 {
        root.problem("confirmations", "must be at least 1");
    }
    Some(Settings {
        rpc_url: rpc_url?,
        chain_id: options.chain_id.or(chain_id),
        kms,
        signer,
        delivery: options.delivery(),
        timelock,
        confirmations: options.wait.unwrap_or(confirmations),
        call_deadline: deadlines.call,
        transaction_deadline: deadlines.transaction,
        raise_fee_after: deadlines.raise_fee_after,
        command_deadline: deadlines.command,
        from_block: options.from_block.unwrap_or(logs.0),
        blocks_per_query: logs.1,
    })
}

/// A value from the command line or else from the document, which must be there if it is needed.
fn wanted<T>(root: &mut Section<'_>, key: &str, given: Option<T>, needed: bool) -> Option<T>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let configured = if needed && given.is_none() { root.required::<Text<T>>(key) } else { root.optional(key) };
    given.or_else(|| configured.map(Text::into_inner))
}

/// The key. A command that signs nothing does not touch it, and a dry run does only if there is one.
fn signer(root: &mut Section<'_>, options: &Options, needed: bool) -> Option<PrivateKeySigner> {
    let delivery = options.delivery();
    let wanted = needed && !matches!(delivery, Delivery::Safe(_));
    let insecure = root.optional::<String>("insecure_key").map(Secret::new);
    let insecure = options.insecure_key.clone().or(insecure);
    let password_file = root.optional::<PathBuf>("password_file");
    let password_file = options.password_file.clone().or(password_file);
    let required = wanted && delivery == Delivery::Send && options.key_file.is_none() && insecure.is_none();
    let configured: Option<PathBuf> = if required { root.required("key_file") } else { root.optional("key_file") };
    // What the command line says wins, and a file over what is less secure.
    let path = options.key_file.clone().or(configured.filter(|_| options.insecure_key.is_none()));
    if !wanted {
        return None;
    }
    let (key, read) = match (path, insecure) {
        (Some(path), _) => ("key_file", key::read(&path, password_file.as_deref())),
        (None, Some(secret)) => ("insecure_key", key::parse(&secret)),
        (None, None) => return None,
    };
    read.map_err(|error| root.problem(key, error.to_string())).ok()
}

struct Deadlines {
    call: Duration,
    transaction: Duration,
    raise_fee_after: Duration,
    command: Duration,
}

fn deadlines(section: &mut Section<'_>) -> Deadlines {
    let mut deadline = |key, seconds| {
        let deadline = section.or(key, Duration::from_secs(seconds));
        if deadline.is_zero() {
            section.problem(key, "must not be zero");
        }
        deadline
    };
    Deadlines {
        call: deadline("call", 10),
        transaction: deadline("transaction", 120),
        raise_fee_after: deadline("raise_fee_after", 30),
        command: deadline("command", 600),
    }
}

fn logs(section: &mut Section<'_>) -> (u64, u64) {
    let from_block = section.or("from_block", 0);
    let blocks_per_query = section.or("blocks_per_query", 10_000);
    if blocks_per_query == 0 {
        section.problem("blocks_per_query", "must be at least 1");
    }
    (from_block, blocks_per_query)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Needs = Needs { kms: false, key: false };

    fn parse(text: &str, options: &Options, needs: Needs) -> Result<Settings, String> {
        let document = Document::parse(text, [], PREFIX).map_err(|problems| problems.to_string())?;
        read(document, options, needs).map_err(|problems| problems.to_string())
    }

    #[test]
    fn the_printed_configuration_says_what_the_defaults_are() {
        let bare = parse("rpc_url = 'http://localhost:1'", &Options::default(), NOTHING).unwrap();
        let full = DEFAULT.replace("# rpc_url = \"http://127.0.0.1:8545\"", "rpc_url = 'http://localhost:1'");
        let full = parse(&full, &Options::default(), NOTHING).unwrap();
        assert_eq!(format!("{bare:?}"), format!("{full:?}"));
    }

    #[test]
    fn every_commented_key_is_one_that_is_read() {
        let uncommented: String = DEFAULT
            .lines()
            .map(|line| line.strip_prefix("# ").filter(|rest| rest.contains(" = ")).unwrap_or(line).to_owned() + "\n")
            .collect();
        let settings = parse(&uncommented, &Options::default(), NOTHING).unwrap();
        assert_eq!((settings.chain_id, settings.kms), (Some(8453), Some(Address::ZERO)));
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let text = "rpc_url = 'ftp://x/'\nkey_file = '/nonexistent/key'\nconfirmations = 0\nchainid = 1\n\
                    [deadlines]\ncall = '0s'\n[logs]\nblocks_per_query = 0";
        let problems = parse(text, &Options::default(), Needs { kms: true, key: true }).unwrap_err();
        for place in
            ["rpc_url", "kms_contract", "key_file", "confirmations", "chainid", "deadlines.call", "logs.blocks"]
        {
            assert!(problems.contains(&format!(" {place}")), "{place} is missing in:\n{problems}");
        }
    }

    #[test]
    fn the_command_line_wins() {
        let options = Options { kms: Some(Address::repeat_byte(7)), wait: Some(3), ..Options::default() };
        let text = "rpc_url = 'http://localhost:1'\nkms_contract = '0x0000000000000000000000000000000000000001'";
        let settings = parse(text, &options, NOTHING).unwrap();
        assert_eq!((settings.kms, settings.confirmations), (Some(Address::repeat_byte(7)), 3));
    }
}
