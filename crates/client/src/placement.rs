//! Which partition a key lies in: part of the protocol, as `GridService.WatchTable` says it.

use xxhash_rust::xxh3::xxh3_64;

/// The number of the partition that a key lies in, of so many that a class of the grid has; `None` if it has none.
#[must_use]
pub fn partition_of(key: &[u8], partitions: usize) -> Option<usize> {
    let index = xxh3_64(placed_part(key)).checked_rem(u64::try_from(partitions).ok()?)?;
    usize::try_from(index).ok()
}

/// What stands between the first `{` and the next `}`, if there is anything, else the whole key.
fn placed_part(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&byte| byte == b'{') else { return key };
    let inside = &key[open + 1..];
    match inside.iter().position(|&byte| byte == b'}') {
        None | Some(0) => key,
        Some(close) => &inside[..close],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lie_where_the_protocol_says() {
        let placed = ["", "a", "user:1", "2013-01-01T10:00:00Z,UA,1545", "{user:1}:cart", "cart:{user:1}{x}"];
        let placed = placed.map(|key| partition_of(key.as_bytes(), 271).unwrap());
        assert_eq!(placed, [209, 192, 239, 143, 239, 239]);
        // A tag that is empty, or does not end, is none.
        for key in ["{}user:1", "{user:1"] {
            assert_eq!(placed_part(key.as_bytes()), key.as_bytes());
        }
        assert_eq!(partition_of(b"a", 0), None);
    }
}
