//! The example guests: which crates they are, and how they are built.

use crate::command::{cargo, program, root, run};
use crate::failure::Failure;
use crate::prerequisites::{self, GUEST_TARGET};
use crate::test_log::TestLog;
use std::path::PathBuf;

/// The module of a guest in Rust, below the root, after a build.
pub(crate) fn module(package: &str) -> PathBuf {
    let file = format!("{}.wasm", package.replace('-', "_"));
    ["target", GUEST_TARGET, "guest", &file].iter().collect()
}

/// The package names of the guests in Rust.
pub(crate) fn crates() -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for folder in folders()? {
        let manifest = folder.join("Cargo.toml");
        if !manifest.is_file() {
            continue;
        }
        let text = std::fs::read_to_string(&manifest).map_err(Failure::file(&manifest))?;
        if text.contains("cdylib") {
            names.extend(package_name(&text).map(str::to_owned));
        }
    }
    Ok(names)
}

/// Builds the guests in Rust for the grid.
pub(crate) fn build_rust(packages: &[String]) -> Result<(), Failure> {
    let mut build = cargo(&["build", "--locked", "--profile", "guest", "--target", GUEST_TARGET]);
    for package in packages {
        build.args(["--package", package]);
    }
    run(&mut build)
}

/// Builds every guest; one whose compiler is missing and cannot be installed counts as skipped.
pub(crate) fn build(log: &mut TestLog) -> Result<(), Failure> {
    build_rust(&crates()?)?;
    for folder in folders()? {
        let script = folder.join("build.sh");
        if !script.is_file() {
            continue;
        }
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        if has_c_compiler() {
            run(program("bash", &[]).arg(&script))?;
        } else {
            log.skip(&format!("examples/{name}"), "clang and lld are not installed");
        }
    }
    Ok(())
}

fn has_c_compiler() -> bool {
    prerequisites::debian_program("clang", &["clang", "lld"])
        && prerequisites::debian_program("wasm-ld", &["clang", "lld"])
}

/// The folders of `examples/`, by name.
fn folders() -> Result<Vec<PathBuf>, Failure> {
    let examples = root().join("examples");
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(&examples).map_err(Failure::file(&examples))? {
        let path = entry.map_err(Failure::file(&examples))?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}

fn package_name(manifest: &str) -> Option<&str> {
    let line = manifest.lines().find_map(|line| line.strip_prefix("name = \""))?;
    line.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_name_is_the_first_name_of_a_manifest() {
        let manifest = "[package]\nname = \"example-counter\"\n\n[lib]\nname = \"counter\"\n";
        assert_eq!(package_name(manifest), Some("example-counter"));
    }
}
