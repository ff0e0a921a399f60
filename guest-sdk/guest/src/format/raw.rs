//! Bytes and text as they are.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::str::Utf8Error;

use super::{Decode, Encode, Format};

/// Bytes and text as they are: no serde, no copy unless the type asks for one, and the smallest modules.
///
/// A function that only reads takes `&[u8]` or `&str`; one that writes takes `[u8; N]` (a fixed length, no
/// allocation), `Vec<u8>`, `String` or `Cow<[u8]>` (a copy only when it changes).
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

/// Why bytes are not what a function takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawError {
    /// An array has a length, and this is not it.
    Length {
        /// The array's length in bytes.
        expected: usize,
        /// How many bytes there are.
        found: usize,
    },
    /// Text is UTF-8, and this is not.
    Text(Utf8Error),
}

impl fmt::Display for RawError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { expected, found } => write!(f, "{found} bytes instead of {expected}"),
            Self::Text(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RawError {}

/// A type that [`Raw`] reads.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be read from raw bytes",
    note = "take bytes or text, or another format: `#[entry_processor(format = \"json\")]`"
)]
pub trait FromRaw<'a>: Sized {
    /// Takes the bytes.
    ///
    /// # Errors
    /// When they have the wrong length, or are not text.
    fn from_raw(bytes: &'a [u8]) -> Result<Self, RawError>;
}

/// A type that [`Raw`] writes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be written as raw bytes",
    note = "give bytes or text, or take another format: `#[entry_processor(format = \"json\")]`"
)]
pub trait ToRaw {
    /// The bytes.
    fn as_raw(&self) -> &[u8];
}

impl Format for Raw {
    const NAME: &'static str = "raw bytes";
    const NOTHING: &'static [u8] = b"";
}

impl<'a, T: FromRaw<'a>> Decode<'a, T> for Raw {
    type Error = RawError;

    #[inline]
    fn decode(bytes: &'a [u8]) -> Result<T, RawError> {
        T::from_raw(bytes)
    }
}

impl<T: ToRaw + ?Sized> Encode<T> for Raw {
    type Error = Infallible;

    #[inline]
    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), Infallible> {
        out.extend_from_slice(value.as_raw());
        Ok(())
    }
}

impl<'a> FromRaw<'a> for &'a [u8] {
    #[inline]
    fn from_raw(bytes: &'a [u8]) -> Result<Self, RawError> {
        Ok(bytes)
    }
}

impl<'a> FromRaw<'a> for Cow<'a, [u8]> {
    #[inline]
    fn from_raw(bytes: &'a [u8]) -> Result<Self, RawError> {
        Ok(Cow::Borrowed(bytes))
    }
}

impl FromRaw<'_> for Vec<u8> {
    #[inline]
    fn from_raw(bytes: &[u8]) -> Result<Self, RawError> {
        Ok(bytes.to_vec())
    }
}

impl<const N: usize> FromRaw<'_> for [u8; N] {
    #[inline]
    fn from_raw(bytes: &[u8]) -> Result<Self, RawError> {
        bytes.try_into().map_err(|_| RawError::Length { expected: N, found: bytes.len() })
    }
}

impl<'a> FromRaw<'a> for &'a str {
    #[inline]
    fn from_raw(bytes: &'a [u8]) -> Result<Self, RawError> {
        str::from_utf8(bytes).map_err(RawError::Text)
    }
}

impl<'a> FromRaw<'a> for String {
    #[inline]
    fn from_raw(bytes: &'a [u8]) -> Result<Self, RawError> {
        <&str>::from_raw(bytes).map(String::from)
    }
}

impl FromRaw<'_> for () {
    #[inline]
    fn from_raw(bytes: &[u8]) -> Result<Self, RawError> {
        <[u8; 0]>::from_raw(bytes).map(|_| ())
    }
}

impl<T: ToRaw + ?Sized> ToRaw for &T {
    #[inline]
    fn as_raw(&self) -> &[u8] {
        (**self).as_raw()
    }
}

impl ToRaw for () {
    #[inline]
    fn as_raw(&self) -> &[u8] {
        &[]
    }
}

impl<const N: usize> ToRaw for [u8; N] {
    #[inline]
    fn as_raw(&self) -> &[u8] {
        self
    }
}

macro_rules! to_raw {
    ($($written:ty),+) => {
        $(impl ToRaw for $written {
            #[inline]
            fn as_raw(&self) -> &[u8] {
                self.as_ref()
            }
        })+
    };
}

to_raw!([u8], Vec<u8>, Cow<'_, [u8]>, str, String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_have_one_length() {
        assert_eq!(<Raw as Decode<[u8; 2]>>::decode(b"ab"), Ok(*b"ab"));
        let error = <Raw as Decode<[u8; 2]>>::decode(b"abc").unwrap_err();
        assert_eq!(error, RawError::Length { expected: 2, found: 3 });
    }

    #[test]
    fn text_is_checked() {
        assert_eq!(<Raw as Decode<&str>>::decode("wäre".as_bytes()), Ok("wäre"));
        assert!(matches!(<Raw as Decode<String>>::decode(b"\xff"), Err(RawError::Text(_))));
    }

    #[test]
    fn nothing_is_no_bytes() {
        assert_eq!(<Raw as Decode<()>>::decode(b""), Ok(()));
        assert!(<Raw as Decode<()>>::decode(b"x").is_err());
        assert_eq!(().as_raw(), b"");
    }
}
