//! How keys and values of Rust become bytes, one codec per content type of a map.

use std::fmt::Display;
use std::str::FromStr;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value that does not encode, or bytes that do not decode.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// Not JSON, or JSON of another shape.
    #[error("not the expected JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Does not encode as MessagePack.
    #[error("does not encode as MessagePack: {0}")]
    MessagePackEncode(#[from] rmp_serde::encode::Error),
    /// Not MessagePack, or MessagePack of another shape.
    #[error("not the expected MessagePack: {0}")]
    MessagePackDecode(#[from] rmp_serde::decode::Error),
    /// Not postcard's encoding of the type.
    #[error("not the expected postcard: {0}")]
    Postcard(#[from] postcard::Error),
    /// Not UTF-8.
    #[error("not UTF-8: {0}")]
    Utf8(#[from] std::str::Utf8Error),
    /// Text, but not of this type.
    #[error("{text:?} is not a value of the type {expected}")]
    Text {
        /// As it was read.
        text: String,
        /// The Rust type that was asked for.
        expected: &'static str,
    },
}

/// Turns values of the type `T` into bytes and back.
pub trait Codec<T> {
    /// Appends nothing and shares nothing: a new buffer.
    fn encode(value: &T) -> Result<Bytes, CodecError>;
    /// Reads a whole buffer.
    fn decode(bytes: &[u8]) -> Result<T, CodecError>;
}

/// JSON by serde: maps of content type `JSON`.
#[derive(Debug, Clone, Copy)]
pub struct Json;

/// MessagePack by serde, structures as maps with field names: content type `MESSAGE_PACK`.
#[derive(Debug, Clone, Copy)]
pub struct MessagePack;

/// postcard by serde, compact and without names: content type `BYTES`.
#[derive(Debug, Clone, Copy)]
pub struct Postcard;

/// What the type prints and parses, such as numbers as decimal text: content type `TEXT`, and counters.
#[derive(Debug, Clone, Copy)]
pub struct Text;

/// The bytes themselves: content type `BYTES`.
#[derive(Debug, Clone, Copy)]
pub struct Raw;

impl<T: Serialize + DeserializeOwned> Codec<T> for Json {
    fn encode(value: &T) -> Result<Bytes, CodecError> {
        Ok(serde_json::to_vec(value)?.into())
    }

    fn decode(bytes: &[u8]) -> Result<T, CodecError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

impl<T: Serialize + DeserializeOwned> Codec<T> for MessagePack {
    fn encode(value: &T) -> Result<Bytes, CodecError> {
        Ok(rmp_serde::to_vec_named(value)?.into())
    }

    fn decode(bytes: &[u8]) -> Result<T, CodecError> {
        Ok(rmp_serde::from_slice(bytes)?)
    }
}

impl<T: Serialize + DeserializeOwned> Codec<T> for Postcard {
    fn encode(value: &T) -> Result<Bytes, CodecError> {
        Ok(postcard::to_allocvec(value)?.into())
    }

    fn decode(bytes: &[u8]) -> Result<T, CodecError> {
        Ok(postcard::from_bytes(bytes)?)
    }
}

impl<T: Display + FromStr> Codec<T> for Text {
    fn encode(value: &T) -> Result<Bytes, CodecError> {
        Ok(value.to_string().into())
    }

    fn decode(bytes: &[u8]) -> Result<T, CodecError> {
        parse(bytes)
    }
}

impl Codec<Bytes> for Raw {
    fn encode(value: &Bytes) -> Result<Bytes, CodecError> {
        Ok(value.clone())
    }

    fn decode(bytes: &[u8]) -> Result<Bytes, CodecError> {
        Ok(Bytes::copy_from_slice(bytes))
    }
}

impl Codec<Vec<u8>> for Raw {
    fn encode(value: &Vec<u8>) -> Result<Bytes, CodecError> {
        Ok(Bytes::copy_from_slice(value))
    }

    fn decode(bytes: &[u8]) -> Result<Vec<u8>, CodecError> {
        Ok(bytes.to_vec())
    }
}

fn parse<T: FromStr>(bytes: &[u8]) -> Result<T, CodecError> {
    let text = std::str::from_utf8(bytes)?;
    text.parse().map_err(|_| CodecError::Text { text: text.to_owned(), expected: std::any::type_name::<T>() })
}

/// What can be looked up as a key: text and bytes as they are, integers as decimal text.
pub trait Key {
    /// The key's bytes.
    fn to_key(&self) -> Bytes;
}

/// What a key found in the grid can be read as.
pub trait FromKey: Sized {
    /// Reads the whole key.
    fn from_key(key: &[u8]) -> Result<Self, CodecError>;
}

impl Key for str {
    fn to_key(&self) -> Bytes {
        Bytes::copy_from_slice(self.as_bytes())
    }
}

impl Key for String {
    fn to_key(&self) -> Bytes {
        self.as_str().to_key()
    }
}

impl Key for [u8] {
    fn to_key(&self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl Key for Vec<u8> {
    fn to_key(&self) -> Bytes {
        self.as_slice().to_key()
    }
}

impl Key for Bytes {
    fn to_key(&self) -> Bytes {
        self.clone()
    }
}

impl FromKey for String {
    fn from_key(key: &[u8]) -> Result<Self, CodecError> {
        Ok(std::str::from_utf8(key)?.to_owned())
    }
}

impl FromKey for Vec<u8> {
    fn from_key(key: &[u8]) -> Result<Self, CodecError> {
        Ok(key.to_vec())
    }
}

impl FromKey for Bytes {
    fn from_key(key: &[u8]) -> Result<Self, CodecError> {
        Ok(Self::copy_from_slice(key))
    }
}

macro_rules! integer_keys {
    ($($integer:ty)*) => {$(
        impl Key for $integer {
            fn to_key(&self) -> Bytes {
                self.to_string().into()
            }
        }

        impl FromKey for $integer {
            fn from_key(key: &[u8]) -> Result<Self, CodecError> {
                parse(key)
            }
        }
    )*};
}

integer_keys!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

#[cfg(test)]
mod tests {
    use super::*;

    fn check<C: Codec<T>, T: PartialEq + std::fmt::Debug>(value: &T, encoded: &[u8]) {
        assert_eq!(C::encode(value).unwrap(), encoded);
        assert_eq!(&C::decode(encoded).unwrap(), value);
    }

    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    struct Flight {
        carrier: String,
        late: i64,
    }

    #[test]
    fn every_codec_reads_what_it_writes() {
        let flight = Flight { carrier: "UA".into(), late: -3 };
        check::<Json, _>(&flight, br#"{"carrier":"UA","late":-3}"#);
        check::<MessagePack, _>(&flight, b"\x82\xa7carrier\xa2UA\xa4late\xfd");
        check::<Postcard, _>(&flight, b"\x02UA\x05");
        check::<Text, _>(&-3_i64, b"-3");
        check::<Raw, _>(&vec![0_u8, 255], &[0, 255]);
        check::<Raw, _>(&Bytes::from_static(&[0, 255]), &[0, 255]);
    }

    #[test]
    fn bytes_of_another_type_are_refused() {
        let refused = <Text as Codec<u8>>::decode(b"256");
        assert!(
            matches!(&refused, Err(CodecError::Text { text, expected: "u8" }) if text == "256"),
            "{refused:?}"
        );
        assert!(matches!(<Json as Codec<u8>>::decode(b"{"), Err(CodecError::Json(_))));
        assert!(matches!(<Text as Codec<String>>::decode(&[0xff]), Err(CodecError::Utf8(_))));
    }

    #[test]
    fn integer_keys_are_decimal_text() {
        assert_eq!(42_u32.to_key(), "42");
        assert_eq!(i64::from_key(b"-7").unwrap(), -7);
        assert_eq!("a".to_key(), String::from_key(b"a").unwrap());
    }
}
