//! `registrar timelock`.

use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::providers::DynProvider;
use alloy::sol_types::{SolConstructor as _, SolEvent as _};
use postern_plumbing::clock::unix_now;
use serde_json::{Value, json};

use crate::abi::TimelockedOwner::{
    self, BYTECODE, CallScheduled, TimelockedOwnerInstance, cancelCall, constructorCall, executeCall,
};
use crate::abi::call_in_words;
use crate::chain::{Chain, call_failed};
use crate::cli::TimelockCommand;
use crate::failure::Failure;
use crate::lists::{Change, changes};
use crate::report::Report;
use crate::timelock::span;

/// What an operation's time is once it has been executed; it is zero if there is none, or none any more.
const EXECUTED: u64 = 1;

pub(crate) async fn run(chain: &Chain, command: &TimelockCommand) -> Result<Report, Failure> {
    match command {
        TimelockCommand::Create { delay, proposer, executor } => create(chain, *delay, proposer, executor).await,
        TimelockCommand::List => list(chain).await,
        TimelockCommand::Execute { id } => execute(chain, *id).await,
        TimelockCommand::Cancel { id } => cancel(chain, *id).await,
    }
}

async fn create(chain: &Chain, delay: u64, proposers: &[Address], executors: &[Address]) -> Result<Report, Failure> {
    let proposers = if proposers.is_empty() { vec![chain.signer()?.address()] } else { proposers.to_vec() };
    // To the timelock, the zero address stands for everybody.
    let executors = if executors.is_empty() { vec![Address::ZERO] } else { executors.to_vec() };
    let arguments = constructorCall { minDelay: U256::from(delay), proposers: proposers.clone(), executors };
    let code = Bytes::from([BYTECODE.as_ref(), &arguments.abi_encode()].concat());
    let (address, done) = chain.deploy("deploying the timelock", code).await?;
    let report = Report::new(json!({"timelock": address, "delay": delay, "proposers": proposers}))
        .field("timelock", format_args!("{address:#x}"))
        .field("delay", span(delay));
    let report =
        proposers.iter().fold(report, |report, proposer| report.field("proposer", format_args!("{proposer:#x}")));
    Ok(match done {
        Some(done) => done.tell(report),
        None => report,
    })
}

/// A call that was scheduled, and what became of it.
struct Proposal {
    id: B256,
    target: Address,
    value: U256,
    data: Bytes,
    predecessor: B256,
    salt: B256,
    /// Unix seconds.
    ready_at: u64,
    /// Whether more calls belong to it, which only other tools propose.
    is_batch: bool,
}

async fn contract(chain: &Chain) -> Result<TimelockedOwnerInstance<DynProvider>, Failure> {
    let Some(address) = chain.settings.timelock else {
        return Err(Failure::Unsupported("which timelock? Name it with --timelock".to_owned()));
    };
    chain.timelock(address).await
}

/// The proposals that wait, oldest first.
async fn pending(chain: &Chain, timelock: &TimelockedOwnerInstance<DynProvider>) -> Result<Vec<Proposal>, Failure> {
    let logs = chain.logs(*timelock.address(), vec![CallScheduled::SIGNATURE_HASH]).await?;
    let salts = chain.logs(*timelock.address(), vec![TimelockedOwner::CallSalt::SIGNATURE_HASH]).await?;
    let salt_of = |id: B256| {
        let salts = salts.iter().filter_map(|log| TimelockedOwner::CallSalt::decode_log(&log.inner).ok());
        salts.into_iter().find(|event| event.id == id).map(|event| event.salt).unwrap_or_default()
    };
    let mut waiting: Vec<Proposal> = Vec::new();
    for call in logs.iter().filter_map(|log| CallScheduled::decode_log(&log.inner).ok()) {
        let timestamp = timelock.getTimestamp(call.id).call().await;
        let timestamp = timestamp.map_err(|error| call_failed("asking about the proposal", error))?;
        let ready_at: u64 = timestamp.saturating_to();
        // A proposal that was dropped and made again has logged twice.
        if let Some(known) = waiting.iter_mut().find(|other| other.id == call.id) {
            known.is_batch |= !call.index.is_zero();
        } else if ready_at > EXECUTED {
            waiting.push(Proposal {
                id: call.id,
                target: call.target,
                value: call.value,
                data: call.data.data.clone(),
                predecessor: call.predecessor,
                salt: salt_of(call.id),
                ready_at,
                is_batch: !call.index.is_zero(),
            });
        }
    }
    Ok(waiting)
}

async fn list(chain: &Chain) -> Result<Report, Failure> {
    let timelock = contract(chain).await?;
    let delay = timelock.getMinDelay().call().await;
    let delay: u64 = delay.map_err(|error| call_failed("asking for the delay", error))?.saturating_to();
    let waiting = pending(chain, &timelock).await?;
    let now = unix_now();
    let entry = |proposal: &Proposal| {
        json!({
            "id": proposal.id,
            "target": proposal.target,
            "call": call_in_words(&proposal.data),
            "calldata": proposal.data,
            "ready_at": proposal.ready_at,
        })
    };
    let line = |proposal: &Proposal| {
        let wait = match proposal.ready_at.saturating_sub(now) {
            0 => "can be executed".to_owned(),
            wait => format!("in {}", span(wait)),
        };
        format!("{}  {wait}\n  {:#x}  {}", proposal.id, proposal.target, call_in_words(&proposal.data))
    };
    let report = Report::new(json!({
        "timelock": timelock.address(),
        "delay": delay,
        "proposals": waiting.iter().map(entry).collect::<Vec<Value>>(),
    }));
    Ok(if waiting.is_empty() { report.line("none") } else { report.lines(waiting.iter().map(line)) })
}

async fn execute(chain: &Chain, id: B256) -> Result<Report, Failure> {
    let timelock = contract(chain).await?;
    let waiting = pending(chain, &timelock).await?;
    let Some(proposal) = waiting.into_iter().find(|proposal| proposal.id == id) else {
        let text = format!("the timelock has no proposal {id} that waits; see `registrar timelock list`");
        return Err(Failure::Unsupported(text));
    };
    if proposal.is_batch {
        let text = "the proposal is made of several calls: execute it with the tool that proposed it";
        return Err(Failure::Unsupported(text.to_owned()));
    }
    let call = executeCall {
        target: proposal.target,
        value: proposal.value,
        payload: proposal.data.clone(),
        predecessor: proposal.predecessor,
        salt: proposal.salt,
    };
    let from = chain.signer()?.address();
    let outcome = Some(chain.call("executing the proposal", from, *timelock.address(), call).await?);
    let report = changes("executed", "", &[Change { value: call_in_words(&proposal.data), outcome }]);
    Ok(report.with("id", json!(id)))
}

async fn cancel(chain: &Chain, id: B256) -> Result<Report, Failure> {
    let timelock = contract(chain).await?;
    let role = timelock.CANCELLER_ROLE().call().await;
    let role = role.map_err(|error| call_failed("asking the timelock", error))?;
    let from = chain.signer()?.address();
    chain.must_have(&timelock, role, from, "cancel").await?;
    let outcome = Some(chain.call("dropping the proposal", from, *timelock.address(), cancelCall { id }).await?);
    Ok(changes("dropped", "", &[Change { value: id.to_string(), outcome }]))
}
