//! Our contracts on a chain of their own: a KMS contract that allows one OS image, and an app.

use alloy::primitives::{Address, B256, Bytes};
use alloy::rpc::types::TransactionReceipt;
use alloy::sol_types::{SolCall, SolConstructor as _};
use postern_watch::abi::app::AppAuth;
use postern_watch::abi::kms::KmsAuth;
use postern_watch::abi::proxy::ERC1967Proxy;

use crate::{Anvil, FIRST_ACCOUNT, RequestError, StartError};

/// A node with the contracts on it. Its first account owns them.
#[derive(Debug)]
pub struct Governance {
    /// The node.
    pub anvil: Anvil,
    /// The KMS contract.
    pub kms: Address,
    /// An app that allows any device, and no compose hash yet.
    pub app: Address,
}

/// Why the contracts are not there.
#[derive(Debug, thiserror::Error)]
pub enum GovernanceError {
    /// The node does not run.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A transaction failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The factory did not tell the address of the app that it made.
    #[error("no app was made")]
    NoApp,
}

impl Governance {
    /// Starts a node with further arguments of anvil's command line, and puts the contracts on it.
    ///
    /// # Errors
    /// When it does not start, or a transaction fails.
    pub async fn start(arguments: &[&str], os_image: [u8; 32]) -> Result<Self, GovernanceError> {
        Self::on(Anvil::start(arguments)?, os_image).await
    }

    /// Puts the contracts on a node. The same is done on every node that is as it was at its start.
    ///
    /// # Errors
    /// When a transaction fails.
    pub async fn on(anvil: Anvil, os_image: [u8; 32]) -> Result<Self, GovernanceError> {
        let app_code = anvil.deploy(AppAuth::BYTECODE.clone()).await?;
        let kms_code = anvil.deploy(KmsAuth::BYTECODE.clone()).await?;
        let initialize = KmsAuth::initializeCall { initialOwner: FIRST_ACCOUNT, implementation: app_code };
        let arguments =
            ERC1967Proxy::constructorCall { implementation: kms_code, _data: initialize.abi_encode().into() };
        let proxy = [ERC1967Proxy::BYTECODE.as_ref(), &arguments.abi_encode()].concat();
        let kms = anvil.deploy(proxy).await?;
        let mut governance = Self { anvil, kms, app: Address::ZERO };
        governance.tell_kms(&KmsAuth::addOsImageHashCall { osImageHash: os_image.into() }).await?;
        governance.app = governance.create_app().await?;
        Ok(governance)
    }

    /// Makes another app that allows any device, and no compose hash yet.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn create_app(&self) -> Result<Address, GovernanceError> {
        let call = KmsAuth::deployAndRegisterApp_1Call {
            initialOwner: FIRST_ACCOUNT,
            disableUpgrades: false,
            requireTcbUpToDate: false,
            allowAnyDevice: true,
            initialDeviceId: B256::ZERO,
            initialComposeHash: B256::ZERO,
        };
        let receipt = self.tell_kms(&call).await?;
        let created = receipt.decoded_log::<KmsAuth::AppDeployedViaFactory>().ok_or(GovernanceError::NoApp)?;
        Ok(created.appId)
    }

    /// Calls the KMS contract as its owner.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn tell_kms(&self, call: &impl SolCall) -> Result<TransactionReceipt, RequestError> {
        self.anvil.call(self.kms, Bytes::from(call.abi_encode())).await
    }

    /// Calls the app's contract as its owner.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn tell_app(&self, call: &impl SolCall) -> Result<TransactionReceipt, RequestError> {
        self.anvil.call(self.app, Bytes::from(call.abi_encode())).await
    }

    /// Lets the app run a composition.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn add(&self, compose_hash: [u8; 32]) -> Result<TransactionReceipt, RequestError> {
        self.tell_app(&AppAuth::addComposeHashCall { composeHash: compose_hash.into() }).await
    }

    /// Lets it run that composition no longer.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn remove(&self, compose_hash: [u8; 32]) -> Result<TransactionReceipt, RequestError> {
        self.tell_app(&AppAuth::removeComposeHashCall { composeHash: compose_hash.into() }).await
    }
}
