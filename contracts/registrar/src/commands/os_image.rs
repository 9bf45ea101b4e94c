//! `registrar os-image`.

use alloy::primitives::B256;
use alloy::providers::DynProvider;
use postern_identity::OsImageHash;
use postern_watch::abi::kms::KmsAuth::{
    KmsAuthInstance, OsImageHashAdded, OsImageHashRemoved, addOsImageHashCall, removeOsImageHashCall,
};
use serde_json::json;

use super::{Change, changes, list};
use crate::chain::{Chain, call_failed};
use crate::cli::OsImageCommand;
use crate::failure::Failure;
use crate::logs::word;
use crate::report::Report;

pub(crate) async fn run(chain: &Chain, command: &OsImageCommand) -> Result<Report, Failure> {
    let kms = chain.kms().await?;
    match command {
        OsImageCommand::Add { images } => change(chain, &kms, images, true).await,
        OsImageCommand::Remove { images } => change(chain, &kms, images, false).await,
        OsImageCommand::List => {
            let mut confirmed = Vec::new();
            for member in chain.members::<OsImageHashAdded, OsImageHashRemoved>(*kms.address(), word).await? {
                if is_allowed(&kms, member.value).await? {
                    confirmed.push(member);
                }
            }
            Ok(list("os_images", json!({"kms": kms.address()}), &confirmed))
        }
    }
}

async fn change(
    chain: &Chain,
    kms: &KmsAuthInstance<DynProvider>,
    images: &[OsImageHash],
    allow: bool,
) -> Result<Report, Failure> {
    let to = *kms.address();
    let mut made = Vec::new();
    for image in images.iter().map(|image| B256::from(image.0)) {
        let done = if is_allowed(kms, image).await? == allow {
            None
        } else if allow {
            Some(chain.call("adding the OS image", to, addOsImageHashCall { osImageHash: image }).await?)
        } else {
            Some(chain.call("removing the OS image", to, removeOsImageHashCall { osImageHash: image }).await?)
        };
        made.push(Change { value: image.to_string(), done });
    }
    Ok(if allow { changes("allowed", "is allowed", &made) } else { changes("removed", "is not allowed", &made) })
}

async fn is_allowed(kms: &KmsAuthInstance<DynProvider>, image: B256) -> Result<bool, Failure> {
    let answer = kms.allowedOsImages(image).call().await;
    answer.map_err(|error| call_failed("asking about the OS image", error))
}
