use std::path::Path;

use postern_plumbing::admin::Readiness;

use super::*;
use crate::postgres::Socket;
use crate::postgres::admin::Proof;
use crate::postgres::privileges::Privileges;
use crate::postgres::provision::Provisioning;
use crate::postgres::supervise::Supervisor;

const READ: &str = "1f8b6ab9f0f9d7d3c1be4efdfb3a2c55d1b7a4470d8a7b0bb1d6f3a1e6b5c301";
const OLD: &str = "a3c5e9017b2d4f6880912a3b4c5d6e7f8091a2b3c4d5e6f70819203142536475";
const NEW: &str = "77c5e9017b2d4f6880912a3b4c5d6e7f8091a2b3c4d5e6f70819203142536400";

/// Two roles, `reader` and `writer`, with their secrets in files.
struct Files {
    folder: tempfile::TempDir,
    configured: Vec<RoleConfig>,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let role = |name: &str, secret: &str, opens: &[&str]| {
            let file = folder.path().join(name);
            std::fs::write(&file, format!("{secret}\n")).unwrap();
            let opens = opens.iter().map(|&name| name.to_owned()).collect();
            let role = Role { name: name.to_owned(), secrets: read(std::slice::from_ref(&file)).unwrap(), opens };
            RoleConfig { role, secret_files: vec![file], privileges: Privileges::None, sessions: Default::default() }
        };
        let configured = vec![role("reader", READ, &[]), role("writer", OLD, &["reader"])];
        Self { folder, configured }
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.folder.path().join(name), content).unwrap();
    }

    fn sources(&self) -> Vec<Source> {
        self.configured.iter().map(Source::of).collect()
    }

    fn roles(&self) -> Arc<Roles> {
        Arc::new(Roles::new(read_map(&self.sources()).unwrap()))
    }

    fn follower(&self) -> Follower {
        let configured = Arc::new(self.sources());
        let seen = Some(stamps(&configured));
        Follower { roles: self.roles(), configured, postgres: watched(), seen, complaint: None }
    }
}

fn watched() -> Watched {
    let provisioning = Provisioning {
        socket: Socket::new(Path::new("/nonexistent"), 5432),
        superuser: ("postgres".to_owned(), Proof::Peer),
        databases: Vec::new(),
        roles: Vec::new(),
    };
    Supervisor::new(provisioning, Readiness::default().register("postgres")).1
}

fn opens(roles: &Roles, user: &str, secret: &str) -> bool {
    roles.current().map.admit(user.as_bytes(), secret.as_bytes()).is_some()
}

#[tokio::test]
async fn a_secret_is_replaced_without_a_moment_in_which_neither_works() {
    let files = Files::new();
    let mut follower = files.follower();
    let roles = Arc::clone(&follower.roles);
    let salt = roles.current().verifiers.salt(b"writer");
    for (content, old, new) in
        [(format!("{OLD}\n{NEW}\n"), true, true), (format!("{NEW}\n"), false, true), (format!("{OLD}\n"), true, false)]
    {
        files.write("writer", &content);
        follower.look(false).await;
        assert_eq!((opens(&roles, "writer", OLD), opens(&roles, "writer", NEW)), (old, new));
        assert_eq!((opens(&roles, "reader", OLD), opens(&roles, "reader", NEW)), (old, new), "and what it opens");
        assert!(opens(&roles, "reader", READ), "another role's secret stays as it is");
    }
    assert_eq!(
        roles.current().verifiers.salt(b"writer"),
        salt,
        "a salt that changes would tell a role from a mere name"
    );
}

#[tokio::test]
async fn files_that_cannot_be_used_leave_the_old_secrets_in_force() {
    let files = Files::new();
    let mut follower = files.follower();
    let roles = Arc::clone(&follower.roles);
    for (content, complaint) in [
        ("".to_owned(), "is empty"),
        ("placeholder\n".to_owned(), "64 hex digits"),
        ("0".repeat(64), "placeholder"),
        (format!("{OLD}\n\n{NEW}\n"), "64 hex digits"),
        (format!("{OLD}\n{NEW}\n{}\n", NEW.replace('7', "8")), "3 secrets"),
        (format!("{READ}\n"), "same secret"),
    ] {
        files.write("writer", &content);
        follower.look(false).await;
        let said = follower.complaint.clone().unwrap();
        assert!(said.contains(complaint), "{said}");
        assert!(!said.contains(&OLD[..8]) && !said.contains(&READ[..8]), "secrets stay out of the log");
        assert!(opens(&roles, "writer", OLD) && opens(&roles, "reader", READ));
    }
    std::fs::remove_file(files.folder.path().join("writer")).unwrap();
    follower.look(true).await;
    assert!(follower.complaint.as_ref().unwrap().contains("writer"));
    assert!(opens(&roles, "writer", OLD));
    files.write("writer", NEW);
    follower.look(false).await;
    assert!(follower.complaint.is_none() && opens(&roles, "writer", NEW));
}

#[tokio::test]
async fn what_is_in_force_stays_for_as_long_as_the_files_say_the_same() {
    let files = Files::new();
    let mut follower = files.follower();
    let before = follower.roles.current();
    for asked in [false, true] {
        follower.look(asked).await;
        assert!(Arc::ptr_eq(&before, &follower.roles.current()), "nothing has changed");
    }
    // Other files with the same in them are no reason to leave what is in force.
    files.write("writer", &format!("{OLD}\n"));
    follower.look(false).await;
    assert!(Arc::ptr_eq(&before, &follower.roles.current()));
    files.write("writer", &format!("{NEW}\n"));
    follower.look(false).await;
    assert!(!Arc::ptr_eq(&before, &follower.roles.current()));
}

#[tokio::test(start_paused = true)]
async fn files_are_followed_from_what_is_in_force() {
    let files = Files::new();
    let roles = files.roles();
    let taken_over = async |name: &str, secret: &str| {
        let looking = async {
            while !opens(&roles, name, secret) {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(LOOK * 1_000, looking).await.unwrap();
    };
    // Between the first reading and the first look.
    let other = READ.replace('1', "2");
    files.write("reader", &other);
    let _following = follow(Arc::clone(&roles), &files.configured, watched());
    taken_over("reader", &other).await;
    // Of the same length, and with the times of the old one.
    let (path, new) = (files.folder.path().join("writer"), files.folder.path().join("new"));
    std::fs::write(&new, format!("{NEW}\n")).unwrap();
    let times = std::fs::FileTimes::new().set_modified(std::fs::metadata(&path).unwrap().modified().unwrap());
    std::fs::File::options().write(true).open(&new).unwrap().set_times(times).unwrap();
    std::fs::rename(&new, &path).unwrap();
    taken_over("writer", NEW).await;
}
