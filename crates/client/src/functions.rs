//! Functions: names that point to uploaded modules.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use sha2::{Digest, Sha256};
use wattle_proto::v1;

use crate::call::Caller;
use crate::error::Error;
use crate::wire::to_wire;

/// Modules travel in pieces of this size.
const CHUNK_BYTES: usize = 256 << 10;

/// Uploads, promotes, describes and deletes functions. From [`Client::functions`](crate::Client::functions).
///
/// ```no_run
/// # async fn example(client: wattle_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use wattle_client::UploadOptions;
///
/// let module = std::fs::read("counter.wasm")?;
/// client.functions().upload("counter", module, &UploadOptions::new()).await?;
/// let invoked = client.raw_map("visits").invoke("counter", "home", "1").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Functions {
    caller: Arc<Caller>,
}

/// How an uploaded module runs, and whether calls run it at once.
#[derive(Debug, Clone, Default)]
pub struct UploadOptions {
    wire: v1::UploadHeader,
}

impl UploadOptions {
    /// The module's only function, with the grid's default limits, run by calls as soon as it is ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Which of the module's functions, when it has several.
    #[must_use]
    pub fn export(mut self, export: impl Into<String>) -> Self {
        self.wire.export = export.into();
        self
    }

    /// Upload only: the name goes on pointing to what it points to, until [`Functions::promote`].
    #[must_use]
    pub fn stage(mut self) -> Self {
        self.wire.stage = true;
        self
    }

    /// CPU time for one entry, 10 ms by default, at most 100 ms.
    #[must_use]
    pub fn cpu_budget(mut self, budget: Duration) -> Self {
        self.limits().cpu_budget = Some(to_wire(budget));
        self
    }

    /// Linear memory of an instance, 16 MiB by default.
    #[must_use]
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        self.limits().memory_bytes = bytes;
        self
    }

    /// A new instance for every call, instead of warm ones.
    #[must_use]
    pub fn fresh_instances(mut self) -> Self {
        self.limits().fresh_instances = true;
        self
    }

    fn limits(&mut self) -> &mut v1::FunctionOptions {
        self.wire.options.get_or_insert_default()
    }
}

/// A function after an upload.
#[derive(Debug, Clone)]
pub struct Uploaded {
    /// The function with all its versions.
    pub function: v1::Function,
    /// The number of the version that this upload made, or found when the same bytes had been uploaded before.
    pub version: u32,
}

/// Why a member does not run what a function stands for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRunning {
    /// It does not say anything.
    #[error("it does not answer")]
    Silent,
    /// Calls that come to it are refused.
    #[error("{problem}")]
    NotLoaded {
        /// In its own words.
        problem: String,
    },
    /// What was decided last has not come to it yet.
    #[error("it runs version {version} still")]
    Behind {
        /// That calls run there.
        version: u32,
    },
    /// It has just heard of the function, or has yet to.
    #[error("it has yet to load version {version}")]
    Loading {
        /// That calls are to run.
        version: u32,
    },
}

/// What keeps a member from running the active version, as it said when it was asked [about the function](crate::Client::status_about).
/// None if it runs it, or if there is none to run.
pub fn not_running(function: &v1::Function, member: &v1::Member) -> Option<NotRunning> {
    if function.state() != v1::FunctionState::Active {
        return None;
    }
    if let Some(refused) = member.not_loaded.iter().find(|problem| problem.function == function.name) {
        return Some(NotRunning::NotLoaded { problem: refused.problem.clone() });
    }
    match (&member.report, &member.runs) {
        (None, _) => Some(NotRunning::Silent),
        (Some(_), Some(runs)) if runs.number == function.active => None,
        (Some(_), Some(runs)) => Some(NotRunning::Behind { version: runs.number }),
        (Some(_), None) => Some(NotRunning::Loading { version: function.active }),
    }
}

impl Functions {
    pub(crate) fn new(caller: Arc<Caller>) -> Self {
        Self { caller }
    }

    /// Uploads a module and points the name to it, unless it is only staged, or suspended and the same as before.
    ///
    /// # Errors
    /// [`Error::ModuleRefused`] says why the grid cannot run the bytes.
    pub async fn upload(
        &self,
        name: &str,
        module: impl Into<Bytes>,
        options: &UploadOptions,
    ) -> Result<Uploaded, Error> {
        let module = module.into();
        let sha256 = hex(&Sha256::digest(&module));
        let header = v1::UploadHeader { name: name.to_owned(), sha256, ..options.wire.clone() };
        // The same bytes make the same version, so an upload may be repeated.
        let answer = self.caller.repeat(|attempt| {
            let messages = messages(header.clone(), module.clone());
            async move { attempt.functions().upload(attempt.request(stream::iter(messages))).await }
        });
        let answer = answer.await?;
        Ok(Uploaded { function: known(answer.function)?, version: answer.version })
    }

    /// All functions.
    pub async fn list(&self) -> Result<Vec<v1::Function>, Error> {
        let answer = self.caller.read(|attempt| async move {
            attempt.functions().list_functions(attempt.request(v1::ListFunctionsRequest {})).await
        });
        Ok(answer.await?.functions)
    }

    /// A function's versions and figures.
    ///
    /// # Errors
    /// [`Error::FunctionNotFound`]
    pub async fn describe(&self, name: &str) -> Result<(v1::Function, v1::FunctionStatistics), Error> {
        let answer = self.caller.read(|attempt| {
            let message = v1::DescribeFunctionRequest { name: name.to_owned() };
            async move { attempt.functions().describe_function(attempt.request(message)).await }
        });
        let answer = answer.await?;
        Ok((known(answer.function)?, answer.statistics.unwrap_or_default()))
    }

    /// Points the name to one of its versions. Also lifts a suspension.
    ///
    /// # Errors
    /// [`Error::FunctionNotFound`]
    pub async fn promote(&self, name: &str, version: u32) -> Result<v1::Function, Error> {
        let answer = self.caller.define(|attempt| {
            let message = v1::PromoteRequest { name: name.to_owned(), version };
            async move { attempt.functions().promote(attempt.request(message)).await }
        });
        known(answer.await?.function)
    }

    /// [`Functions::promote`] of the newest version.
    pub async fn promote_newest(&self, name: &str) -> Result<v1::Function, Error> {
        self.promote(name, 0).await
    }

    /// Points the name back to the version that was active before.
    ///
    /// # Errors
    /// [`Error::FunctionNotFound`]
    pub async fn rollback(&self, name: &str) -> Result<v1::Function, Error> {
        let answer = self.caller.define(|attempt| {
            let message = v1::RollbackRequest { name: name.to_owned() };
            async move { attempt.functions().rollback(attempt.request(message)).await }
        });
        known(answer.await?.function)
    }

    /// Deletes a function and its modules.
    ///
    /// # Errors
    /// [`Error::FunctionNotFound`]
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        let answer = self.caller.define(|attempt| {
            let message = v1::DeleteFunctionRequest { name: name.to_owned() };
            async move { attempt.functions().delete_function(attempt.request(message)).await }
        });
        answer.await.map(drop)
    }
}

/// The header, then the module in pieces that share its memory.
fn messages(header: v1::UploadHeader, module: Bytes) -> impl Iterator<Item = v1::UploadRequest> + Send {
    use v1::upload_request::Part;
    let starts = (0..module.len()).step_by(CHUNK_BYTES);
    let chunks = starts.map(move |start| module.slice(start..module.len().min(start + CHUNK_BYTES)));
    let parts = std::iter::once(Part::Header(header)).chain(chunks.map(Part::Chunk));
    parts.map(|part| v1::UploadRequest { part: Some(part) })
}

fn hex(digest: &[u8]) -> String {
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").expect("a string grows");
        text
    })
}

fn known(function: Option<v1::Function>) -> Result<v1::Function, Error> {
    function.ok_or(Error::MalformedAnswer { what: "the answer describes the function" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_travels_whole_after_its_header() {
        let module = Bytes::from_iter((0..CHUNK_BYTES * 2 + 1).map(|n| n as u8));
        let header = v1::UploadHeader { name: "f".into(), ..Default::default() };
        let mut parts = messages(header.clone(), module.clone()).map(|message| message.part.unwrap());
        assert_eq!(parts.next(), Some(v1::upload_request::Part::Header(header)));
        let chunks = parts.map(|part| match part {
            v1::upload_request::Part::Chunk(chunk) => chunk,
            v1::upload_request::Part::Header(_) => panic!("a second header"),
        });
        let chunks = chunks.collect::<Vec<_>>();
        assert_eq!(chunks.iter().map(Bytes::len).collect::<Vec<_>>(), [CHUNK_BYTES, CHUNK_BYTES, 1]);
        assert_eq!(chunks.concat(), module);
    }

    #[test]
    fn a_digest_is_lower_case_hexadecimal() {
        assert_eq!(
            hex(&Sha256::digest(b"")),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
