//! The keys of `[attestation]` that are about certificates: who may sign them, and how a quote vouches for their keys.

use postern_attest::{CertificateRules, KmsRoot, TrustRootError};
use postern_plumbing::config::Section;

/// Reads the keys `kms_root` and `insecure_legacy_binding`, which may be left out. A root in a file is loaded. Mistakes are
/// recorded in the section, an unusable root among them.
pub(super) fn rules(section: &mut Section<'_>) -> CertificateRules {
    let insecure_legacy_binding = section.or("insecure_legacy_binding", false);
    let kms_root = section.optional("kms_root").and_then(|path: String| {
        let root = read_pinned(&path, KmsRoot::from_pem, KmsRoot::from_der);
        root.map_err(|mistake| section.problem("kms_root", mistake)).ok()
    });
    CertificateRules { kms_root, insecure_legacy_binding }
}

/// A root certificate from a file, PEM or DER.
pub(super) fn read_pinned<T>(
    path: &str,
    from_pem: fn(&[u8]) -> Result<T, TrustRootError>,
    from_der: fn(Vec<u8>) -> Result<T, TrustRootError>,
) -> Result<T, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let root = if bytes.starts_with(b"-----") { from_pem(&bytes) } else { from_der(bytes) };
    root.map_err(|error| format!("{path}: {error}"))
}
