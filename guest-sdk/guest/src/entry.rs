//! The entry as a function sees and changes it.

use std::time::Duration;

use wattle_frame::guest::Change;

use crate::context::{Context, GridTime, millis};
use crate::failure::Failure;

/// The entry of one key, whether or not it has a value.
///
/// What a function leaves here when it returns is what the grid stores: a value that was changed is put, one that was
/// removed is removed, one that was only read is left alone (it is not even encoded again). A value that is put lives
/// as long as the map says, like any put, unless the function gives it a time to live.
#[derive(Debug)]
pub struct Entry<'a, V> {
    pub(crate) context: Context<'a>,
    pub(crate) key: &'a [u8],
    /// The value's bytes as they came.
    pub(crate) stored: Option<&'a [u8]>,
    pub(crate) version: u64,
    pub(crate) ttl_ms: Option<u64>,
    value: Option<V>,
    changed: bool,
    new_ttl_ms: Option<u64>,
}

/// What a function left behind.
pub(crate) enum Left<'e, V> {
    /// There is no value to write.
    Nothing(Change),
    /// The value that came, with a new time to live.
    Stored(&'e [u8], Change),
    Value(&'e V, Change),
}

impl<'a, V> Entry<'a, V> {
    pub(crate) fn new(
        context: Context<'a>,
        view: &wattle_frame::guest::EntryView<'a>,
        value: Option<V>,
    ) -> Self {
        Self {
            context,
            key: view.key,
            stored: view.value,
            version: view.version,
            ttl_ms: view.ttl_ms,
            value,
            changed: false,
            new_ttl_ms: None,
        }
    }

    /// The key.
    pub fn key(&self) -> &'a [u8] {
        self.key
    }

    /// The key as text.
    ///
    /// # Errors
    /// [`Failure::KEY_NOT_TEXT`] when it is not UTF-8.
    pub fn key_str(&self) -> Result<&'a str, Failure> {
        str::from_utf8(self.key)
            .map_err(|error| Failure::new(Failure::KEY_NOT_TEXT, format!("the key is not text: {error}")))
    }

    /// The value; `None` when the key has none.
    pub fn get(&self) -> Option<&V> {
        self.value.as_ref()
    }

    /// The value, to be changed in place; `None` when the key has none. The grid stores it again even if it is then
    /// left as it was, so look with [`get`](Self::get) first where that is likely.
    pub fn get_mut(&mut self) -> Option<&mut V> {
        self.changed |= self.value.is_some();
        self.value.as_mut()
    }

    /// The value, to be changed in place; what `value` gives when the key has none.
    pub fn get_or_insert_with(&mut self, value: impl FnOnce() -> V) -> &mut V {
        self.changed = true;
        self.value.get_or_insert_with(value)
    }

    /// Sets the value.
    pub fn set(&mut self, value: V) {
        self.changed = true;
        self.value = Some(value);
    }

    /// Sets the value and how long it lives from now.
    pub fn set_with_ttl(&mut self, value: V, ttl: Duration) {
        self.set(value);
        self.set_ttl(ttl);
    }

    /// Sets how long the value that the function leaves here lives from now, at least a millisecond. Nothing happens
    /// when it leaves none.
    pub fn set_ttl(&mut self, ttl: Duration) {
        // The two ends are taken: 0 is no life at all, and the largest number stands for ever.
        self.new_ttl_ms = Some(millis(ttl).clamp(1, u64::MAX - 1));
    }

    /// Removes the entry and gives back what it held.
    pub fn remove(&mut self) -> Option<V> {
        self.changed = false;
        self.value.take()
    }

    /// Whether the key has a value.
    pub fn exists(&self) -> bool {
        self.value.is_some()
    }

    /// The version that the entry had when the function was called: it rises with every change, and is 0 when the key
    /// had no entry.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What was left of the entry's time to live when the function was called; `None`: it lives for ever.
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl_ms.map(Duration::from_millis)
    }

    /// What the call says besides the entry.
    pub fn context(&self) -> Context<'a> {
        self.context
    }

    /// The grid's time when the call began.
    pub fn now(&self) -> GridTime {
        self.context.now
    }

    pub(crate) fn left(&self) -> Left<'_, V> {
        let put = self.new_ttl_ms.map_or(Change::Put, Change::PutWithTtl);
        match (&self.value, self.stored) {
            (Some(value), _) if self.changed => Left::Value(value, put),
            (Some(_), Some(stored)) if self.new_ttl_ms.is_some() => Left::Stored(stored, put),
            (Some(_), _) | (None, None) => Left::Nothing(Change::Keep),
            (None, Some(_)) => Left::Nothing(Change::Remove),
        }
    }
}

impl<V: Default> Entry<'_, V> {
    /// The value, to be changed in place; the type's default when the key has none.
    pub fn get_or_default(&mut self) -> &mut V {
        self.get_or_insert_with(V::default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wattle_frame::guest::EntryView;

    fn check(stored: Option<&[u8]>, act: impl FnOnce(&mut Entry<'_, u8>), expected: (Option<u8>, Change)) {
        let context = Context { map: "numbers", now: GridTime::from_millis(1) };
        let view = EntryView { key: b"k", value: stored, version: 3, ttl_ms: Some(50), argument: b"" };
        let mut entry = Entry::new(context, &view, stored.map(|bytes| bytes[0]));
        act(&mut entry);
        let left = match entry.left() {
            Left::Nothing(change) => (None, change),
            Left::Stored(bytes, change) => (Some(bytes[0]), change),
            Left::Value(value, change) => (Some(*value), change),
        };
        assert_eq!(left, expected);
    }

    #[test]
    fn value_that_is_only_read_is_kept() {
        check(Some(b"\x07"), |entry| assert_eq!(entry.get(), Some(&7)), (None, Change::Keep));
        check(None, |entry| assert_eq!(entry.get(), None), (None, Change::Keep));
        check(None, |entry| assert_eq!(entry.get_mut(), None), (None, Change::Keep));
    }

    #[test]
    fn changed_value_is_put() {
        check(Some(b"\x07"), |entry| *entry.get_mut().unwrap() += 1, (Some(8), Change::Put));
        check(Some(b"\x07"), |entry| *entry.get_or_default() += 1, (Some(8), Change::Put));
        check(None, |entry| *entry.get_or_default() += 1, (Some(1), Change::Put));
        check(None, |entry| entry.set(9), (Some(9), Change::Put));
    }

    #[test]
    fn removal_counts_only_when_something_was_there() {
        check(Some(b"\x07"), |entry| assert_eq!(entry.remove(), Some(7)), (None, Change::Remove));
        check(None, |entry| assert_eq!(entry.remove(), None), (None, Change::Keep));
        let set_and_remove = |entry: &mut Entry<'_, u8>| {
            entry.set(1);
            entry.remove();
        };
        check(None, set_and_remove, (None, Change::Keep));
        check(Some(b"\x07"), set_and_remove, (None, Change::Remove));
    }

    #[test]
    fn removed_and_set_again_is_put() {
        let replace = |entry: &mut Entry<'_, u8>| {
            entry.remove();
            entry.set(5);
        };
        check(Some(b"\x07"), replace, (Some(5), Change::Put));
    }

    #[test]
    fn time_to_live_goes_with_what_is_left() {
        let ttl = Duration::from_millis(20);
        check(Some(b"\x07"), |entry| entry.set_ttl(ttl), (Some(7), Change::PutWithTtl(20)));
        check(None, |entry| entry.set_with_ttl(1, ttl), (Some(1), Change::PutWithTtl(20)));
        check(None, |entry| entry.set_ttl(ttl), (None, Change::Keep));
        check(None, |entry| entry.set_with_ttl(1, Duration::ZERO), (Some(1), Change::PutWithTtl(1)));
        check(
            None,
            |entry| entry.set_with_ttl(1, Duration::MAX),
            (Some(1), Change::PutWithTtl(u64::MAX - 1)),
        );
    }
}
