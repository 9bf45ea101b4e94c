//! The one folder that holds everything a world writes.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::WorldError;
use crate::{leftovers, trust};

/// What the names of new folders begin with.
const PREFIX: &str = "postern-";
const LOCK: &str = "lock";
const PIDS: &str = "pids";
const LOGS: &str = "logs";

/// Where a world keeps its files. The folder stays until [`State::remove`] is called, so that logs survive a failure.
#[derive(Debug)]
pub struct State {
    root: PathBuf,
    pids: Arc<PidFile>,
    /// Held for the life of the world: the kernel lets go of it when the process ends, however it ends.
    _lock: File,
}

impl State {
    /// Opens a folder, or makes a new one in the system's folder for temporary files.
    ///
    /// Processes that an earlier, killed owner of the folder left behind are stopped, and what it wrote is deleted. Without
    /// a folder, this goes for all killed worlds of this user among the temporary files; of what those wrote, logs stay.
    ///
    /// # Errors
    /// When the folder cannot be made, another world uses it, others can write to it, or it holds something else than a
    /// world.
    pub fn open(folder: Option<&Path>) -> Result<Self, WorldError> {
        let root = match folder {
            Some(folder) => {
                let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
                made.map_err(|error| WorldError::file(folder, error))?;
                fs::canonicalize(folder).map_err(|error| WorldError::file(folder, error))?
            }
            None => {
                abandoned(&std::env::temp_dir()).iter().for_each(|folder| bury(folder));
                tempfile::Builder::new()
                    .prefix(PREFIX)
                    .tempdir()
                    .map_err(|error| WorldError::file(&std::env::temp_dir(), error))?
                    .keep()
            }
        };
        let lock = take_over(&root)?;
        clear(&root, &[LOCK]).map_err(|error| WorldError::file(&root, error))?;
        // Postgres runs as another user when this process is root, and has to pass through.
        fs::set_permissions(&root, Permissions::from_mode(0o711)).map_err(|error| WorldError::file(&root, error))?;
        let state = Self { pids: Arc::new(PidFile::new(root.join(PIDS))), root, _lock: lock };
        state.folder(LOGS)?;
        Ok(state)
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path inside the folder.
    #[must_use]
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// A folder inside the folder, made if it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder(&self, relative: impl AsRef<Path>) -> Result<PathBuf, WorldError> {
        let path = self.path(relative);
        fs::create_dir_all(&path).map_err(|error| WorldError::file(&path, error))?;
        Ok(path)
    }

    /// Writes a file that only this user reads, and says where it is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, relative: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<PathBuf, WorldError> {
        let path = self.path(relative);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| WorldError::file(parent, error))?;
        }
        write_private(&path, content.as_ref()).map_err(|error| WorldError::file(&path, error))?;
        Ok(path)
    }

    /// Copies a file tree to a folder below the state folder, with links and modes, and gives the copy.
    ///
    /// # Errors
    /// When something cannot be read or written.
    pub fn copy(&self, from: &Path, relative: impl AsRef<Path>) -> Result<PathBuf, WorldError> {
        let path = self.root.join(relative);
        copy_tree(from, &path).map_err(|error| WorldError::file(&path, error))?;
        Ok(path)
    }

    /// Where a process of this name logs to.
    #[must_use]
    pub fn log(&self, process: &str) -> PathBuf {
        self.root.join(LOGS).join(format!("{process}.log"))
    }

    pub(crate) fn pids(&self) -> Arc<PidFile> {
        Arc::clone(&self.pids)
    }

    /// Deletes the folder and everything in it.
    ///
    /// # Errors
    /// When a file cannot be deleted.
    pub fn remove(self) -> Result<(), WorldError> {
        fs::remove_dir_all(&self.root).map_err(|error| WorldError::file(&self.root, error))
    }
}

/// Folders of this user's worlds that were made without a name. Whether somebody still uses one is not known yet.
fn abandoned(temporary: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(temporary).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    // Anybody can make a folder of such a name there.
    let ours = named.map(|entry| entry.path()).filter(|folder| trust::is_own_folder(folder));
    ours.filter(|folder| folder.join(PIDS).exists()).collect()
}

/// Stops what a killed world left running, and deletes what it wrote but for the logs. A world that failed has nothing
/// running, and keeps everything: somebody may want to look at it.
fn bury(folder: &Path) {
    let was_killed = fs::metadata(folder.join(PIDS)).is_ok_and(|pids| pids.len() > 0);
    // Somebody's who still uses it is locked.
    if let Ok(_lock) = take_over(folder)
        && was_killed
    {
        // What cannot be deleted takes room, and harms nobody else.
        clear(folder, &[LOCK, LOGS]).unwrap_or_default();
    }
}

/// Makes a folder ours, and stops the processes of its last owner.
fn take_over(root: &Path) -> Result<File, WorldError> {
    if !trust::is_own_folder(root) {
        return Err(WorldError::NotOurs(root.to_owned()));
    }
    let path = root.join(LOCK);
    let is_empty = fs::read_dir(root).map_err(|error| WorldError::file(root, error))?.next().is_none();
    if !is_empty && !path.exists() {
        return Err(WorldError::NotAWorld(root.to_owned()));
    }
    let options = &mut File::options();
    let lock = trust::open_own_file(&path, options.write(true).create(true).truncate(false));
    let lock = lock.map_err(|error| WorldError::file(&path, error))?;
    lock.try_lock().map_err(|_| WorldError::FolderInUse(root.to_owned()))?;
    leftovers::stop(&root.join(PIDS));
    Ok(lock)
}

/// Deletes everything but what is named.
fn clear(root: &Path, kept: &[&str]) -> std::io::Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if kept.iter().any(|kept| entry.file_name() == *kept) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

pub(crate) fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(content)
}

/// The processes that run now, one `pid start-time name` per line, so that they can be stopped when their owner was killed.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    running: Mutex<BTreeMap<i32, String>>,
}

impl PidFile {
    fn new(path: PathBuf) -> Self {
        Self { path, running: Mutex::default() }
    }

    pub(crate) fn add(&self, pid: i32, name: &str) {
        let line = format!("{pid} {} {name}", leftovers::start_time(pid).unwrap_or_default());
        self.change(|running| drop(running.insert(pid, line)));
    }

    pub(crate) fn remove(&self, pid: i32) {
        self.change(|running| drop(running.remove(&pid)));
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<i32, String>)) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut running);
        let lines: String = running.values().map(|line| format!("{line}\n")).collect();
        // The file is for the case that this process is killed; without it, everything else still works.
        drop(write_private(&self.path, lines.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn two_worlds_never_share_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = State::open(Some(folder.path())).unwrap();
        assert!(matches!(State::open(Some(folder.path())), Err(WorldError::FolderInUse(_))));
        drop(first);
        State::open(Some(folder.path())).unwrap();
    }

    #[test]
    fn the_state_of_an_earlier_world_is_deleted_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let foreign = folder.path().join("letter");
        fs::write(&foreign, "dear").unwrap();
        assert!(matches!(State::open(Some(folder.path())), Err(WorldError::NotAWorld(_))));
        assert!(foreign.exists());
        fs::remove_file(foreign).unwrap();

        let earlier = State::open(Some(folder.path())).unwrap();
        let seed = earlier.write("tee/seed", "old").unwrap();
        drop(earlier);
        State::open(Some(folder.path())).unwrap();
        assert!(!seed.exists());
    }

    #[test]
    fn abandoned_folders_are_found_by_name_and_content() {
        let temporary = tempfile::tempdir().unwrap();
        let folders = [
            ("postern-a", "pids", 0o711),
            ("postern-b", "other", 0o711),
            ("postern-c", "pids", 0o777),
            ("else", "pids", 0o711),
        ];
        for (name, file, mode) in folders {
            let folder = temporary.path().join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join(file), "").unwrap();
            fs::set_permissions(folder, Permissions::from_mode(mode)).unwrap();
        }
        symlink(temporary.path().join("else"), temporary.path().join("postern-d")).unwrap();
        assert_eq!(abandoned(temporary.path()), [temporary.path().join("postern-a")]);
    }

    #[test]
    fn of_a_killed_world_logs_stay_and_of_a_failed_one_everything() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let folder = temporary.path().join(name);
            let state = State::open(Some(&folder)).unwrap();
            fs::write(state.log("gateway"), "it began").unwrap();
            (state.write("tee/seed", "old").unwrap(), state.log("gateway"), state)
        };
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let (killed, failed, alive) = (folder("postern-killed"), folder("postern-failed"), folder("postern-alive"));
        for state in [&killed.2, &alive.2] {
            state.pids().add(i32::try_from(child.id()).unwrap(), "sleeper");
        }
        failed.2.pids().remove(0);
        let folders = [&killed, &failed, &alive].map(|(_, _, state)| state.root().to_owned());
        drop((killed.2, failed.2));
        bury(&folders[2]);
        assert!(alive.0.exists() && child.try_wait().unwrap().is_none(), "nobody's who still runs is touched");
        bury(&folders[0]);
        assert!(!child.wait().unwrap().success());
        assert_eq!([killed.0, killed.1].map(|file| file.exists()), [false, true]);
        assert!(!abandoned(temporary.path()).contains(&folders[0]), "and it is not looked at again");
        bury(&folders[1]);
        assert_eq!([failed.0, failed.1].map(|file| file.exists()), [true, true]);
    }

    #[test]
    fn a_lock_that_leads_elsewhere_harms_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let victim = tempfile::NamedTempFile::new().unwrap();
        fs::write(&victim, "kept").unwrap();
        symlink(victim.path(), folder.path().join(LOCK)).unwrap();
        assert!(matches!(State::open(Some(folder.path())), Err(WorldError::File { .. })));
        assert_eq!(fs::read_to_string(victim).unwrap(), "kept");
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(State::open(Some(folder.path())), Err(WorldError::NotOurs(_))));
    }

    #[test]
    fn a_written_file_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(Some(folder.path())).unwrap();
        let path = state.write("tenant/secret", "s").unwrap();
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_pid_file_lists_what_runs() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(Some(folder.path())).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        state.pids().add(own, "test");
        let lines = fs::read_to_string(state.path("pids")).unwrap();
        assert!(lines.starts_with(&format!("{own} ")) && lines.ends_with(" test\n"), "{lines}");
        state.pids().remove(own);
        assert_eq!(fs::read_to_string(state.path("pids")).unwrap(), "");
    }

    #[test]
    fn a_copy_keeps_folders_links_and_modes() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("bin")).unwrap();
        fs::write(from.join("bin/tool"), "x").unwrap();
        fs::set_permissions(from.join("bin/tool"), Permissions::from_mode(0o755)).unwrap();
        symlink("tool", from.join("bin/link")).unwrap();
        copy_tree(&from, &to).unwrap();
        assert_eq!(fs::read_link(to.join("bin/link")).unwrap(), Path::new("tool"));
        assert_eq!(fs::metadata(to.join("bin/tool")).unwrap().permissions().mode() & 0o777, 0o755);
    }
}
