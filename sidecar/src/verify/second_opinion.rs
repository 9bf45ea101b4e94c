//! What Intel Trust Authority says about the same quote.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use postern_attest::QuoteClaims;
use postern_attest_io::{AuthorityUrl, OpinionError, PinnedKeys, TrustAuthority};
use postern_plumbing::clock::unix_now;

use super::arguments::Verify;
use super::files;
use super::judge::Proof;
use super::not_accepted::NotAccepted;
use super::report::{Report, Statement, Verdict};

/// Options of `verify` for a second opinion. It can refuse what we accept, and never the other way round.
#[derive(Debug, Args)]
pub struct SecondOpinion {
    /// Ask Intel Trust Authority for a second opinion; what it contradicts is refused. The quote is sent there.
    #[arg(long, value_name = "URL", requires_all = ["ita_key_file", "ita_jwks"], conflicts_with = "at")]
    pub ita_url: Option<AuthorityUrl>,

    /// The file with the API key that Intel gave you.
    #[arg(long, value_name = "FILE", requires = "ita_url")]
    pub ita_key_file: Option<PathBuf>,

    /// The keys that may sign the opinion: a URL or a file. No key is taken from where a token says.
    #[arg(long, value_name = "URL|FILE", requires = "ita_url", value_parser = keys)]
    pub ita_jwks: Option<PinnedKeys>,
}

fn keys(text: &str) -> Result<PinnedKeys, String> {
    if text.contains("://") {
        return text
            .parse()
            .map(PinnedKeys::Url)
            .map_err(|error: postern_attest_io::NotAnAuthorityUrl| error.to_string());
    }
    Ok(PinnedKeys::File(Path::new(text).to_owned()))
}

/// Adds the second opinion, if it is wanted, to a report that has accepted.
pub(super) async fn add(report: &mut Report, proof: &Proof, arguments: &Verify) {
    if report.verdict != Verdict::Accepted {
        return;
    }
    match arguments.second_opinion.ask(&proof.quote, &proof.claims, arguments.timeout()).await {
        Ok(false) => {}
        Ok(true) => {
            let text = "Intel Trust Authority agrees: it reads the same out of the quote, under a key that was pinned.";
            report.proven.push(Statement::new("second_opinion", text));
        }
        Err(why) => {
            let text = "That Intel Trust Authority agrees, although it was to be asked.";
            report.not_proven.push(Statement::new("second_opinion", text));
            report.end(Err(why));
        }
    }
}

impl SecondOpinion {
    /// Asks for it, and says whether it was wanted at all.
    async fn ask(&self, quote: &[u8], ours: &QuoteClaims, timeout: Duration) -> Result<bool, NotAccepted> {
        let (Some(url), Some(key_file), Some(keys)) = (&self.ita_url, &self.ita_key_file, &self.ita_jwks) else {
            return Ok(false);
        };
        let key = files::api_key(key_file)?;
        let authority = TrustAuthority::new(url.clone(), &key, keys.clone(), timeout)?;
        let opinion = authority.opinion(quote, unix_now()).await?;
        match opinion.disagreement(ours).map_err(OpinionError::from)? {
            None => Ok(true),
            Some(claim) => {
                let text =
                    format!("Intel Trust Authority disagrees: its claim {claim} is not what we read in the quote");
                Err(NotAccepted::refused("second_opinion", text))
            }
        }
    }
}

impl From<OpinionError> for NotAccepted {
    fn from(error: OpinionError) -> Self {
        match error {
            OpinionError::Unavailable { .. } => Self::unknown("second_opinion_unavailable", error.to_string()),
            OpinionError::Token(error) => Self::refused("second_opinion_not_believed", error.to_string()),
        }
    }
}
