//! The call of the world `entry-processor`: one frame in, one frame out.

use wasmtime::Store;
use wasmtime::component::{ComponentType, Func, Lift, TypedFunc, WasmList};

use crate::guest_state::GuestState;
use crate::limits::MESSAGE_BYTES;
use crate::stop::{Stop, cut};

pub(crate) const EXPORT: &str = "process";

pub(crate) type Parameters<'a> = (&'a [u8],);
pub(crate) type CopiedResult = (Result<Vec<u8>, Failure>,);
type LentResult = (Result<WasmList<u8>, Failure>,);

/// The function refuses, with a code for programs and a message for people.
#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Failure {
    pub(crate) code: u32,
    pub(crate) message: String,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::GuestFailure { code: failure.code, message: cut(&failure.message, MESSAGE_BYTES) }
    }
}

/// The reply of a guest that frees it when the call is over.
pub(crate) fn call_copied(
    store: &mut Store<GuestState>,
    function: Func,
    request: &[u8],
) -> wasmtime::Result<Result<Vec<u8>, Failure>> {
    // SAFETY: `Module::load` checked the export's type against these very types.
    let function = unsafe { TypedFunc::<Parameters<'_>, CopiedResult>::new_unchecked(function) };
    let (result,) = function.call(store, (request,))?;
    Ok(result)
}

/// The reply of a guest that leaves it where it is until the next call.
pub(crate) fn call_lent(
    store: &mut Store<GuestState>,
    function: Func,
    request: &[u8],
) -> wasmtime::Result<Result<WasmList<u8>, Failure>> {
    // SAFETY: `Module::load` checked the export's type; a list may be lifted as either of `Vec` and `WasmList`.
    let function = unsafe { TypedFunc::<Parameters<'_>, LentResult>::new_unchecked(function) };
    let (result,) = function.call(store, (request,))?;
    Ok(result)
}
