//! `registrar os-image`.

use alloy::primitives::B256;
use postern_identity::OsImageHash;
use serde_json::json;

use super::list;
use crate::chain::Chain;
use crate::cli::OsImageCommand;
use crate::failure::Failure;
use crate::lists::{List, changes};
use crate::report::Report;

pub(crate) async fn run(chain: &Chain, command: &OsImageCommand) -> Result<Report, Failure> {
    let images = List::OsImages(chain.kms().await?);
    match command {
        OsImageCommand::Add { images: wish } => change(chain, &images, wish, true).await,
        OsImageCommand::Remove { images: wish } => change(chain, &images, wish, false).await,
        OsImageCommand::List => Ok(list("os_images", json!({"kms": images.contract()}), &images.members(chain).await?)),
    }
}

async fn change(chain: &Chain, images: &List, wish: &[OsImageHash], allow: bool) -> Result<Report, Failure> {
    let wish: Vec<_> = wish.iter().map(|image| B256::from(image.0)).collect();
    let made = images.change(chain, &wish, allow).await?;
    Ok(if allow { changes("allowed", "is allowed", &made) } else { changes("removed", "is not allowed", &made) })
}
