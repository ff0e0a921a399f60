//! Printing: tables for people, JSON for programs.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

/// Of an [`io::Error`] that keeps its kind: it was the command's output that could not be written, nothing else.
#[derive(Debug, thiserror::Error)]
#[error("the output could not be written")]
pub(super) struct Unwritten(#[source] io::Error);

/// Whether the output went to nobody: a pipe whose reader has seen enough.
pub(super) fn was_closed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// Prints one JSON value on a line of its own.
pub(super) fn json(value: &Value) -> io::Result<()> {
    line(&value.to_string())
}

pub(super) fn line(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{text}").map_err(unwritten)
}

/// Prints bytes as they are.
pub(super) fn bytes(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(unwritten)
}

fn unwritten(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), Unwritten(error))
}

/// Columns under their names. Without rows only the names.
pub(super) fn table(columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> io::Result<()> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|column| column.to_uppercase()));
    table.add_rows(rows);
    line(&trimmed(&mut table))
}

/// Names and what belongs to them.
pub(super) fn facts(facts: impl IntoIterator<Item = (&'static str, String)>) -> io::Result<()> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.add_rows(facts.into_iter().map(|(name, fact)| vec![name.to_owned(), fact]));
    line(&trimmed(&mut table))
}

fn trimmed(table: &mut Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}
