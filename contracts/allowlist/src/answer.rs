//! What the KMS contract said about one workload.

use crate::Block;

/// Characters of a contract's own reason that are kept. An app's contract is written by its owner, so the text is not
/// ours to trust with room in a log.
const REASON_CHARS: usize = 160;

/// The outcome of one `isAppAllowed` call, at one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The contract said yes.
    Allowed,
    /// It said no, or could not answer.
    Refused(Refusal),
}

impl Decision {
    /// A refusal for which the contract gave a reason.
    #[must_use]
    pub fn refused(reason: &str) -> Self {
        Self::Refused(Refusal { why: Why::of(reason), text: cleaned(reason) })
    }

    /// The call reverted, so that there is no answer to trust.
    #[must_use]
    pub fn reverted(detail: &str) -> Self {
        Self::Refused(Refusal { why: Why::Reverted, text: cleaned(detail) })
    }

    /// The call came back with something else than an answer: no such contract is there.
    #[must_use]
    pub const fn no_contract() -> Self {
        Self::Refused(Refusal { why: Why::NoContract, text: String::new() })
    }
}

/// A contract's no: what kind it is, and its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The kind, as far as it is one that we know.
    pub why: Why,
    /// The contract's words, shortened and free of control characters. Not for the peer: anyone can write a contract.
    pub text: String,
}

/// The reasons that dstack's contracts and ours give, and the ways in which a call can fail to be an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The KMS contract does not know the app.
    AppNotRegistered,
    /// The KMS contract knows the app, but no contract is at its address.
    AppNotDeployed,
    /// The KMS contract does not allow the OS image.
    OsImageNotAllowed,
    /// The app does not allow this compose hash.
    ComposeHashNotAllowed,
    /// The app does not allow this machine.
    DeviceNotAllowed,
    /// The app wants a platform with every patch.
    TcbNotUpToDate,
    /// The call reverted.
    Reverted,
    /// Nothing at the KMS contract's address answers.
    NoContract,
    /// A reason that we do not know.
    Other,
}

impl Why {
    /// The word for metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::AppNotRegistered => "app_not_registered",
            Self::AppNotDeployed => "app_not_deployed",
            Self::OsImageNotAllowed => "os_image_not_allowed",
            Self::ComposeHashNotAllowed => "compose_hash_not_allowed",
            Self::DeviceNotAllowed => "device_not_allowed",
            Self::TcbNotUpToDate => "tcb_not_up_to_date",
            Self::Reverted => "contract_reverted",
            Self::NoContract => "no_contract",
            Self::Other => "refused_on_chain",
        }
    }

    /// What the refused peer may read.
    #[must_use]
    pub const fn public(self) -> &'static str {
        match self {
            Self::AppNotRegistered => "the app is not registered on chain",
            Self::AppNotDeployed => "no contract is deployed at the app's address",
            Self::OsImageNotAllowed => "the OS image is not allowed on chain",
            Self::ComposeHashNotAllowed => "the compose hash is not allowed on chain",
            Self::DeviceNotAllowed => "the device is not allowed on chain",
            Self::TcbNotUpToDate => "the app requires a platform whose TCB is up to date",
            Self::Reverted | Self::NoContract => "the contract on chain could not answer",
            Self::Other => "the app's contract refused",
        }
    }

    /// The kind of a reason. dstack's contracts write it with a capital letter, cluster contracts without.
    fn of(reason: &str) -> Self {
        const KNOWN: [(&str, Why); 6] = [
            ("app not registered", Why::AppNotRegistered),
            ("app not deployed or invalid address", Why::AppNotDeployed),
            ("os image is not allowed", Why::OsImageNotAllowed),
            ("compose hash not allowed", Why::ComposeHashNotAllowed),
            ("device not allowed", Why::DeviceNotAllowed),
            ("tcb status is not up to date", Why::TcbNotUpToDate),
        ];
        KNOWN.iter().find(|(text, _)| reason.eq_ignore_ascii_case(text)).map_or(Self::Other, |&(_, why)| why)
    }
}

/// What endpoints agreed on about one workload: the decision at the head, and the one at the confirmed block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The head at which the question was put.
    pub block: Block,
    /// The decision at that head.
    pub latest: Decision,
    /// The decision at the block up to which the chain is confirmed; `None` where there is no such block, or where nobody
    /// needs to know because the head refuses.
    pub confirmed: Option<Decision>,
}

fn cleaned(text: &str) -> String {
    text.chars().take(REASON_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reasons_are_known_in_either_case() {
        for reason in ["Compose hash not allowed", "compose hash not allowed"] {
            let Decision::Refused(refusal) = Decision::refused(reason) else { panic!("it refuses") };
            assert_eq!((refusal.why, refusal.text.as_str()), (Why::ComposeHashNotAllowed, reason));
        }
        let Decision::Refused(refusal) = Decision::refused("cluster paused") else { panic!("it refuses") };
        assert_eq!(refusal.why, Why::Other);
    }

    proptest! {
        #[test]
        fn a_reason_is_short_and_printable_whatever_the_contract_says(reason in "\\PC*|[\\x00-\\x1f]{0,400}") {
            let Decision::Refused(refusal) = Decision::refused(&reason) else { panic!("it refuses") };
            prop_assert!(refusal.text.chars().count() <= REASON_CHARS);
            prop_assert!(!refusal.text.chars().any(char::is_control));
        }
    }
}
