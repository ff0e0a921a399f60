//! Uploaded functions, between the services and the engine: an upload becomes a module ([`Upload`], [`Loader`]), a
//! name leads to what runs under it ([`Catalog`]), a compute thread runs it ([`GuestThread`]), and one that keeps
//! being stopped is suspended ([`Breaker`](breaker::Breaker)). What functions there are is decided by
//! `wattle_core::control`; this follows it. It knows no partitions: it turns request frames into replies.

mod breaker;
mod catalog;
mod fetch;
mod files;
mod loader;
mod metrics;
mod pace;
#[cfg(test)]
mod tests;
mod thread;
mod upload;

pub(crate) use breaker::TOO_OFTEN;
pub(crate) use catalog::{ActiveFunction, Catalog, NotCallable, Tripped};
pub(crate) use fetch::{Elsewhere, fetch, stored_elsewhere};
pub(crate) use files::{FileError, ModuleFiles};
pub(crate) use loader::{Loader, PrepareError};
pub(crate) use metrics::{FunctionMetrics, RunBy};
pub(crate) use thread::{GuestThread, Stopped};
pub(crate) use upload::{Upload, UploadError, UploadedModule, Wanted, version_of};
