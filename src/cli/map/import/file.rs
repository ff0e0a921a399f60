//! A file of rows: plain or gzip, CSV or NDJSON, told apart by their first bytes.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use clap::ValueEnum;
use flate2::read::MultiGzDecoder;

use super::convert::{Columns, HeaderError};
use super::csv::Records;
use super::ndjson;
use super::row::{BadRow, Row, RowError, Shape};

const GZIP: [u8; 2] = [0x1f, 0x8b];
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
/// Longer than any value the grid takes.
const MAX_LINE_BYTES: usize = 8 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RowFormat {
    /// Comma-separated values under a header
    Csv,
    /// One JSON object on each line
    Ndjson,
}

/// A file that cannot be read as rows at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error("line {line}: {error}")]
    Header { line: u64, error: RowError },
    #[error(transparent)]
    Columns(#[from] HeaderError),
    #[error("the file is empty")]
    Empty,
}

type Input = BufReader<Box<dyn Read>>;

/// The rows of a file, in order.
pub(super) struct Rows {
    lines: Lines,
    shape: Shape,
    read: Rc<Cell<u64>>,
}

enum Lines {
    Csv { records: Records<Input>, columns: Columns },
    Ndjson { input: Input, line: u64 },
}

impl Rows {
    /// Opens a file, or the standard input for `-`.
    pub(super) fn open(path: &Path, format: Option<RowFormat>, shape: Shape) -> Result<Self, FileError> {
        let source: Box<dyn Read> =
            if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
        Self::read(source, format, shape)
    }

    fn read(source: Box<dyn Read>, format: Option<RowFormat>, shape: Shape) -> Result<Self, FileError> {
        let read = Rc::new(Cell::new(0));
        let mut input = unpacked(Counted { source, read: read.clone() })?;
        let format = match format {
            Some(format) => format,
            None if input.fill_buf()?.trim_ascii_start().starts_with(b"{") => RowFormat::Ndjson,
            None => RowFormat::Csv,
        };
        let lines = match format {
            RowFormat::Ndjson => Lines::Ndjson { input, line: 0 },
            RowFormat::Csv => {
                let mut records = Records::new(input);
                let (line, header) = records.next()?.ok_or(FileError::Empty)?;
                let header = header.map_err(|error| FileError::Header { line, error })?;
                Lines::Csv { records, columns: Columns::new(header.cells, shape.clone())? }
            }
        };
        Ok(Self { lines, shape, read })
    }

    /// How many bytes of the file were read, before unpacking.
    pub(super) fn bytes_read(&self) -> u64 {
        self.read.get()
    }

    /// The next row; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Result<Row, BadRow>>> {
        match &mut self.lines {
            Lines::Csv { records, columns } => {
                let Some((line, record)) = records.next()? else { return Ok(None) };
                let row = record.and_then(|record| columns.row(&record));
                Ok(Some(row.map_err(|error| BadRow { line, error })))
            }
            Lines::Ndjson { input, line } => {
                let Some(text) = next_line(input, line)? else { return Ok(None) };
                let row = if text.len() > MAX_LINE_BYTES {
                    Err(RowError::TooLong { limit: MAX_LINE_BYTES })
                } else {
                    ndjson::row(*line, &text, &self.shape)
                };
                Ok(Some(row.map_err(|error| BadRow { line: *line, error })))
            }
        }
    }
}

/// The next line that is not blank, cut off where it is too long.
fn next_line(input: &mut Input, line: &mut u64) -> io::Result<Option<Vec<u8>>> {
    loop {
        let mut text = Vec::new();
        input.by_ref().take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut text)?;
        if text.is_empty() {
            return Ok(None);
        }
        *line += 1;
        if !text.ends_with(b"\n") && text.len() > MAX_LINE_BYTES {
            input.skip_until(b'\n')?;
        }
        if !text.trim_ascii().is_empty() {
            return Ok(Some(text));
        }
    }
}

fn unpacked(mut source: Counted) -> io::Result<Input> {
    let packed = Prefixed::of(&mut source, GZIP.len())?;
    let is_gzip = packed.prefix == GZIP;
    let whole = packed.before(Box::new(source));
    let mut plain: Box<dyn Read> = if is_gzip { Box::new(MultiGzDecoder::new(whole)) } else { whole };
    let text = Prefixed::of(&mut plain, BYTE_ORDER_MARK.len())?;
    if text.prefix == BYTE_ORDER_MARK {
        return Ok(BufReader::new(plain));
    }
    Ok(BufReader::new(text.before(plain)))
}

/// The first bytes of a source, read ahead.
struct Prefixed {
    prefix: Vec<u8>,
}

impl Prefixed {
    fn of(source: &mut impl Read, length: usize) -> io::Result<Self> {
        let mut prefix = Vec::with_capacity(length);
        source.by_ref().take(length as u64).read_to_end(&mut prefix)?;
        Ok(Self { prefix })
    }

    fn before(self, rest: Box<dyn Read>) -> Box<dyn Read> {
        Box::new(io::Cursor::new(self.prefix).chain(rest))
    }
}

struct Counted {
    source: Box<dyn Read>,
    read: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.read.set(self.read.get() + read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn shape() -> Shape {
        Shape { key: vec!["k".into()], ..Shape::default() }
    }

    fn check(bytes: Vec<u8>, expected: &[(u64, &str, &str)]) {
        let mut rows = Rows::read(Box::new(io::Cursor::new(bytes)), None, shape()).unwrap();
        let mut found = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            let row = row.unwrap();
            found.push((row.line, row.key, String::from_utf8(row.value).unwrap()));
        }
        let expected = expected.iter().map(|&(line, key, value)| (line, key.to_owned(), value.to_owned()));
        assert_eq!(found, expected.collect::<Vec<_>>());
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    const CSV: &str = "k,v\na,1\n";
    const NDJSON: &str = "\n{\"k\":\"a\",\"v\":1}\n\n{\"k\":\"b\"}\n";

    #[test]
    fn formats_are_told_apart_by_their_first_bytes() {
        let row = [(2, "a", "{\"k\":\"a\",\"v\":1}")];
        check(CSV.into(), &row);
        check(gzip(CSV), &row);
        check([BYTE_ORDER_MARK, CSV.as_bytes()].concat(), &row);
        let rows = [row[0], (4, "b", "{\"k\":\"b\"}")];
        check(NDJSON.into(), &rows);
        check(gzip(NDJSON), &rows);
    }

    #[test]
    fn parts_of_a_gzip_file_are_read_as_one() {
        check(
            [gzip("k\na\n"), gzip("b\n")].concat(),
            &[(2, "a", "{\"k\":\"a\"}"), (3, "b", "{\"k\":\"b\"}")],
        );
    }

    #[test]
    fn a_truncated_gzip_file_is_an_error() {
        let mut bytes = gzip(&"k\n".repeat(1000));
        bytes.truncate(bytes.len() / 2);
        let truncated = count(bytes).unwrap_err();
        assert!(
            matches!(&truncated, FileError::Read(error) if error.kind() == io::ErrorKind::UnexpectedEof),
            "{truncated:?}"
        );
    }

    fn count(bytes: Vec<u8>) -> Result<usize, FileError> {
        let mut rows = Rows::read(Box::new(io::Cursor::new(bytes)), None, shape())?;
        let mut count = 0;
        while rows.next()?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    #[test]
    fn an_empty_file_has_no_header() {
        let refused = Rows::read(Box::new(io::empty()), None, shape()).map(|_| ());
        assert!(matches!(refused, Err(FileError::Empty)), "{refused:?}");
    }
}
