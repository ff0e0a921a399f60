//! Names of maps and functions.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits::NAME_BYTES;

/// The name of a map or a function: 1 to 128 bytes of `[A-Za-z0-9._-]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// It has no characters.
    #[error("a name must not be empty")]
    Empty,
    /// It is too long.
    #[error("a name has at most {NAME_BYTES} bytes, this one has {length}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// It has a character that names do not have.
    #[error("a name consists of A-Z a-z 0-9 . _ - only, not {character:?}")]
    Character {
        /// The first such character.
        character: char,
    },
}

impl Name {
    /// Checks a text.
    ///
    /// # Errors
    /// [`InvalidName`] says what is wrong with it.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        if text.is_empty() {
            return Err(InvalidName::Empty);
        }
        if text.len() > NAME_BYTES {
            return Err(InvalidName::TooLong { length: text.len() });
        }
        match text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
            Some(character) => Err(InvalidName::Character { character }),
            None => Ok(Self(text.into())),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::new(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_plain() {
        let longest = "a".repeat(NAME_BYTES);
        assert_eq!(Name::new(&longest).map(String::from), Ok(longest.clone()));
        assert_eq!(Name::new("flights.2013_01-b").map(String::from), Ok("flights.2013_01-b".into()));
        assert_eq!(Name::new(""), Err(InvalidName::Empty));
        assert_eq!(Name::new(&(longest + "a")), Err(InvalidName::TooLong { length: NAME_BYTES + 1 }));
        assert_eq!(Name::new("a b"), Err(InvalidName::Character { character: ' ' }));
        assert_eq!(Name::new("é"), Err(InvalidName::Character { character: 'é' }));
    }
}
