use tempfile::TempDir;

use super::*;

const EVENT: &str = r#"{"event":"admitted"}"#;

/// A folder with the settings of a trail in it.
pub(in crate::audit) fn place() -> (TempDir, AuditSettings) {
    let folder = tempfile::tempdir().unwrap();
    let settings =
        AuditSettings { file: folder.path().join("audit.jsonl"), rotate_at: 1 << 20, sync: true, sessions: true };
    (folder, settings)
}

/// A trail of so many lines that was closed in order.
fn written(settings: &AuditSettings, lines: usize) -> Head {
    let mut file = TrailFile::open(settings.clone()).unwrap();
    for _ in 0..lines {
        file.append([EVENT]).unwrap();
    }
    file.keep_head().unwrap();
    file.head()
}

fn open(settings: &AuditSettings) -> Result<Head, String> {
    TrailFile::open(settings.clone()).map(|file| file.head()).map_err(|error| error.to_string())
}

#[test]
fn a_trail_goes_on_where_it_was_left() {
    let (_folder, settings) = place();
    let head = written(&settings, 3);
    assert_eq!((open(&settings), head.count), (Ok(head), 3));
    assert_eq!(written(&settings, 2).count, 5);
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&settings.file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_line_that_was_never_finished_is_taken_back() {
    let (_folder, settings) = place();
    let head = written(&settings, 3);
    let whole = fs::read(&settings.file).unwrap();
    fs::write(&settings.file, [whole.as_slice(), b"{\"n\":4,\"pr"].concat()).unwrap();
    assert_eq!(open(&settings), Ok(head));
    assert_eq!(fs::read(&settings.file).unwrap(), whole);
}

#[test]
fn lines_that_the_head_beside_the_trail_does_not_know_yet_are_kept() {
    let (_folder, settings) = place();
    let early = written(&settings, 3);
    let late = written(&settings, 3);
    fs::write(head_path(&settings.file), early.to_string()).unwrap();
    assert_eq!(open(&settings), Ok(late));
}

#[test]
fn a_trail_that_was_tampered_with_is_not_gone_on_with() {
    let (_folder, settings) = place();
    written(&settings, 3);
    let whole = fs::read_to_string(&settings.file).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let head = fs::read(head_path(&settings.file)).unwrap();
    let cases = [
        (lines[..2].join("\n") + "\n", "ends at line 2, and the anchor vouches for line 3"),
        (String::new() + lines[0] + "\n" + lines[2] + "\n", "line 2 of this file: it has the number 3"),
        (whole.replacen("admitted", "refused!", 1), "line 2 of this file: it was not written behind"),
        (whole.clone() + "nonsense\n", "line 4 of this file: it does not begin"),
        ("nonsense\n".to_owned() + &whole, "line 1 of this file: it does not begin"),
    ];
    for (text, complaint) in cases {
        fs::write(&settings.file, text).unwrap();
        let error = open(&settings).unwrap_err();
        assert!(error.contains(complaint), "{error}");
    }
    fs::write(&settings.file, &whole).unwrap();
    fs::remove_file(head_path(&settings.file)).unwrap();
    assert!(open(&settings).unwrap_err().contains("audit.jsonl.head"));
    fs::write(head_path(&settings.file), head).unwrap();
    assert!(open(&settings).is_ok());
}

#[test]
fn a_full_file_is_set_aside_and_the_chain_goes_on() {
    let (folder, settings) = place();
    let settings = AuditSettings { rotate_at: 300, ..settings };
    let mut file = TrailFile::open(settings.clone()).unwrap();
    for _ in 0..7 {
        file.append([EVENT]).unwrap();
        file.rotate().unwrap();
    }
    let head = file.head();
    file.keep_head().unwrap();
    let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|at| at.unwrap().file_name()).collect();
    names.sort();
    let aside: Vec<String> = [3, 6].iter().map(|count| format!("audit.jsonl.{count:012}")).collect();
    assert_eq!(names, ["audit.jsonl", &aside[0], &aside[1], "audit.jsonl.head"]);
    assert_eq!(open(&settings), Ok(head));
    // Everything ended right after a file was set aside.
    fs::rename(&settings.file, folder.path().join("audit.jsonl.000000000007")).unwrap();
    assert_eq!(open(&settings), Ok(head));
}
