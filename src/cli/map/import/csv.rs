//! CSV, strictly: RFC 4180 with either line ending. Lenient readers guess what a stray quote means and then take half
//! a file for one cell; here it is an error with a line number, and the next line is a new row.

use std::io::{self, BufRead, Read};

use super::row::RowError;

/// Longer than any value the grid takes.
const MAX_RECORD_BYTES: usize = 8 << 20;

/// The cells of one row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) line: u64,
    pub(super) cells: Vec<String>,
}

/// Reads records from lines.
#[derive(Debug)]
pub(super) struct Records<R> {
    input: R,
    /// Lines that a failed row had taken and the next one starts with, the next one last.
    again: Vec<Vec<u8>>,
    /// The number of the next line.
    line: u64,
}

impl<R: BufRead> Records<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, again: Vec::new(), line: 1 }
    }

    /// The next row that is not empty. After a bad one, reading goes on with the line after its first.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, Result<Record, RowError>)>> {
        loop {
            let Some(first) = self.next_line()? else { return Ok(None) };
            if is_blank(&first) {
                continue;
            }
            let line = self.line - 1;
            let record = self.record(line, first)?;
            return Ok(Some((line, record)));
        }
    }

    fn record(&mut self, line: u64, first: Vec<u8>) -> io::Result<Result<Record, RowError>> {
        let mut splitter = Splitter::default();
        let mut taken = Vec::new();
        let mut bytes = first.len();
        let mut part = first;
        let error = loop {
            match splitter.feed(&part) {
                Ok(Fed::Complete) => return Ok(splitter.finish(line)),
                Ok(Fed::Open) if bytes > MAX_RECORD_BYTES => {
                    break RowError::TooLong { limit: MAX_RECORD_BYTES };
                }
                Ok(Fed::Open) => {}
                Err(error) => break error,
            }
            let Some(next) = self.next_line()? else { break splitter.unclosed() };
            bytes += next.len();
            taken.push(next.clone());
            part = next;
        };
        self.line -= taken.len() as u64;
        self.again.extend(taken.into_iter().rev());
        Ok(Err(error))
    }

    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = match self.again.pop() {
            Some(line) => line,
            None => {
                let mut line = Vec::new();
                self.input.by_ref().take(MAX_RECORD_BYTES as u64 + 1).read_until(b'\n', &mut line)?;
                line
            }
        };
        if line.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        Ok(Some(line))
    }
}

fn is_blank(line: &[u8]) -> bool {
    matches!(line, b"\n" | b"\r\n" | b"\r")
}

/// Splits one row into cells, line by line.
#[derive(Debug, Default)]
struct Splitter {
    cells: Vec<Vec<u8>>,
    cell: Vec<u8>,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    CellBegins,
    Plain,
    Quoted,
    /// A quote within quotes: the end of the cell, or the first half of a quote.
    QuoteInQuoted,
}

#[derive(Debug, PartialEq, Eq)]
enum Fed {
    Complete,
    /// A quoted cell goes on in the next line.
    Open,
}

impl Splitter {
    fn feed(&mut self, line: &[u8]) -> Result<Fed, RowError> {
        let content = line.strip_suffix(b"\n").unwrap_or(line);
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        for &byte in content {
            self.state = self.step(byte)?;
        }
        if self.state == State::Quoted {
            self.cell.extend_from_slice(&line[content.len()..]);
            return Ok(Fed::Open);
        }
        self.end_cell();
        Ok(Fed::Complete)
    }

    fn step(&mut self, byte: u8) -> Result<State, RowError> {
        let column = self.cells.len() + 1;
        match (self.state, byte) {
            (State::CellBegins, b'"') => return Ok(State::Quoted),
            (State::Quoted, b'"') => return Ok(State::QuoteInQuoted),
            (State::CellBegins | State::Plain | State::QuoteInQuoted, b',') => {
                self.end_cell();
                return Ok(State::CellBegins);
            }
            (State::Plain, b'"') => return Err(RowError::QuoteInPlainCell { column }),
            (State::QuoteInQuoted, b'"') | (State::Quoted, _) => {
                self.cell.push(byte);
                return Ok(State::Quoted);
            }
            (State::QuoteInQuoted, _) => return Err(RowError::TextAfterQuote { column }),
            (State::CellBegins | State::Plain, _) => self.cell.push(byte),
        }
        Ok(State::Plain)
    }

    fn end_cell(&mut self) {
        self.cells.push(std::mem::take(&mut self.cell));
    }

    fn unclosed(&self) -> RowError {
        RowError::UnclosedQuote { column: self.cells.len() + 1 }
    }

    fn finish(self, line: u64) -> Result<Record, RowError> {
        let cells = self.cells.into_iter().map(String::from_utf8);
        let cells = cells.collect::<Result<_, _>>().map_err(|_| RowError::NotUtf8)?;
        Ok(Record { line, cells })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row as its line and its cells, or as its line and its error.
    fn check(text: &[u8], expected: &[(u64, Result<&[&str], &str>)]) {
        let mut records = Records::new(text);
        let mut found = Vec::new();
        while let Some((line, record)) = records.next().unwrap() {
            found.push((line, record.map(|record| record.cells).map_err(|error| error.to_string())));
        }
        let expected = expected.iter().map(|(line, row)| {
            let row = row.map(|cells| cells.iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>());
            (*line, row.map_err(str::to_owned))
        });
        assert_eq!(found, expected.collect::<Vec<_>>());
    }

    #[test]
    fn cells_may_be_quoted_and_lines_end_either_way() {
        check(
            b"a,b\r\n\"1, 2\",\"say \"\"hi\"\"\"\n\n,\n",
            &[(1, Ok(&["a", "b"])), (2, Ok(&["1, 2", "say \"hi\""])), (4, Ok(&["", ""]))],
        );
    }

    #[test]
    fn a_quoted_cell_may_have_line_breaks() {
        check(b"1,\"a\r\nb\"\n2,c", &[(1, Ok(&["1", "a\r\nb"])), (3, Ok(&["2", "c"]))]);
    }

    #[test]
    fn bad_quoting_costs_one_row_and_has_a_line() {
        let stray = "bad quoting in column 2: a cell that has a quote in it must be quoted, with that quote written twice";
        let after = "bad quoting in column 1: a quoted cell ends with its closing quote, and a quote within it is written twice";
        check(b"1,a\"b\n\"x\"y,2\n3,c\n", &[(1, Err(stray)), (2, Err(after)), (3, Ok(&["3", "c"]))]);
    }

    #[test]
    fn an_unclosed_quote_does_not_swallow_the_file() {
        let unclosed = "bad quoting: a quote opens in column 2 and never closes";
        check(b"1,\"a\n2,b\n3,c\n", &[(1, Err(unclosed)), (2, Ok(&["2", "b"])), (3, Ok(&["3", "c"]))]);
    }

    #[test]
    fn text_must_be_utf8() {
        check(b"\xff\nok\n", &[(1, Err("not UTF-8")), (2, Ok(&["ok"]))]);
    }
}
