use dcap_qvl::quote::Quote;
use parity_scale_codec::Decode as _;
use postern_identity::Register;

use crate::rejection::Rejection;

/// What a quote says was measured. Nothing of it is verified: this is for whoever has asked for a quote and hands it on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurements {
    /// The measurement of the TD's initial memory.
    pub mrtd: Register,
    /// The runtime measurement registers, RTMR0 to RTMR3.
    pub rtmr: [Register; 4],
    /// What the software inside the TD put into the quote.
    pub report_data: [u8; 64],
}

impl Measurements {
    /// Reads a raw TDX quote.
    ///
    /// # Errors
    /// When it is none.
    pub fn of_quote(mut raw: &[u8]) -> Result<Self, Rejection> {
        let quote = Quote::decode(&mut raw).map_err(|error| Rejection::MalformedQuote(error.to_string()))?;
        let td = quote.report.as_td10().ok_or(Rejection::NotTdx)?;
        Ok(Self {
            mrtd: Register(td.mr_td),
            rtmr: [td.rt_mr0, td.rt_mr1, td.rt_mr2, td.rt_mr3].map(Register),
            report_data: td.report_data,
        })
    }
}
