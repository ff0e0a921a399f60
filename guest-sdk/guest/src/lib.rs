//! Functions that run inside a Wattle grid, next to the data.
//!
//! It owns what a function sees — its [`Entry`], the formats of its values, the log — and hides how entries
//! come and go: many at once, as packed frames (`wattle-frame`), through exports that this crate writes itself
//! instead of generated bindings, because that is several times faster.
//!
//! See [`entry_processor`] for how to begin.

extern crate self as wattle_guest;

mod call;
mod context;
mod entry;
mod failure;
pub mod format;
mod function;
pub mod log;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

#[cfg(any(target_arch = "wasm32", test))]
mod exports;

pub use context::{Context, GridTime};
pub use entry::Entry;
pub use failure::Failure;
pub use function::{Function, Processor};

/// Makes an entry processor of a function.
///
/// The function takes the entry and at most one argument, and gives back a response, or a [`Result`] of a response
/// and a [`Failure`] (or an error that becomes one). What it leaves in the entry when it returns is what the grid
/// stores; when it fails or panics, nothing has changed. [`export!`] lists the functions of a module.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use wattle_guest::{Entry, Failure, entry_processor};
///
/// #[derive(Serialize, Deserialize)]
/// struct Account {
///     balance: u64,
/// }
///
/// #[entry_processor]
/// fn debit(account: &mut Entry<Account>, amount: u64) -> Result<u64, Failure> {
///     let Some(account) = account.get_mut() else {
///         return Err(Failure::new(1, "there is no such account"));
///     };
///     match account.balance.checked_sub(amount) {
///         Some(left) => account.balance = left,
///         None => return Err(Failure::new(2, format!("the balance is only {}", account.balance))),
///     }
///     Ok(account.balance)
/// }
///
/// /// It takes `&Entry`, so that the grid knows that it changes nothing.
/// #[entry_processor]
/// fn balance(account: &Entry<Account>) -> Option<u64> {
///     account.get().map(|account| account.balance)
/// }
///
/// wattle_guest::export!(debit, balance);
///
/// // In a test, without a grid:
/// use wattle_guest::{format::Json, testing::TestMap};
///
/// let mut accounts = TestMap::new(Json);
/// accounts.put("alice", &Account { balance: 100 });
/// assert_eq!(accounts.invoke::<debit, u64>("alice", &30), Ok(70));
/// assert_eq!(accounts.invoke::<debit, u64>("alice", &80).unwrap_err().code(), 2);
/// assert_eq!(accounts.invoke::<balance, Option<u64>>("alice", &()), Ok(Some(70)));
/// assert_eq!(accounts.invoke::<balance, Option<u64>>("bob", &()), Ok(None));
/// ```
///
/// # Options
///
/// - `format = "json"` (default), `"messagepack"`, `"postcard"` or `"raw"`: how the value, the argument and the
///   response are written as bytes. The first three take any type of [`serde`](https://serde.rs), each behind a
///   feature of this crate (`json` is on by default); `raw` takes bytes and text as they are ([`format::Raw`]).
/// - `name = "…"`: what the grid calls the function. By default its name in Rust.
/// - `deterministic`: the same entry, argument and time always give the same answer.
///
/// # What to know
///
/// - A value, an argument or a response that the format cannot read or write is a [`Failure`] of that entry, with a
///   code of this crate, and changes nothing.
/// - serde leaves out fields that a type doesn't have, so they would be lost when the value is written again. Say
///   `#[serde(deny_unknown_fields)]`, or keep them in a `#[serde(flatten)]` map.
/// - Types may borrow from the frame, which saves copies: `Entry<Note<'_>>`, an argument of type `&str`.
/// - The grid may run the function on many entries in one call, in an instance that earlier calls have used: a static
///   keeps its value from call to call, but nobody knows whose calls, and for how long.
/// - A panic stops the function for the whole batch; its message and place are in the log of the node. It counts
///   against the function, which is suspended after too many. To refuse an entry, return a failure.
///
/// # A crate of functions
///
/// `wattle function new` writes one. By hand, `Cargo.toml` needs no more than this, and `cargo build --release
/// --target wasm32-unknown-unknown` makes the module:
///
/// ```toml
/// [lib]
/// crate-type = ["cdylib"]
///
/// [profile.release]
/// lto = true
/// codegen-units = 1
/// panic = "abort"
/// strip = "debuginfo"
/// ```
///
/// Names stay in the module, so that a trap says in which of your functions it was; `strip = true` takes them out. The
/// crate brings a small allocator for modules: without its feature `allocator`, they have Rust's own, or yours.
pub use wattle_guest_macros::entry_processor;

/// Lists the functions that a module offers, once per crate.
///
/// ```
/// # use wattle_guest::{Entry, entry_processor};
/// #[entry_processor(format = "raw")]
/// fn length(text: &Entry<&str>) -> String {
///     text.get().map_or(0, |text| text.len()).to_string()
/// }
///
/// wattle_guest::export!(length);
/// ```
///
/// Two functions of one name don't compile:
///
/// ```compile_fail
/// # use wattle_guest::{Entry, entry_processor};
/// #[entry_processor(name = "touch")]
/// fn one(entry: &Entry<u64>) {}
///
/// #[entry_processor(name = "touch")]
/// fn other(entry: &Entry<u64>) {}
///
/// wattle_guest::export!(one, other);
/// ```
#[macro_export]
macro_rules! export {
    ($($processor:ty),+ $(,)?) => {
        const _: () = {
            const FUNCTIONS: &[$crate::Function] = &[$(<$processor as $crate::Processor>::FUNCTION),+];
            $crate::__private::check_names(FUNCTIONS);

            #[cfg(target_arch = "wasm32")]
            #[unsafe(link_section = "component-type:wattle:grid:entry-processor")]
            #[used]
            static COMPONENT_TYPE: [u8; $crate::__private::COMPONENT_TYPE.len()] =
                *$crate::__private::COMPONENT_TYPE;

            #[cfg(target_arch = "wasm32")]
            #[unsafe(export_name = "manifest")]
            extern "C" fn manifest() -> *const $crate::__private::Manifest {
                static INFOS: [$crate::__private::FunctionInfo; FUNCTIONS.len()] =
                    $crate::__private::FunctionInfo::of(FUNCTIONS);
                static MANIFEST: $crate::__private::Manifest = $crate::__private::Manifest::of(&INFOS);
                &MANIFEST
            }

            #[cfg(target_arch = "wasm32")]
            #[unsafe(export_name = "process")]
            unsafe extern "C" fn process(frame: *const u8, length: usize) -> *const u8 {
                // SAFETY: the host passes what it allocated with `cabi_realloc` and filled.
                unsafe { $crate::__private::process(FUNCTIONS, frame, length) }
            }

            #[cfg(target_arch = "wasm32")]
            #[unsafe(export_name = "cabi_realloc")]
            unsafe extern "C" fn reallocate(
                old: *mut u8,
                old_length: usize,
                align: usize,
                length: usize,
            ) -> *mut u8 {
                // SAFETY: the host follows the canonical ABI, whose contract this is.
                unsafe { $crate::__private::reallocate(old, old_length, align, length) }
            }
        };
    };
}

/// What the macros' code calls. Not for use by hand: it may change in any version.
#[doc(hidden)]
pub mod __private {
    pub use crate::call::{Answers, Call};
    #[cfg(target_arch = "wasm32")]
    pub use crate::exports::{COMPONENT_TYPE, FunctionInfo, Manifest, process, reallocate};
    pub use crate::function::{check_names, function};
}
