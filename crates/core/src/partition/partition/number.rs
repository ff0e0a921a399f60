//! Integers in values: decimal text, or one MessagePack integer.

/// Reads an integer; `None` if the value is anything else.
pub(super) fn read(value: &[u8], binary: bool) -> Option<i64> {
    if !binary {
        return std::str::from_utf8(value).ok()?.parse().ok();
    }
    let mut rest = value;
    let number = rmp::decode::read_int(&mut rest).ok()?;
    rest.is_empty().then_some(number)
}

/// Writes an integer.
pub(super) fn encode(value: i64, binary: bool) -> Vec<u8> {
    if !binary {
        return value.to_string().into_bytes();
    }
    let mut bytes = Vec::with_capacity(9);
    rmp::encode::write_sint(&mut bytes, value).expect("writing to a vector does not fail");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_survive_both_encodings() {
        for value in [0, 1, -1, 127, -33, 255, 65_536, i64::MAX, i64::MIN] {
            for binary in [false, true] {
                assert_eq!(read(&encode(value, binary), binary), Some(value));
            }
        }
    }

    #[test]
    fn other_values_are_no_integers() {
        for text in ["", " 1", "1.0", "9223372036854775808", "x", "\u{661}"] {
            assert_eq!(read(text.as_bytes(), false), None, "{text:?}");
        }
        assert_eq!(read(&[0x01, 0x02], true), None, "two objects");
        assert_eq!(read(&[0xa1, b'1'], true), None, "a string");
    }
}
