//! What the benchmark of whole-map calls runs on every entry, and does natively to compare: the first eight bytes of a
//! record are a number, little-endian, and one is added to it.

use wattle_guest::{Entry, Failure, entry_processor};

/// A record of another length, or none.
const NO_RECORD: u32 = 1;

#[entry_processor(format = "raw", deterministic)]
fn bump(record: &mut Entry<[u8; 100]>) -> Result<(), Failure> {
    let record = record.get_mut().ok_or_else(|| Failure::new(NO_RECORD, "there is no record"))?;
    let Some(number) = record.first_chunk_mut::<8>() else {
        return Err(Failure::new(NO_RECORD, "the record has no number"));
    };
    *number = u64::from_le_bytes(*number).wrapping_add(1).to_le_bytes();
    Ok(())
}

wattle_guest::export!(bump);

#[cfg(test)]
mod tests {
    use super::*;
    use wattle_guest::format::Raw;
    use wattle_guest::testing::TestMap;

    #[test]
    fn the_number_rises_by_one_and_the_rest_stays() {
        let mut records = TestMap::new(Raw);
        let mut record = [7; 100];
        record[..8].copy_from_slice(&41_u64.to_le_bytes());
        records.put_bytes("a", record);
        records.invoke::<bump, ()>("a", &()).unwrap();
        record[..8].copy_from_slice(&42_u64.to_le_bytes());
        assert_eq!(records.get_bytes("a"), Some(&record[..]));
        assert_eq!(records.invoke::<bump, ()>("b", &()).unwrap_err().code(), NO_RECORD);
    }
}
