//! Who owns which fields of an object, and server-side apply (structured-merge-diff's `merge` and `typed`).

mod check;
mod field_set;
mod managed;
mod typed;

pub(crate) use check::mismatch;
pub(crate) use managed::{ManagerId, apply, record_update};
