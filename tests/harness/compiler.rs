//! A compiler that can be held up.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use super::wire::eventually;

/// Compiles only while it is let; what waits ends when this is dropped.
pub(crate) struct HeldCompiler {
    directory: TempDir,
    gate: File,
}

impl HeldCompiler {
    pub(crate) fn held() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let gate = File::create(path("gate")).unwrap();
        let (asked, locked, wattle) = (path("asked"), path("gate"), env!("CARGO_BIN_EXE_wattle"));
        let script =
            format!("#!/bin/sh\n: > '{asked}'\nflock --shared '{locked}' true && exec '{wattle}' \"$@\"\n");
        fs::write(path("compiler"), script).unwrap();
        fs::set_permissions(path("compiler"), Permissions::from_mode(0o700)).unwrap();
        let compiler = Self { directory, gate };
        compiler.hold();
        compiler
    }

    /// What is to run it.
    pub(crate) fn program(&self) -> PathBuf {
        self.directory.path().join("compiler")
    }

    pub(crate) fn hold(&self) {
        flock(&self.gate, FlockOperation::LockExclusive).unwrap();
        let asked = self.directory.path().join("asked");
        if asked.exists() {
            fs::remove_file(asked).unwrap();
        }
    }

    pub(crate) fn release(&self) {
        flock(&self.gate, FlockOperation::Unlock).unwrap();
    }

    /// Waits until there is something to compile.
    pub(crate) async fn is_asked(&self) {
        let asked = self.directory.path().join("asked");
        eventually(async || asked.exists().then_some(())).await;
    }
}
