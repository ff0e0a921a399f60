//! JSON, by serde_json.

use serde::{Deserialize, Serialize};

use super::{Decode, Encode, Format};

/// JSON text (feature `json`, on by default).
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl Format for Json {
    const NAME: &'static str = "JSON";
    const NOTHING: &'static [u8] = b"null";
}

impl<'a, T: Deserialize<'a>> Decode<'a, T> for Json {
    type Error = serde_json::Error;

    #[inline]
    fn decode(bytes: &'a [u8]) -> Result<T, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

impl<T: Serialize + ?Sized> Encode<T> for Json {
    type Error = serde_json::Error;

    #[inline]
    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        serde_json::to_writer(out, value)
    }
}
