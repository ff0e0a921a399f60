//! A row on its way into a map, and what can be wrong with one.

/// An entry to be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Where the row begins in the file, counted from 1.
    pub(super) line: u64,
    pub(super) key: String,
    /// JSON.
    pub(super) value: Vec<u8>,
}

/// A row that cannot be imported.
#[derive(Debug)]
pub(super) struct BadRow {
    pub(super) line: u64,
    pub(super) error: RowError,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum RowError {
    #[error("the cell {column:?} is missing: the header has {expected} columns, the row has {found}")]
    MissingCell { column: String, expected: usize, found: usize },
    #[error("the header has {expected} columns, the row has {found}")]
    TooManyCells { expected: usize, found: usize },
    #[error("bad quoting: a quote opens in column {column} and never closes")]
    UnclosedQuote { column: usize },
    #[error(
        "bad quoting in column {column}: a quoted cell ends with its closing quote, and a quote within it is written twice"
    )]
    TextAfterQuote { column: usize },
    #[error(
        "bad quoting in column {column}: a cell that has a quote in it must be quoted, with that quote written twice"
    )]
    QuoteInPlainCell { column: usize },
    #[error("longer than {limit} bytes")]
    TooLong { limit: usize },
    #[error("not UTF-8")]
    NotUtf8,
    #[error("not a JSON object: {0}")]
    NotAnObject(#[from] serde_json::Error),
    #[error("no value for the key column {column:?}")]
    NoKey { column: String },
    #[error("no member {column:?} to take as the value")]
    NoValue { column: String },
    #[error("the key column {column:?} holds neither text nor a number")]
    KeyNotPlain { column: String },
    #[error(transparent)]
    Refused(#[from] wattle_client::Error),
}

/// What of a row becomes its key and its value.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    /// The columns whose values, joined with commas, are the key.
    pub(super) key: Vec<String>,
    /// The column that is the value; by default all of them are, as an object.
    pub(super) value: Option<String>,
    /// Texts that stand for nothing.
    pub(super) nulls: Vec<String>,
}

impl Shape {
    pub(super) fn is_null(&self, text: &str) -> bool {
        self.nulls.iter().any(|null| null == text)
    }
}
