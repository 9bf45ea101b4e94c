//! What Intel's provisioning service would say about the simulated platform: TCB info, QE identity and CRLs.

use dcap_qvl::QuoteCollateralV3;
use serde_json::{Value, json};
use time::Duration;
use time::format_description::well_known::Rfc3339;

use crate::pki::{CPU_SVN, FMSPC, PCE_ID, PCE_SVN, Period, Pki, instant};
use crate::quote::{QE_ISV_SVN, QE_MR_SIGNER, TEE_TCB_SVN};
use crate::{Faults, SimulatorError};

const LIFETIME: Duration = Duration::days(30);
const AGE: Duration = Duration::days(1);
/// An age beyond the lifetime: the collateral ended ten days ago.
const EXPIRED_AGE: Duration = Duration::days(40);
const TCB_DATE: &str = "2024-11-13T00:00:00Z";

pub(crate) fn collateral(pki: &Pki, faults: Faults, now: u64) -> Result<QuoteCollateralV3, SimulatorError> {
    let age = if faults.expired_collateral { EXPIRED_AGE } else { AGE };
    let now = instant(i64::try_from(now).map_err(|_| SimulatorError::Time)?)?;
    let issued = now.checked_sub(age).ok_or(SimulatorError::Time)?;
    let next = issued.checked_add(LIFETIME).ok_or(SimulatorError::Time)?;
    let period = Period { issued, next };

    let tcb_info = tcb_info(period)?;
    let qe_identity = qe_identity(period)?;
    Ok(QuoteCollateralV3 {
        pck_crl_issuer_chain: pki.platform_ca_chain(),
        root_ca_crl: pki.root_crl(period)?,
        pck_crl: pki.pck_crl(period, faults.revoked_pck)?,
        tcb_info_issuer_chain: pki.tcb_signer_chain(),
        tcb_info_signature: pki.sign_tcb(&tcb_info),
        tcb_info,
        qe_identity_issuer_chain: pki.tcb_signer_chain(),
        qe_identity_signature: pki.sign_tcb(&qe_identity),
        qe_identity,
        pck_certificate_chain: None,
    })
}

/// TCB info v3 of a TDX platform: one level up to date, one out of date, and the TDX module's own levels.
fn tcb_info(period: Period) -> Result<String, SimulatorError> {
    let zero_register = "00".repeat(48);
    // Component 0 is compared with the module's SVN, component 2 with the SEAM loader's.
    let current = tdx_components(5, 6);
    let old = tdx_components(5, 3);
    let module = json!({
        "mrsigner": zero_register, "attributes": "0000000000000000", "attributesMask": "FFFFFFFFFFFFFFFF",
    });
    let mut identity = module.clone();
    if let Value::Object(fields) = &mut identity {
        fields.insert("id".into(), format!("TDX_{:02}", TEE_TCB_SVN[1]).into());
        fields.insert(
            "tcbLevels".into(),
            json!([isv_level(6, "UpToDate"), isv_level(3, "OutOfDate"), isv_level(1, "Revoked")]),
        );
    }
    let document = json!({
        "id": "TDX", "version": 3,
        "issueDate": period.issued.format(&Rfc3339)?, "nextUpdate": period.next.format(&Rfc3339)?,
        "fmspc": hex::encode(FMSPC), "pceId": hex::encode(PCE_ID),
        "tcbType": 0, "tcbEvaluationDataNumber": 17,
        "tdxModule": module, "tdxModuleIdentities": [identity],
        "tcbLevels": [platform_level(current, "UpToDate"), platform_level(old, "OutOfDate")],
    });
    Ok(document.to_string())
}

/// The identity of the TD quoting enclave, version 2.
fn qe_identity(period: Period) -> Result<String, SimulatorError> {
    let document = json!({
        "id": "TD_QE", "version": 2,
        "issueDate": period.issued.format(&Rfc3339)?, "nextUpdate": period.next.format(&Rfc3339)?,
        "tcbEvaluationDataNumber": 17,
        "miscselect": "00000000", "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": hex::encode(QE_MR_SIGNER), "isvprodid": 2,
        "tcbLevels": [isv_level(QE_ISV_SVN, "UpToDate")],
    });
    Ok(document.to_string())
}

fn tdx_components(module: u8, seam_loader: u8) -> [u8; 16] {
    let mut components = [0; 16];
    components[0] = module;
    components[2] = seam_loader;
    components
}

fn platform_level(tdx: [u8; 16], status: &str) -> Value {
    let components = |svns: [u8; 16]| svns.iter().map(|svn| json!({"svn": svn})).collect::<Vec<_>>();
    json!({
        "tcb": {
            "sgxtcbcomponents": components(CPU_SVN), "pcesvn": PCE_SVN, "tdxtcbcomponents": components(tdx),
        },
        "tcbDate": TCB_DATE, "tcbStatus": status,
    })
}

fn isv_level(svn: u16, status: &str) -> Value {
    json!({"tcb": {"isvsvn": svn}, "tcbDate": TCB_DATE, "tcbStatus": status})
}
