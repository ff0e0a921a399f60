//! MessagePack, by rmp-serde.

use std::fmt;

use rmp_serde::{Deserializer, decode, encode};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::{Decode, Encode, Format};

/// MessagePack, with structs as maps that have the fields' names (feature `messagepack`).
#[derive(Clone, Copy, Debug, Default)]
pub struct MessagePack;

/// Why bytes cannot be read as MessagePack.
#[derive(Debug)]
pub enum MessagePackError {
    /// They are not the type that was asked for.
    Decode(decode::Error),
    /// There is more behind the value.
    Trailing,
}

impl fmt::Display for MessagePackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decode(error) => error.fmt(f),
            Self::Trailing => f.write_str("there are more bytes behind the value"),
        }
    }
}

impl std::error::Error for MessagePackError {}

impl Format for MessagePack {
    const NAME: &'static str = "MessagePack";
    const NOTHING: &'static [u8] = &[0xc0];
}

impl<'a, T: Deserialize<'a>> Decode<'a, T> for MessagePack {
    type Error = MessagePackError;

    #[inline]
    fn decode(bytes: &'a [u8]) -> Result<T, MessagePackError> {
        let mut deserializer = Deserializer::from_read_ref(bytes);
        let value = T::deserialize(&mut deserializer).map_err(MessagePackError::Decode)?;
        // The deserializer does not say where it stands, but a second value shows that there is more.
        match IgnoredAny::deserialize(&mut deserializer) {
            Err(decode::Error::InvalidMarkerRead(_)) => Ok(value),
            Ok(_) | Err(_) => Err(MessagePackError::Trailing),
        }
    }
}

impl<T: Serialize + ?Sized> Encode<T> for MessagePack {
    type Error = encode::Error;

    #[inline]
    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), encode::Error> {
        encode::write_named(out, value)
    }
}
