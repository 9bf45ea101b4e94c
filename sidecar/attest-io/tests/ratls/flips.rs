//! Every field of a quote and of a certificate, changed once: each change is refused, and for a reason of its own.

use std::ops::Range;

use base64::Engine as _;
use postern_attest::certificate::{AppInfo, Usage};
use postern_attest::{certificate, oid};
use postern_plumbing::clock::unix_now;
use postern_simulator::Measurements;
use rcgen::{CustomExtension, ExtendedKeyUsagePurpose, KeyUsagePurpose};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::world::{APP, Credentials, TEE, appraiser, collateral, cvm};

/// What a refusal is to be: its label, and words that its private detail has.
type Reason = (&'static str, &'static str);

const UNREADABLE: &str = "quote_malformed";
const KIND: &str = "quote_kind";
const BY_THE_TD: Reason = ("quote_signature", "ISV enclave report signature is invalid");
const BY_THE_PLATFORM: Reason = ("quoting_enclave", "Signature is invalid for qe_report");
const OF_THE_KEY: Reason = ("quoting_enclave", "QE report hash mismatch");

/// A version 4 quote up to the certificates of its platform (Intel's TDX DCAP Quoting Library API, appendix A.3).
const QUOTE: [(&str, Range<usize>, Reason); 46] = [
    ("version", 0..2, (UNREADABLE, "Unsupported")),
    ("attestation key type", 2..4, (KIND, "attestation key")),
    ("TEE type", 4..8, (UNREADABLE, "Invalid TEE type")),
    ("reserved", 8..12, BY_THE_TD),
    ("QE vendor", 12..28, (KIND, "quoting enclave")),
    ("user data", 28..48, BY_THE_TD),
    ("TEE TCB SVN", 48..64, BY_THE_TD),
    ("MRSEAM", 64..112, BY_THE_TD),
    ("MRSIGNERSEAM", 112..160, BY_THE_TD),
    ("SEAM attributes", 160..168, BY_THE_TD),
    ("TD attributes: debug", 168..169, ("debug_td", "debug mode")),
    ("TD attributes: security", 171..172, ("td_attributes", "reserved bits")),
    ("TD attributes: other", 175..176, ("td_attributes", "reserved bits")),
    ("XFAM", 176..184, BY_THE_TD),
    ("MRTD", 184..232, BY_THE_TD),
    ("MRCONFIGID", 232..280, BY_THE_TD),
    ("MROWNER", 280..328, BY_THE_TD),
    ("MROWNERCONFIG", 328..376, BY_THE_TD),
    ("RTMR0", 376..424, BY_THE_TD),
    ("RTMR1", 424..472, BY_THE_TD),
    ("RTMR2", 472..520, BY_THE_TD),
    ("RTMR3", 520..568, ("event_log_not_measured", "RTMR3")),
    ("report data", 568..632, ("key_not_bound", "report data")),
    ("length of the authentication data", 632..636, (UNREADABLE, "")),
    ("signature", 636..700, BY_THE_TD),
    ("attestation key", 700..764, OF_THE_KEY),
    ("type of the certification data", 764..766, (KIND, "certification data")),
    ("length of the certification data", 766..770, (UNREADABLE, "CertificationData::body")),
    ("QE report: CPU SVN", 770..786, BY_THE_PLATFORM),
    ("QE report: MISCSELECT", 786..790, BY_THE_PLATFORM),
    ("QE report: reserved", 790..818, BY_THE_PLATFORM),
    ("QE report: attributes", 818..834, BY_THE_PLATFORM),
    ("QE report: MRENCLAVE", 834..866, BY_THE_PLATFORM),
    ("QE report: reserved, second", 866..898, BY_THE_PLATFORM),
    ("QE report: MRSIGNER", 898..930, BY_THE_PLATFORM),
    ("QE report: reserved, third", 930..1026, BY_THE_PLATFORM),
    ("QE report: ISVPRODID", 1026..1028, BY_THE_PLATFORM),
    ("QE report: ISVSVN", 1028..1030, BY_THE_PLATFORM),
    ("QE report: reserved, fourth", 1030..1090, BY_THE_PLATFORM),
    ("QE report: report data", 1090..1154, BY_THE_PLATFORM),
    ("signature of the QE report", 1154..1218, BY_THE_PLATFORM),
    ("length of the QE's authentication data", 1218..1220, (UNREADABLE, "QEReportCertificationData")),
    ("QE's authentication data", 1220..1252, OF_THE_KEY),
    ("type of the platform's certificates", 1252..1254, (KIND, "platform certificates")),
    ("length of the platform's certificates", 1254..1258, (UNREADABLE, "QEReportCertificationData")),
    ("head of the platform's certificates", 1258..1259, (UNREADABLE, "Intel extension not found")),
];

/// Where the platform's certificates begin.
const PLATFORM: usize = 1258;

const NOT_SIGNED: Reason = ("other_root", "InvalidSignatureForPublicKey");
const NO_ISSUER: Reason = ("other_root", "UnknownIssuer");
const OTHER_ALGORITHM: Reason = ("quote_unverified", "SignatureAlgorithmMismatch");
const UNKNOWN_RULE: Reason = ("quote_unverified", "UnsupportedCriticalExtension");
const WRONG_RULE: Reason = ("quote_unverified", "ExtensionValueInvalid");
const NO_CERTIFICATE: Reason = (UNREADABLE, "Failed to decode certificate");

/// The platform's own certificate, which the quote carries.
const PCK: [(&str, Reason); 19] = [
    ("version", NO_CERTIFICATE),
    ("serial number", NOT_SIGNED),
    ("algorithm of the signature", OTHER_ALGORITHM),
    ("dates", NO_CERTIFICATE),
    ("issuer", NO_ISSUER),
    ("subject", NOT_SIGNED),
    ("public key", NOT_SIGNED),
    ("algorithm outside", OTHER_ALGORITHM),
    ("signature", NOT_SIGNED),
    ("2.5.29.35", NOT_SIGNED),
    ("2.5.29.35, name", NOT_SIGNED),
    ("2.5.29.15", NOT_SIGNED),
    ("2.5.29.15, name", UNKNOWN_RULE),
    ("2.5.29.14", NOT_SIGNED),
    ("2.5.29.14, name", WRONG_RULE),
    ("2.5.29.19", ("quote_unverified", "BadDer")),
    ("2.5.29.19, name", UNKNOWN_RULE),
    ("1.2.840.113741.1.13.1", NOT_SIGNED),
    ("1.2.840.113741.1.13.1, name", (UNREADABLE, "Intel extension not found")),
];

/// The authority above it.
const PLATFORM_CA: [(&str, Reason); 17] = [
    ("version", ("quote_unverified", "UnsupportedCertVersion")),
    ("serial number", NOT_SIGNED),
    ("algorithm of the signature", OTHER_ALGORITHM),
    ("dates", ("quote_unverified", "BadDerTime")),
    ("issuer", NO_ISSUER),
    ("subject", NO_ISSUER),
    ("public key", NOT_SIGNED),
    ("algorithm outside", OTHER_ALGORITHM),
    ("signature", NOT_SIGNED),
    ("2.5.29.35", NOT_SIGNED),
    ("2.5.29.35, name", NOT_SIGNED),
    ("2.5.29.15", NOT_SIGNED),
    ("2.5.29.15, name", UNKNOWN_RULE),
    ("2.5.29.14", NOT_SIGNED),
    ("2.5.29.14, name", WRONG_RULE),
    ("2.5.29.19", ("quote_unverified", "BadDer")),
    ("2.5.29.19, name", UNKNOWN_RULE),
];

/// The kind of platform stands in the platform's certificate too, and decides which collateral is asked for.
const FMSPC: [u8; 6] = [0x5a, 0x1a, 0x70, 0, 0, 1];

const OWN: &str = "certificate_signature";
const OWN_SIGNATURE: Reason = (OWN, "InvalidSignatureForPublicKey");

/// A certificate with everything in it that we know.
const CERTIFICATE: [(&str, Reason); 27] = [
    ("version", (OWN, "UnsupportedCertVersion")),
    ("serial number", OWN_SIGNATURE),
    ("algorithm of the signature", (OWN, "SignatureAlgorithmMismatch")),
    ("dates", ("certificate_not_x509", "InvalidDate")),
    ("issuer", ("issuer_not_pinned", "")),
    ("subject", ("issuer_not_pinned", "")),
    ("public key", ("key_not_bound", "")),
    ("algorithm outside", (OWN, "SignatureAlgorithmMismatch")),
    ("signature", OWN_SIGNATURE),
    ("2.5.29.17", OWN_SIGNATURE),
    ("2.5.29.17, name", OWN_SIGNATURE),
    ("2.5.29.15", OWN_SIGNATURE),
    ("2.5.29.15, name", (OWN, "UnsupportedCriticalExtension")),
    ("2.5.29.37", (OWN, "RequiredEkuNotFound")),
    ("2.5.29.37, name", OWN_SIGNATURE),
    ("1.3.6.1.4.1.62397.1.1", ("extensions_contradict", "about the quote")),
    ("1.3.6.1.4.1.62397.1.1, name", OWN_SIGNATURE),
    ("1.3.6.1.4.1.62397.1.2", ("event_log_malformed", "gzip")),
    ("1.3.6.1.4.1.62397.1.2, name", ("no_event_log", "")),
    ("1.3.6.1.4.1.62397.1.3", ("app_id_contradicted", "")),
    ("1.3.6.1.4.1.62397.1.3, name", ("extension_duplicate", ".2 appears twice")),
    ("1.3.6.1.4.1.62397.1.8", ("extension_malformed", ".8 is malformed")),
    ("1.3.6.1.4.1.62397.1.8, name", ("extension_duplicate", ".9 appears twice")),
    ("1.3.6.1.4.1.62397.1.4", OWN_SIGNATURE),
    ("1.3.6.1.4.1.62397.1.4, name", OWN_SIGNATURE),
    ("1.3.6.1.4.1.62397.1.9", ("extension_malformed", ".9 is malformed")),
    ("1.3.6.1.4.1.62397.1.9, name", ("extension_duplicate", ".8 appears twice")),
];

/// Asserts that `der` is refused, and why.
fn assert_refused(der: &[u8], (label, words): Reason, what: &str) {
    let (found, detail) = verdict(der).expect_err(what);
    assert!(found == label && detail.contains(words), "{what}: {found}, {detail}, instead of {label}, {words}");
}

fn verdict(der: &[u8]) -> Result<(), (&'static str, String)> {
    let evidence = certificate::evidence(der).map_err(|error| (error.label(), error.to_string()))?;
    let verdict = appraiser(&TEE).appraise(&evidence, &collateral(&TEE), unix_now());
    verdict.map(drop).map_err(|rejection| (rejection.label(), rejection.to_string()))
}

/// A quote over a key, and whoever puts quotes into certificates of that key.
struct Carrier {
    credentials: Credentials,
    quote: Vec<u8>,
    log: Vec<u8>,
}

impl Carrier {
    fn new() -> Self {
        let (guest, credentials) = (cvm(&TEE, APP, Measurements::default()), Credentials::ordinary());
        Self { quote: credentials.quote(&guest), log: guest.event_log().to_json().unwrap(), credentials }
    }

    fn carrying(&mut self, quote: &[u8]) -> Vec<u8> {
        let form = |oid: &[u64], content: &[u8]| CustomExtension::from_oid_content(oid, octet_string(content));
        self.credentials.params.custom_extensions = vec![form(oid::QUOTE, quote), form(oid::EVENT_LOG, &self.log)];
        self.credentials.params.self_signed(&self.credentials.key).unwrap().der().to_vec()
    }

    /// The quote with one of the platform's certificates replaced.
    fn with_certificate(&self, number: usize, der: Vec<u8>) -> Vec<u8> {
        let mut chain = self.chain();
        chain[number] = der.into();
        let chain: String = chain.iter().map(|certificate| pem(certificate)).collect();
        [&self.quote[..PLATFORM], chain.as_bytes()].concat()
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(&self.quote[PLATFORM..]).map(Result::unwrap).collect()
    }
}

#[test]
fn every_field_of_a_quote() {
    let mut carrier = Carrier::new();
    let quote = carrier.quote.clone();
    assert_eq!(verdict(&carrier.carrying(&quote)), Ok(()));
    let mut next = 0;
    for (name, range, reason) in QUOTE {
        assert!(range.start == next || name.starts_with("TD attributes"), "nothing is left out before {name}");
        next = range.end;
        for at in [range.start, range.end - 1] {
            assert_refused(&carrier.carrying(&flipped(&quote, at)), reason, name);
        }
    }
}

#[test]
fn every_field_of_the_certificates_in_a_quote() {
    let mut carrier = Carrier::new();
    let chain = carrier.chain();
    for (number, expected) in [(0, PCK.as_slice()), (1, &PLATFORM_CA)] {
        for ((name, range), (known, reason)) in fields(&chain[number]).into_iter().zip(expected) {
            assert_eq!(name, *known);
            let quote = carrier.with_certificate(number, flipped(&chain[number], range.end - 1));
            assert_refused(&carrier.carrying(&quote), *reason, &format!("{name} of certificate {number}"));
        }
        assert_eq!(fields(&chain[number]).len(), expected.len());
    }
    // Nobody needs the root that a quote carries, so it has to be the trusted one bit for bit.
    for (name, range) in fields(&chain[2]) {
        let quote = carrier.with_certificate(2, flipped(&chain[2], range.end - 1));
        assert_refused(&carrier.carrying(&quote), ("other_root", "another root"), &name);
    }
    let fmspc = chain[0].windows(FMSPC.len()).position(|bytes| bytes == FMSPC).unwrap();
    let quote = carrier.with_certificate(0, flipped(&chain[0], fmspc));
    assert_refused(&carrier.carrying(&quote), ("unknown_platform", "FMSPC"), "FMSPC");
}

#[test]
fn every_field_of_a_certificate() {
    let guest = cvm(&TEE, APP, Measurements::default());
    let mut credentials = Credentials::of(&guest);
    let info = AppInfo {
        app_id: guest.app_id(),
        compose_hash: guest.compose_hash(),
        instance_id: Some(guest.instance_id()),
        device_id: TEE.device_id(),
        mr_system: [0; 32],
        mr_aggregated: [0; 32],
        os_image_hash: None,
        key_provider: Vec::new(),
        init_script_hashes: Vec::new(),
    };
    for extension in [Usage::App.extension(), info.extension()] {
        let custom = CustomExtension::from_oid_content(extension.oid, extension.content);
        credentials.params.custom_extensions.push(custom);
    }
    credentials.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    credentials.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let der = credentials.params.self_signed(&credentials.key).unwrap().der().to_vec();
    assert_eq!(verdict(&der), Ok(()));
    let fields = fields(&der);
    assert_eq!(fields.len(), CERTIFICATE.len());
    for ((name, range), (known, reason)) in fields.into_iter().zip(CERTIFICATE) {
        assert_eq!(name, known);
        assert_refused(&flipped(&der, range.end - 1), reason, &name);
    }
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

/// As the simulated quote carries it.
fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// DER of an OCTET STRING of 256 bytes or more.
fn octet_string(content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[4, 0x82, high, low], content].concat()
}

/// Where each field of a certificate lies, and for each extension its value and its name.
fn fields(der: &[u8]) -> Vec<(String, Range<usize>)> {
    let (_, certificate) = X509Certificate::from_der(der).unwrap();
    let place = |part: &[u8]| {
        let start = part.as_ptr().addr() - der.as_ptr().addr();
        start..start + part.len()
    };
    let tbs = &certificate.tbs_certificate;
    let (issuer, subject) = (place(tbs.issuer.as_raw()), place(tbs.subject.as_raw()));
    let mut fields = vec![
        // Behind the heads of the certificate, of what is signed, of the version and of its number.
        ("version".to_owned(), 12..13),
        ("serial number".to_owned(), place(tbs.raw_serial())),
        ("algorithm of the signature".to_owned(), place(tbs.signature.algorithm.as_bytes())),
        ("dates".to_owned(), issuer.end..subject.start),
        ("issuer".to_owned(), issuer),
        ("subject".to_owned(), subject),
        ("public key".to_owned(), place(&tbs.subject_pki.subject_public_key.data)),
        ("algorithm outside".to_owned(), place(certificate.signature_algorithm.algorithm.as_bytes())),
        ("signature".to_owned(), place(&certificate.signature_value.data)),
    ];
    for extension in tbs.extensions() {
        fields.push((extension.oid.to_string(), place(extension.value)));
        fields.push((format!("{}, name", extension.oid), place(extension.oid.as_bytes())));
    }
    fields
}
