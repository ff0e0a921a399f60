//! Modules and their compiled artifacts in the data directory: `<hash>.wasm`, kept as long as a function refers to
//! it, and `<hash>.<engine key>.cwasm`, which can always be made again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wattle_core::ids::ModuleHash;
use wattle_wasm::compile::{Artifact, StoredArtifactError};

use crate::control::{DataDirectory, write_durably};

/// Hexadecimal digits of a hash.
const HASH_DIGITS: usize = 64;

/// Where modules are kept.
#[derive(Debug)]
pub(crate) struct ModuleFiles {
    modules: PathBuf,
    artifacts: PathBuf,
    /// Ends the names of this engine's artifacts.
    artifact_ending: String,
}

/// Why a stored module is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("{path} is damaged: its bytes have another digest")]
    Damaged { path: PathBuf },
}

impl ModuleFiles {
    /// The modules of a data directory, which must stay open as long as this is used. Removes the artifacts of other
    /// engines.
    pub(crate) fn open(directory: &DataDirectory, engine_key: &str) -> Result<Self, FileError> {
        let (modules, artifacts) = (directory.modules(), directory.artifacts());
        let artifact_ending = format!(".{engine_key}.cwasm");
        let is_foreign = |name: &str| !name.ends_with(&artifact_ending);
        remove_files(&artifacts, is_foreign).map_err(|error| io_error(&artifacts, error))?;
        Ok(Self { modules, artifacts, artifact_ending })
    }

    pub(crate) fn save_module(&self, hash: &ModuleHash, bytes: &[u8]) -> Result<(), FileError> {
        save(&self.module(hash), bytes)
    }

    pub(crate) fn has_module(&self, hash: &ModuleHash) -> bool {
        self.module(hash).is_file()
    }

    pub(crate) fn load_module(&self, hash: &ModuleHash) -> Result<Vec<u8>, FileError> {
        let path = self.module(hash);
        let bytes = fs::read(&path).map_err(|error| io_error(&path, error))?;
        if Sha256::digest(&bytes).as_slice() != hash.0 {
            return Err(FileError::Damaged { path });
        }
        Ok(bytes)
    }

    pub(crate) fn save_artifact(&self, hash: &ModuleHash, artifact: &Artifact) -> Result<(), FileError> {
        save(&self.artifact(hash), &artifact.to_bytes())
    }

    /// Nothing when there is none, or none that can be used: then it is to be made again.
    pub(crate) fn load_artifact(&self, hash: &ModuleHash) -> Option<Artifact> {
        let path = self.artifact(hash);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "artifact unreadable");
                return None;
            }
        };
        // SAFETY: the directory is this node's alone (the data directory is locked, and nobody else's to read or
        // write), and only `save_artifact` writes there.
        match unsafe { Artifact::from_bytes(&bytes) } {
            Ok(artifact) => Some(artifact),
            Err(error @ (StoredArtifactError::Damaged | StoredArtifactError::Version(_))) => {
                tracing::warn!(path = %path.display(), %error, "artifact dropped");
                None
            }
        }
    }

    /// Removes modules that no function refers to any more, with their artifacts.
    pub(crate) fn remove_unused(&self, is_used: impl Fn(&ModuleHash) -> bool) -> Result<(), FileError> {
        // Names without a hash are those of files that are not complete yet.
        let is_unused = |name: &str| hash_in(name).is_some_and(|hash| !is_used(&hash));
        for directory in [&self.modules, &self.artifacts] {
            remove_files(directory, is_unused).map_err(|error| io_error(directory, error))?;
        }
        Ok(())
    }

    fn module(&self, hash: &ModuleHash) -> PathBuf {
        self.modules.join(format!("{hash}.wasm"))
    }

    fn artifact(&self, hash: &ModuleHash) -> PathBuf {
        self.artifacts.join(format!("{hash}{}", self.artifact_ending))
    }
}

fn io_error(path: &Path, error: io::Error) -> FileError {
    FileError::Io { path: path.to_owned(), error }
}

fn save(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_durably(path, bytes).map_err(|error| io_error(path, error))
}

fn remove_files(directory: &Path, is_unwanted: impl Fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&is_unwanted) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn hash_in(name: &str) -> Option<ModuleHash> {
    let (hash, ending) = name.split_at_checked(HASH_DIGITS)?;
    if ending == ".wasm" || ending.ends_with(".cwasm") { ModuleHash::parse(hash) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(bytes: &[u8]) -> ModuleHash {
        ModuleHash(Sha256::digest(bytes).into())
    }

    fn with_files(check: impl FnOnce(&DataDirectory, &ModuleFiles)) {
        let directory = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(directory.path()).unwrap();
        let files = ModuleFiles::open(&directory, "engine").unwrap();
        check(&directory, &files);
    }

    #[test]
    fn a_module_comes_back_and_damage_is_noticed() {
        with_files(|_, files| {
            let hash = hash_of(b"module");
            files.save_module(&hash, b"module").unwrap();
            assert_eq!(files.load_module(&hash).unwrap(), b"module");
            fs::write(files.module(&hash), b"modulf").unwrap();
            assert!(matches!(files.load_module(&hash), Err(FileError::Damaged { .. })));
            assert!(matches!(files.load_module(&hash_of(b"another")), Err(FileError::Io { .. })));
        });
    }

    #[test]
    fn an_artifact_that_is_missing_or_damaged_is_to_be_made_again() {
        with_files(|_, files| {
            let hash = hash_of(b"module");
            assert_eq!(files.load_artifact(&hash), None);
            fs::write(files.artifact(&hash), [7; 100]).unwrap();
            assert_eq!(files.load_artifact(&hash), None);
        });
    }

    #[test]
    fn what_is_not_used_is_removed_and_so_are_the_artifacts_of_other_engines() {
        with_files(|directory, files| {
            let (used, unused) = (hash_of(b"used"), hash_of(b"unused"));
            files.save_module(&used, b"used").unwrap();
            files.save_module(&unused, b"unused").unwrap();
            let unfinished = directory.modules().join(format!("{unused}.wasm.7.wattle-unfinished"));
            fs::write(&unfinished, b"un").unwrap();
            fs::write(files.artifact(&used), [7; 100]).unwrap();
            files.remove_unused(|hash| *hash == used).unwrap();
            assert!(matches!(files.load_module(&unused), Err(FileError::Io { .. })));
            assert_eq!(files.load_module(&used).unwrap(), b"used");
            assert!(unfinished.exists(), "another thread may be writing it");
            assert!(files.artifact(&used).exists());
            ModuleFiles::open(directory, "new engine").unwrap();
            assert!(!files.artifact(&used).exists());
        });
    }
}
