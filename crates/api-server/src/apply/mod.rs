//! Who owns which fields of an object, and server-side apply (structured-merge-diff's `merge` and `typed`).

mod field_set;
mod managed;
mod typed;

pub(crate) use managed::{ManagerId, apply, record_update};

/// Two items of one list with the same key, as the server names them.
pub(crate) fn duplicate(schema: crate::schema::Schema<'_>, value: &serde_json::Value) -> Option<String> {
    typed::duplicate_key(Some(schema), value)
}
