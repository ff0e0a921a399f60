//! Sets of field paths, kept in the form that `managedFields` shows: a trie of `f:`, `k:`, `v:` elements, with `.`
//! for the element itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// One step of a path, as `FieldsV1` writes it: `f:spec`, `k:{"name":"web"}`, `v:"finalizer"`.
pub(crate) type Element = String;

pub(crate) fn field(name: &str) -> Element {
    format!("f:{name}")
}

pub(crate) fn item_value(value: &Value) -> Element {
    format!("v:{value}")
}

/// The keys are written in the order of their names.
pub(crate) fn item_keys(keys: &BTreeMap<&str, Value>) -> Element {
    let keys: Map<String, Value> =
        keys.iter().map(|(&name, value)| (name.to_owned(), value.clone())).collect();
    format!("k:{}", Value::Object(keys))
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct FieldSet {
    children: BTreeMap<Element, Node>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Node {
    is_member: bool,
    below: FieldSet,
}

impl FieldSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.children.values().all(|node| !node.is_member && node.below.is_empty())
    }

    pub(crate) fn insert(&mut self, path: &[Element]) {
        let Some((first, rest)) = path.split_first() else { return };
        let node = self.children.entry(first.clone()).or_default();
        if rest.is_empty() {
            node.is_member = true;
        } else {
            node.below.insert(rest);
        }
    }

    pub(crate) fn has(&self, element: &str) -> bool {
        self.children.get(element).is_some_and(|node| node.is_member)
    }

    pub(crate) fn below(&self, element: &str) -> Option<&Self> {
        self.children.get(element).map(|node| &node.below).filter(|below| !below.is_empty())
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        for (element, theirs) in &other.children {
            let ours = all.children.entry(element.clone()).or_default();
            ours.is_member |= theirs.is_member;
            ours.below = ours.below.union(&theirs.below);
        }
        all
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |ours, theirs| ours && theirs, Missing::Drops)
    }

    pub(crate) fn difference(&self, other: &Self) -> Self {
        self.combine(other, |ours, theirs| ours && !theirs, Missing::Keeps)
    }

    /// Leaves out paths and everything below them.
    pub(crate) fn without_subtrees(&self, other: &Self) -> Self {
        let mut rest = Self::default();
        for (element, node) in &self.children {
            let theirs = other.children.get(element);
            if theirs.is_some_and(|theirs| theirs.is_member) {
                continue;
            }
            let below = theirs
                .map_or_else(|| node.below.clone(), |theirs| node.below.without_subtrees(&theirs.below));
            rest.add(element, Node { is_member: node.is_member, below });
        }
        rest
    }

    fn combine(&self, other: &Self, keeps: fn(bool, bool) -> bool, missing: Missing) -> Self {
        let mut result = Self::default();
        for (element, ours) in &self.children {
            let node = match (other.children.get(element), missing) {
                (Some(theirs), _) => Node {
                    is_member: keeps(ours.is_member, theirs.is_member),
                    below: ours.below.combine(&theirs.below, keeps, missing),
                },
                (None, Missing::Keeps) => ours.clone(),
                (None, Missing::Drops) => continue,
            };
            result.add(element, node);
        }
        result
    }

    fn add(&mut self, element: &str, node: Node) {
        if node.is_member || !node.below.is_empty() {
            self.children.insert(element.to_owned(), node);
        }
    }

    /// Makes members of inner elements for which `is_named` says so, at every level.
    pub(crate) fn with_inner_members(&self, is_named: &mut dyn FnMut(&[Element]) -> bool) -> Self {
        self.inner_members(&mut Vec::new(), is_named)
    }

    fn inner_members(&self, path: &mut Vec<Element>, is_named: &mut dyn FnMut(&[Element]) -> bool) -> Self {
        let mut all = Self::default();
        for (element, node) in &self.children {
            path.push(element.clone());
            let is_member = node.is_member || (!node.below.is_empty() && is_named(path));
            let below = node.below.inner_members(path, is_named);
            path.pop();
            all.add(element, Node { is_member, below });
        }
        all
    }

    pub(crate) fn to_fields_v1(&self) -> Value {
        let mut fields = Map::new();
        for (element, node) in &self.children {
            let mut below = node.below.to_fields_v1();
            if node.is_member && !node.below.is_empty() {
                below["."] = json!({});
            }
            fields.insert(element.clone(), below);
        }
        Value::Object(fields)
    }

    pub(crate) fn from_fields_v1(fields: &Value) -> Self {
        let mut set = Self::default();
        for (element, below) in fields.as_object().into_iter().flatten() {
            if element == "." {
                continue;
            }
            let is_leaf = below.as_object().is_none_or(Map::is_empty);
            let node =
                Node { is_member: is_leaf || below.get(".").is_some(), below: Self::from_fields_v1(below) };
            set.children.insert(element.clone(), node);
        }
        set
    }

    /// The paths as people read them: `.spec.containers[name="web"].image`.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &str, paths: &mut Vec<String>) {
        for (element, node) in &self.children {
            let path = format!("{prefix}{}", shown(element));
            if node.is_member {
                paths.push(path.clone());
            }
            node.below.collect_paths(&path, paths);
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Missing {
    Keeps,
    Drops,
}

pub(crate) fn shown(element: &str) -> String {
    let Some((kind, rest)) = element.split_once(':') else { return element.to_owned() };
    match kind {
        "f" => format!(".{rest}"),
        "v" => format!("[={rest}]"),
        "k" => {
            let keys: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
            let mut text = String::from("[");
            for (at, (name, value)) in keys.iter().enumerate() {
                let comma = if at == 0 { "" } else { "," };
                text += &format!("{comma}{name}={value}");
            }
            text + "]"
        }
        _ => format!("[{rest}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(fields: &Value) -> FieldSet {
        FieldSet::from_fields_v1(fields)
    }

    fn example() -> Value {
        json!({"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {".": {}, "f:image": {}}}, "f:replicas": {}}})
    }

    #[test]
    fn sets_are_read_and_written_unchanged() {
        assert_eq!(set(&example()).to_fields_v1(), example());
        assert_eq!(
            set(&example()).paths(),
            [".spec.containers[name=\"web\"]", ".spec.containers[name=\"web\"].image", ".spec.replicas"]
        );
    }

    #[test]
    fn set_operations_work_on_paths() {
        let other = set(&json!({"f:spec": {"f:replicas": {}, "f:paused": {}}}));
        assert_eq!(set(&example()).intersection(&other).paths(), [".spec.replicas"]);
        assert_eq!(set(&example()).difference(&other).paths().len(), 2);
        assert_eq!(set(&example()).union(&other).paths().len(), 4);
        assert!(other.difference(&other).is_empty());
    }
}
