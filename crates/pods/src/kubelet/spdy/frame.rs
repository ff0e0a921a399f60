//! Frames: eight bytes that say what follows, and how much.

/// Kinds of control frames.
pub(crate) mod kind {
    pub(crate) const SYN_STREAM: u16 = 1;
    pub(crate) const SYN_REPLY: u16 = 2;
    pub(crate) const RST_STREAM: u16 = 3;
    pub(crate) const PING: u16 = 6;
    pub(crate) const GO_AWAY: u16 = 7;
    pub(crate) const HEADERS: u16 = 8;
}

/// Why a stream is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reset {
    ProtocolError = 1,
    Refused = 3,
    Cancel = 5,
}

const VERSION: u16 = 3;
const CONTROL: u32 = 1 << 31;
const FIN: u8 = 1;
const MAX_LENGTH: u32 = (1 << 24) - 1;

/// What a frame is, before its payload has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    Control { version: u16, kind: u16, is_last: bool, length: usize },
    Data { stream: u32, is_last: bool, length: usize },
}

impl Head {
    pub(crate) const SIZE: usize = 8;

    pub(crate) fn parse(bytes: [u8; Self::SIZE]) -> Self {
        let [a, b, c, d, flags, high, middle, low] = bytes;
        let first = u32::from_be_bytes([a, b, c, d]);
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        let is_last = flags & FIN != 0;
        if first & CONTROL == 0 {
            return Self::Data { stream: first, is_last, length };
        }
        let version = u16::from_be_bytes([a, b]) & !(1 << 15);
        Self::Control { version, kind: u16::from_be_bytes([c, d]), is_last, length }
    }

    pub(crate) fn is_of_this_version(self) -> bool {
        match self {
            Self::Control { version, .. } => version == VERSION,
            Self::Data { .. } => true,
        }
    }
}

pub(crate) fn data(stream: u32, is_last: bool, bytes: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(Head::SIZE + bytes.len());
    frame.extend_from_slice(&(stream & !CONTROL).to_be_bytes());
    frame.extend_from_slice(&flags_and_length(is_last, bytes.len()));
    frame.extend_from_slice(bytes);
    frame
}

pub(crate) fn control(kind: u16, is_last: bool, payload: &[&[u8]]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend_from_slice(&(VERSION | 1 << 15).to_be_bytes());
    frame.extend_from_slice(&kind.to_be_bytes());
    let length = payload.iter().map(|part| part.len()).sum();
    frame.extend_from_slice(&flags_and_length(is_last, length));
    payload.iter().for_each(|part| frame.extend_from_slice(part));
    frame
}

pub(crate) fn reset(stream: u32, why: Reset) -> Vec<u8> {
    control(kind::RST_STREAM, false, &[&stream.to_be_bytes(), &(why as u32).to_be_bytes()])
}

fn flags_and_length(is_last: bool, length: usize) -> [u8; 4] {
    let length = u32::try_from(length).ok().filter(|length| *length <= MAX_LENGTH);
    let length = length.expect("nothing that long is sent");
    let flags = if is_last { u32::from(FIN) << 24 } else { 0 };
    (flags | length).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_say_what_they_are() {
        let head = |frame: &[u8]| Head::parse(frame[..Head::SIZE].try_into().unwrap());
        assert_eq!(head(&data(7, true, b"abc")), Head::Data { stream: 7, is_last: true, length: 3 });
        let ping = control(kind::PING, false, &[&1_u32.to_be_bytes()]);
        assert_eq!(ping, [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]);
        assert_eq!(head(&ping), Head::Control { version: 3, kind: kind::PING, is_last: false, length: 4 });
        assert!(!Head::parse([0x80, 2, 0, 6, 0, 0, 0, 4]).is_of_this_version());
        assert_eq!(reset(3, Reset::Cancel)[8..], [0, 0, 0, 3, 0, 0, 0, 5]);
    }
}
