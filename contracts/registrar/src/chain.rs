//! Reading the chain.

use std::cell::RefCell;

use alloy::contract::Error as ContractError;
use alloy::network::ReceiptResponse as _;
use alloy::primitives::{Address, B256};
use alloy::providers::{DynProvider, Provider as _, RootProvider};
use alloy::rpc::types::TransactionReceipt;
use alloy::transports::TransportError;
use postern_watch::abi::app::AppAuth::{self, AppAuthInstance};
use postern_watch::abi::kms::KmsAuth::{self, KmsAuthInstance};
use postern_watch::transport;

use crate::abi::TimelockedOwner;
use crate::failure::Failure;
use crate::plan::Plan;
use crate::revert;
use crate::settings::Settings;

/// A connection to the chain that was asked for. Every request has a deadline.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) settings: Settings,
    pub(crate) provider: DynProvider,
    pub(crate) chain_id: u64,
    /// What would have been sent, where nothing is sent.
    pub(crate) plans: RefCell<Vec<Plan>>,
}

impl Chain {
    /// Connects, and sees that it is the right chain.
    pub(crate) async fn connect(settings: Settings) -> Result<Self, Failure> {
        let provider = RootProvider::new(transport::client(&settings.rpc_url, settings.call_deadline)?);
        let chain_id = provider.get_chain_id().await.map_err(|error| failed("asking for the chain's number", error))?;
        match settings.chain_id {
            Some(expected) if expected != chain_id => Err(wrong_chain(expected, chain_id)),
            _ => Ok(Self { settings, provider: provider.erased(), chain_id, plans: RefCell::default() }),
        }
    }

    /// The KMS contract, which must be there.
    pub(crate) async fn kms(&self) -> Result<KmsAuthInstance<DynProvider>, Failure> {
        let address = self.settings.kms.unwrap_or_default();
        self.must_be_a_contract(address).await?;
        Ok(KmsAuth::new(address, self.provider.clone()))
    }

    /// An app's contract, which must be there: a transaction to an empty address succeeds and does nothing.
    pub(crate) async fn app(&self, address: Address) -> Result<AppAuthInstance<DynProvider>, Failure> {
        self.must_be_a_contract(address).await?;
        Ok(AppAuth::new(address, self.provider.clone()))
    }

    pub(crate) async fn receipt(&self, hash: B256) -> Result<Option<TransactionReceipt>, Failure> {
        let receipt = self.provider.get_transaction_receipt(hash).await;
        receipt.map_err(|error| failed("asking for the receipt", error))
    }

    pub(crate) async fn height(&self) -> Result<u64, Failure> {
        self.provider.get_block_number().await.map_err(|error| failed("asking for the head", error))
    }

    /// Who governs a contract.
    pub(crate) async fn owner(&self, contract: Address) -> Result<Address, Failure> {
        let owner = AppAuth::new(contract, self.provider.clone()).owner().call().await;
        owner.map_err(|error| call_failed("asking for the owner", error))
    }

    /// Why somebody may not govern a contract, and how its owner could.
    pub(crate) async fn not_owner(&self, account: Address, contract: Address, owner: Address) -> Failure {
        let timelock = TimelockedOwner::new(owner, self.provider.clone());
        let hint = if timelock.getMinDelay().call().await.is_ok() {
            ". That is a timelock: use --timelock with its address"
        } else if self.provider.get_code_at(owner).await.is_ok_and(|code| !code.is_empty()) {
            ". That is a contract; if it is a Safe, use --safe FILE"
        } else {
            ""
        };
        Failure::NotOwner { account, contract, owner, hint }
    }

    /// Whether a contract says that it has an interface (ERC-165). One that does not know the question has none.
    pub(crate) async fn supports(&self, contract: Address, interface: [u8; 4]) -> Result<bool, Failure> {
        let contract = AppAuth::new(contract, self.provider.clone());
        let answer = contract.supportsInterface(interface.into()).call().await;
        match answer.map_err(|error| call_failed("asking what the contract can do", error)) {
            Err(Failure::Reverted { .. } | Failure::Unreadable { .. }) => Ok(false),
            answer => answer,
        }
    }

    pub(crate) async fn must_be_a_contract(&self, address: Address) -> Result<(), Failure> {
        let code = self.provider.get_code_at(address).await.map_err(|error| failed("asking for the code", error))?;
        if code.is_empty() { Err(Failure::NoContract(address)) } else { Ok(()) }
    }
}

/// What a failed request means.
pub(crate) fn failed(what: &'static str, error: TransportError) -> Failure {
    match revert::reason(&error) {
        Some(reason) => Failure::Reverted { what, reason },
        None => Failure::Endpoint { what, why: in_short(&error) },
    }
}

/// What a failed call of a contract means.
pub(crate) fn call_failed(what: &'static str, error: ContractError) -> Failure {
    if let ContractError::TransportError(error) = error {
        return failed(what, error);
    }
    Failure::Unreadable { what, why: error.to_string() }
}

/// The block that holds a transaction: its height and hash.
pub(crate) fn place(receipt: &TransactionReceipt) -> Option<(u64, B256)> {
    receipt.block_number().zip(receipt.block_hash())
}

fn wrong_chain(expected: u64, found: u64) -> Failure {
    let text = format!("the endpoint is on chain {found}, not on {expected}");
    Failure::Config(postern_plumbing::config::Problems::one("chain_id", text))
}

/// A transport's error without the answer that it could not read, and with its causes.
fn in_short(error: &TransportError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
