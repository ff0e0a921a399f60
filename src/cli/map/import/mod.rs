//! `wattle map import`.

mod convert;
mod csv;
mod file;
mod ndjson;
mod row;
mod writer;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use serde_json::json;
use wattle_client::{Client, ContentType, Error, MapOptions, PipelineOptions};

use crate::cli::output;
use crate::cli::progress::Progress;
use crate::cli::remote::{Format, Remote};
use file::{RowFormat, Rows};
use row::{BadRow, Shape};
use writer::Writer;

/// How many bad rows are named one by one.
const NAMED_BAD_ROWS: u64 = 10;

#[derive(Debug, Args)]
#[command(after_help = "\
Rows become JSON objects. Cells of a CSV file become numbers where JSON writes them the
same way and nothing is lost: leading zeros and integers beyond 2^53 stay text.
A map that does not exist is created, with content type json.")]
pub(super) struct Import {
    /// The map
    name: String,
    /// A CSV or NDJSON file, plain or gzip; - for the standard input
    file: PathBuf,
    /// The columns whose values, joined with commas, are the key
    #[arg(long, required = true, value_delimiter = ',', value_name = "COLUMN")]
    key: Vec<String>,
    /// Take this column alone as the value, instead of the whole row
    #[arg(long, value_name = "COLUMN")]
    value: Option<String>,
    /// A text that stands for nothing and becomes null; --null= for empty cells
    #[arg(long, value_name = "TEXT")]
    null: Vec<String>,
    /// What to do about a bad row
    #[arg(long, value_enum, default_value_t)]
    on_error: OnError,
    /// What the file is, if its first byte does not tell
    #[arg(long, value_enum)]
    format: Option<RowFormat>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum OnError {
    /// Stop there; rows before it are written
    #[default]
    Stop,
    /// Say which, and go on
    Skip,
}

/// Bad rows so far.
#[derive(Debug, Default)]
struct BadRows {
    count: u64,
}

impl Import {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        let shape = Shape { key: self.key.clone(), value: self.value.clone(), nulls: self.null.clone() };
        let rows = Rows::open(&self.file, self.format, shape);
        let rows = rows.with_context(|| self.file.display().to_string())?;
        let client = remote.connect().await?;
        prepare_map(&client, &self.name).await?;
        let length = std::fs::metadata(&self.file).ok().map(|file| file.len()).filter(|length| *length > 0);
        let mut progress = Progress::begin(length, "rows");
        let started = Instant::now();
        let writer = Writer::new(client.pipeline(PipelineOptions::new().window(writer::WINDOW)), &self.name);
        let copied = self.copy(rows, writer, &mut progress).await;
        progress.end();
        let (written, skipped) = copied?;
        let seconds = started.elapsed().as_secs_f64();
        let rate = written as f64 / seconds.max(0.001);
        match remote.output {
            Format::Json => output::json(&json!({
                "rows": written, "skipped": skipped, "seconds": seconds, "rows_per_second": rate,
            }))?,
            Format::Table => {
                let and_skipped = if skipped > 0 { format!(", skipped {skipped}") } else { String::new() };
                output::line(&format!(
                    "imported {written} rows in {seconds:.2} s ({rate:.0}/s){and_skipped}"
                ))?;
            }
        }
        Ok(())
    }

    /// Answers how many rows were written and how many skipped.
    async fn copy(
        &self,
        mut rows: Rows,
        mut writer: Writer,
        progress: &mut Progress,
    ) -> anyhow::Result<(u64, u64)> {
        let mut bad = BadRows::default();
        loop {
            let next = rows.next().with_context(|| format!("{} cannot be read on", self.file.display()))?;
            let refused = match next {
                Some(Ok(row)) => writer.write(row).await?,
                Some(Err(bad_row)) => vec![bad_row],
                None => break,
            };
            if let Some(worst) = self.note(&mut bad, refused, progress) {
                // Rows before it that are on their way are written; one of them may have been refused as well.
                let mut refused = writer.finish().await?;
                refused.push(worst);
                return Err(stopped(refused, &writer));
            }
            progress.advance(rows.bytes_read(), writer.written());
        }
        let refused = writer.finish().await?;
        if let Some(worst) = self.note(&mut bad, refused, progress) {
            return Err(stopped(vec![worst], &writer));
        }
        if bad.count > NAMED_BAD_ROWS {
            progress.note(&format!("and {} more", bad.count - NAMED_BAD_ROWS));
        }
        Ok((writer.written(), bad.count))
    }

    /// Names bad rows, or answers the one to stop at.
    fn note(&self, bad: &mut BadRows, refused: Vec<BadRow>, progress: &Progress) -> Option<BadRow> {
        match self.on_error {
            OnError::Stop => refused.into_iter().min_by_key(|bad_row| bad_row.line),
            OnError::Skip => {
                for bad_row in refused {
                    bad.count += 1;
                    if bad.count <= NAMED_BAD_ROWS {
                        progress.note(&format!("line {}: {}: skipped", bad_row.line, bad_row.error));
                    }
                }
                None
            }
        }
    }
}

/// Names the first bad row.
fn stopped(bad: Vec<BadRow>, writer: &Writer) -> anyhow::Error {
    let first = bad.into_iter().min_by_key(|bad_row| bad_row.line);
    let first = first.map_or_else(String::new, |bad_row| format!("line {}: {}", bad_row.line, bad_row.error));
    anyhow!("{first}; {} rows were written", writer.written())
}

/// Rows are JSON: a new map says so, an old one must be able to hold them.
async fn prepare_map(client: &Client, name: &str) -> anyhow::Result<()> {
    let described = match client.maps().describe(name).await {
        Err(Error::MapNotFound(_)) => {
            let created =
                client.maps().create(name, &MapOptions::new().content_type(ContentType::Json)).await;
            match created {
                Ok(map) => map,
                // Somebody else just created it.
                Err(Error::MapExists(_)) => client.maps().describe(name).await?.0,
                Err(error) => return Err(error.into()),
            }
        }
        described => described?.0,
    };
    if described.options.unwrap_or_default().content_type() == ContentType::MessagePack {
        bail!("the map {name} holds MessagePack, and rows become JSON: import into another map");
    }
    Ok(())
}
