//! `registrar watch`.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::time::Duration;

use alloy::eips::BlockId;
use alloy::primitives::{Address, B256};
use alloy::providers::Provider as _;
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::SolEvent as _;
use postern_watch::abi::kms::IAppAuth::AppBootInfo;
use postern_watch::abi::kms::KmsAuth::{AppRegistered, Initialized, PolicyChanged};
use serde_json::json;
use tokio::time::sleep;

use super::address;
use super::check::{self, Verdict};
use crate::abi::{Told, told};
use crate::chain::{Chain, failed};
use crate::cli::WatchArguments;
use crate::failure::Failure;
use crate::report::{Report, write_err, write_out};

/// How often it is asked for new blocks.
const INTERVAL: Duration = Duration::from_millis(500);

/// The longest pause between two attempts at an endpoint that is away.
const MOST_PATIENCE: Duration = Duration::from_secs(15);

/// How many blocks are remembered, so that a reorganisation of this depth is told exactly.
const MEMORY: usize = 256;

/// Tells until it is stopped. Only what is wrong from the start ends it.
pub(crate) async fn run(chain: &Chain, arguments: &WatchArguments, as_json: bool) -> Result<Report, Failure> {
    let kms = *chain.kms().await?.address();
    let question = question(arguments)?;
    let mut watch = Watch::start(chain, kms, arguments, as_json).await?;
    watch.question = question;
    let mut patience = INTERVAL;
    loop {
        match watch.look().await {
            Ok(()) if patience > INTERVAL => {
                patience = INTERVAL;
                watch.remark("endpoint_back", "the endpoint answers again")?;
            }
            Ok(()) => {}
            Err(failure @ Failure::Output { .. }) => return Err(failure),
            Err(failure) => {
                if patience == INTERVAL {
                    watch.remark("endpoint_away", &format!("the endpoint is away, trying again: {failure}"))?;
                }
                patience = (patience * 2).min(MOST_PATIENCE);
            }
        }
        sleep(patience).await;
    }
}

/// The CVM whose verdict is followed, if one is.
fn question(arguments: &WatchArguments) -> Result<Option<AppBootInfo>, Failure> {
    match (&arguments.compose, arguments.apps.as_slice()) {
        (None, _) => Ok(None),
        (Some(compose), [app]) => check::boot_info(app, compose, &arguments.guest).map(Some),
        (Some(_), _) => Err(Failure::Unsupported("--compose needs exactly one app".to_owned())),
    }
}

struct Watch<'a> {
    chain: &'a Chain,
    kms: Address,
    /// The apps that are followed. New ones join if all are.
    apps: BTreeSet<Address>,
    all: bool,
    as_json: bool,
    /// The next block to tell of.
    next: u64,
    /// The blocks that were told of last, newest last.
    told: VecDeque<(u64, B256)>,
    /// The CVM whose verdict is followed, and what was said of it last.
    question: Option<AppBootInfo>,
    verdict: Option<Verdict>,
}

impl<'a> Watch<'a> {
    async fn start(chain: &'a Chain, kms: Address, arguments: &WatchArguments, as_json: bool) -> Result<Self, Failure> {
        let all = arguments.apps.is_empty();
        let mut apps: BTreeSet<Address> = arguments.apps.iter().map(address).collect();
        if all {
            let logs = chain.logs(kms, vec![AppRegistered::SIGNATURE_HASH]).await?;
            apps.extend(logs.iter().filter_map(registered));
        }
        let next = match chain.settings.from_block {
            0 => chain.height().await?.saturating_add(1),
            from_block => from_block,
        };
        let told = VecDeque::new();
        let watch = Self { chain, kms, apps, all, as_json, next, told, question: None, verdict: None };
        let apps = watch.apps.len();
        let text =
            format!("following {apps} app{} and the KMS contract from block {next}", if apps == 1 { "" } else { "s" });
        watch.remark("watching", &text)?;
        Ok(watch)
    }

    async fn look(&mut self) -> Result<(), Failure> {
        self.roll_back().await?;
        let head = self.chain.height().await?;
        let is_new = self.next <= head;
        while self.next <= head {
            let last = head.min(self.next.saturating_add(self.chain.settings.blocks_per_query - 1));
            let Some(hash) = self.hash_of(last).await? else { return Ok(()) };
            for log in self.logs(self.next, last).await? {
                self.tell(&log)?;
            }
            self.told.push_back((last, hash));
            if self.told.len() > MEMORY {
                self.told.pop_front();
            }
            self.next = last.saturating_add(1);
        }
        if is_new || self.verdict.is_none() { self.judge(head).await } else { Ok(()) }
    }

    /// Tells the verdict if it is another than before. It is asked for at each new block, as it may hang on contracts that
    /// are not followed.
    async fn judge(&mut self, head: u64) -> Result<(), Failure> {
        let Some(question) = &self.question else { return Ok(()) };
        let verdict = check::ask(self.chain, question.clone(), BlockId::number(head)).await?;
        if self.verdict.as_ref() == Some(&verdict) {
            return Ok(());
        }
        if self.as_json {
            self.write(&json!({
                "block": head,
                "contract": question.appId,
                "allowed": verdict.allowed,
                "reason": verdict.reason,
            }))?;
        } else {
            self.line(&format!("{head:>10}  {:#x}  {}", question.appId, verdict.in_words()))?;
        }
        self.verdict = Some(verdict);
        Ok(())
    }

    /// Forgets the blocks that are no longer there, so that those in their place are told.
    async fn roll_back(&mut self) -> Result<(), Failure> {
        let mut lost = None;
        while let Some((number, hash)) = self.told.back().copied() {
            if self.hash_of(number).await? == Some(hash) {
                break;
            }
            self.told.pop_back();
            let before = self.told.back().map_or(number, |(number, _)| number.saturating_add(1));
            lost = Some(before.min(number));
        }
        if let Some(first) = lost {
            self.next = first;
            self.remark(
                "reorganised",
                &format!("the blocks from {first} on were replaced; what follows stands instead"),
            )?;
        }
        Ok(())
    }

    async fn hash_of(&self, number: u64) -> Result<Option<B256>, Failure> {
        let block = self.chain.provider.get_block_by_number(number.into()).await;
        Ok(block.map_err(|error| failed("asking for a block", error))?.map(|block| block.header.hash))
    }

    /// The logs of a stretch, in order, including those of apps that were registered in it.
    async fn logs(&mut self, first: u64, last: u64) -> Result<Vec<Log>, Failure> {
        loop {
            let followed: Vec<Address> = self.apps.iter().copied().chain([self.kms]).collect();
            let filter = Filter::new().address(followed).from_block(first).to_block(last);
            let logs = self.chain.provider.get_logs(&filter).await;
            let logs = logs.map_err(|error| failed("reading logs", error))?;
            let before = self.apps.len();
            if self.all {
                self.apps.extend(logs.iter().filter(|log| log.address() == self.kms).filter_map(registered));
            }
            if self.apps.len() == before {
                return Ok(logs);
            }
        }
    }

    fn tell(&self, log: &Log) -> Result<(), Failure> {
        // Each rule has an event of its own, which the one only repeats; the other is no policy.
        if [PolicyChanged::SIGNATURE_HASH, Initialized::SIGNATURE_HASH].iter().any(|topic| log.topic0() == Some(topic))
        {
            return Ok(());
        }
        let unknown = || Told { event: "unknown event".to_owned(), arguments: Vec::new() };
        let told = told(log).unwrap_or_else(unknown);
        let block = log.block_number.unwrap_or_default();
        let whose = if log.address() == self.kms { "kms".to_owned() } else { format!("{:#x}", log.address()) };
        if self.as_json {
            let arguments: serde_json::Map<_, _> =
                told.arguments.into_iter().map(|(name, value)| (name, json!(value))).collect();
            return self.write(&json!({
                "block": block,
                "block_hash": log.block_hash,
                "transaction": log.transaction_hash,
                "contract": log.address(),
                "event": told.event,
                "arguments": arguments,
            }));
        }
        let values: Vec<_> = told.arguments.into_iter().map(|(_, value)| value).collect();
        self.line(&format!("{block:>10}  {whose:<42}  {:<22}  {}", told.event, values.join("  ")))
    }

    /// Says something that is not from the chain: on standard error, or as a line of its own kind.
    fn remark(&self, kind: &str, text: &str) -> Result<(), Failure> {
        if self.as_json {
            return self.write(&json!({"remark": kind, "message": text, "block": self.next}));
        }
        write_err(&format!("{text}\n")).map_err(gone)
    }

    fn write(&self, json: &serde_json::Value) -> Result<(), Failure> {
        self.line(&json.to_string())
    }

    #[expect(clippy::unused_self, reason = "it belongs to the two above")]
    fn line(&self, text: &str) -> Result<(), Failure> {
        write_out(&format!("{text}\n")).map_err(gone)
    }
}

fn registered(log: &Log) -> Option<Address> {
    AppRegistered::decode_log(&log.inner).ok().map(|event| event.appId)
}

/// Nobody reads any more.
fn gone(source: io::Error) -> Failure {
    Failure::Output { path: "standard output".into(), source }
}
