//! `wattle map export`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use wattle_client::{ContentType, ScanOptions};

use super::content_type;
use crate::cli::progress::Progress;
use crate::cli::remote::{Format, Remote};
use crate::cli::{output, shown};

#[derive(Debug, Args)]
#[command(after_help = "\
NDJSON has one {\"key\": …, \"value\": …} on each line;
`wattle map import MAP FILE --key key --value value` reads it back.
CSV has the column key and one for each member of the values, which must be JSON objects.
The file's name decides: .csv, .ndjson, .jsonl, each also with .gz.")]
pub(super) struct Export {
    /// The map
    name: String,
    /// The file to write; - for the standard output
    file: PathBuf,
    /// Only keys that begin with this
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// What to write, if the file's name does not tell
    #[arg(long, value_enum)]
    format: Option<ExportFormat>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    Csv,
    Ndjson,
}

impl Export {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        let client = remote.connect().await?;
        let content_type = content_type(&client, &self.name).await?;
        let map = client.raw_map(&self.name);
        let cannot_write = || match self.file.to_str() {
            Some("-") => "the output could not be written".to_owned(),
            Some(_) | None => format!("{} cannot be written", self.file.display()),
        };
        let mut rows = Rows::new(self.format(), create(&self.file).with_context(cannot_write)?);
        let length = Some(map.size().await?).filter(|size| *size > 0);
        let to_stdout = self.file == Path::new("-");
        let mut progress = if to_stdout {
            Progress::begin_among_lines(length, "entries")
        } else {
            Progress::begin(length, "entries")
        };
        let mut scan = map.scan(ScanOptions::new().prefix(self.prefix.clone()));
        let mut written = 0;
        while let Some(entry) = scan.next().await? {
            let key = shown::as_json(ContentType::Text, &entry.key);
            rows.write(&key, shown::as_json(content_type, &entry.value)).with_context(cannot_write)?;
            written += 1;
            progress.advance(written, written);
        }
        rows.finish().with_context(cannot_write)?;
        progress.end();
        if to_stdout {
            return Ok(());
        }
        match remote.output {
            Format::Json => output::json(&json!({ "entries": written }))?,
            Format::Table => output::line(&format!("exported {written} entries to {}", self.file.display()))?,
        }
        Ok(())
    }

    fn format(&self) -> ExportFormat {
        let name = self.file.to_string_lossy().to_lowercase();
        let by_name = if name.trim_end_matches(".gz").ends_with(".csv") {
            ExportFormat::Csv
        } else {
            ExportFormat::Ndjson
        };
        self.format.unwrap_or(by_name)
    }
}

fn create(path: &Path) -> io::Result<Sink> {
    if path == Path::new("-") {
        return Ok(Sink::Plain(Box::new(BufWriter::new(io::stdout()))));
    }
    let file = BufWriter::new(File::create(path)?);
    let packed = path.extension().is_some_and(|extension| extension == "gz");
    Ok(if packed {
        Sink::Gzip(GzEncoder::new(file, Compression::default()))
    } else {
        Sink::Plain(Box::new(file))
    })
}

enum Sink {
    Plain(Box<dyn Write>),
    Gzip(GzEncoder<BufWriter<File>>),
}

impl Sink {
    fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(mut plain) => plain.flush(),
            Self::Gzip(packed) => packed.finish()?.flush(),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(plain) => plain.write(bytes),
            Self::Gzip(packed) => packed.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(plain) => plain.flush(),
            Self::Gzip(packed) => packed.flush(),
        }
    }
}

/// Rows on their way to a file. The first entry decides a CSV file's columns.
enum Rows<W: Write> {
    Ndjson(W),
    Csv { writer: Box<csv::Writer<W>>, columns: Vec<String> },
}

impl<W: Write> Rows<W> {
    fn new(format: ExportFormat, sink: W) -> Self {
        match format {
            ExportFormat::Ndjson => Self::Ndjson(sink),
            ExportFormat::Csv => {
                Self::Csv { writer: Box::new(csv::Writer::from_writer(sink)), columns: Vec::new() }
            }
        }
    }

    fn write(&mut self, key: &Value, value: Value) -> anyhow::Result<()> {
        match self {
            Self::Ndjson(sink) => Ok(writeln!(sink, "{}", json!({ "key": key, "value": value }))?),
            Self::Csv { writer, columns } => {
                let Value::Object(object) = value else {
                    bail!(
                        "the value of {key} is not a JSON object, so it has no columns: export to a .ndjson file"
                    )
                };
                let object = object.into_iter().collect::<BTreeMap<_, _>>();
                if columns.is_empty() {
                    columns.extend(object.keys().cloned());
                    let names = std::iter::once("key").chain(columns.iter().map(String::as_str));
                    writer.write_record(names).map_err(unpacked)?;
                }
                if let Some(more) = object.keys().find(|name| !columns.contains(name)) {
                    bail!(
                        "the value of {key} has the member {more:?}, the first one has not: export to a .ndjson file"
                    )
                }
                let cells = columns.iter().map(|column| object.get(column).map_or_else(String::new, cell));
                Ok(writer.write_record(std::iter::once(cell(key)).chain(cells)).map_err(unpacked)?)
            }
        }
    }
}

/// The sink's own error, which tells whether anybody reads on.
fn unpacked(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        kind => io::Error::other(format!("{kind:?}")),
    }
}

impl Rows<Sink> {
    fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Ndjson(sink) => Ok(sink.finish()?),
            Self::Csv { writer, .. } => match writer.into_inner() {
                Ok(sink) => Ok(sink.finish()?),
                Err(error) => Err(error.into_error().into()),
            },
        }
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: ExportFormat, entries: &[(&str, Value)]) -> anyhow::Result<String> {
        let mut bytes = Vec::new();
        let mut rows = Rows::new(format, &mut bytes);
        for (key, value) in entries {
            rows.write(&Value::from(*key), value.clone())?;
        }
        drop(rows);
        Ok(String::from_utf8(bytes)?)
    }

    #[test]
    fn ndjson_has_keys_and_values() {
        let lines = written(ExportFormat::Ndjson, &[("a", json!({"n": 1})), ("b", json!("text"))]).unwrap();
        assert_eq!(lines, "{\"key\":\"a\",\"value\":{\"n\":1}}\n{\"key\":\"b\",\"value\":\"text\"}\n");
    }

    #[test]
    fn csv_has_a_column_for_each_member_of_the_first_value() {
        let entries = [("a", json!({"n": 1, "t": "x,y"})), ("b", json!({"n": null}))];
        assert_eq!(written(ExportFormat::Csv, &entries).unwrap(), "key,n,t\na,1,\"x,y\"\nb,,\n");
    }

    #[test]
    fn csv_refuses_what_it_would_lose() {
        let more = written(ExportFormat::Csv, &[("a", json!({"n": 1})), ("b", json!({"m": 1}))]).unwrap_err();
        assert!(more.to_string().contains("\"m\""), "{more}");
        let plain = written(ExportFormat::Csv, &[("a", json!(7))]).unwrap_err();
        assert!(plain.to_string().contains("not a JSON object"), "{plain}");
    }
}
