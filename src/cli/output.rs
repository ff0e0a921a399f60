//! Printing: tables for people, JSON for programs.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

/// Prints one JSON value on a line of its own.
pub(super) fn json(value: &Value) -> io::Result<()> {
    line(&value.to_string())
}

pub(super) fn line(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
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
