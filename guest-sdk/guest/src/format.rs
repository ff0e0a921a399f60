//! How values, arguments and responses are written as bytes: one unit type per format.
//!
//! In JSON and MessagePack an argument of no bytes is read as `null`, and a response that would be `null` is
//! sent as no bytes: so `()` and `None` cost nothing, and callers without an argument need not write one.

#[cfg(feature = "json")]
mod json;
#[cfg(feature = "messagepack")]
mod messagepack;
#[cfg(feature = "postcard")]
mod postcard;
mod raw;

use std::fmt::Display;

#[cfg(feature = "json")]
pub use json::Json;
#[cfg(feature = "messagepack")]
pub use messagepack::{MessagePack, MessagePackError};
#[cfg(feature = "postcard")]
pub use postcard::{Postcard, PostcardError};
pub use raw::{FromRaw, Raw, RawError, ToRaw};

/// A way to write values as bytes.
pub trait Format: Copy {
    /// For messages.
    const NAME: &'static str;
    /// What `()` and `None` are written as.
    const NOTHING: &'static [u8];
}

/// Reads a `T`, which may borrow from the bytes.
pub trait Decode<'a, T>: Format {
    /// Why bytes are not a `T`.
    type Error: Display;

    /// Reads all of the bytes.
    ///
    /// # Errors
    /// When they are not a `T`, or more than one.
    fn decode(bytes: &'a [u8]) -> Result<T, Self::Error>;
}

/// Writes a `T`.
pub trait Encode<T: ?Sized>: Format {
    /// Why a `T` cannot be written.
    type Error: Display;

    /// Appends the bytes. After an error some of them may have been appended.
    ///
    /// # Errors
    /// When the format has no form for the value.
    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), Self::Error>;
}
