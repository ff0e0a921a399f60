//! Reads JSON: what the command line prints with `--output json`, and the figures that the demo must reach.

use std::fmt;

/// How deep values may lie in one another.
const MAX_DEPTH: usize = 64;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Json>),
    /// In the order of writing.
    Object(Vec<(String, Json)>),
}

/// Where the text is not JSON: a count of bytes from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotJson {
    at: usize,
}

impl fmt::Display for NotJson {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "not JSON at byte {}", self.at)
    }
}

impl Json {
    pub(crate) fn parse(text: &str) -> Result<Self, NotJson> {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(0)?;
        reader.skip_space();
        if reader.at == text.len() { Ok(value) } else { Err(reader.here()) }
    }

    /// The member of an object.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::List(_) => None,
        }
    }

    /// A number, also one that stands in a string, as protobuf's JSON writes 64-bit integers.
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
            Self::Null | Self::Bool(_) | Self::List(_) | Self::Object(_) => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::List(_) | Self::Object(_) => None,
        }
    }

    /// The items of a list; none for anything else.
    pub(crate) fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::Object(_) => &[],
        }
    }

    /// The members of an object; none for anything else.
    pub(crate) fn members(&self) -> &[(String, Self)] {
        match self {
            Self::Object(members) => members,
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::List(_) => &[],
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn here(&self) -> NotJson {
        NotJson { at: self.at }
    }

    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Steps over the word when it stands here.
    fn take(&mut self, word: &str) -> bool {
        let is_here = self.text[self.at..].starts_with(word);
        self.at += if is_here { word.len() } else { 0 };
        is_here
    }

    fn expect(&mut self, word: &str) -> Result<(), NotJson> {
        if self.take(word) { Ok(()) } else { Err(self.here()) }
    }

    fn value(&mut self, depth: usize) -> Result<Json, NotJson> {
        if depth > MAX_DEPTH {
            return Err(self.here());
        }
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => self.string().map(Json::Text),
            Some(b't') => self.expect("true").map(|()| Json::Bool(true)),
            Some(b'f') => self.expect("false").map(|()| Json::Bool(false)),
            Some(b'n') => self.expect("null").map(|()| Json::Null),
            Some(_) | None => self.numeral(),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, NotJson> {
        let mut members = Vec::new();
        self.expect("{")?;
        self.skip_space();
        while !self.take("}") {
            if !members.is_empty() {
                self.expect(",")?;
                self.skip_space();
            }
            let name = self.string()?;
            self.skip_space();
            self.expect(":")?;
            members.push((name, self.value(depth + 1)?));
            self.skip_space();
        }
        Ok(Json::Object(members))
    }

    fn list(&mut self, depth: usize) -> Result<Json, NotJson> {
        let mut items = Vec::new();
        self.expect("[")?;
        self.skip_space();
        while !self.take("]") {
            if !items.is_empty() {
                self.expect(",")?;
            }
            items.push(self.value(depth + 1)?);
            self.skip_space();
        }
        Ok(Json::List(items))
    }

    fn string(&mut self) -> Result<String, NotJson> {
        self.expect("\"")?;
        let mut string = String::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.find(['"', '\\']).ok_or(self.here())?;
            string.push_str(&rest[..plain]);
            self.at += plain;
            if self.take("\"") {
                return Ok(string);
            }
            string.push(self.escape()?);
        }
    }

    fn escape(&mut self) -> Result<char, NotJson> {
        self.expect("\\")?;
        let letter = self.text[self.at..].chars().next().ok_or(self.here())?;
        self.at += letter.len_utf8();
        match letter {
            '"' | '\\' | '/' => Ok(letter),
            'b' => Ok('\u{8}'),
            'f' => Ok('\u{c}'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            'u' => self.code_point(),
            _ => Err(self.here()),
        }
    }

    /// `\uXXXX`, or two of them for a code point beyond the first plane.
    fn code_point(&mut self) -> Result<char, NotJson> {
        let first = self.hexadecimal()?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first).ok_or(self.here());
        }
        self.expect("\\u")?;
        let second = self.hexadecimal()?.checked_sub(0xdc00).ok_or(self.here())?;
        char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + second).ok_or(self.here())
    }

    fn hexadecimal(&mut self) -> Result<u32, NotJson> {
        let digits = self.text.get(self.at..self.at + 4).ok_or(self.here())?;
        let number = u32::from_str_radix(digits, 16).map_err(|_| self.here())?;
        self.at += 4;
        Ok(number)
    }

    fn numeral(&mut self) -> Result<Json, NotJson> {
        let rest = &self.text[self.at..];
        let length = rest.find(|letter: char| !matches!(letter, '0'..='9' | '+' | '-' | '.' | 'e' | 'E'));
        let numeral = &rest[..length.unwrap_or(rest.len())];
        let number = numeral.parse().map_err(|_| self.here())?;
        self.at += numeral.len();
        Ok(Json::Number(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Json) {
        assert_eq!(Json::parse(text), Ok(expected), "{text}");
    }

    #[test]
    fn values_of_every_kind_are_read() {
        check(" null ", Json::Null);
        check("-1.5e3", Json::Number(-1500.0));
        check("[]", Json::List(vec![]));
        check("[true, false]", Json::List(vec![Json::Bool(true), Json::Bool(false)]));
        let object = vec![("a".to_owned(), Json::Number(1.0)), ("b".to_owned(), Json::Object(vec![]))];
        check("{ \"a\" : 1 , \"b\" : { } }", Json::Object(object));
    }

    #[test]
    fn escapes_are_read() {
        check(r#""a\"\\\n\u00e9\ud83d\ude00""#, Json::Text("a\"\\\né😀".to_owned()));
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in ["", "{", "[1 2]", "{\"a\"}", "\"a", "nul", "1 2", r#""\ud83d""#, &"[".repeat(100)] {
            assert!(Json::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn members_are_found_by_name() {
        let value = Json::parse(r#"{"a": {"b": "7", "c": 8}}"#).expect("valid");
        let inner = value.get("a").expect("present");
        assert_eq!(inner.get("b").and_then(Json::number), Some(7.0));
        assert_eq!(inner.get("b").and_then(Json::text), Some("7"));
        assert_eq!(inner.members().len(), 2);
        assert_eq!(inner.get("d"), None);
    }
}
