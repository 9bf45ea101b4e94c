//! A certificate hierarchy shaped like Intel's: root, platform CA, PCK and TCB signer.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType, IsCa, Issuer,
    KeyIdMethod, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use crate::der::SgxExtension;
use crate::key::Key;
use crate::{Faults, SimulatorError};

/// The organisation in every simulated certificate, so that nobody takes one for Intel's.
pub const ORGANIZATION: &str = "SIMULATED TEE - NOT INTEL";

/// The family of platforms that is simulated. Intel gave this value to none.
pub(crate) const FMSPC: [u8; 6] = [0x5a, 0x1a, 0x70, 0x00, 0x00, 0x01];
pub(crate) const CPU_SVN: [u8; 16] = [3, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0];
pub(crate) const PCE_SVN: u8 = 13;
pub(crate) const PCE_ID: [u8; 2] = [0, 0];

const NOT_BEFORE: i64 = 1_577_836_800; // 2020-01-01
const NOT_AFTER: i64 = 4_102_444_800; // 2100-01-01
const PCK_SERIAL: u64 = 3;

/// The certificates of one simulated platform. They do not depend on time.
pub(crate) struct Pki {
    root: Issuer<'static, Key>,
    platform_ca: Issuer<'static, Key>,
    tcb_signer: Key,
    pub(crate) pck: Key,
    pub(crate) ppid: [u8; 16],
    pub(crate) root_der: Vec<u8>,
    pub(crate) root_pem: String,
    platform_ca_pem: String,
    tcb_signer_pem: String,
    pck_pem: String,
}

impl Pki {
    pub(crate) fn new(seed: &[u8; 32], faults: Faults) -> Result<Self, SimulatorError> {
        let root_params = parameters("Simulated SGX Root CA", 1, Role::Authority)?;
        let root_certificate = root_params.self_signed(&Key::derive(seed, "root")?)?;
        let root = Issuer::new(root_params, Key::derive(seed, "root")?);

        let platform_ca_params = parameters("Simulated SGX PCK Platform CA", 2, Role::Authority)?;
        let platform_ca_key = Key::derive(seed, "platform-ca")?;
        let platform_ca_certificate = platform_ca_params.signed_by(&platform_ca_key, &root)?;
        let platform_ca = Issuer::new(platform_ca_params, platform_ca_key);

        let ppid = sixteen(seed, "ppid");
        let mut pck_params = parameters("Simulated SGX PCK Certificate", PCK_SERIAL, Role::Leaf)?;
        pck_params.custom_extensions.push(
            SgxExtension {
                ppid,
                cpu_svn: CPU_SVN,
                pce_svn: PCE_SVN,
                pce_id: PCE_ID,
                fmspc: FMSPC,
                platform_instance: sixteen(seed, "platform-instance"),
                smt: faults.smt,
            }
            .to_extension(),
        );
        let pck = Key::derive(seed, "pck")?;
        let pck_certificate = pck_params.signed_by(&pck, &platform_ca)?;

        // dcap-qvl wants the TCB signer directly under the root.
        let tcb_signer = Key::derive(seed, "tcb-signer")?;
        let tcb_signer_certificate =
            parameters("Simulated SGX TCB Signing", 4, Role::Leaf)?.signed_by(&tcb_signer, &root)?;

        Ok(Self {
            root,
            platform_ca,
            tcb_signer,
            pck,
            ppid,
            root_der: root_certificate.der().to_vec(),
            root_pem: root_certificate.pem(),
            platform_ca_pem: platform_ca_certificate.pem(),
            tcb_signer_pem: tcb_signer_certificate.pem(),
            pck_pem: pck_certificate.pem(),
        })
    }

    /// The chain that a quote carries.
    pub(crate) fn pck_chain(&self) -> String {
        [self.pck_pem.as_str(), &self.platform_ca_pem, &self.root_pem].concat()
    }

    /// The chain of the PCK CRL's issuer.
    pub(crate) fn platform_ca_chain(&self) -> String {
        [self.platform_ca_pem.as_str(), &self.root_pem].concat()
    }

    /// The chain of the signer of TCB info and QE identity.
    pub(crate) fn tcb_signer_chain(&self) -> String {
        [self.tcb_signer_pem.as_str(), &self.root_pem].concat()
    }

    pub(crate) fn sign_tcb(&self, document: &str) -> Vec<u8> {
        self.tcb_signer.sign_raw(document.as_bytes()).to_vec()
    }

    /// The root's CRL, which lists nothing.
    pub(crate) fn root_crl(&self, period: Period) -> Result<Vec<u8>, SimulatorError> {
        crl(&self.root, period, None)
    }

    /// The platform CA's CRL, which lists the PCK certificate when that is the fault to show.
    pub(crate) fn pck_crl(&self, period: Period, revoked: bool) -> Result<Vec<u8>, SimulatorError> {
        crl(&self.platform_ca, period, revoked.then_some(PCK_SERIAL))
    }
}

/// When a signed list was issued and when the next one is due.
#[derive(Clone, Copy)]
pub(crate) struct Period {
    pub(crate) issued: OffsetDateTime,
    pub(crate) next: OffsetDateTime,
}

enum Role {
    Authority,
    Leaf,
}

fn parameters(name: &str, serial: u64, role: Role) -> Result<CertificateParams, SimulatorError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, ORGANIZATION);
    params.not_before = instant(NOT_BEFORE)?;
    params.not_after = instant(NOT_AFTER)?;
    params.serial_number = Some(SerialNumber::from(serial));
    params.use_authority_key_identifier_extension = true;
    (params.is_ca, params.key_usages) = match role {
        Role::Authority => {
            (IsCa::Ca(BasicConstraints::Unconstrained), vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign])
        }
        Role::Leaf => (IsCa::ExplicitNoCa, vec![KeyUsagePurpose::DigitalSignature]),
    };
    Ok(params)
}

fn crl(issuer: &Issuer<'_, Key>, period: Period, revoked: Option<u64>) -> Result<Vec<u8>, SimulatorError> {
    let revoked_certs = revoked
        .map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: period.issued,
            reason_code: None,
            invalidity_date: None,
        })
        .into_iter()
        .collect();
    let list = CertificateRevocationListParams {
        this_update: period.issued,
        next_update: period.next,
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Ok(list.signed_by(issuer).map(|crl| crl.der().to_vec())?)
}

/// A point in time from seconds since the epoch.
pub(crate) fn instant(unix_seconds: i64) -> Result<OffsetDateTime, SimulatorError> {
    OffsetDateTime::from_unix_timestamp(unix_seconds).map_err(|_| SimulatorError::Time)
}

fn sixteen(seed: &[u8; 32], label: &str) -> [u8; 16] {
    let digest: [u8; 32] = Sha256::new().chain_update(seed).chain_update(label).finalize().into();
    std::array::from_fn(|index| digest.get(index).copied().unwrap_or_default())
}
