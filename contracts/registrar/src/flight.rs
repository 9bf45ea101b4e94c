//! A signed transaction from its first broadcast to the depth that was asked for.
//!
//! It may be lost by the node, moved or taken away by a reorganisation, overtaken by another with its nonce, or stuck for
//! its fee. Because it is signed here, its hash is known before it is sent, and it can be sent again.

use std::time::Duration;

use alloy::eips::eip2718::Encodable2718 as _;
use alloy::network::{EthereumWallet, NetworkTransactionBuilder as _, TransactionBuilder as _};
use alloy::primitives::{B256, Bytes};
use alloy::providers::Provider as _;
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::transports::TransportError;
use tokio::time::{Instant, sleep, timeout_at};

use crate::chain::{Chain, failed, place};
use crate::failure::Failure;
use crate::progress::Progress;
use crate::transact::Done;

/// How often it is asked what became of a transaction.
const LOOK: Duration = Duration::from_millis(250);

/// How often in a row the node must say that another transaction has our nonce. Once may be between two blocks.
const OVERTAKEN: u32 = 12;

/// How often a transaction that is not mined is sent again for a higher fee.
const MOST_RAISES: u32 = 5;

/// How often a nonce that another sender took first is given up for the next one.
const NONCES: u32 = 3;

/// A transaction under way.
pub(crate) struct Flight<'a> {
    chain: &'a Chain,
    what: &'static str,
    /// Complete but for the signature.
    request: TransactionRequest,
    wallet: EthereumWallet,
    /// All that was sent with this nonce, the last one last. Any of them may be mined.
    sent: Vec<(B256, Bytes)>,
    sent_at: Instant,
    depth: u64,
    deadline: Instant,
    progress: Progress,
}

/// What is seen of a transaction.
enum Sight {
    /// In a block, with this many blocks on it, its own included.
    Mined(Box<TransactionReceipt>, u64),
    Waiting,
    /// The node does not know it, though its nonce is free.
    Gone,
    /// The node does not know it, and its nonce is taken.
    Overtaken,
}

impl<'a> Flight<'a> {
    /// Signs and sends. What the contract would refuse is found out before, by the estimate of gas.
    pub(crate) async fn start(
        chain: &'a Chain,
        what: &'static str,
        request: TransactionRequest,
    ) -> Result<Self, Failure> {
        let signer = chain.signer()?;
        let request = request.with_from(signer.address()).with_chain_id(chain.chain_id);
        let gas = chain.estimate(what, &request).await?;
        // What it costs may grow until it is mined.
        let mut request = request.with_gas_limit(gas.saturating_add(gas / 4));
        chain.set_fees(&mut request).await?;
        let now = Instant::now();
        let mut flight = Self {
            chain,
            what,
            request,
            wallet: EthereumWallet::from(signer.clone()),
            sent: Vec::new(),
            sent_at: now,
            depth: 0,
            deadline: now + chain.settings.transaction_deadline,
            progress: Progress::new(),
        };
        flight.take_off().await?;
        Ok(flight)
    }

    async fn take_off(&mut self) -> Result<(), Failure> {
        let signer = self.chain.signer()?.address();
        for attempt in 1.. {
            // The nonce is asked for anew each time: a remembered one is wrong after a reorganisation.
            let nonce = self.chain.provider.get_transaction_count(signer).pending().await;
            self.request.set_nonce(nonce.map_err(|error| failed("asking for the nonce", error))?);
            let raw = self.sign().await?;
            match self.broadcast(&raw).await {
                Err(error) if attempt < NONCES && says(&error, "nonce too low") => self.sent.clear(),
                Err(error) if error.is_error_resp() && !says(&error, "already known") => {
                    return Err(failed(self.what, error).of_sending());
                }
                // No answer is no refusal: the transaction may be on its way. It is looked for, and sent again.
                Ok(()) | Err(_) => break,
            }
        }
        Ok(())
    }

    /// Signs what there is, and remembers it.
    async fn sign(&mut self) -> Result<Bytes, Failure> {
        let signed = self.request.clone().build(&self.wallet).await;
        let signed = signed.map_err(|error| Failure::Unexpected(format!("{}: cannot sign: {error}", self.what)))?;
        let raw = Bytes::from(signed.encoded_2718());
        self.sent.push((*signed.tx_hash(), raw.clone()));
        self.sent_at = Instant::now();
        Ok(raw)
    }

    async fn broadcast(&self, raw: &[u8]) -> Result<(), TransportError> {
        self.progress.tell(&format!("{}: sent {}", self.what, self.hash()));
        self.chain.provider.send_raw_transaction(raw).await.map(drop)
    }

    /// Waits until it is deep enough.
    pub(crate) async fn land(mut self) -> Result<Done, Failure> {
        let mut overtaken = 0;
        loop {
            let Ok(sight) = timeout_at(self.deadline, self.look()).await else { return Err(self.unconfirmed()) };
            overtaken = if matches!(sight, Ok(Sight::Overtaken)) { overtaken + 1 } else { 0 };
            match sight {
                Ok(Sight::Mined(receipt, depth)) => {
                    if let Some(done) = self.mined(*receipt, depth).await? {
                        return Ok(done);
                    }
                }
                Ok(Sight::Waiting) => self.raise().await?,
                Ok(Sight::Gone) => self.again().await,
                Ok(Sight::Overtaken) if overtaken >= OVERTAKEN => {
                    let nonce = self.request.nonce.unwrap_or_default();
                    return Err(Failure::Overtaken { transaction: self.hash(), nonce });
                }
                // A transaction that was sent is not given up because one question about it failed.
                Ok(Sight::Overtaken) | Err(Failure::Endpoint { .. }) => {}
                Err(failure) => return Err(failure),
            }
            if Instant::now() >= self.deadline {
                return Err(self.unconfirmed());
            }
            sleep(LOOK).await;
        }
    }

    async fn look(&self) -> Result<Sight, Failure> {
        for (hash, _) in self.sent.iter().rev() {
            if let Some(receipt) = self.chain.receipt(*hash).await?
                && let Some((block, _)) = place(&receipt)
            {
                // A head that is behind the receipt's block is one that another node behind the endpoint told.
                let depth = self.chain.height().await?.saturating_add(1).saturating_sub(block).max(1);
                return Ok(Sight::Mined(Box::new(receipt), depth));
            }
        }
        let known = self.chain.provider.get_transaction_by_hash(self.hash()).await;
        if known.map_err(|error| failed("asking for the transaction", error))?.is_some() {
            return Ok(Sight::Waiting);
        }
        let used = self.chain.provider.get_transaction_count(self.chain.signer()?.address()).latest().await;
        let used = used.map_err(|error| failed("asking for the nonce", error))?;
        Ok(if self.request.nonce.is_some_and(|nonce| nonce < used) { Sight::Overtaken } else { Sight::Gone })
    }

    /// `Some` once it is deep enough. Each block of depth earns the next one its time.
    async fn mined(&mut self, receipt: TransactionReceipt, depth: u64) -> Result<Option<Done>, Failure> {
        let wanted = self.chain.settings.confirmations;
        let Some((block, block_hash)) = place(&receipt) else { return Ok(None) };
        if depth < wanted {
            if depth > self.depth {
                self.deadline = Instant::now() + self.chain.settings.transaction_deadline;
            }
            self.depth = depth;
            self.progress.tell(&format!("{}: in block {block}, {depth} of {wanted} confirmations", self.what));
            return Ok(None);
        }
        if !receipt.status() {
            let reason = self.chain.refusal_at(&self.request, block_hash).await;
            return Err(Failure::Failed { transaction: receipt.transaction_hash, block, reason });
        }
        let timestamp = self.chain.timestamp(block_hash).await.unwrap_or_default();
        Ok(Some(Done { receipt, block, block_hash, timestamp }))
    }

    /// Sends it again for a higher fee, if it has been waiting for long.
    async fn raise(&mut self) -> Result<(), Failure> {
        self.depth = 0;
        let raises = u32::try_from(self.sent.len()).unwrap_or(u32::MAX);
        if self.sent_at.elapsed() < self.chain.settings.raise_fee_after || raises > MOST_RAISES {
            return Ok(());
        }
        // Nodes take a replacement only for a tenth more, at least.
        let raised = |fee: u128| fee.saturating_add(fee / 4).saturating_add(1);
        let request = &mut self.request;
        request.max_fee_per_gas = request.max_fee_per_gas.map(raised);
        request.max_priority_fee_per_gas = request.max_priority_fee_per_gas.map(raised);
        request.gas_price = request.gas_price.map(raised);
        let raw = self.sign().await?;
        if self.broadcast(&raw).await.is_err_and(|error| error.is_error_resp()) {
            // The node does not want it. The one before it still stands, and is raised further next time.
            self.sent.pop();
        }
        Ok(())
    }

    /// Sends the last one again, after a reorganisation or the node's restart.
    async fn again(&mut self) {
        self.depth = 0;
        if let Some((_, raw)) = self.sent.last() {
            // It is looked for and sent again if this fails.
            drop(self.broadcast(raw).await);
        }
    }

    fn hash(&self) -> B256 {
        self.sent.last().map(|(hash, _)| *hash).unwrap_or_default()
    }

    fn unconfirmed(&self) -> Failure {
        let wanted = self.chain.settings.confirmations;
        let why = match self.depth {
            0 => "it was not mined in time".to_owned(),
            depth => format!("it had {depth} of {wanted} confirmations in time"),
        };
        Failure::Unconfirmed { transaction: self.hash(), why }
    }
}

/// Whether the node's refusal says this. There are no codes for it.
fn says(error: &TransportError, text: &str) -> bool {
    error.as_error_resp().is_some_and(|payload| payload.message.to_ascii_lowercase().contains(text))
}
