//! The binary: its exit codes, what it prints, and the files that it writes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::world::World;

/// What the program said before it ended.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) async fn by(arguments: &[&str], folder: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sidecar"));
        let output = command.args(arguments).current_dir(folder).stdin(Stdio::null()).output().await.unwrap();
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

async fn sidecar(arguments: &[&str]) -> Said {
    Said::by(arguments, Path::new(".")).await
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn mistakes_in_the_configuration_are_told_at_once_with_code_78() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sidecar.toml");
    std::fs::write(&file, "[listen]\nadresses = []\n[limits]\nhandshake = 5\n").unwrap();
    for arguments in [&["serve", "--check", "-c"][..], &["serve", "-c"]] {
        let said = sidecar(&[arguments, &[file.to_str().unwrap()]].concat()).await;
        assert_eq!(said.code, Some(78));
        for mistake in ["attestation.collateral", "roles", "listen.adresses", "did you mean", "limits.handshake"] {
            assert!(said.err.contains(mistake), "{mistake} in {}", said.err);
        }
    }
    assert_eq!(sidecar(&["connect", "--check"]).await.code, Some(78));
    assert_eq!(sidecar(&["serve", "--nonsense"]).await.code, Some(64));
    assert_eq!(sidecar(&["--help"]).await.code, Some(0));
}

#[tokio::test]
async fn the_default_configuration_is_printed_and_a_good_one_is_in_order() {
    let said = sidecar(&["connect", "--print-config"]).await;
    assert_eq!((said.code, said.out.as_str()), (Some(0), include_str!("../../sidecar.toml")));
    let world = World::new().await;
    let file = world.folder.path().join("sidecar.toml");
    std::fs::write(&file, world.serve_config("")).unwrap();
    let said = sidecar(&["serve", "--check", "-c", file.to_str().unwrap()]).await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    std::fs::write(world.folder.path().join("collateral.json"), "{}").unwrap();
    let said = sidecar(&["serve", "--check", "-c", file.to_str().unwrap()]).await;
    assert!(said.code == Some(78) && said.err.contains("collateral.json"), "{}", said.err);
}

#[tokio::test]
async fn certificate_and_password_are_written_for_their_owner_alone() {
    let world = World::new().await;
    let folder = world.folder.path();
    let agent = format!("unix:{}", world.server_agent.display());
    let said =
        sidecar(&["certificate", "--out-dir", folder.to_str().unwrap(), "--name", "me", "--agent", &agent]).await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    let certificate = std::fs::read_to_string(folder.join("client.crt")).unwrap();
    assert!(certificate.starts_with("-----BEGIN CERTIFICATE-----"));
    assert_eq!(mode(&folder.join("client.key")), 0o600);

    let (first, second) = (folder.join("first"), folder.join("second"));
    for file in [&first, &second] {
        let arguments = ["password", "--role", "postgres", "--out", file.to_str().unwrap(), "--agent", &agent];
        let said = sidecar(&arguments).await;
        assert_eq!((said.code, said.out.as_str()), (Some(0), ""), "{}", said.err);
    }
    let password = std::fs::read_to_string(&first).unwrap();
    assert_eq!(password, std::fs::read_to_string(&second).unwrap(), "the password is the same every time");
    assert_eq!((password.trim_end().len(), mode(&first)), (64, 0o600));

    let missing = format!("unix:{}/nobody.sock", folder.display());
    let said = sidecar(&["password", "--role", "postgres", "--out", "/dev/null/x", "--agent", &missing]).await;
    assert!(said.code == Some(69) && said.err.contains("nobody.sock"), "{}", said.err);
}
