//! An upload as it comes in: chunks to bytes, bytes to a hash, a module to the version of a function.

use sha2::{Digest, Sha256};
use tonic::Code;
use wattle_core::control::{FunctionKind, FunctionOptions, FunctionVersion};
use wattle_core::ids::ModuleHash;
use wattle_core::limits::{CPU_BUDGET_MAX, GUEST_MEMORY_BYTES_MAX, MODULE_BYTES};
use wattle_wasm::{Module, World};

use super::loader::PrepareError;

/// The largest chunk is a message; the first allocation need not be larger than a usual module.
const FIRST_ALLOCATION: usize = 256 << 10;

/// A module that is being received.
#[derive(Debug)]
pub(crate) struct Upload {
    bytes: Vec<u8>,
    digest: Sha256,
    expected: Option<ModuleHash>,
}

/// A module that was received.
#[derive(Debug)]
pub(crate) struct UploadedModule {
    pub(crate) hash: ModuleHash,
    pub(crate) bytes: Vec<u8>,
}

/// What the uploader asks for, beside the bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// Empty when the module has one function only.
    pub(crate) export: &'a str,
    pub(crate) options: &'a FunctionOptions,
    /// Wall time, in milliseconds since 1970-01-01T00:00:00Z.
    pub(crate) uploaded_ms: u64,
}

/// Why an upload became no version of a function.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    #[error("the module has more than the {MODULE_BYTES} bytes allowed")]
    TooLarge,
    #[error("the bytes received have the digest {found}, the header says {expected}")]
    WrongDigest { expected: ModuleHash, found: ModuleHash },
    #[error("the module has no function {export:?}, it has {offered:?}")]
    NoSuchExport { export: String, offered: Vec<String> },
    #[error("the module has several functions, say which: {offered:?}")]
    ExportNeeded { offered: Vec<String> },
    #[error("a CPU budget of {found_ms} ms is not between 1 ms and {} ms", CPU_BUDGET_MAX.as_millis())]
    CpuBudget { found_ms: u128 },
    #[error("{found} bytes of memory are not between 64 KiB and {GUEST_MEMORY_BYTES_MAX} bytes")]
    Memory { found: u64 },
    #[error(transparent)]
    Prepare(#[from] PrepareError),
}

impl UploadError {
    /// Whose fault it is, in gRPC's words.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::TooLarge
            | Self::WrongDigest { .. }
            | Self::NoSuchExport { .. }
            | Self::ExportNeeded { .. }
            | Self::CpuBudget { .. }
            | Self::Memory { .. } => Code::InvalidArgument,
            Self::Prepare(error) => error.code(),
        }
    }

    /// A stable word, for programs.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge => "TOO_LARGE",
            Self::WrongDigest { .. } => "MODULE_DIGEST_MISMATCH",
            Self::NoSuchExport { .. } => "EXPORT_NOT_FOUND",
            Self::ExportNeeded { .. } => "EXPORT_REQUIRED",
            Self::CpuBudget { .. } | Self::Memory { .. } => "INVALID_OPTIONS",
            Self::Prepare(error) => error.reason(),
        }
    }
}

impl Upload {
    pub(crate) fn new(expected: Option<ModuleHash>) -> Self {
        Self { bytes: Vec::with_capacity(FIRST_ALLOCATION), digest: Sha256::new(), expected }
    }

    pub(crate) fn push(&mut self, chunk: &[u8]) -> Result<(), UploadError> {
        if self.bytes.len() + chunk.len() > MODULE_BYTES {
            return Err(UploadError::TooLarge);
        }
        self.digest.update(chunk);
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<UploadedModule, UploadError> {
        let hash = ModuleHash(self.digest.finalize().into());
        match self.expected {
            Some(expected) if expected != hash => Err(UploadError::WrongDigest { expected, found: hash }),
            Some(_) | None => Ok(UploadedModule { hash, bytes: self.bytes }),
        }
    }
}

/// Options that a function may have.
pub(crate) fn check_options(options: &FunctionOptions) -> Result<(), UploadError> {
    const PAGE: u64 = 64 << 10;
    if options.cpu_budget.as_millis() == 0 || options.cpu_budget > CPU_BUDGET_MAX {
        return Err(UploadError::CpuBudget { found_ms: options.cpu_budget.as_millis() });
    }
    if !(PAGE..=GUEST_MEMORY_BYTES_MAX as u64).contains(&options.memory_bytes) {
        return Err(UploadError::Memory { found: options.memory_bytes });
    }
    Ok(())
}

/// The version that a function gets by this upload; its number is up to the control state.
pub(crate) fn version_of(
    uploaded: &UploadedModule,
    module: &Module,
    wanted: Wanted<'_>,
) -> Result<FunctionVersion, UploadError> {
    check_options(wanted.options)?;
    let functions = module.functions();
    let offered = || functions.iter().map(|facts| facts.name.clone()).collect();
    let place = match (wanted.export, functions) {
        ("", [_]) => 0,
        ("", _) => return Err(UploadError::ExportNeeded { offered: offered() }),
        (export, functions) => functions
            .iter()
            .position(|facts| facts.name == export)
            .ok_or_else(|| UploadError::NoSuchExport { export: export.to_owned(), offered: offered() })?,
    };
    let facts = &functions[place];
    Ok(FunctionVersion {
        number: 0,
        module: uploaded.hash,
        size_bytes: uploaded.bytes.len() as u64,
        export: facts.name.clone(),
        export_index: u32::try_from(place).expect("a manifest has at most 64 functions"),
        kind: match module.world() {
            World::EntryProcessor => FunctionKind::EntryProcessor,
            World::SimpleEntryProcessor => FunctionKind::SimpleEntryProcessor,
        },
        read_only: facts.read_only,
        deterministic: facts.deterministic,
        uploaded_ms: wanted.uploaded_ms,
        options: wanted.options.clone(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn chunks_add_up_to_the_hash_of_the_whole() {
        let whole = b"a module in three chunks";
        let expected = ModuleHash(Sha256::digest(whole).into());
        let mut upload = Upload::new(Some(expected));
        for chunk in whole.chunks(10) {
            upload.push(chunk).unwrap();
        }
        let uploaded = upload.finish().unwrap();
        assert_eq!((uploaded.hash, uploaded.bytes.as_slice()), (expected, &whole[..]));
    }

    #[test]
    fn a_wrong_digest_is_refused() {
        let error = Upload::new(Some(ModuleHash([7; 32]))).finish().unwrap_err();
        assert_eq!(error.reason(), "MODULE_DIGEST_MISMATCH");
        assert!(error.to_string().contains(&"07".repeat(32)), "{error}");
    }

    #[test]
    fn an_upload_ends_at_the_limit() {
        let mut upload = Upload::new(None);
        upload.push(&vec![0; MODULE_BYTES]).unwrap();
        assert_eq!(upload.push(&[0]).unwrap_err().reason(), "TOO_LARGE");
    }

    #[test]
    fn options_have_bounds() {
        let check = |cpu_budget, memory_bytes, expected: Option<&str>| {
            let options = FunctionOptions { cpu_budget, memory_bytes, ..FunctionOptions::default() };
            let found = check_options(&options).map_err(|error| error.to_string());
            assert_eq!(found.err().as_deref(), expected);
        };
        let ten = Duration::from_millis(10);
        check(Duration::from_millis(100), 64 << 20, None);
        check(Duration::from_millis(1), 64 << 10, None);
        check(
            Duration::from_millis(101),
            16 << 20,
            Some("a CPU budget of 101 ms is not between 1 ms and 100 ms"),
        );
        check(
            Duration::from_micros(999),
            16 << 20,
            Some("a CPU budget of 0 ms is not between 1 ms and 100 ms"),
        );
        check(
            ten,
            (64 << 20) + 1,
            Some("67108865 bytes of memory are not between 64 KiB and 67108864 bytes"),
        );
        check(ten, 65_535, Some("65535 bytes of memory are not between 64 KiB and 67108864 bytes"));
    }
}
