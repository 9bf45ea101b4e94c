//! How what endpoints send is read, without an endpoint: for fuzz targets, and no part of the interface.

use std::collections::BTreeSet;

use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::rpc::json_rpc::{Response, ResponsePayload};
use alloy::rpc::types::{EIP1186AccountProofResponse, Header as RpcHeader, Log};
use alloy::transports::TransportError;
use postern_allowlist::{Block, Decision};
use postern_identity::AppId;

use crate::config::LogSource;
use crate::proof::verify;
use crate::touched::{Sources, Touched};
use crate::{ask, endpoint};

/// The block that a result of `eth_getBlockByNumber` shows, if it has the hash that it claims, and its parent's hash.
#[must_use]
pub fn header(result: &[u8]) -> Option<(Block, [u8; 32])> {
    let header: RpcHeader = serde_json::from_slice(result).ok()?;
    endpoint::checked(&header).ok().map(|header| (header.block, header.parent))
}

/// The hash of an account's code and the values of slots of it, if a result of `eth_getProof` proves them under a state root.
#[must_use]
pub fn proof(state_root: B256, address: Address, slots: &[B256], result: &[u8]) -> Option<(B256, Vec<U256>)> {
    let answer: EIP1186AccountProofResponse = serde_json::from_slice(result).ok()?;
    let account = verify::account(state_root, address, slots, &answer).ok()?;
    Some((account.code_hash, account.slots))
}

/// What a response to `isAppAllowed` says, if it is a word of the contract.
#[must_use]
pub fn decision(response: &[u8]) -> Option<Decision> {
    let response: Response = serde_json::from_slice(response).ok()?;
    let outcome = match response.payload {
        ResponsePayload::Success(result) => Ok(serde_json::from_str::<Bytes>(result.get()).ok()?),
        ResponsePayload::Failure(error) => Err(TransportError::ErrorResp(error)),
    };
    ask::decision(outcome).ok()
}

/// Whom a result of `eth_getLogs` concerns: these apps, or everybody.
#[must_use]
pub fn logs(kms: Address, apps: &[Address], others: &[LogSource], result: &[u8]) -> Option<Option<BTreeSet<AppId>>> {
    let logs: Vec<Log> = serde_json::from_slice(result).ok()?;
    let (mut touched, sources) = (Touched::default(), Sources { kms, apps, others });
    logs.iter().for_each(|log| touched.add(&log.inner, &sources));
    Some((!touched.everybody).then_some(touched.apps))
}
