//! Which partition a key lies in. Part of the protocol: clients compute it too.

use xxhash_rust::xxh3::xxh3_64;

/// The part of a key that places it: what stands between the first `{` and the next `}`, if there is anything, else the
/// whole key. Keys with the same tag lie in the same partition. (The rule is that of Redis Cluster's hash tags.)
#[must_use]
pub fn placed_part(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&byte| byte == b'{') else { return key };
    let inside = &key[open + 1..];
    match inside.iter().position(|&byte| byte == b'}') {
        None | Some(0) => key,
        Some(close) => &inside[..close],
    }
}

/// The partition of a key: XXH3 (64 bits, seed 0) of the placed part, modulo the number of partitions of the class.
#[must_use]
pub fn partition_of(key: &[u8], partitions: u16) -> u16 {
    let index = xxh3_64(placed_part(key)) % u64::from(partitions);
    u16::try_from(index).expect("a remainder of a u16 is one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_place_keys() {
        for (key, part) in [
            (&b"user:1"[..], &b"user:1"[..]),
            (b"{user:1}:cart", b"user:1"),
            (b"cart:{user:1}", b"user:1"),
            (b"a{b}{c}", b"b"),
            (b"{}x", b"{}x"),
            (b"{x", b"{x"),
            (b"x}{y}", b"y"),
            (b"{{x}}", b"{x"),
            (b"", b""),
        ] {
            assert_eq!(placed_part(key), part, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn placement_is_part_of_the_protocol_and_never_changes() {
        let placed =
            [&b""[..], b"a", b"user:1", b"2013-01-01T10:00:00Z,UA,1545"].map(|key| partition_of(key, 271));
        assert_eq!(placed, [209, 192, 239, 143]);
        assert_eq!(partition_of(b"{user:1}:cart", 271), partition_of(b"user:1", 271));
    }

    #[test]
    fn keys_spread_evenly() {
        let mut counts = [0_u32; 271];
        (0..271_000_u32).for_each(|i| counts[usize::from(partition_of(&i.to_be_bytes(), 271))] += 1);
        let (min, max) = (counts.iter().min().copied(), counts.iter().max().copied());
        assert!(min > Some(850) && max < Some(1150), "{min:?} {max:?}");
    }
}
