//! The part of kubectl's JSON path that printer columns and scale paths use: fields, indexes, `[?(@.x=="y")]`, `[*]`.

use serde_json::Value;

/// All values a path leads to.
pub(crate) fn find<'a>(root: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut found = vec![root];
    let mut rest = path.trim_start_matches('$');
    while !rest.is_empty() {
        let (step, after) = split(rest);
        found = found.into_iter().flat_map(|value| take(value, &step)).collect();
        rest = after;
    }
    found
}

#[derive(Debug)]
enum Step {
    Field(String),
    Index(i64),
    All,
    Filter { path: String, wanted: String, is_equal: bool },
    Nowhere,
}

fn split(path: &str) -> (Step, &str) {
    if let Some(after) = path.strip_prefix('[') {
        let end = after.find(")]").map_or_else(
            || after.find(']'),
            |end| {
                if after.starts_with("?(") { Some(end + 1) } else { after.find(']') }
            },
        );
        let Some(end) = end else { return (Step::Nowhere, "") };
        return (bracket(&after[..end]), &after[end + 1..]);
    }
    let path = path.strip_prefix('.').unwrap_or(path);
    let mut name = String::new();
    let mut letters = path.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => name.extend(letters.next().map(|(_, escaped)| escaped)),
            '.' | '[' => return (Step::Field(name), &path[at..]),
            other => name.push(other),
        }
    }
    (Step::Field(name), "")
}

fn bracket(inside: &str) -> Step {
    if inside == "*" {
        return Step::All;
    }
    if let Some(filter) = inside.strip_prefix("?(@").and_then(|filter| filter.strip_suffix(')')) {
        let (operator, is_equal) = if filter.contains("!=") { ("!=", false) } else { ("==", true) };
        let Some((path, wanted)) = filter.split_once(operator) else { return Step::Nowhere };
        let wanted = wanted.trim().trim_matches(['"', '\'']).to_owned();
        return Step::Filter { path: path.trim().to_owned(), wanted, is_equal };
    }
    match inside.parse() {
        Ok(index) => Step::Index(index),
        Err(_) => Step::Field(inside.trim_matches(['"', '\'']).to_owned()),
    }
}

fn take<'a>(value: &'a Value, step: &Step) -> Vec<&'a Value> {
    let items = || value.as_array().map_or(&[][..], Vec::as_slice);
    match step {
        Step::Field(name) if name == "*" => children(value),
        Step::Field(name) if name.is_empty() => vec![value],
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::All => children(value),
        Step::Index(index) => {
            let at = if *index < 0 { items().len() as i64 + index } else { *index };
            usize::try_from(at).ok().and_then(|at| items().get(at)).into_iter().collect()
        }
        Step::Filter { path, wanted, is_equal } => items()
            .iter()
            .filter(|item| {
                find(item, path).first().is_some_and(|found| (text(found) == *wanted) == *is_equal)
            })
            .collect(),
        Step::Nowhere => Vec::new(),
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_of_printer_columns_are_followed() {
        let value = json!({"spec": {"size": 3, "zones": ["a", "b"]}, "metadata": {"labels": {"a.b/c": "x"}},
            "status": {"conditions": [{"type": "Safe", "status": "False"}, {"type": "Ready", "status": "True"}]}});
        for (path, expected) in [
            (".spec.size", vec![json!(3)]),
            (".spec.zones[*]", vec![json!("a"), json!("b")]),
            (".spec.zones[-1]", vec![json!("b")]),
            (".status.conditions[?(@.type==\"Ready\")].status", vec![json!("True")]),
            (".status.conditions[?(@.type=='Safe')].status", vec![json!("False")]),
            (".metadata.labels.a\\.b/c", vec![json!("x")]),
            (".metadata.labels['a.b/c']", vec![json!("x")]),
            (".status.nothing", vec![]),
        ] {
            let found: Vec<Value> = find(&value, path).into_iter().cloned().collect();
            assert_eq!(found, expected, "{path}");
        }
    }
}
