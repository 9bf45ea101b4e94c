use std::sync::Arc;

use super::*;
use crate::Tee;

/// The root key and the application of dstack's published vectors (`sdk/tests/vectors/signature_chain.json`).
const ROOT: &[u8; 32] = b"KMS-root-test-key-do-not-use!!!\x01";
const APP: AppId = AppId([
    0xa9, 0x01, 0x9d, 0x1b, 0x2c, 0x3d, 0x4e, 0x5f, 0x60, 0x71, 0x82, 0x93, 0xa4, 0xb5, 0xc6, 0xd7, 0xe8, 0xf9, 0x0a,
    0x1b,
]);
const DATA: &[u8] = b"dstack signature chain test vector";
const BY_ROOT: &str = "00ac321fbbe6817c5de0720644e936b20046ff1c9226e0558a9c86856e8a1dd06bb7a7efae1cf3ec522553c28627ea96c139d5dc9cdd5a1898c2406c074438d800";

fn cvm(seed: [u8; 32], app: AppId, instance: &str) -> Cvm {
    Cvm::new(Arc::new(Tee::new(seed).unwrap()), app, b"{}".to_vec(), instance)
}

#[test]
fn keys_match_a_fixed_vector() {
    // HKDF-SHA256 (RFC 5869) by another implementation: salt "RATLS", key 00 01 .. 1f, info "pg/superuser".
    let key: [u8; 32] = std::array::from_fn(|index| u8::try_from(index).unwrap());
    assert_eq!(
        hex::encode(derive(&key, &[b"pg/", b"superuser"])),
        "1e42e6cb8c55ed5cb831b5faf53e1e598056f956fc1ec19e7d442ef170dc25a2"
    );
    // The same, with a root derived from the seed 07 .. 07 and the app id a0 .. a0 followed by "app-key".
    assert_eq!(
        hex::encode(cvm([7; 32], AppId([0xa0; 20]), "one").derive_key("pg/superuser")),
        "731f8c160324d4ec37b74df58e1f4c3dce4d30953846a77f587030e84c38fbab"
    );
}

#[test]
fn keys_are_shared_inside_an_application_and_nowhere_else() {
    let key_of = |seed: u8, app: u8, instance, path| cvm([seed; 32], AppId([app; 20]), instance).derive_key(path);
    let key = key_of(7, 1, "one", "path");
    assert_eq!(key, key_of(7, 1, "two", "path"));
    assert_ne!(key, key_of(7, 2, "one", "path"));
    assert_ne!(key, key_of(8, 1, "one", "path"));
    assert_ne!(key, key_of(7, 1, "one", "another"));
}

#[test]
fn signatures_on_secp256k1_match_the_published_vectors() {
    let cvm = cvm(*ROOT, APP, "one");
    assert_eq!(
        hex::encode(cvm.kms_root_public_key().unwrap()),
        "0318f228673448772dd4835a82149a9d475db8095234469a8fcc85cfa18b85abbc"
    );
    let signed = cvm.sign(Algorithm::Secp256k1, DATA).unwrap();
    assert_eq!(hex::encode(&signed.public_key), "03f6e0f232f5eb6f4b118960a80c3939ea947b6dc727215aba43451910f2741bb8");
    assert_eq!(
        hex::encode(&signed.signature),
        "4753cea786fe882ec17a1f75199d15f43e864286ddf1d599a901e503db787dc25c825c8a7a259a7c256fdbf75e74bd73282737f03fc449f9e627c8b540a161f4"
    );
    assert_eq!(
        signed.chain.each_ref().map(hex::encode),
        [
            "77ae5ea476f00df11938fd1df3a65a4fbd9f92b64c816b9f29ee79a1e4ae74ed43269a36376b4ed838460ef3b56ba553cefa6e63def4a4487386f783f14295a001",
            BY_ROOT
        ]
    );
    assert_eq!(cvm.sign_digest(&Sha256::digest(DATA).into()).unwrap(), signed);
    assert_eq!(verifies(Algorithm::Secp256k1, DATA, &signed.signature, &signed.public_key), Some(true));
    assert_eq!(verifies(Algorithm::Secp256k1, b"other", &signed.signature, &signed.public_key), Some(false));
}

#[test]
fn signatures_on_ed25519_match_the_published_vectors() {
    let signed = cvm(*ROOT, APP, "one").sign(Algorithm::Ed25519, DATA).unwrap();
    assert_eq!(hex::encode(&signed.public_key), "f2c761dfee96542500c1ca5460bb0e327b4acb67d882f5846e21baa8d55d2f5b");
    assert_eq!(
        hex::encode(&signed.signature),
        "b29c21a4aa614b434542e938abe9e48c46369c4d37ecfcdbaae02251c73eff5f1912ada04309445575204a110a6fc74dd73734240a7c6e2bffbb5c9e1bd0b408"
    );
    assert_eq!(
        signed.chain.each_ref().map(hex::encode),
        [
            "181498cdcebe6cae41fe1474b3d8af53c7969a2fb20f9f20a5cdcc9d92f5596d500cf9605996ec2e55406666fee630d5882e5e97c2417e079c6f074ca6c7c57301",
            BY_ROOT
        ]
    );
    assert_eq!(verifies(Algorithm::Ed25519, DATA, &signed.signature, &signed.public_key), Some(true));
    assert_eq!(verifies(Algorithm::Ed25519, b"other", &signed.signature, &signed.public_key), Some(false));
}

#[test]
fn the_other_value_of_s_is_refused() {
    let signed = cvm(*ROOT, APP, "one").sign(Algorithm::Secp256k1, DATA).unwrap();
    let low = Signature::from_slice(&signed.signature).unwrap();
    let high = Signature::from_scalars(*low.r(), -*low.s()).unwrap();
    assert_eq!(verifies(Algorithm::Secp256k1, DATA, &high.to_bytes(), &signed.public_key), Some(false));
}

#[test]
fn a_malformed_key_or_signature_is_told_from_a_wrong_one() {
    for algorithm in [Algorithm::Ed25519, Algorithm::Secp256k1] {
        let signed = cvm(*ROOT, APP, "one").sign(algorithm, DATA).unwrap();
        assert_eq!(verifies(algorithm, DATA, &signed.signature[1..], &signed.public_key), None);
        assert_eq!(verifies(algorithm, DATA, &signed.signature, &signed.public_key[1..]), None);
    }
}

#[test]
fn a_seed_that_is_no_key_on_the_curve_is_named() {
    let cvm = cvm([0; 32], APP, "one");
    assert!(matches!(cvm.signature_chain("path", "", Algorithm::Secp256k1), Err(SimulatorError::NoKey)));
}
