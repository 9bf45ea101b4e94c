use postern_identity::{ComposeHash, DeviceId, InstanceId, OsImageHash};
use serde_json::Value;

use super::*;

fn boot(app: u8) -> BootInfo {
    BootInfo {
        app_id: AppId([app; 20]),
        compose_hash: ComposeHash([2; 32]),
        instance_id: InstanceId([3; 20]),
        device_id: DeviceId([4; 32]),
        mr_aggregated: [5; 32],
        mr_system: [6; 32],
        os_image_hash: OsImageHash([7; 32]),
        tcb_status: "UpToDate".to_owned(),
        advisory_ids: Vec::new(),
    }
}

fn admission() -> Admission {
    Admission { block: Block { number: 17, hash: [0xab; 32], timestamp: 1 }, expires: 2 }
}

fn lines(folder: &tempfile::TempDir) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.path().join("audit.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn open(folder: &tempfile::TempDir, sessions: bool) -> Audit {
    let file = folder.path().join("audit.jsonl");
    Audit::open(AuditSettings { file, rotate_at: 1 << 30, sync: false, sessions }).unwrap()
}

#[tokio::test]
async fn a_session_stands_with_its_connection_its_evidence_and_the_block_that_allows_it() {
    let folder = tempfile::tempdir().unwrap();
    let (audit, id) = (open(&folder, true), ConnectionId::next());
    audit.session(id, &boot(1), &[9; 32], &admission());
    audit.close().await;
    let line = &lines(&folder)[1];
    assert_eq!(line["event"], "session");
    assert_eq!(line["block"], serde_json::json!({ "number": 17, "hash": "ab".repeat(32) }));
    assert_eq!((&line["connection"], &line["evidence"]), (&id.to_string().into(), &"09".repeat(32).into()));
    assert_eq!(line["instance"], "03".repeat(20));
}

#[tokio::test]
async fn a_flood_of_sessions_is_counted_and_hides_neither_other_apps_nor_other_lines() {
    let folder = tempfile::tempdir().unwrap();
    let audit = open(&folder, true);
    let flood = u64::from(SESSIONS) + 500;
    for _ in 0..flood {
        audit.session(ConnectionId::next(), &boot(1), &[9; 32], &admission());
    }
    audit.session(ConnectionId::next(), &boot(8), &[9; 32], &admission());
    audit.expired(&boot(1), &[9; 32]);
    audit.close().await;
    let lines = lines(&folder);
    let counted = |event: &str, of: &str| -> u64 {
        let found = lines.iter().filter(|line| line["event"] == event && line["of"] == of);
        found.filter_map(|line| line["count"].as_u64()).sum()
    };
    let said = |app: u8| {
        let app = Value::from(AppId([app; 20]).to_string());
        lines.iter().filter(|line| line["event"] == "session" && line["app"] == app).count() as u64
    };
    assert_eq!(counted("left_out", "session"), 500);
    // Those for which there was no room are counted as well.
    assert_eq!(said(1) + said(8) + 500 + counted("lost", "session"), flood + 1);
    assert_eq!(lines.iter().filter(|line| line["event"] == "expired").count(), 1, "there is room for what matters");
}

#[tokio::test]
async fn sessions_have_no_lines_where_that_is_not_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let audit = open(&folder, false);
    audit.session(ConnectionId::next(), &boot(1), &[9; 32], &admission());
    audit.close().await;
    assert!(lines(&folder).iter().all(|line| line["event"] != "session"));
}
