//! `registrar hash`.

use std::collections::BTreeMap;
use std::path::Path;

use alloy::primitives::B256;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::cli::{BuildArguments, HashArguments, hash_file, read_file};
use crate::failure::Failure;
use crate::plan::write_new;
use crate::report::Report;

/// Prints the hash of a file, or of one that is built here.
pub(crate) fn run(arguments: &HashArguments) -> Result<Report, Failure> {
    if let Some(file) = &arguments.file {
        let hash = B256::from(hash_file(file)?.0);
        return Ok(Report::new(json!({"compose_hash": hash})).line(hash.to_string()));
    }
    let (Some(from), Some(output)) = (&arguments.from, &arguments.build.output) else {
        return Err(Failure::Unsupported("hash what? Name an app-compose.json, or --from and --output".to_owned()));
    };
    let document = document(&text(from)?, &arguments.build)?;
    // A document that is there already, byte for byte, is as good as written.
    if !read_file(output).is_ok_and(|bytes| bytes == document.as_bytes()) {
        write_new(output, document.as_bytes())?;
    }
    let hash = B256::from_slice(&Sha256::digest(&document));
    let json = json!({"compose_hash": hash, "file": output, "bytes": document.len()});
    Ok(Report::new(json)
        .field("compose hash", hash)
        .field("file", output.display())
        .line("The hash is that of these bytes: hand out this very file, and change nothing in it."))
}

fn text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(read_file(path)?).map_err(|_| Failure::NotText(path.to_path_buf()))
}

/// The document as dstack's SDKs write it: keys sorted, no white space, nothing but control characters and quotes escaped.
fn document(docker_compose: &str, build: &BuildArguments) -> Result<String, Failure> {
    let mut document: BTreeMap<&str, Value> = BTreeMap::from([
        ("manifest_version", json!(2)),
        ("name", json!(build.name)),
        ("runner", json!("docker-compose")),
        ("docker_compose_file", json!(docker_compose)),
        ("kms_enabled", json!(build.key_management)),
        ("gateway_enabled", json!(build.gateway)),
        ("local_key_provider_enabled", json!(false)),
        ("key_provider_id", json!("")),
        ("public_logs", json!(build.public_logs)),
        ("public_sysinfo", json!(build.public_sysinfo)),
        ("allowed_envs", json!(build.allow_env)),
        ("no_instance_id", json!(false)),
        ("secure_time", json!(build.secure_time)),
    ]);
    if let Some(script) = &build.pre_launch_script {
        document.insert("pre_launch_script", json!(text(script)?));
    }
    serde_json::to_string(&document).map_err(|error| Failure::Unexpected(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `json.dumps(d, sort_keys=True, separators=(",", ":"), ensure_ascii=False)` of Python makes of the document.
    const EXPECTED: &str = concat!(
        r#"{"allowed_envs":["B","A"],"docker_compose_file":"services:\n  db:\n    image: \"pg\" # größer\t<&>\n","#,
        r#""gateway_enabled":false,"key_provider_id":"","kms_enabled":true,"local_key_provider_enabled":false,"#,
        r#""manifest_version":2,"name":"db","no_instance_id":false,"public_logs":true,"public_sysinfo":false,"#,
        r#""runner":"docker-compose","secure_time":false}"#
    );

    fn build() -> BuildArguments {
        BuildArguments {
            name: Some("db".to_owned()),
            key_management: true,
            public_logs: true,
            allow_env: vec!["B".to_owned(), "A".to_owned()],
            ..BuildArguments::default()
        }
    }

    #[test]
    fn the_document_is_written_as_dstacks_sdks_write_it() {
        let compose = "services:\n  db:\n    image: \"pg\" # größer\t<&>\n";
        assert_eq!(document(compose, &build()).unwrap(), EXPECTED);
    }

    #[test]
    fn the_hash_is_that_of_the_file_that_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let (from, output) = (folder.path().join("docker-compose.yml"), folder.path().join("app-compose.json"));
        std::fs::write(&from, "services: {}\n").unwrap();
        let build = BuildArguments { output: Some(output.clone()), ..build() };
        let arguments = HashArguments { file: None, from: Some(from.clone()), build };
        run(&arguments).unwrap();
        run(&arguments).unwrap();
        let written = std::fs::read(&output).unwrap();
        std::fs::write(&from, "services: {db: {}}\n").unwrap();
        assert!(matches!(run(&arguments).unwrap_err(), Failure::Output { .. }), "it has other bytes now");
        assert_eq!(std::fs::read(&output).unwrap(), written);
        std::fs::write(&from, [0xff]).unwrap();
        assert!(matches!(run(&arguments).unwrap_err(), Failure::NotText(_)));
    }
}
