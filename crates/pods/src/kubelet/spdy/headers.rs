//! Header blocks: names and values, compressed. All blocks of one direction are one zlib stream.

use zlib_rs::{Deflate, DeflateFlush, Inflate, InflateError, InflateFlush, Status};

use super::MAX_HEADERS;
use super::dictionary::DICTIONARY;

const WINDOW_BITS: u8 = 15;
const LEVEL: i32 = 6;
/// More than any client sends.
const MAX_COUNT: u32 = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("headers are not compressed as they should be")]
    Compression,
    #[error("headers are longer than {MAX_HEADERS} bytes or more than {MAX_COUNT}")]
    TooLong,
    #[error("headers end early, or late")]
    Length,
    #[error("the name of a header is not in lower case, or is there twice")]
    Name,
    #[error("a header is no text")]
    Text,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    /// Empty if it is not there.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
    }

    fn parse(mut block: &[u8]) -> Result<Self, Malformed> {
        let count = number(&mut block)?;
        if count > MAX_COUNT {
            return Err(Malformed::TooLong);
        }
        let mut headers = Vec::new();
        for _ in 0..count {
            let name = text(&mut block)?;
            let is_known = headers.iter().any(|(other, _)| *other == name);
            if is_known || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                return Err(Malformed::Name);
            }
            headers.push((name, text(&mut block)?));
        }
        if block.is_empty() { Ok(Self(headers)) } else { Err(Malformed::Length) }
    }
}

fn number(block: &mut &[u8]) -> Result<u32, Malformed> {
    let (bytes, rest) = block.split_first_chunk().ok_or(Malformed::Length)?;
    *block = rest;
    Ok(u32::from_be_bytes(*bytes))
}

fn text(block: &mut &[u8]) -> Result<String, Malformed> {
    let length = number(block)? as usize;
    let (bytes, rest) = block.split_at_checked(length).ok_or(Malformed::Length)?;
    *block = rest;
    String::from_utf8(bytes.to_vec()).map_err(|_| Malformed::Text)
}

/// Reads the blocks of one direction, in their order.
pub(crate) struct Decoder(Inflate);

impl Decoder {
    pub(crate) fn new() -> Self {
        Self(Inflate::new(true, WINDOW_BITS))
    }

    pub(crate) fn decode(&mut self, block: &[u8]) -> Result<Headers, Malformed> {
        let mut plain = vec![0; MAX_HEADERS];
        let (mut read, mut written) = (0, 0);
        while read < block.len() {
            let (read_before, written_before) = (self.0.total_in(), self.0.total_out());
            let status = self.0.decompress(&block[read..], &mut plain[written..], InflateFlush::SyncFlush);
            let step = (self.0.total_in() - read_before) as usize;
            read += step;
            written += (self.0.total_out() - written_before) as usize;
            if written == plain.len() {
                return Err(Malformed::TooLong);
            }
            match status {
                Ok(Status::Ok) if step > 0 => {}
                Err(InflateError::NeedDict { .. }) => {
                    self.0.set_dictionary(DICTIONARY).map_err(|_| Malformed::Compression)?;
                }
                Ok(_) | Err(_) => return Err(Malformed::Compression),
            }
        }
        Headers::parse(&plain[..written])
    }
}

/// Writes the blocks of one direction, in their order.
pub(crate) struct Encoder(Deflate);

impl Encoder {
    pub(crate) fn new() -> Self {
        let mut deflate = Deflate::new(LEVEL, true, WINDOW_BITS);
        deflate.set_dictionary(DICTIONARY).expect("a new stream takes a dictionary");
        Self(deflate)
    }

    pub(crate) fn encode(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = Vec::new();
        let number = |number: usize| u32::try_from(number).expect("headers are short").to_be_bytes();
        plain.extend_from_slice(&number(headers.len()));
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend_from_slice(&number(text.len()));
            plain.extend_from_slice(text.as_bytes());
        }
        // Enough for what does not become shorter, and the marks at its start and end.
        let mut block = vec![0; plain.len() + 64];
        let before = self.0.total_out();
        let status = self.0.compress(&plain, &mut block, DeflateFlush::SyncFlush);
        assert_eq!(status, Ok(Status::Ok), "there is room for all of it");
        block.truncate((self.0.total_out() - before) as usize);
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first two blocks of a connection as kubectl's library (spdystream 0.5.0) writes them.
    const FIRST: &[u8] = &[
        0x78, 0xf9, 0xe3, 0xc6, 0xa7, 0xc2, 0x02, 0x25, 0x3a, 0x70, 0x3a, 0x2b, 0x29, 0x4a, 0x4d, 0xcc, 0x85,
        0x16, 0x25, 0xac, 0xa9, 0xa0, 0x80, 0x86, 0x14, 0xcb, 0x45, 0xa0, 0x24, 0xcc, 0x64, 0x61, 0xc0, 0xc0,
        0xc0, 0xc0, 0x59, 0x04, 0x89, 0xc4, 0x4c, 0x50, 0xe2, 0x66, 0x34, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff,
    ];
    const SECOND: &[u8] =
        &[0xc2, 0xaa, 0x15, 0x54, 0x0a, 0x25, 0x12, 0xd2, 0x09, 0x00, 0x00, 0x00, 0xff, 0xff];

    #[test]
    fn blocks_of_kubectl_are_read_in_their_order() {
        let mut decoder = Decoder::new();
        let first = decoder.decode(FIRST).unwrap();
        assert_eq!(
            (first.get("streamtype"), first.get("port"), first.get("requestid")),
            ("error", "80", "0")
        );
        let second = decoder.decode(SECOND).unwrap();
        assert_eq!((second.get("streamtype"), second.get("port"), second.get("x")), ("data", "80", ""));
    }

    #[test]
    fn what_is_written_is_read() {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        for headers in [&[][..], &[("a", "1"), ("b", "")], &[("a", "1")]] {
            let read = decoder.decode(&encoder.encode(headers)).unwrap();
            let expected = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            assert_eq!(read.0, expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn hostile_blocks_are_refused() {
        let check = |headers: &[(&str, &str)], expected: Malformed| {
            assert_eq!(Decoder::new().decode(&Encoder::new().encode(headers)), Err(expected));
        };
        // It shrinks to a few bytes.
        check(&[("a", &"a".repeat(10 * MAX_HEADERS))], Malformed::TooLong);
        check(&[("A", "")], Malformed::Name);
        check(&[("a", ""), ("a", "")], Malformed::Name);
        check(&[("a", ""); 65], Malformed::TooLong);
        assert_eq!(Decoder::new().decode(b"not compressed"), Err(Malformed::Compression));
        let whole = Encoder::new().encode(&[("a", "1")]);
        assert_eq!(Decoder::new().decode(&whole[..10]), Err(Malformed::Length));
        assert_eq!(Headers::parse(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]), Err(Malformed::Length));
        assert_eq!(Headers::parse(&[0, 0, 0, 0, 1]), Err(Malformed::Length));
        assert_eq!(Headers::parse(&[0, 0, 0, 1, 0, 0, 0, 1, 0xff]), Err(Malformed::Text));
    }
}
