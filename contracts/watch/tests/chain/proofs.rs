//! Answers that are proven instead of asked for.

use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, keccak256};
use alloy::sol_types::SolCall as _;
use postern_allowlist::{BootInfo, NotAdmitted, Why};
use postern_identity::{AppId, DeviceId, OsImageHash};
use postern_watch::abi::app::AppAuth;
use postern_watch::abi::boot_info;
use postern_watch::abi::kms::KmsAuth;
use postern_watch::{Pin, Pins, Url, WatchConfig};
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use serde_json::json;

use crate::bad_company::{Manner, Node};
use crate::scenery::{Chain, OS_IMAGE, Watching, next, why};

/// Where a proxy keeps its implementation's address.
const IMPLEMENTATION: &str = "0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc";

async fn text(chain: &Chain, method: &'static str, parameters: serde_json::Value) -> String {
    chain.anvil.request(method, parameters).await.unwrap().as_str().unwrap().to_owned()
}

async fn code_hash(chain: &Chain, address: Address) -> B256 {
    keccak256(alloy::hex::decode(text(chain, "eth_getCode", json!([address, "latest"])).await).unwrap())
}

async fn implementation(chain: &Chain, proxy: Address) -> Pin {
    let word: B256 = text(chain, "eth_getStorageAt", json!([proxy, IMPLEMENTATION, "latest"])).await.parse().unwrap();
    let address = Address::from_word(word);
    Pin { address, code_hash: code_hash(chain, address).await }
}

/// The code that the chain's contracts have.
async fn pins(chain: &Chain) -> Pins {
    Pins {
        proxies: [code_hash(chain, chain.kms).await, code_hash(chain, chain.app).await].into(),
        kms: vec![implementation(chain, chain.kms).await],
        apps: vec![implementation(chain, chain.app).await],
    }
}

fn proving(chain: &Chain, endpoints: Vec<Url>, pins: &Pins) -> Watching {
    chain.watch_through(endpoints, |config: &mut WatchConfig| config.pins = pins.clone())
}

/// What an honest node would say if it were called is said by one that lies about every call.
#[tokio::test]
async fn where_everything_is_proven_a_lie_about_calls_is_not_even_heard() {
    let chain = Chain::start().await;
    let liar = Node::start(chain.anvil.url(), Manner::AllowsAll).await;
    let watching = proving(&chain, vec![liar.url()], &pins(&chain).await);
    let mut changes = watching.watch.changes();
    assert_eq!(why(&watching.evaluate(&chain.boot(7)).await), Why::ComposeHashNotAllowed);
    let added = chain.add(7).await;
    assert_eq!(next(&mut changes).await.verdict.unwrap().block.number, added);
    let removed = chain.remove(7).await;
    let change = next(&mut changes).await;
    assert_eq!((why(&change.verdict), change.block.number), (Why::ComposeHashNotAllowed, removed));
    watching.stop().await;
}

#[tokio::test]
async fn a_forged_proof_is_refused_and_its_endpoint_named() {
    let chain = Chain::start().await;
    let pins = pins(&chain).await;
    let honest = chain.anvil.url().clone();
    let forger = Node::start(&honest, Manner::ForgesProofs).await;
    let alone = proving(&chain, vec![forger.url()], &pins);
    // Nor is it called instead.
    let verdict = alone.evaluate_within(&chain.boot(7), Duration::from_secs(1)).await;
    assert_eq!(verdict, Err(NotAdmitted::NotEvaluated));
    assert!(alone.watch.endpoints()[0].contradictions > 0);

    // With others beside it, it is left out, and what they prove counts.
    let watching = proving(&chain, vec![forger.url(), honest.clone(), honest], &pins);
    let mut changes = watching.watch.changes();
    assert_eq!(why(&watching.evaluate(&chain.boot(7)).await), Why::ComposeHashNotAllowed);
    chain.add(7).await;
    assert!(next(&mut changes).await.verdict.is_ok());
    // The others may have been faster than its forgery.
    for number in 8..=u8::MAX {
        if watching.watch.endpoints()[0].excluded {
            break;
        }
        assert_eq!(why(&watching.evaluate(&chain.boot(number)).await), Why::ComposeHashNotAllowed);
    }
    let excluded: Vec<bool> = watching.watch.endpoints().iter().map(|endpoint| endpoint.excluded).collect();
    assert_eq!(excluded, [true, false, false]);
}

#[tokio::test]
async fn an_endpoint_that_proves_nothing_is_not_called_instead() {
    let chain = Chain::start().await;
    let pins = pins(&chain).await;
    let node = Node::start(chain.anvil.url(), Manner::ProvesNothing).await;
    let watching = proving(&chain, vec![node.url()], &pins);
    let verdict = watching.evaluate_within(&chain.boot(7), Duration::from_secs(1)).await;
    assert_eq!(verdict, Err(NotAdmitted::NotEvaluated));

    // What was admitted by proof stays so while nothing is proven, and not by a call either.
    node.become_(Manner::Honest);
    let mut changes = watching.watch.changes();
    chain.add(7).await;
    while next(&mut changes).await.verdict.is_err() {}
    node.become_(Manner::ProvesNothing);
    watching.has_seen(chain.remove(7).await).await;
    assert!(watching.watch.endpoints()[0].failures > 0);
    node.become_(Manner::Honest);
    assert_eq!(why(&next(&mut changes).await.verdict), Why::ComposeHashNotAllowed);
}

#[tokio::test]
async fn a_contract_that_gets_other_code_is_called_from_then_on() {
    let chain = Chain::start().await;
    chain.add(7).await;
    let watching = proving(&chain, vec![chain.anvil.url().clone()], &pins(&chain).await);
    let mut changes = watching.watch.changes();
    assert!(watching.evaluate(&chain.boot(7)).await.is_ok());
    assert!(next(&mut changes).await.verdict.is_ok());
    // The same code at another address: it says the same, and is not the one that is pinned.
    let other = chain.anvil.deploy(AppAuth::BYTECODE.clone()).await.unwrap();
    let upgrade = AppAuth::upgradeToAndCallCall { newImplementation: other, data: Bytes::new() };
    chain.tell_app(upgrade).await;
    chain.remove(7).await;
    assert_eq!(why(&next(&mut changes).await.verdict), Why::ComposeHashNotAllowed);
    // Code that answers nothing is asked, too: the storage behind it still allows.
    chain.add(7).await;
    assert!(next(&mut changes).await.verdict.is_ok());
    let silent = json!([other, "0x00"]);
    chain.anvil.request("anvil_setCode", silent).await.unwrap();
    chain.tell_kms(KmsAuth::addOsImageHashCall { osImageHash: B256::repeat_byte(9) }).await;
    assert!(matches!(next(&mut changes).await.verdict, Err(NotAdmitted::Refused { .. })));
}

/// One change of a rule, drawn at random. `paused` says which contracts are, the app's and the KMS contract.
async fn change(chain: &Chain, draw: u64, paused: &mut [bool; 2]) {
    let (what, of, on) = (draw % 9, u8::try_from(7 + draw / 9 % 2).unwrap(), (draw / 18).is_multiple_of(2));
    let word = B256::repeat_byte(of);
    let app = |data: Vec<u8>| async move { chain.anvil.call(chain.app, data).await.map(drop).unwrap() };
    let kms = |data: Vec<u8>| async move { chain.anvil.call(chain.kms, data).await.map(drop).unwrap() };
    match (what, on) {
        (0 | 1, true) => app(AppAuth::addComposeHashCall { composeHash: word }.abi_encode()).await,
        (0 | 1, false) => app(AppAuth::removeComposeHashCall { composeHash: word }.abi_encode()).await,
        (2, true) => app(AppAuth::addDeviceCall { deviceId: word }.abi_encode()).await,
        (2, false) => app(AppAuth::removeDeviceCall { deviceId: word }.abi_encode()).await,
        (3, on) => app(AppAuth::setAllowAnyDeviceCall { anyDevice: on }.abi_encode()).await,
        (4, on) => app(AppAuth::setRequireTcbUpToDateCall { upToDate: on }.abi_encode()).await,
        (5, true) => kms(KmsAuth::addOsImageHashCall { osImageHash: word }.abi_encode()).await,
        (5, false) => kms(KmsAuth::removeOsImageHashCall { osImageHash: word }.abi_encode()).await,
        (6, true) => kms(KmsAuth::registerAppCall { appId: chain.app }.abi_encode()).await,
        (6, false) => kms(KmsAuth::deregisterAppCall { appId: chain.app }.abi_encode()).await,
        // To pause what is paused already would revert.
        (7, on) if paused[0] == on => {}
        (7, true) => app(AppAuth::pauseCall {}.abi_encode()).await,
        (7, false) => app(AppAuth::unpauseCall {}.abi_encode()).await,
        (_, on) if paused[1] == on => {}
        (_, true) => kms(KmsAuth::pauseCall {}.abi_encode()).await,
        (_, false) => kms(KmsAuth::unpauseCall {}.abi_encode()).await,
    }
    if let Some(contract) = usize::try_from(what).ok().and_then(|what| paused.get_mut(what.checked_sub(7)?)) {
        *contract = on;
    }
}

/// Workloads on which every rule has a say.
fn boots(chain: &Chain) -> Vec<BootInfo> {
    let mut boots = Vec::new();
    for number in 0..16_u8 {
        let bit = |at: u8| number >> at & 1 == 1;
        let mut boot = chain.boot(if bit(0) { 7 } else { 8 });
        boot.device_id = DeviceId([if bit(1) { 7 } else { 8 }; 32]);
        boot.os_image_hash = OsImageHash(if bit(2) { OS_IMAGE } else { [7; 32] });
        boot.tcb_status = if bit(3) { "UpToDate" } else { "OutOfDate" }.to_owned();
        boots.push(boot);
    }
    boots.push(BootInfo { app_id: AppId([9; 20]), ..chain.boot(7) });
    boots
}

/// What the contract itself says, when it is called.
async fn said(chain: &Chain, boot: &BootInfo) -> (bool, String) {
    let data = Bytes::from(KmsAuth::isAppAllowedCall { bootInfo: boot_info(boot) }.abi_encode());
    let answer = text(chain, "eth_call", json!([{ "to": chain.kms, "data": data }, "latest"])).await;
    let answer = KmsAuth::isAppAllowedCall::abi_decode_returns(&alloy::hex::decode(answer).unwrap()).unwrap();
    (answer.isAllowed, answer.reason)
}

/// What the watch says, in the contract's words.
async fn verdict(watching: &Watching, boot: &BootInfo) -> (bool, String) {
    match watching.evaluate(boot).await {
        Ok(_) => (true, String::new()),
        Err(NotAdmitted::Refused { refusal, .. }) => (false, refusal.text),
        Err(other) => panic!("{other}, about {boot:?}"),
    }
}

/// Plays random histories to a watch that reads the contracts' storage, through a node that lies about calls. From the moment
/// at which a change is seen, the watch says the same about everybody as the contract, in the same words.
#[tokio::test]
async fn what_is_proven_is_what_the_contract_says_in_every_history() {
    const CHANGES: usize = 150;
    let chain = Chain::start().await;
    let liar = Node::start(chain.anvil.url(), Manner::AllowsAll).await;
    let watching = proving(&chain, vec![liar.url()], &pins(&chain).await);
    let mut random = StdRng::seed_from_u64(7);
    let boots = boots(&chain);
    let (mut allowed, mut paused) = (0, [false; 2]);
    for _ in 0..CHANGES {
        change(&chain, random.next_u64(), &mut paused).await;
        chain.anvil.mine(1).await.unwrap();
        let number = text(&chain, "eth_blockNumber", json!([])).await;
        watching.has_seen(u64::from_str_radix(number.trim_start_matches("0x"), 16).unwrap()).await;
        for boot in &boots {
            let proven = verdict(&watching, boot).await;
            assert_eq!(proven, said(&chain, boot).await, "{boot:?}");
            allowed += usize::from(proven.0);
        }
    }
    assert!(allowed > 0, "nobody was ever allowed, which proves little");
}
