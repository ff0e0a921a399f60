//! Functions: names that point to one of their uploaded versions.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{ModuleExport, ModuleHash};
use crate::limits::{CPU_BUDGET, FUNCTION_VERSIONS, GUEST_MEMORY_BYTES};

/// What a function does, by the world that its module implements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FunctionKind {
    /// World `entry-processor`: batches in packed frames.
    EntryProcessor,
    /// World `simple-entry-processor`: one typed entry at a time.
    SimpleEntryProcessor,
}

/// How a function is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionOptions {
    /// CPU time for one entry.
    pub cpu_budget: Duration,
    /// Linear memory of an instance, in bytes.
    pub memory_bytes: u64,
    /// A new instance for every call.
    pub fresh_instances: bool,
}

impl Default for FunctionOptions {
    fn default() -> Self {
        Self { cpu_budget: CPU_BUDGET, memory_bytes: GUEST_MEMORY_BYTES as u64, fresh_instances: false }
    }
}

/// One upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionVersion {
    /// From 1, in the order of uploads.
    pub number: u32,
    /// The module.
    pub module: ModuleHash,
    /// The module's size as uploaded, in bytes.
    pub size_bytes: u64,
    /// Which of the module's functions.
    pub export: String,
    /// Its place in the module's manifest.
    pub export_index: u32,
    /// Its world.
    pub kind: FunctionKind,
    /// Its effects are refused.
    pub read_only: bool,
    /// As its manifest says.
    pub deterministic: bool,
    /// Wall time of the upload, in milliseconds since 1970-01-01T00:00:00Z.
    pub uploaded_ms: u64,
    /// How to run it.
    pub options: FunctionOptions,
}

impl FunctionVersion {
    /// Whether this is what it runs.
    #[must_use]
    pub fn runs(&self, export: &ModuleExport) -> bool {
        (self.module, &self.export) == (export.module, &export.name)
    }
}

/// Whether calls run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FunctionState {
    /// Nothing was promoted yet.
    Staged,
    /// Calls run this version.
    Active(u32),
    /// Calls are refused: this version misbehaved.
    Suspended {
        /// The version.
        version: u32,
        /// For people.
        because: String,
    },
}

/// A function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Whether calls run, and what.
    pub state: FunctionState,
    /// What a rollback goes back to.
    pub previous: Option<u32>,
    /// By rising number; at most [`FUNCTION_VERSIONS`].
    pub versions: Vec<FunctionVersion>,
    pub(super) next_number: u32,
}

impl Function {
    pub(super) fn new() -> Self {
        Self { state: FunctionState::Staged, previous: None, versions: Vec::new(), next_number: 1 }
    }

    /// The number of the version that the name points to.
    #[must_use]
    pub fn active(&self) -> Option<u32> {
        match &self.state {
            FunctionState::Staged => None,
            FunctionState::Active(version) | FunctionState::Suspended { version, .. } => Some(*version),
        }
    }

    /// Whether calls are refused because the active version misbehaved.
    pub(super) fn is_suspended(&self) -> bool {
        matches!(self.state, FunctionState::Suspended { .. })
    }

    /// A version by its number.
    #[must_use]
    pub fn version(&self, number: u32) -> Option<&FunctionVersion> {
        self.versions.iter().find(|version| version.number == number)
    }

    /// The number under which this upload is known, now or already.
    pub(super) fn add(&mut self, upload: &FunctionVersion) -> u32 {
        let same = |known: &&FunctionVersion| {
            known.module == upload.module && known.export == upload.export && known.options == upload.options
        };
        if let Some(known) = self.versions.iter().find(same) {
            return known.number;
        }
        if self.versions.len() == FUNCTION_VERSIONS {
            let kept = [self.active(), self.previous];
            let oldest = self.versions.iter().position(|version| !kept.contains(&Some(version.number)));
            self.versions.remove(oldest.expect("there are more versions than the two that are kept"));
        }
        let number = self.next_number;
        self.next_number += 1;
        self.versions.push(FunctionVersion { number, ..upload.clone() });
        number
    }

    pub(super) fn promote(&mut self, number: u32) {
        if let Some(active) = self.active().filter(|active| *active != number) {
            self.previous = Some(active);
        }
        self.state = FunctionState::Active(number);
    }
}
