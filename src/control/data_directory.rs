//! [`DataDirectory`]: the one place on disk that a node owns. It makes the directory, keeps other nodes out of it, refuses what
//! a newer version wrote, and knows the names in it; what the files hold is known to those who write them.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::warn;

/// The layout of the directory that this version writes. It rises when an older version could not read what this one writes.
const FORMAT: u32 = 1;
/// Ends the names of files that are not complete yet. What a crash leaves of them is removed at the next start.
const UNFINISHED: &str = ".wattle-unfinished";

/// A data directory that this process owns until the value is dropped.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    path: PathBuf,
    /// No node has been started in it to the point where it says its format.
    is_new: bool,
    /// The kernel releases the lock with the last handle, so also when the process is killed.
    lock: File,
}

impl Drop for DataDirectory {
    /// A child process that is just being started has a handle, too, until it runs its own program: it is not waited for.
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(path = %self.path.display(), %error, "the data directory stays locked until this process ends");
        }
    }
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataDirectoryError {
    /// It cannot be made or written to.
    #[error("cannot write to the data directory {}", path.display())]
    Unwritable {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another node has it open.
    #[error("the data directory {} is in use by {}: every node needs one of its own", path.display(), holder(*pid))]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process that holds it; `None` if it has not said so yet.
        pid: Option<u32>,
    },
    /// A newer version of Wattle wrote it.
    #[error(
        "the data directory {} has format {found}, this version reads up to {supported}: use a newer version",
        path.display()
    )]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        supported: u32,
    },
    /// A node was started in it, and its control log is not there any more.
    #[error(
        "the control log {} is missing: put it back from a copy, or remove {} to begin without maps and functions",
        path.display(), format.display()
    )]
    ControlLogMissing {
        /// The control log.
        path: PathBuf,
        /// What says that there was one.
        format: PathBuf,
    },
    /// It cannot be looked into.
    #[error("cannot read {} in the data directory", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Its format is no number.
    #[error("{} holds {found:?} where the number of a format should be", path.display())]
    NoFormat {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: String,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".into(), |pid| format!("process {pid}"))
}

impl DataDirectory {
    /// Takes the directory, which is made if it is missing (with its parents, for this user only). Blocks for some fsyncs.
    ///
    /// # Errors
    /// [`DataDirectoryError`]; what was in the directory is as it was.
    pub(crate) fn open(path: &Path) -> Result<Self, DataDirectoryError> {
        let unwritable = |source| DataDirectoryError::Unwritable { path: path.into(), source };
        create_directory(path).map_err(unwritable)?;
        let lock = lock(path)?;
        let is_new = !has_format(path)?;
        let directory = Self { path: path.into(), is_new, lock };
        directory.check_control_log()?;
        directory.prepare().map_err(unwritable)?;
        Ok(directory)
    }

    /// Whether the control log may be made.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Writes the format, which says from now on that there is a control log.
    pub(super) fn complete(&self) -> io::Result<()> {
        write_durably(&self.format(), format!("{FORMAT}\n").as_bytes())
    }

    /// What the control group has decided: the log of its first generation.
    pub(crate) fn control_log(&self) -> PathBuf {
        self.path.join("control.redb")
    }

    /// The logs of all generations that this node has taken part in, or has begun to, the newest first.
    pub(super) fn control_logs(&self) -> io::Result<Vec<PathBuf>> {
        let mut generations = BTreeSet::from([1]);
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_prefix("control-")?.strip_suffix(".redb")?.parse::<u32>().ok());
            generations.extend(number);
        }
        let first = self.control_log();
        Ok(generations.into_iter().rev().map(|generation| control_log_of(&first, generation)).collect())
    }

    /// Ends the life of the node that the directory is of: the next that is started in it is a new one. What is left of the old one's
    /// control logs is for people.
    pub(super) fn put_control_logs_aside(&self) -> io::Result<()> {
        let missing_is_well = |result: io::Result<()>| match result {
            Err(missing) if missing.kind() == ErrorKind::NotFound => Ok(()),
            result => result,
        };
        // From here on a log may be missing: whoever is stopped half-way is told again that it is forgotten, or has none left.
        missing_is_well(fs::remove_file(self.format()))?;
        sync_parent(&self.format())?;
        for log in self.control_logs()? {
            missing_is_well(fs::rename(&log, log.with_extension("redb.forgotten")))?;
        }
        sync_parent(&self.format())
    }

    /// The directory of modules as they were uploaded.
    pub(crate) fn modules(&self) -> PathBuf {
        self.path.join("modules")
    }

    /// The directory of modules as they were compiled here.
    pub(crate) fn artifacts(&self) -> PathBuf {
        self.path.join("artifacts")
    }

    fn format(&self) -> PathBuf {
        self.path.join("FORMAT")
    }

    fn check_control_log(&self) -> Result<(), DataDirectoryError> {
        let path = self.control_log();
        match path.try_exists() {
            Ok(there) if there || self.is_new => Ok(()),
            Ok(_) => Err(DataDirectoryError::ControlLogMissing { path, format: self.format() }),
            Err(source) => Err(DataDirectoryError::Unreadable { path, source }),
        }
    }

    /// Makes what is missing and removes what a crash has left. Writing the format again proves that the disk takes writes.
    fn prepare(&self) -> io::Result<()> {
        for directory in [self.modules(), self.artifacts()] {
            create_directory(&directory)?;
            remove_unfinished(&directory)?;
        }
        remove_unfinished(&self.path)?;
        if self.is_new { Ok(()) } else { self.complete() }
    }
}

/// The log of a generation, beside that of another.
pub(super) fn control_log_of(other: &Path, generation: u32) -> PathBuf {
    other.with_file_name(match generation {
        1 => "control.redb".to_owned(),
        later => format!("control-{later}.redb"),
    })
}

/// Replaces a file by `bytes`, so that after a crash it holds either all of them or what it held before; durable when this
/// returns. Blocks for two fsyncs. The file is readable by this user only.
///
/// # Errors
/// What the system says. The file is as it was, unless the very last step failed: then it may be either.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = unfinished_name(path)?;
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    };
    if let Err(error) = write() {
        // On a full disk this makes room again.
        match fs::remove_file(&unfinished) {
            Ok(()) => {}
            Err(missing) if missing.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                warn!(path = %unfinished.display(), %error, "unfinished file stays until the next start");
            }
        }
        return Err(error);
    }
    sync_parent(path)
}

/// Makes the entry of `path` in its directory durable.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    };
    File::open(parent)?.sync_all()
}

/// A name beside `path` for what will be renamed to it. No two are the same in the life of a process.
pub(super) fn unfinished_name(path: &Path) -> io::Result<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?.to_string_lossy();
    Ok(path.with_file_name(format!("{name}.{}.{count}{UNFINISHED}", process::id())))
}

fn create_directory(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => return Err(ErrorKind::NotADirectory.into()),
        Err(missing) if missing.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_directory(parent)?;
    }
    DirBuilder::new().mode(0o700).create(path)?;
    sync_parent(path)
}

fn lock(directory: &Path) -> Result<File, DataDirectoryError> {
    let unwritable = |source| DataDirectoryError::Unwritable { path: directory.into(), source };
    let path = directory.join("LOCK");
    let options =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let mut file = options.map_err(unwritable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(unwritable)?;
            return Err(DataDirectoryError::InUse { path: directory.into(), pid: pid.trim().parse().ok() });
        }
        Err(TryLockError::Error(source)) => return Err(unwritable(source)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", process::id())).map_err(unwritable)?;
    Ok(file)
}

/// Whether it says its format, which this version knows.
fn has_format(directory: &Path) -> Result<bool, DataDirectoryError> {
    let path = directory.join("FORMAT");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(DataDirectoryError::Unreadable { path, source }),
    };
    match text.trim().parse() {
        Ok(1..=FORMAT) => Ok(true),
        Ok(0) | Err(_) => Err(DataDirectoryError::NoFormat { path, found: text.trim().into() }),
        Ok(found) => {
            Err(DataDirectoryError::NewerFormat { path: directory.into(), found, supported: FORMAT })
        }
    }
}

fn remove_unfinished(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(UNFINISHED) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_missing_directory_is_made_for_this_user_only() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("var/wattle");
        let directory = DataDirectory::open(&path).unwrap();
        assert_eq!(names(&path), ["LOCK", "artifacts", "modules"]);
        directory.complete().unwrap();
        assert_eq!(fs::read_to_string(path.join("FORMAT")).unwrap(), "1\n");
        for made in [&path, &directory.modules(), &directory.artifacts()] {
            assert_eq!(fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o700, "{}", made.display());
        }
    }

    #[test]
    fn a_directory_has_one_owner_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let first = DataDirectory::open(root.path()).unwrap();
        let error = DataDirectory::open(root.path()).unwrap_err();
        assert!(error.to_string().contains(&format!("in use by process {}", process::id())), "{error}");
        match error {
            DataDirectoryError::InUse { path, pid } => {
                assert_eq!((path.as_path(), pid), (root.path(), Some(process::id())));
            }
            other => panic!("{other:?}"),
        }
        // As a child process has that is being started.
        let _another_handle = first.lock.try_clone().unwrap();
        drop(first);
        DataDirectory::open(root.path()).unwrap();
    }

    #[test]
    fn a_directory_of_a_forgotten_node_is_there_for_a_new_one() {
        let root = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(root.path()).unwrap();
        for log in ["control.redb", "control-2.redb"] {
            fs::write(root.path().join(log), "").unwrap();
        }
        directory.complete().unwrap();
        drop(directory);
        let directory = DataDirectory::open(root.path()).unwrap();
        assert!(!directory.is_new());
        directory.put_control_logs_aside().unwrap();
        drop(directory);
        let directory = DataDirectory::open(root.path()).unwrap();
        assert!(directory.is_new());
        assert_eq!(
            names(root.path()),
            ["LOCK", "artifacts", "control-2.redb.forgotten", "control.redb.forgotten", "modules"]
        );
        directory.put_control_logs_aside().unwrap();
    }

    #[test]
    fn a_newer_format_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("FORMAT"), "2\n").unwrap();
        match DataDirectory::open(root.path()).unwrap_err() {
            DataDirectoryError::NewerFormat { found, supported, .. } => {
                assert_eq!((found, supported), (2, 1))
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(names(root.path()), ["FORMAT", "LOCK"]);
        assert_eq!(fs::read_to_string(root.path().join("FORMAT")).unwrap(), "2\n");
    }

    #[test]
    fn a_format_that_is_no_number_is_refused() {
        for text in ["", "0\n", "one\n", "-1\n", "99999999999\n"] {
            let root = tempfile::tempdir().unwrap();
            fs::write(root.path().join("FORMAT"), text).unwrap();
            match DataDirectory::open(root.path()).unwrap_err() {
                DataDirectoryError::NoFormat { path, found } => {
                    assert_eq!((path, found.as_str()), (root.path().join("FORMAT"), text.trim()));
                }
                other => panic!("{text:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_unwritable_directory_is_named_with_the_reason() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let below = file.join("data");
        for path in [&file, &below] {
            match DataDirectory::open(path).unwrap_err() {
                DataDirectoryError::Unwritable { path: named, source } => {
                    assert_eq!((&named, source.kind()), (path, ErrorKind::NotADirectory));
                }
                other => panic!("{other:?}"),
            }
        }
        // A directory that is there and takes no files, whoever asks.
        match DataDirectory::open(Path::new("/proc")).unwrap_err() {
            DataDirectoryError::Unwritable { path, .. } => assert_eq!(path, Path::new("/proc")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_beside_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("module");
        write_durably(&path, b"one").unwrap();
        write_durably(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(root.path()), ["module"]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_failed_replacement_leaves_nothing_behind() {
        let root = tempfile::tempdir().unwrap();
        let taken = root.path().join("taken");
        fs::create_dir(&taken).unwrap();
        assert_eq!(write_durably(&taken, b"one").unwrap_err().kind(), ErrorKind::IsADirectory);
        assert_eq!(names(root.path()), ["taken"]);
        let missing = root.path().join("missing/file");
        assert_eq!(write_durably(&missing, b"one").unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn what_a_crash_left_unfinished_goes_at_the_next_start() {
        let root = tempfile::tempdir().unwrap();
        let modules = DataDirectory::open(root.path()).unwrap().modules();
        fs::write(modules.join("whole"), "module").unwrap();
        fs::write(unfinished_name(&modules.join("half")).unwrap(), "mod").unwrap();
        fs::write(unfinished_name(&root.path().join("FORMAT")).unwrap(), "").unwrap();
        DataDirectory::open(root.path()).unwrap();
        assert_eq!(names(&modules), ["whole"]);
        assert_eq!(names(root.path()), ["LOCK", "artifacts", "modules"]);
    }

    #[test]
    fn a_complete_directory_must_have_its_control_log() {
        let root = tempfile::tempdir().unwrap();
        // A crash before it was complete is no loss.
        drop(DataDirectory::open(root.path()).unwrap());
        DataDirectory::open(root.path()).unwrap().complete().unwrap();
        match DataDirectory::open(root.path()).unwrap_err() {
            DataDirectoryError::ControlLogMissing { path, format } => {
                assert_eq!(path, root.path().join("control.redb"));
                assert_eq!(format, root.path().join("FORMAT"));
            }
            other => panic!("{other:?}"),
        }
        fs::write(root.path().join("control.redb"), "").unwrap();
        assert!(!DataDirectory::open(root.path()).unwrap().is_new());
    }
}
