//! Keys: keystores with passwords, and the insecure way.

use std::process::Stdio;

use postern_devnet::FIRST_KEY;

use crate::scenery::{Chain, IMAGE, at_a_terminal, complaint, registrar};

/// A keystore as Foundry's `cast wallet import` writes it, with the key of anvil's first account.
const KEYSTORE: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"e681b6ff7a697b9f4e6cf05fc12e084c"},
"ciphertext":"f0cda31654da1371900d2d9859b3e71a6b9fabaf8fb91f04f3c2501804b3cf83","kdf":"scrypt",
"kdfparams":{"dklen":32,"n":8192,"p":1,"r":8,"salt":"1d103c03ad5095eaa5faad5dfa83573be1b96560799f58c4fb0f47f7b49b1a23"},
"mac":"20430593aa34621208344c114ec031203a7c89f6361e129a45656cc6e62a3aeb"},
"id":"76c8086a-47b5-4d60-bc10-a4435043085f","version":3}"#;

/// The password of the keystore.
const PASSWORD: &str = "correct horse battery staple";

/// A chain, and a keystore with its owner's key.
fn with_keystore() -> (Chain, String) {
    let chain = Chain::deployed();
    let keystore = chain.file("keystore", KEYSTORE).to_str().unwrap().to_owned();
    (chain, keystore)
}

#[test]
fn a_keystore_signs_with_its_password() {
    let (chain, _) = with_keystore();
    let password = chain.file("password", &format!("{PASSWORD}\n"));
    let password = password.to_str().unwrap();
    let output = chain.run_as("keystore", &["os-image", "add", IMAGE, "--password-file", password]);
    assert!(output.status.success(), "{output:?}");

    let wrong = chain.file("wrong", "tr0ub4dor&3");
    let output = chain.run_as("keystore", &["os-image", "add", IMAGE, "--password-file", wrong.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(78));
    let said = complaint(&output);
    assert!(said.contains("wrong password") && !said.contains("tr0ub4dor"), "{said}");
}

#[test]
fn a_password_is_asked_for_at_a_terminal() {
    let (chain, keystore) = with_keystore();
    std::fs::rename(&keystore, chain.folder().join("key")).unwrap();
    let ask = |chain: &Chain, password| at_a_terminal(chain, &["os-image", "add", IMAGE], Some(password));
    let (output, code) = ask(&chain, "a guess");
    assert!(output.contains("Password for ") && output.contains("wrong password"), "{output}");
    assert_eq!(code, Some(78));
    let (output, code) = ask(&chain, PASSWORD);
    assert!(output.contains("allowed in block"), "{output}");
    assert_eq!(code, Some(0));
}

#[test]
fn a_keystore_without_a_password_and_a_terminal_is_not_waited_for() {
    let (chain, keystore) = with_keystore();
    let output = registrar()
        .args(["--rpc", chain.anvil.url().as_str(), "--kms", chain.kms.as_ref().unwrap(), "--key-file", &keystore])
        .args(["os-image", "add", IMAGE])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(complaint(&output).contains("--password-file"), "{output:?}");
}

#[test]
fn a_key_on_the_command_line_is_called_insecure_and_works() {
    let chain = Chain::deployed();
    let run = |key: &str| {
        registrar()
            .args(["--rpc", chain.anvil.url().as_str(), "--kms", chain.kms.as_ref().unwrap()])
            .args(["--insecure-key", key, "os-image", "add", IMAGE])
            .output()
            .unwrap()
    };
    assert!(run(FIRST_KEY).status.success());
    let wrong = run("correct horse");
    assert_eq!(wrong.status.code(), Some(78));
    assert!(complaint(&wrong).contains("insecure_key") && !complaint(&wrong).contains("horse"), "{wrong:?}");
}
