//! What a failure says to programs beside its reason: names and values, packed one behind the other.

use alloc::vec::Vec;
use core::{iter, str};

use crate::bytes::{check_length, u32_at};
use crate::error::FrameError;

/// Both lengths of a fact.
const LENGTHS: usize = 8;

/// Facts such as `version` and the entry's version: the metadata of an `OperationError`.
///
/// Each is `u32 name_length | u32 value_length | name | value`, and both are UTF-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts<'a>(&'a [u8]);

impl<'a> Facts<'a> {
    /// Packs facts into a buffer that is used again and again.
    ///
    /// ```
    /// let mut buffer = Vec::new();
    /// let facts = wattle_frame::pipeline::Facts::pack(&mut buffer, [("version", "7")])?;
    /// assert_eq!(facts.iter().collect::<Vec<_>>(), [("version", "7")]);
    /// # Ok::<(), wattle_frame::FrameError>(())
    /// ```
    ///
    /// # Errors
    /// [`FrameError::TooLong`] past 4 GiB.
    pub fn pack<'f>(
        buffer: &'a mut Vec<u8>,
        facts: impl IntoIterator<Item = (&'f str, &'f str)>,
    ) -> Result<Facts<'a>, FrameError> {
        buffer.clear();
        for (name, value) in facts {
            check_length(buffer.len() as u64 + LENGTHS as u64 + name.len() as u64 + value.len() as u64)?;
            for length in [name.len() as u32, value.len() as u32] {
                buffer.extend_from_slice(&length.to_le_bytes());
            }
            buffer.extend_from_slice(name.as_bytes());
            buffer.extend_from_slice(value.as_bytes());
        }
        Ok(Facts(buffer))
    }

    /// Checks the facts of the slot at a place.
    pub(super) fn read(bytes: &'a [u8], place: u32) -> Result<Facts<'a>, FrameError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            (_, rest) = first(rest).ok_or(FrameError::MalformedFacts { slot: place })?;
        }
        Ok(Facts(bytes))
    }

    pub(super) fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// The names and values.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mut rest = self.0;
        iter::from_fn(move || {
            let (fact, others) = first(rest)?;
            rest = others;
            Some(fact)
        })
    }
}

type Fact<'a> = (&'a str, &'a str);

/// The first fact and what follows it.
fn first(bytes: &[u8]) -> Option<(Fact<'_>, &[u8])> {
    let (lengths, rest) = bytes.split_first_chunk::<LENGTHS>()?;
    let (name, rest) = rest.split_at_checked(u32_at::<0, LENGTHS>(lengths) as usize)?;
    let (value, rest) = rest.split_at_checked(u32_at::<4, LENGTHS>(lengths) as usize)?;
    Some(((str::from_utf8(name).ok()?, str::from_utf8(value).ok()?), rest))
}
