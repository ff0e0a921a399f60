//! The files of the SDK that the binary carries. A test compares the list with what is there.

/// One line per file: where it goes, below `wattle-sdk/`, and where it comes from, below the root.
macro_rules! carried {
    ($($to:literal from $from:literal),+ $(,)?) => {
        &[$(($to, include_bytes!(concat!("../../../", $from)))),+]
    };
}

/// The manifests as they are in the workspace, by the folder that each goes to.
pub(super) const SDK_MANIFESTS: [(&str, &str); 3] = [
    ("frame", include_str!("../../../crates/frame/Cargo.toml")),
    ("guest", include_str!("../../../guest-sdk/guest/Cargo.toml")),
    ("macros", include_str!("../../../guest-sdk/macros/Cargo.toml")),
];

pub(super) const SDK_FILES: &[(&str, &[u8])] = carried![
    "frame/src/bytes.rs" from "crates/frame/src/bytes.rs",
    "frame/src/error.rs" from "crates/frame/src/error.rs",
    "frame/src/guest.rs" from "crates/frame/src/guest.rs",
    "frame/src/guest/reply.rs" from "crates/frame/src/guest/reply.rs",
    "frame/src/guest/request.rs" from "crates/frame/src/guest/request.rs",
    "frame/src/lib.rs" from "crates/frame/src/lib.rs",
    "frame/src/pipeline.rs" from "crates/frame/src/pipeline.rs",
    "frame/src/pipeline/facts.rs" from "crates/frame/src/pipeline/facts.rs",
    "frame/src/pipeline/operation.rs" from "crates/frame/src/pipeline/operation.rs",
    "frame/src/pipeline/operations.rs" from "crates/frame/src/pipeline/operations.rs",
    "frame/src/pipeline/result.rs" from "crates/frame/src/pipeline/result.rs",
    "frame/src/pipeline/results.rs" from "crates/frame/src/pipeline/results.rs",
    "guest/component-types/entry-processor.bin" from "guest-sdk/guest/component-types/entry-processor.bin",
    "guest/src/call.rs" from "guest-sdk/guest/src/call.rs",
    "guest/src/context.rs" from "guest-sdk/guest/src/context.rs",
    "guest/src/entry.rs" from "guest-sdk/guest/src/entry.rs",
    "guest/src/exports.rs" from "guest-sdk/guest/src/exports.rs",
    "guest/src/exports/arena.rs" from "guest-sdk/guest/src/exports/arena.rs",
    "guest/src/exports/canonical.rs" from "guest-sdk/guest/src/exports/canonical.rs",
    "guest/src/exports/heap.rs" from "guest-sdk/guest/src/exports/heap.rs",
    "guest/src/exports/panics.rs" from "guest-sdk/guest/src/exports/panics.rs",
    "guest/src/failure.rs" from "guest-sdk/guest/src/failure.rs",
    "guest/src/format.rs" from "guest-sdk/guest/src/format.rs",
    "guest/src/format/json.rs" from "guest-sdk/guest/src/format/json.rs",
    "guest/src/format/messagepack.rs" from "guest-sdk/guest/src/format/messagepack.rs",
    "guest/src/format/postcard.rs" from "guest-sdk/guest/src/format/postcard.rs",
    "guest/src/format/raw.rs" from "guest-sdk/guest/src/format/raw.rs",
    "guest/src/function.rs" from "guest-sdk/guest/src/function.rs",
    "guest/src/lib.rs" from "guest-sdk/guest/src/lib.rs",
    "guest/src/log.rs" from "guest-sdk/guest/src/log.rs",
    "guest/src/testing.rs" from "guest-sdk/guest/src/testing.rs",
    "macros/src/expand.rs" from "guest-sdk/macros/src/expand.rs",
    "macros/src/lib.rs" from "guest-sdk/macros/src/lib.rs",
    "macros/src/options.rs" from "guest-sdk/macros/src/options.rs",
    "macros/src/signature.rs" from "guest-sdk/macros/src/signature.rs",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// What of the SDK is carried: all sources, and of the component types the one that the SDK uses.
    const SOURCES: [(&str, &str); 3] = [
        ("frame/src", "crates/frame/src"),
        ("guest/src", "guest-sdk/guest/src"),
        ("macros/src", "guest-sdk/macros/src"),
    ];

    fn add_files(folder: &Path, carried_as: &str, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{carried_as}/{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                add_files(&entry.path(), &name, found);
            } else {
                found.insert(name);
            }
        }
    }

    #[test]
    fn every_file_of_the_sdk_is_carried_and_no_other() {
        let mut found = BTreeSet::from(["guest/component-types/entry-processor.bin".to_owned()]);
        for (carried_as, folder) in SOURCES {
            add_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), carried_as, &mut found);
        }
        let carried: BTreeSet<String> = SDK_FILES.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(carried, found);
    }
}
