use std::fs;

use super::super::file::tests::place;
use super::super::file::{AuditSettings, TrailFile};
use super::*;

/// A trail in three files, and all that is in its folder.
fn trail() -> (tempfile::TempDir, Vec<PathBuf>, Head) {
    let (folder, settings) = place();
    let mut file = TrailFile::open(AuditSettings { rotate_at: 300, ..settings }).unwrap();
    for _ in 0..8 {
        file.append([r#"{"event":"admitted"}"#]).unwrap();
        file.rotate().unwrap();
    }
    file.keep_head().unwrap();
    let mut files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|at| at.unwrap().path()).collect();
    files.sort();
    let head = file.head();
    (folder, files, head)
}

fn verify(files: &[PathBuf]) -> Verify {
    Verify { files: files.to_vec(), ..Verify::default() }
}

#[test]
fn all_files_of_a_trail_are_in_order_whatever_order_they_are_named_in() {
    let (_folder, mut files, head) = trail();
    assert_eq!(files.len(), 4, "two files were set aside, and a head is kept: {files:?}");
    let sound = Sound { after: Head::default(), head, anchored: Some(8) };
    assert_eq!(verify(&files).run().unwrap(), sound);
    files.reverse();
    assert_eq!(verify(&files).run().unwrap(), sound);
    assert!(sound.to_string().contains("8 lines, from 1 to 8"), "{sound}");
}

#[test]
fn a_missing_file_is_found_wherever_it_was() {
    let (_folder, files, head) = trail();
    let [current, first, second, _head] = files.as_slice() else { panic!("{files:?}") };
    let run = |files: &[&PathBuf]| verify(&files.iter().map(|&file| file.clone()).collect::<Vec<_>>()).run();
    assert!(run(&[second, current]).unwrap_err().to_string().contains("it has the number 4, and 1 is next"));
    assert!(run(&[first, current]).unwrap_err().to_string().contains("it has the number 7, and 4 is next"));
    // Each file that was set aside would do as a whole trail, were there no anchor.
    assert_eq!(run(&[first, second]).unwrap().anchored, None);
    let anchored = Verify { anchor: vec![head], ..verify(&[first.clone(), second.clone()]) };
    assert!(anchored.run().unwrap_err().to_string().contains("ends at line 6, and the anchor vouches for line 8"));
    let archived: Head = run(&[first]).unwrap().head;
    let rest = Verify { after: Some(archived), ..verify(&[second.clone(), current.clone()]) };
    assert_eq!(rest.run().unwrap(), Sound { after: archived, head, anchored: Some(8) });
}

#[test]
fn a_change_is_found_and_its_place_named() {
    let (_folder, files, _) = trail();
    let text = fs::read_to_string(&files[2]).unwrap();
    fs::write(&files[2], text.replacen("admitted", "refused!", 1)).unwrap();
    let error = verify(&files).run().unwrap_err().to_string();
    assert!(
        error.contains("000000000006: line 2 of this file: it was not written behind the line before, number 4"),
        "{error}"
    );
    fs::write(&files[2], text.trim_end()).unwrap();
    assert!(matches!(verify(&files).run(), Err(Unsound::Partial(path)) if path == files[2]));
    fs::write(&files[2], "x".repeat(LONGEST_LINE + 10)).unwrap();
    assert!(matches!(verify(&files).run(), Err(Unsound::TooLong(path)) if path == files[2]));
    assert!(verify(&["/no/such/file".into()]).run().is_err());
}
