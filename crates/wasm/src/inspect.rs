//! What an uploaded module is: checked before a compiler sees it. A core module with a component type becomes
//! a component; what is left must export one of the worlds that the grid runs, and import nothing that the grid
//! does not give. Runs in the compiler's child, for the bytes are hostile until it is through.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use wasmparser::{Encoding, Validator, WasmFeatures};
use wit_component::ComponentEncoder;

use crate::limits::MODULE_BYTES;
use crate::stop::cut;
use crate::structure::{Countable, Structure};

/// The world that a module implements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum World {
    /// Batches of entries as packed frames.
    EntryProcessor,
    /// One typed entry at a time.
    SimpleEntryProcessor,
}

/// Why a module is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ModuleError {
    /// More bytes than a module may have.
    #[error("the module has more than the {limit} bytes allowed")]
    TooLarge {
        /// Bytes allowed.
        limit: usize,
    },
    /// Some other kind of file.
    #[error("this is not WebAssembly: a module begins with the bytes 00 61 73 6d")]
    NotWasm,
    /// It begins like WebAssembly and goes on otherwise.
    #[error("the module is malformed at byte {offset}: {message}")]
    Malformed {
        /// Where the fault is.
        offset: usize,
        /// In the parser's words.
        message: String,
    },
    /// It has more of something than the grid compiles.
    #[error("the module has {found} {what}, {limit} are allowed")]
    TooMuch {
        /// What there is too much of.
        what: Countable,
        /// How much there is, at least.
        found: u64,
        /// How much there may be.
        limit: u64,
    },
    /// A core module whose toolchain left no description of its interface in it.
    #[error(
        "the core module has no component type: build it with the guest SDK or wit-bindgen for one of the worlds of wattle:grid, and keep its custom sections"
    )]
    NoComponentType,
    /// A core module that does not fit the description of its interface.
    #[error("the core module does not fit its component type: {message}")]
    NotItsType {
        /// In the words of the component tools.
        message: String,
    },
    /// It wants something from its host that no function gets.
    #[error("the module imports {name}, which the grid does not provide")]
    UnknownImport {
        /// The import's name.
        name: String,
    },
    /// It implements no world that the grid runs.
    #[error(
        "the module implements no known world: it must export manifest and either process or process-entry, it exports {exports:?}"
    )]
    NoKnownWorld {
        /// What it exports.
        exports: Vec<String>,
    },
    /// It keeps resources in the host's memory, which nothing bounds.
    #[error("the module defines resources of its own, which functions may not")]
    OwnResources,
}

/// A module that may be compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected<'a> {
    /// The component: the uploaded bytes, or what was made of them.
    pub component: Cow<'a, [u8]>,
    /// The world that it implements.
    pub world: World,
    /// Whether it frees what it returns as soon as the call is over, so that a reply must be copied.
    pub frees_replies: bool,
}

/// Checks an uploaded module and makes a component of it.
pub fn inspect(bytes: &[u8]) -> Result<Inspected<'_>, ModuleError> {
    let component = match screen(bytes)? {
        Encoding::Component => Cow::Borrowed(bytes),
        Encoding::Module => Cow::Owned(componentize(bytes)?),
    };
    let structure = Structure::read(&component)?;
    if matches!(component, Cow::Borrowed(_)) {
        validate(bytes)?;
    }
    if structure.makes_resources {
        return Err(ModuleError::OwnResources);
    }
    if let Some(name) = structure.imports.iter().find(|name| !is_provided(name)) {
        return Err(ModuleError::UnknownImport { name: name.clone() });
    }
    let world = world_of(&structure.exports)?;
    Ok(Inspected { component, world, frees_replies: structure.has_post_return })
}

/// What can be said from the first bytes, and the number of them.
pub(crate) fn screen(bytes: &[u8]) -> Result<Encoding, ModuleError> {
    if bytes.len() > MODULE_BYTES {
        return Err(ModuleError::TooLarge { limit: MODULE_BYTES });
    }
    match bytes.get(..8) {
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => Ok(Encoding::Module),
        Some([0, b'a', b's', b'm', _, 0, 1, 0]) => Ok(Encoding::Component),
        Some([0, b'a', b's', b'm', rest @ ..]) => {
            Err(ModuleError::Malformed { offset: 4, message: format!("unknown version {rest:02x?}") })
        }
        Some(_) | None => Err(ModuleError::NotWasm),
    }
}

fn componentize(bytes: &[u8]) -> Result<Vec<u8>, ModuleError> {
    let structure = Structure::read(bytes)?;
    validate(bytes)?;
    if !structure.has_component_type {
        return Err(ModuleError::NoComponentType);
    }
    // Names of the component model have a colon or begin with `$` or `[`; anything else is the interface of some
    // other host, and the component tools would say so in more words.
    if let Some(name) = structure.core_imports.iter().find(|name| !name.contains([':', '$', '['])) {
        return Err(ModuleError::UnknownImport { name: name.clone() });
    }
    let encode = || ComponentEncoder::default().validate(true).module(bytes)?.encode();
    encode().map_err(|error| ModuleError::NotItsType { message: cut(&format!("{error:#}"), 1000) })
}

fn validate(bytes: &[u8]) -> Result<(), ModuleError> {
    let features = WasmFeatures::default() - WasmFeatures::THREADS - WasmFeatures::MEMORY64;
    Validator::new_with_features(features).validate_all(bytes)?;
    Ok(())
}

impl From<wasmparser::BinaryReaderError> for ModuleError {
    fn from(error: wasmparser::BinaryReaderError) -> Self {
        Self::Malformed { offset: error.offset(), message: cut(error.message(), 1000) }
    }
}

/// Whether an import of this name may be asked for. Whether it exists in all its parts shows when the module is
/// linked.
fn is_provided(name: &str) -> bool {
    let ours = ["wattle:grid/log@0.1.", "wattle:grid/types@0.1."];
    let wasi = ["cli", "clocks", "filesystem", "io", "random", "sockets"];
    if ours.iter().any(|prefix| name.starts_with(prefix)) {
        return true;
    }
    let Some((package, rest)) = name.strip_prefix("wasi:").and_then(|name| name.split_once('/')) else {
        return false;
    };
    wasi.contains(&package) && rest.contains("@0.2.")
}

fn world_of(exports: &[String]) -> Result<World, ModuleError> {
    let has = |name: &str| exports.iter().any(|export| export == name);
    if has("manifest") && has("process") {
        Ok(World::EntryProcessor)
    } else if has("manifest") && has("process-entry") {
        Ok(World::SimpleEntryProcessor)
    } else {
        let shown = exports.iter().take(20).map(|export| cut(export, 200)).collect();
        Err(ModuleError::NoKnownWorld { exports: shown })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_modules_and_components_from_the_rest() {
        assert_eq!(screen(b"\0asm\x01\0\0\0"), Ok(Encoding::Module));
        assert_eq!(screen(b"\0asm\x0d\0\x01\0"), Ok(Encoding::Component));
        assert_eq!(screen(b"#!/bin/sh\n"), Err(ModuleError::NotWasm));
        assert_eq!(screen(b""), Err(ModuleError::NotWasm));
        assert!(matches!(screen(b"\0asm\x07\0\0\0"), Err(ModuleError::Malformed { offset: 4, .. })));
    }

    #[test]
    fn a_module_may_have_as_many_bytes_as_the_limit_and_no_more() {
        let mut bytes = b"\0asm\x01\0\0\0".to_vec();
        bytes.resize(MODULE_BYTES, 0);
        assert_eq!(screen(&bytes), Ok(Encoding::Module));
        bytes.push(0);
        assert_eq!(screen(&bytes), Err(ModuleError::TooLarge { limit: MODULE_BYTES }));
    }

    #[test]
    fn only_the_log_and_wasi_are_provided() {
        for name in ["wattle:grid/log@0.1.0", "wattle:grid/types@0.1.3", "wasi:io/poll@0.2.6"] {
            assert!(is_provided(name), "{name}");
        }
        for name in
            ["wattle:grid/store@0.1.0", "wasi:http/types@0.2.0", "wasi:io/poll@0.3.0", "evil:x/y", "f"]
        {
            assert!(!is_provided(name), "{name}");
        }
    }
}
