//! `registrar gateway-app`.

use postern_watch::abi::kms::KmsAuth::setGatewayAppIdCall;
use serde_json::json;

use crate::chain::Chain;
use crate::cli::GatewayAppCommand;
use crate::failure::Failure;
use crate::lists::{Change, changes};
use crate::report::{Report, printable};

pub(crate) async fn run(chain: &Chain, command: &GatewayAppCommand) -> Result<Report, Failure> {
    let current = chain.gateway_app().await?;
    match command {
        GatewayAppCommand::Show => {
            let line = if current.is_empty() { "none".to_owned() } else { printable(&current) };
            Ok(Report::new(json!({"gateway_app_id": current})).line(line))
        }
        GatewayAppCommand::Set { gateway } => {
            let wanted = gateway.to_string();
            let call = setGatewayAppIdCall { appId: wanted.clone() };
            let outcome = if current == wanted {
                None
            } else {
                let kms = *chain.kms().await?.address();
                Some(chain.govern("naming the gateway's app", kms, call).await?)
            };
            Ok(changes("named as the gateway's app", "is the gateway's app", &[Change { value: wanted, outcome }]))
        }
    }
}
