//! postcard, by the crate of that name.

use std::fmt;

use ::postcard::ser_flavors::Flavor;
use ::postcard::{Error, serialize_with_flavor, take_from_bytes};
use serde::{Deserialize, Serialize};

use super::{Decode, Encode, Format};

/// The compact format postcard, which has no names in it: both sides must know the type (feature `postcard`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Postcard;

/// Why bytes cannot be read as postcard.
#[derive(Debug)]
pub enum PostcardError {
    /// They are not the type that was asked for.
    Decode(Error),
    /// There are more bytes behind the value.
    Trailing(usize),
}

impl fmt::Display for PostcardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decode(error) => error.fmt(f),
            Self::Trailing(count) => write!(f, "there are {count} more bytes behind the value"),
        }
    }
}

impl std::error::Error for PostcardError {}

impl Format for Postcard {
    const NAME: &'static str = "postcard";
    const NOTHING: &'static [u8] = b"";
}

impl<'a, T: Deserialize<'a>> Decode<'a, T> for Postcard {
    type Error = PostcardError;

    #[inline]
    fn decode(bytes: &'a [u8]) -> Result<T, PostcardError> {
        match take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(PostcardError::Trailing(rest.len())),
            Err(error) => Err(PostcardError::Decode(error)),
        }
    }
}

impl<T: Serialize + ?Sized> Encode<T> for Postcard {
    type Error = Error;

    #[inline]
    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), Error> {
        serialize_with_flavor(value, Append(out))
    }
}

/// Writes behind what a buffer holds already.
struct Append<'b>(&'b mut Vec<u8>);

impl Flavor for Append<'_> {
    type Output = ();

    #[inline]
    fn try_extend(&mut self, data: &[u8]) -> Result<(), Error> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    #[inline]
    fn try_push(&mut self, data: u8) -> Result<(), Error> {
        self.0.push(data);
        Ok(())
    }

    fn finalize(self) -> Result<(), Error> {
        Ok(())
    }
}
