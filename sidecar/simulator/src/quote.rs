//! TDX quotes, version 4, laid out by hand after Intel's TDX DCAP Quoting Library API, appendix A.3.

use postern_identity::Register;
use sha2::{Digest as _, Sha256};

use crate::boot;
use crate::key::Key;
use crate::pki::CPU_SVN;

/// TDX module SVN 7, TDX module version 3, SEAM loader SVN 6.
pub(crate) const TEE_TCB_SVN: [u8; 16] = [7, 3, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
pub(crate) const QE_MR_SIGNER: [u8; 32] = [0xd5; 32];
pub(crate) const QE_ISV_SVN: u16 = 4;

const QE_ISV_PROD_ID: u16 = 2;
const QE_VENDOR_INTEL: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];
/// Authentication data of the quoting enclave. dcap-qvl wants exactly 32 bytes.
const QE_AUTHENTICATION: [u8; 32] = [0x33; 32];

/// What a simulated TD claims to be. The default is a production TD on an up-to-date module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measurements {
    /// The measurement of the TD's initial contents.
    pub mrtd: Register,
    /// The run-time measurement registers; number 3 is the replay of the event log.
    pub rtmr: [Register; 4],
    /// Whether the debug attribute is on: the host could read the TD's memory.
    pub debug: bool,
    /// Whether `SEPT_VE_DISABLE` is on, as it must be: no exception by the host into the TD.
    pub sept_ve_disable: bool,
    /// The TDX module's SVN: 6 and more is up to date, 3 to 5 is out of date, 1 and 2 is revoked.
    pub module_svn: u8,
}

impl Default for Measurements {
    fn default() -> Self {
        Self {
            mrtd: Register([0x11; 48]),
            rtmr: [boot::register(0), boot::register(1), boot::register(2), Register([0; 48])],
            debug: false,
            sept_ve_disable: true,
            module_svn: TEE_TCB_SVN[0],
        }
    }
}

impl Measurements {
    fn td_attributes(&self) -> [u8; 8] {
        [u8::from(self.debug), 0, 0, u8::from(self.sept_ve_disable) << 4, 0, 0, 0, 0]
    }
}

/// Signs a quote with an attestation key that the PCK vouches for.
pub(crate) fn quote(
    attestation_key: &Key,
    pck: &Key,
    pck_chain: &str,
    measurements: &Measurements,
    report_data: [u8; 64],
) -> Vec<u8> {
    let mut quote = [header().as_slice(), &td_report(measurements, report_data)].concat();
    let signature = attestation_key.sign_raw(&quote);

    let qe_report = qe_report(attestation_key);
    let mut certification = [qe_report.as_slice(), &pck.sign_raw(&qe_report)].concat();
    certification.extend(32_u16.to_le_bytes());
    certification.extend(QE_AUTHENTICATION);
    certification.extend(typed(5, pck_chain.as_bytes()));

    let authentication = [signature.as_slice(), attestation_key.coordinates(), &typed(6, &certification)].concat();
    quote.extend(length(&authentication));
    quote.extend(authentication);
    quote
}

fn header() -> Vec<u8> {
    let mut header = Vec::with_capacity(48);
    header.extend(4_u16.to_le_bytes()); // version
    header.extend(2_u16.to_le_bytes()); // ECDSA-256-with-P-256
    header.extend(0x81_u32.to_le_bytes()); // TDX
    header.extend([0; 4]);
    header.extend(QE_VENDOR_INTEL);
    header.extend([0; 20]); // user data
    header
}

/// TD report 1.0: 584 bytes.
fn td_report(measurements: &Measurements, report_data: [u8; 64]) -> Vec<u8> {
    let mut tee_tcb_svn = TEE_TCB_SVN;
    tee_tcb_svn[0] = measurements.module_svn;
    let mut report = Vec::with_capacity(584);
    report.extend(tee_tcb_svn);
    report.extend([0x5e; 48]); // MRSEAM
    report.extend([0; 48]); // MRSIGNERSEAM
    report.extend([0; 8]); // SEAMATTRIBUTES
    report.extend(measurements.td_attributes());
    report.extend([0xe7, 0x02, 0x06, 0, 0, 0, 0, 0]); // XFAM
    report.extend(measurements.mrtd.as_bytes());
    report.extend([0; 48 * 3]); // MRCONFIGID, MROWNER, MROWNERCONFIG
    for register in &measurements.rtmr {
        report.extend(register.as_bytes());
    }
    report.extend(report_data);
    report
}

/// The quoting enclave's own SGX report, 384 bytes, which binds the attestation key.
fn qe_report(attestation_key: &Key) -> Vec<u8> {
    let binding = Sha256::new().chain_update(attestation_key.coordinates()).chain_update(QE_AUTHENTICATION).finalize();
    let mut report = Vec::with_capacity(384);
    report.extend(CPU_SVN);
    report.extend([0; 4 + 28]); // MISCSELECT, reserved
    report.extend([0x11, 0, 0, 0, 0, 0, 0, 0, 0xe7, 0, 0, 0, 0, 0, 0, 0]); // attributes: no debug
    report.extend([0x77; 32]); // MRENCLAVE
    report.extend([0; 32]);
    report.extend(QE_MR_SIGNER);
    report.extend([0; 96]);
    report.extend(QE_ISV_PROD_ID.to_le_bytes());
    report.extend(QE_ISV_SVN.to_le_bytes());
    report.extend([0; 60]);
    report.extend(binding);
    report.extend([0; 32]);
    report
}

/// Certification data: a type, a length and the content.
fn typed(kind: u16, content: &[u8]) -> Vec<u8> {
    [kind.to_le_bytes().as_slice(), &length(content), content].concat()
}

fn length(content: &[u8]) -> [u8; 4] {
    // A quote is a few kilobytes: the length always fits.
    u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_have_the_sizes_of_the_specification() {
        let key = Key::derive(&[1; 32], "test").unwrap();
        assert_eq!(header().len(), 48);
        assert_eq!(td_report(&Measurements::default(), [0; 64]).len(), 584);
        assert_eq!(qe_report(&key).len(), 384);
    }
}
