//! What the targets share: a frame with a good header around the fuzzer's bytes.

/// Where a kind of frame says how long it is.
#[derive(Clone, Copy, Debug)]
pub enum LengthAt {
    /// In a reply and in results.
    Byte8,
    /// In a request and in operations.
    Byte12,
}

/// Gives the bytes format 1, no flags and their true length, so that the fuzzer gets past the header at once.
pub fn with_good_header(mut bytes: Vec<u8>, length_at: LengthAt) -> Vec<u8> {
    let at = match length_at {
        LengthAt::Byte8 => 8,
        LengthAt::Byte12 => 12,
    };
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&length);
        bytes[..4].copy_from_slice(&[1, 0, 0, 0]);
    }
    bytes
}

/// How many slots a reply or results say that they have, so that the reader expects as many.
pub fn declared_count(bytes: &[u8]) -> usize {
    bytes.get(4..).and_then(<[u8]>::first_chunk::<4>).map_or(0, |count| u32::from_le_bytes(*count) as usize)
}
