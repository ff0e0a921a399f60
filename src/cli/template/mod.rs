//! What `wattle function new` writes: a crate with a function and its tests, and the SDK beside it, so that it builds
//! anywhere. The binary carries all of it.

mod carried;
mod manifest;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use carried::{SDK_FILES, SDK_MANIFESTS};

/// Longer names make file names that some systems refuse.
const MAX_NAME_BYTES: usize = 64;

/// Names that the crate cannot have, because a crate that it depends on has them.
const TAKEN_NAMES: [&str; 4] = ["serde", "wattle-frame", "wattle-guest", "wattle-guest-macros"];

const CRATE_FILES: [(&str, &str); 5] = [
    ("Cargo.toml", include_str!("../../../guest-sdk/template/Cargo.toml.in")),
    ("README.md", include_str!("../../../guest-sdk/template/README.md.in")),
    ("src/lib.rs", include_str!("../../../guest-sdk/template/lib.rs.in")),
    ("wattle-sdk/rustfmt.toml", include_str!("../../../guest-sdk/template/sdk-rustfmt.toml.in")),
    (".gitignore", include_str!("../../../guest-sdk/template/gitignore.in")),
];

/// Why no crate was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error(
        "{name:?} cannot be a crate's name: it is 1 to {MAX_NAME_BYTES} of A-Z a-z 0-9 - _, and the first is a letter"
    )]
    InvalidName { name: String },
    #[error("the SDK has a crate called {name}: take another name")]
    TakenName { name: String },
    #[error("{} is there already: choose another folder with --path, or remove it", path.display())]
    Exists { path: PathBuf },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// Writes a new crate into a folder that does not exist yet, or is empty.
pub(crate) fn write_new_function(directory: &Path, name: &str) -> Result<(), TemplateError> {
    check_name(name)?;
    check_vacant(directory)?;
    for (path, template) in CRATE_FILES {
        write(&directory.join(path), fill(template, name).as_bytes())?;
    }
    let sdk = directory.join("wattle-sdk");
    for (folder, text) in SDK_MANIFESTS {
        write(&sdk.join(folder).join("Cargo.toml"), manifest::standalone(text).as_bytes())?;
    }
    for (path, bytes) in SDK_FILES {
        write(&sdk.join(path), bytes)?;
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), TemplateError> {
    let begins_well = name.starts_with(|first: char| first.is_ascii_alphabetic());
    let goes_on_well = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if !begins_well || !goes_on_well || name.len() > MAX_NAME_BYTES {
        return Err(TemplateError::InvalidName { name: name.to_owned() });
    }
    if TAKEN_NAMES.contains(&name.replace('_', "-").as_str()) {
        return Err(TemplateError::TakenName { name: name.to_owned() });
    }
    Ok(())
}

fn check_vacant(directory: &Path) -> Result<(), TemplateError> {
    let is_vacant = match fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if is_vacant { Ok(()) } else { Err(TemplateError::Exists { path: directory.to_owned() }) }
}

fn fill(template: &str, name: &str) -> String {
    template.replace("FUNCTION-NAME", name).replace("FUNCTION_FILE", &name.replace('-', "_"))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), TemplateError> {
    let failed = |source| TemplateError::Write { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(path, bytes).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_at_the_limit_and_one_past_it() {
        assert!(check_name("order-total_2").is_ok());
        assert!(check_name(&"n".repeat(MAX_NAME_BYTES)).is_ok());
        let longer = "n".repeat(MAX_NAME_BYTES + 1);
        for name in ["", "2nd", "-x", "a.b", "größe", "a b", longer.as_str()] {
            assert!(matches!(check_name(name), Err(TemplateError::InvalidName { .. })), "{name}");
        }
        assert!(matches!(check_name("wattle_guest"), Err(TemplateError::TakenName { .. })));
    }

    #[test]
    fn nothing_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("notes.txt"), "mine").unwrap();
        let refused = write_new_function(folder.path(), "count");
        assert!(matches!(refused, Err(TemplateError::Exists { .. })));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let file = folder.path().join("notes.txt");
        assert!(matches!(write_new_function(&file, "count"), Err(TemplateError::Exists { .. })));
    }

    #[test]
    fn no_placeholder_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let crate_folder = folder.path().join("order-total");
        write_new_function(&crate_folder, "order-total").unwrap();
        let read = |path: &str| fs::read_to_string(crate_folder.join(path)).unwrap();
        assert!(read("Cargo.toml").contains("name = \"order-total\""));
        assert!(read("README.md").contains("release/order_total.wasm"));
        for (path, _) in CRATE_FILES {
            assert!(!read(path).contains("FUNCTION"), "{path}");
        }
    }
}
