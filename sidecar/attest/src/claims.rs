use postern_identity::{DeviceId, Register};
use sha2::{Digest, Sha256};

use crate::collateral::Fmspc;
use crate::rejection::Rejection;

/// What a genuine quote says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuoteClaims {
    /// The measurement of the TD's initial memory.
    pub mrtd: Register,
    /// The runtime measurement registers, RTMR0 to RTMR3.
    pub rtmr: [Register; 4],
    /// MRCONFIGID, which the host sets at launch.
    pub mr_config_id: Register,
    /// MROWNER, which the host sets at launch.
    pub mr_owner: Register,
    /// MROWNERCONFIG, which the host sets at launch.
    pub mr_owner_config: Register,
    /// What the software inside the TD put into the quote.
    pub report_data: [u8; 64],
    /// SHA-256 of the platform's PPID.
    pub device_id: DeviceId,
    /// The kind of platform.
    pub fmspc: Fmspc,
    /// The platform's TCB status, under Intel's name.
    pub tcb_status: String,
    /// The advisories that apply to the platform.
    pub advisory_ids: Vec<String>,
    /// The lower TCB evaluation number of TCB info and QE identity.
    pub tcb_evaluation_number: u32,
    /// The end of the collateral's validity, seconds since 1970.
    pub valid_until: u64,
}

impl QuoteClaims {
    pub(crate) fn read(claims: &dcap_qvl::QuoteClaims) -> Result<Self, Rejection> {
        let td = claims.report.as_td10().ok_or(Rejection::NotTdx)?;
        Ok(Self {
            mrtd: Register(td.mr_td),
            rtmr: [td.rt_mr0, td.rt_mr1, td.rt_mr2, td.rt_mr3].map(Register),
            mr_config_id: Register(td.mr_config_id),
            mr_owner: Register(td.mr_owner),
            mr_owner_config: Register(td.mr_owner_config),
            report_data: td.report_data,
            device_id: DeviceId(Sha256::digest(&claims.platform.pck.ppid).into()),
            fmspc: Fmspc(claims.platform.pck.fmspc),
            tcb_status: claims.tcb.status.to_string(),
            advisory_ids: claims.tcb.advisory_ids.clone(),
            tcb_evaluation_number: claims.tcb.eval_data_number,
            valid_until: claims.earliest_expiration_date,
        })
    }
}
