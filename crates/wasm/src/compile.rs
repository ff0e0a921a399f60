//! From uploaded bytes to machine code, in a process of its own: a compiler fed with hostile input may take all
//! the time and memory there is, or crash, and then it is this process that ends. The parent ([`Compiler`]) writes
//! limits and module to the child's standard input and reads the verdict from its standard output.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::inspect::{ModuleError, World};

mod child;
mod compiler;

pub use child::{child_main, compile_here};
pub use compiler::{CompileLimits, Compiler};

const DIGEST_BYTES: usize = 32;

/// A compiled module. Its machine code is run as it is, so it comes from a [`Compiler`], or from a place that is
/// trusted as much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The world that it implements.
    pub(crate) world: World,
    /// Whether a reply must be copied because the guest frees it when the call is over.
    pub(crate) frees_replies: bool,
    /// For an engine of the same key, and no other.
    pub(crate) machine_code: Vec<u8>,
}

/// Why stored bytes are no artifact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoredArtifactError {
    /// They are not what was stored.
    #[error("the stored artifact is damaged")]
    Damaged,
    /// They are whole, and of another version.
    #[error("the stored artifact is not of this version: {0}")]
    Version(postcard::Error),
}

impl Artifact {
    /// The world that the module implements.
    pub fn world(&self) -> World {
        self.world
    }

    /// Bytes to be stored: a digest, then the artifact.
    pub fn to_bytes(&self) -> Vec<u8> {
        let body = postcard::to_allocvec(self).expect("numbers and bytes can always be encoded");
        let mut bytes = Sha256::digest(&body).to_vec();
        bytes.extend_from_slice(&body);
        bytes
    }

    /// An artifact from stored bytes. Damage is noticed; forgery is not.
    ///
    /// # Safety
    ///
    /// The bytes must come from [`Artifact::to_bytes`], by way of a place that nobody else can write to.
    pub unsafe fn from_bytes(bytes: &[u8]) -> Result<Self, StoredArtifactError> {
        let Some((digest, body)) = bytes.split_at_checked(DIGEST_BYTES) else {
            return Err(StoredArtifactError::Damaged);
        };
        if Sha256::digest(body).as_slice() != digest {
            return Err(StoredArtifactError::Damaged);
        }
        postcard::from_bytes(body).map_err(StoredArtifactError::Version)
    }
}

/// Why a module was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// It is not a module that the grid runs.
    #[error(transparent)]
    Refused(#[from] ModuleError),
    /// The compiler does not take it.
    #[error("the module does not compile: {message}")]
    Failed {
        /// In the compiler's words.
        message: String,
    },
    /// It takes too long.
    #[error("compiling the module takes longer than {limits:?} allow")]
    Time {
        /// What it may take.
        limits: CompileLimits,
    },
    /// It takes too much memory.
    #[error("compiling the module takes more memory than {limits:?} allow")]
    Memory {
        /// What it may take.
        limits: CompileLimits,
    },
    /// The compiler crashed over it.
    #[error("the compiler crashed ({status}): {stderr}")]
    Crash {
        /// How the child ended.
        status: std::process::ExitStatus,
        /// The last it said.
        stderr: String,
    },
    /// The child could not be started or talked to.
    #[error("the compiler's process cannot be run: {0}")]
    Child(#[from] std::io::Error),
    /// What the child answered makes no sense.
    #[error("the compiler's process answered something else: {0}")]
    Answer(postcard::Error),
}

/// What the child says.
#[derive(Debug, Serialize, Deserialize)]
enum Verdict {
    Compiled(Artifact),
    Refused(ModuleError),
    Failed { message: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_artifact_comes_back_and_damage_is_noticed() {
        let artifact =
            Artifact { world: World::EntryProcessor, frees_replies: true, machine_code: vec![1, 2, 3] };
        let mut bytes = artifact.to_bytes();
        // SAFETY: nothing runs these bytes.
        assert_eq!(unsafe { Artifact::from_bytes(&bytes) }, Ok(artifact));
        *bytes.last_mut().unwrap() ^= 1;
        // SAFETY: nothing runs these bytes.
        assert_eq!(unsafe { Artifact::from_bytes(&bytes) }, Err(StoredArtifactError::Damaged));
        // SAFETY: nothing runs these bytes.
        assert_eq!(unsafe { Artifact::from_bytes(&bytes[..20]) }, Err(StoredArtifactError::Damaged));
    }
}
