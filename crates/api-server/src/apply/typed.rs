//! Objects seen through their schema: which fields they set, and how two of them merge and differ.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::field_set::{Element, FieldSet, field, item_keys, item_value};
use crate::schema::{ListType, Schema, key_default};

/// How a value is merged: as a whole, or by its parts.
enum Shape<'a> {
    Whole,
    Map(&'a Map<String, Value>),
    Items(&'a [Value], ListType<'a>),
}

fn shape<'a>(schema: Option<Schema<'a>>, value: &'a Value) -> Shape<'a> {
    match value {
        Value::Object(_) if schema.is_some_and(|schema| schema.is_atomic_map()) => Shape::Whole,
        Value::Object(map) => Shape::Map(map),
        Value::Array(items) => match schema.map_or(ListType::Atomic, |schema| schema.list_type()) {
            ListType::Atomic => Shape::Whole,
            kind => Shape::Items(items, kind),
        },
        _ => Shape::Whole,
    }
}

pub(crate) fn element(schema: Option<Schema<'_>>, kind: ListType<'_>, item: &Value) -> Element {
    match kind {
        ListType::Map(names) => {
            let items = schema.and_then(|schema| schema.items());
            let mut keys = BTreeMap::new();
            for name in names.iter().filter_map(Value::as_str) {
                let value = item.get(name).filter(|value| !value.is_null()).cloned();
                if let Some(value) = value.or_else(|| key_default(items, name)) {
                    keys.insert(name, value);
                }
            }
            item_keys(&keys)
        }
        ListType::Set | ListType::Atomic => item_value(item),
    }
}

fn item_map<'a>(
    schema: Option<Schema<'_>>,
    kind: ListType<'_>,
    items: &'a [Value],
) -> Vec<(Element, &'a Value)> {
    items.iter().map(|item| (element(schema, kind, item), item)).collect()
}

/// All fields that a value sets.
pub(crate) fn to_set(schema: Schema<'_>, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    collect(Some(schema), value, &mut Vec::new(), &mut set);
    set
}

fn collect(schema: Option<Schema<'_>>, value: &Value, path: &mut Vec<Element>, set: &mut FieldSet) {
    match shape(schema, value) {
        Shape::Whole => set.insert(path),
        Shape::Map(map) => {
            for (name, value) in map {
                path.push(field(name));
                collect(schema.and_then(|schema| schema.child(name)), value, path, set);
                let is_struct_field = schema.is_some_and(|schema| schema.property(name).is_some());
                let is_empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                if is_empty || !is_struct_field {
                    set.insert(path);
                }
                path.pop();
            }
        }
        Shape::Items(items, kind) => {
            for (element, item) in item_map(schema, kind, items) {
                path.push(element);
                collect(schema.and_then(|schema| schema.items()), item, path, set);
                set.insert(path);
                path.pop();
            }
        }
    }
}

/// What `theirs` sets replaces what `ours` has; lists with keys and maps are merged.
pub(crate) fn merge(schema: Option<Schema<'_>>, ours: &Value, theirs: &Value) -> Value {
    match (shape(schema, ours), shape(schema, theirs)) {
        (Shape::Map(old), Shape::Map(new)) => {
            let mut merged = old.clone();
            for (name, value) in new {
                let below = schema.and_then(|schema| schema.child(name));
                let value = old.get(name).map_or_else(|| value.clone(), |old| merge(below, old, value));
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (Shape::Items(old, kind), Shape::Items(new, _)) => {
            let items = schema.and_then(|schema| schema.items());
            let (old, new) = (item_map(schema, kind, old), item_map(schema, kind, new));
            let mut merged = Vec::new();
            for (element, item) in &old {
                let newer = new.iter().find(|(other, _)| other == element);
                merged.push(newer.map_or_else(|| Value::clone(item), |(_, newer)| merge(items, item, newer)));
            }
            let is_new = |element: &Element| !old.iter().any(|(other, _)| other == element);
            merged.extend(
                new.iter().filter(|(element, _)| is_new(element)).map(|(_, item)| Value::clone(item)),
            );
            Value::Array(merged)
        }
        _ => theirs.clone(),
    }
}

#[derive(Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) added: FieldSet,
    pub(crate) modified: FieldSet,
    pub(crate) removed: FieldSet,
}

pub(crate) fn compare(schema: Schema<'_>, old: &Value, new: &Value) -> Comparison {
    let mut comparison = Comparison::default();
    walk(Some(schema), Some(old), Some(new), &mut Vec::new(), &mut comparison);
    comparison
}

fn walk(
    schema: Option<Schema<'_>>,
    old: Option<&Value>,
    new: Option<&Value>,
    path: &mut Vec<Element>,
    found: &mut Comparison,
) {
    if old == new {
        return;
    }
    let parts = |value: Option<&Value>| value.and_then(|value| parts_of(schema, value));
    let (mut before, mut after) = (parts(old), parts(new));
    // Nothing is an empty whole of what it is compared with.
    let is_null = |value: Option<&Value>| value.is_some_and(Value::is_null);
    if is_null(old) && after.as_ref().is_some_and(|parts| !parts.is_empty()) {
        before = Some(BTreeMap::new());
    }
    if is_null(new) && before.as_ref().is_some_and(|parts| !parts.is_empty()) {
        after = Some(BTreeMap::new());
    }
    match (old, new) {
        (None, Some(_)) => found.added.insert(path),
        (Some(_), None) => found.removed.insert(path),
        (Some(_), Some(_)) if before.is_none() || after.is_none() => {
            found.modified.insert(path);
            return;
        }
        _ => {}
    }
    let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
    for (element, below) in &before {
        path.push(element.clone());
        walk(below.schema, Some(&below.value), after.get(element).map(|part| &part.value), path, found);
        path.pop();
    }
    for (element, below) in after.iter().filter(|(element, _)| !before.contains_key(*element)) {
        path.push(element.clone());
        walk(below.schema, None, Some(&below.value), path, found);
        path.pop();
    }
}

struct Part<'a> {
    schema: Option<Schema<'a>>,
    value: Value,
}

/// The parts of a value that are compared one by one; none for what counts as a whole.
fn parts_of<'a>(schema: Option<Schema<'a>>, value: &Value) -> Option<BTreeMap<Element, Part<'a>>> {
    match shape(schema, value) {
        Shape::Whole => None,
        Shape::Map(map) => {
            let part = |name: &String, value: &Value| Part {
                schema: schema.and_then(|schema| schema.child(name)),
                value: value.clone(),
            };
            Some(map.iter().map(|(name, value)| (field(name), part(name, value))).collect())
        }
        Shape::Items(items, kind) => {
            let below = schema.and_then(|schema| schema.items());
            let all = item_map(schema, kind, items).into_iter();
            Some(all.map(|(element, item)| (element, Part { schema: below, value: item.clone() })).collect())
        }
    }
}

/// The value without the fields of a set; maps and lists that are left empty go too.
pub(crate) fn remove(schema: Option<Schema<'_>>, value: &Value, set: &FieldSet) -> Option<Value> {
    match shape(schema, value) {
        Shape::Whole => Some(value.clone()),
        Shape::Map(map) => {
            let mut rest = Map::new();
            for (name, value) in map {
                let element = field(name);
                if set.has(&element) {
                    continue;
                }
                let below = schema.and_then(|schema| schema.child(name));
                let value = match set.below(&element) {
                    Some(set) => remove(below, value, set),
                    None => Some(value.clone()),
                };
                rest.extend(value.map(|value| (name.clone(), value)));
            }
            (!rest.is_empty() || map.is_empty()).then_some(Value::Object(rest))
        }
        Shape::Items(items, kind) => {
            let below = schema.and_then(|schema| schema.items());
            let mut rest = Vec::new();
            for (element, item) in item_map(schema, kind, items) {
                if set.has(&element) {
                    continue;
                }
                rest.extend(match set.below(&element) {
                    Some(set) => remove(below, item, set),
                    None => Some(item.clone()),
                });
            }
            (!rest.is_empty() || items.is_empty()).then_some(Value::Array(rest))
        }
    }
}

/// Whether a path ends at a field that its schema names, as opposed to a key of a map.
pub(crate) fn ends_at_named_field(schema: Schema<'_>, path: &[Element]) -> bool {
    let mut here = Some(schema);
    let mut is_named = false;
    for element in path {
        match element.strip_prefix("f:") {
            Some(name) => {
                is_named = here.is_some_and(|schema| schema.property(name).is_some());
                here = here.and_then(|schema| schema.child(name));
            }
            None => {
                is_named = false;
                here = here.and_then(|schema| schema.items());
            }
        }
    }
    is_named
}
