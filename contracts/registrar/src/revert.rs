//! A contract's refusal in words.

use alloy::primitives::hex;
use alloy::sol_types::{Panic, Revert, SolError as _, SolInterface as _};
use alloy::transports::TransportError;
use postern_watch::abi::app::AppAuth::AppAuthErrors;
use postern_watch::abi::kms::KmsAuth::KmsAuthErrors;

use crate::abi::TimelockedOwner::TimelockedOwnerErrors;
use crate::report::printable;

/// The reason, if an error is a refusal by a contract and not a fault of the node.
pub(crate) fn reason(error: &TransportError) -> Option<String> {
    let payload = error.as_error_resp()?;
    if !payload.message.to_ascii_lowercase().contains("revert") {
        return None;
    }
    Some(payload.as_revert_data().map_or_else(|| "no reason was given".to_owned(), |data| in_words(&data)))
}

fn in_words(data: &[u8]) -> String {
    // Both contracts share their base, so that the errors of one cover the other's.
    if let Ok(error) = KmsAuthErrors::abi_decode(data) {
        return known(&error);
    }
    if let Ok(error) = AppAuthErrors::abi_decode(data) {
        return format!("{error:?}");
    }
    if let Ok(error) = TimelockedOwnerErrors::abi_decode(data) {
        return of_timelock(&error);
    }
    if let Ok(revert) = Revert::abi_decode(data) {
        return printable(&revert.reason);
    }
    if let Ok(panic) = Panic::abi_decode(data) {
        return panic.to_string();
    }
    match data.get(..4) {
        Some(selector) => format!("an error that we do not know: {}", hex::encode_prefixed(selector)),
        None => "no reason was given".to_owned(),
    }
}

fn of_timelock(error: &TimelockedOwnerErrors) -> String {
    match error {
        TimelockedOwnerErrors::AccessControlUnauthorizedAccount(error) => {
            format!("{:#x} may not do this at the timelock", error.account)
        }
        TimelockedOwnerErrors::TimelockInsufficientDelay(error) => {
            format!("the timelock wants at least {} s of delay", error.minDelay)
        }
        TimelockedOwnerErrors::TimelockUnexpectedOperationState(error) => {
            format!("the proposal {} does not wait, or not long enough yet", error.operationId)
        }
        TimelockedOwnerErrors::TimelockUnexecutedPredecessor(error) => {
            format!("the proposal {} has to be executed first", error.predecessorId)
        }
        TimelockedOwnerErrors::MustBeScheduled(_) => "this could allow something, so it has to be proposed".to_owned(),
        TimelockedOwnerErrors::FailedCall(_) => "a call that it made failed".to_owned(),
        TimelockedOwnerErrors::AccessControlBadConfirmation(_)
        | TimelockedOwnerErrors::AddressEmptyCode(_)
        | TimelockedOwnerErrors::InsufficientBalance(_)
        | TimelockedOwnerErrors::TimelockInvalidOperationLength(_)
        | TimelockedOwnerErrors::TimelockUnauthorizedCaller(_) => format!("{error:?}"),
    }
}

fn known(error: &KmsAuthErrors) -> String {
    match error {
        KmsAuthErrors::OwnableUnauthorizedAccount(error) => {
            format!("{:#x} is not the owner of this contract", error.account)
        }
        KmsAuthErrors::OwnableInvalidOwner(error) => format!("{:#x} cannot be an owner", error.owner),
        KmsAuthErrors::InvalidInitialization(_) => "the contract has been initialised before".to_owned(),
        KmsAuthErrors::NotInitializing(_) => "the contract is not being initialised".to_owned(),
        KmsAuthErrors::AddressEmptyCode(error) => format!("there is no contract at {:#x}", error.target),
        KmsAuthErrors::ERC1967InvalidImplementation(error) => {
            format!("{:#x} is not a contract that can stand behind a proxy", error.implementation)
        }
        KmsAuthErrors::ERC1967NonPayable(_) => "the call takes no money".to_owned(),
        KmsAuthErrors::EnforcedPause(_) => "it is paused already".to_owned(),
        KmsAuthErrors::ExpectedPause(_) => "it is not paused".to_owned(),
        KmsAuthErrors::FailedCall(_) => "a call that it made failed".to_owned(),
        KmsAuthErrors::UUPSUnauthorizedCallContext(_) => "this must be called through the proxy".to_owned(),
        KmsAuthErrors::UUPSUnsupportedProxiableUUID(_) => "the new code is not made for this proxy".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Address;
    use alloy::rpc::json_rpc::ErrorPayload;
    use postern_watch::abi::kms::KmsAuth::OwnableUnauthorizedAccount;

    use super::*;

    fn error(message: &str, data: &[u8]) -> TransportError {
        let json = format!(r#"{{"code":3,"message":"{message}","data":"{}"}}"#, hex::encode_prefixed(data));
        TransportError::ErrorResp(serde_json::from_str::<ErrorPayload>(&json).unwrap())
    }

    #[test]
    fn refusals_are_told_in_words() {
        let owner = OwnableUnauthorizedAccount { account: Address::repeat_byte(0xab) }.abi_encode();
        let text = reason(&error("execution reverted", &owner)).unwrap();
        assert_eq!(text, "0xabababababababababababababababababababab is not the owner of this contract");
        let text = Revert::from("invalid compose hash").abi_encode();
        assert!(reason(&error("execution reverted", &text)).unwrap().contains("invalid compose hash"));
        assert!(reason(&error("execution reverted", &[])).is_some());
        assert!(reason(&error("execution reverted", &[1, 2, 3, 4, 5])).unwrap().contains("0x01020304"));
    }

    #[test]
    fn a_fault_of_the_node_is_no_refusal() {
        assert_eq!(reason(&error("nonce too low", &[])), None);
    }
}
