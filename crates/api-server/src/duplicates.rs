//! Fields that a JSON text gives twice: parsed, only the last of them is left.

use std::collections::BTreeSet;

use serde_json::Value;

/// What to say of the duplicate fields in a text that is known to be JSON.
pub(crate) fn find(json: &[u8]) -> Vec<String> {
    let mut scanner = Scanner { rest: json, found: Vec::new() };
    scanner.value("");
    scanner.found
}

struct Scanner<'a> {
    rest: &'a [u8],
    found: Vec<String>,
}

impl Scanner<'_> {
    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.first().copied()
    }

    fn take(&mut self, expected: u8) -> bool {
        let is_there = self.peek() == Some(expected);
        if is_there {
            self.rest = &self.rest[1..];
        }
        is_there
    }

    fn value(&mut self, path: &str) {
        match self.peek() {
            Some(b'{') => self.object(path),
            Some(b'[') => self.array(path),
            Some(b'"') => drop(self.string()),
            _ => {
                let is_end = |byte: &u8| b",]}".contains(byte) || byte.is_ascii_whitespace();
                let end = self.rest.iter().position(is_end).unwrap_or(self.rest.len());
                self.rest = &self.rest[end..];
            }
        }
    }

    fn object(&mut self, path: &str) {
        let mut names = BTreeSet::new();
        self.take(b'{');
        while self.peek() == Some(b'"') {
            let name = self.string();
            let field = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if !names.insert(name) {
                self.found.push(format!("duplicate field {field:?}"));
            }
            self.take(b':');
            self.value(&field);
            self.take(b',');
        }
        self.take(b'}');
    }

    fn array(&mut self, path: &str) {
        self.take(b'[');
        let mut at = 0;
        while self.peek().is_some_and(|byte| !b"]}".contains(&byte)) {
            self.value(&format!("{path}[{at}]"));
            self.take(b',');
            at += 1;
        }
        self.take(b']');
    }

    fn string(&mut self) -> String {
        let mut end = 1;
        while let Some(byte) = self.rest.get(end).filter(|byte| **byte != b'"') {
            end += if *byte == b'\\' { 2 } else { 1 };
        }
        let (text, rest) = self.rest.split_at((end + 1).min(self.rest.len()));
        self.rest = rest;
        match serde_json::from_slice(text) {
            Ok(Value::String(text)) => text,
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: &[&str]) {
        assert_eq!(find(json.as_bytes()), expected, "{json}");
    }

    #[test]
    fn fields_that_come_twice_are_named_with_their_place() {
        check(r#"{"a": {"b": 1}, "c": [true, null, -1.5e3], "d": "}\"{", "e": {}}"#, &[]);
        check(r#"{"data": {"a": "b", "a" : "c"}}"#, &[r#"duplicate field "data.a""#]);
        check(
            r#"{"spec": [{"x": "1"}, {"x": [], "x": [{"y": 1, "\u0079": 2}]}], "spec": 1}"#,
            &[
                r#"duplicate field "spec[1].x""#,
                r#"duplicate field "spec[1].x[0].y""#,
                r#"duplicate field "spec""#,
            ],
        );
    }

    #[test]
    fn what_is_no_json_ends_too() {
        check("", &[]);
        check(r#"{"a"#, &[]);
        check("[,}", &[]);
    }
}
