//! Reading the chain.

use std::cell::RefCell;

use alloy::contract::Error as ContractError;
use alloy::eips::BlockId;
use alloy::network::ReceiptResponse as _;
use alloy::primitives::{Address, B256, U256, b256, keccak256};
use alloy::providers::{DynProvider, Provider as _, RootProvider};
use alloy::rpc::types::TransactionReceipt;
use alloy::transports::TransportError;
use postern_watch::abi::app::AppAuth::{self, AppAuthInstance};
use postern_watch::abi::first::FirstRegistry;
use postern_watch::abi::kms::KmsAuth::{self, KmsAuthInstance};
use postern_watch::transport;

use crate::abi::TimelockedOwner;
use crate::failure::Failure;
use crate::plan::Plan;
use crate::revert;
use crate::settings::Settings;

/// Where a proxy keeps the address of its code (ERC-1967).
const IMPLEMENTATION_SLOT: B256 = b256!("360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc");

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

    /// Whether the KMS contract knows an app, and the contract that keeps its rules: the app itself, but for the first
    /// registries.
    pub(crate) async fn registration(&self, app: Address) -> Result<(bool, Address), Failure> {
        let kms = self.kms().await?;
        let asked = |error| call_failed("asking about the app", error);
        if let Some(registered) = if_known(kms.registeredApps(app).call().await.map_err(asked))? {
            return Ok((registered, app));
        }
        let entry = FirstRegistry::new(*kms.address(), self.provider.clone()).apps(app).call().await.map_err(asked)?;
        Ok((entry.isRegistered, if entry.controller.is_zero() { app } else { entry.controller }))
    }

    /// The app id of the trusted gateway, by whichever name the KMS contract knows it.
    pub(crate) async fn gateway_app(&self) -> Result<String, Failure> {
        let kms = self.kms().await?;
        let asked = |error| call_failed("asking for the gateway's app", error);
        if let Some(gateway) = if_known(kms.gatewayAppId().call().await.map_err(asked))? {
            return Ok(gateway);
        }
        FirstRegistry::new(*kms.address(), self.provider.clone()).tproxyAppId().call().await.map_err(asked)
    }

    /// The hash of an account's code.
    pub(crate) async fn code_hash(&self, address: Address) -> Result<B256, Failure> {
        let code = self.provider.get_code_at(address).await.map_err(|error| failed("asking for the code", error))?;
        if code.is_empty() { Err(Failure::NoContract(address)) } else { Ok(keccak256(&code)) }
    }

    /// The code behind a proxy (ERC-1967); zero where there is no proxy.
    pub(crate) async fn implementation(&self, proxy: Address) -> Result<Address, Failure> {
        let slot = self.provider.get_storage_at(proxy, U256::from_be_bytes(IMPLEMENTATION_SLOT.0));
        let word = slot.block_id(BlockId::latest()).await;
        let word = word.map_err(|error| failed("looking at the contract's code", error))?;
        Ok(Address::from_word(B256::from(word)))
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
        let answer = answer.map_err(|error| call_failed("asking what the contract can do", error));
        Ok(if_known(answer)?.unwrap_or(false))
    }

    pub(crate) async fn must_be_a_contract(&self, address: Address) -> Result<(), Failure> {
        let code = self.provider.get_code_at(address).await.map_err(|error| failed("asking for the code", error))?;
        if code.is_empty() { Err(Failure::NoContract(address)) } else { Ok(()) }
    }
}

/// The answer of a contract, if it knows the question.
pub(crate) fn if_known<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answer {
        Err(Failure::Reverted { .. } | Failure::Unreadable { .. }) => Ok(None),
        answer => answer.map(Some),
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
