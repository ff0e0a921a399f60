//! `wattle invoke`.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};
use wattle_client::{Client, ContentType, EntryAnswer, InvokeStream, InvokeSummary, RawMap, Responses};

use super::exit::{EntriesFailed, Unprinted};
use super::map::content_type;
use super::progress::Progress;
use super::remote::{Format, Remote};
use super::{output, shown};

/// How many failed entries are shown to people who asked for no responses.
const FAILURES_SHOWN: u64 = 10;

#[derive(Debug, Args)]
pub(super) struct Invoke {
    /// Its name in the grid
    function: String,
    /// The map whose entries it gets
    #[arg(long)]
    map: String,
    #[command(flatten)]
    target: Target,
    /// What the function is given, as the function reads it: JSON for most. In maps of MessagePack it is packed first
    #[arg(long, default_value = "", hide_default_value = true, allow_hyphen_values = true)]
    argument: String,
    /// With --all, print the responses of entries too, not only counts
    #[arg(long, conflicts_with = "key")]
    responses: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// Run it on this key, whether or not it has an entry
    #[arg(long)]
    key: Option<String>,
    /// Run it on each key of a file, one on a line; - for the standard input
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Run it on every entry
    #[arg(long)]
    all: bool,
}

impl Invoke {
    pub(super) fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        remote.block_on(self.invoke(remote))
    }

    async fn invoke(&self, remote: &Remote) -> anyhow::Result<()> {
        let client = remote.connect().await?;
        let map = client.raw_map(&self.map);
        let argument = self.argument(&client).await?;
        if let Some(key) = &self.target.key {
            return self.on_key(remote.output, &map, key, argument).await;
        }
        let parts = match &self.target.keys {
            None => {
                let responses = if self.responses { Responses::Collect } else { Responses::Discard };
                map.invoke_all(&self.function, argument, responses).await?
            }
            Some(file) => {
                let keys = keys_of(file)?;
                if keys.is_empty() {
                    bail!("{} has no keys", file.display());
                }
                map.invoke_keys(&self.function, keys, argument).await?
            }
        };
        self.follow(
            Answers { format: remote.output, most: self.most_told(remote.output), told: 0, unwritten: None },
            parts,
        )
        .await
    }

    /// Only MessagePack needs to know the map.
    async fn argument(&self, client: &Client) -> anyhow::Result<Vec<u8>> {
        let as_it_is = || self.argument.clone().into_bytes();
        if self.argument.is_empty() {
            return Ok(as_it_is());
        }
        match content_type(client, &self.map).await {
            Ok(ContentType::MessagePack) => shown::typed(ContentType::MessagePack, &self.argument),
            // Whether the map has to exist is for the call itself to say.
            Ok(_) | Err(_) => Ok(as_it_is()),
        }
    }

    async fn on_key(&self, format: Format, map: &RawMap, key: &str, argument: Vec<u8>) -> anyhow::Result<()> {
        let invoked = map.invoke(&self.function, key.to_owned(), argument).await?;
        let response = shown::response_as_json(&invoked.response);
        match format {
            Format::Json => {
                output::json(&json!({ "key": key, "response": response, "module": invoked.module }))?
            }
            Format::Table if invoked.response.is_empty() => {}
            Format::Table => output::line(&as_text(&response))?,
        }
        Ok(())
    }

    /// To the call's end, also when nobody takes the answers any more: entries are being changed.
    async fn follow(&self, mut answers: Answers, mut parts: InvokeStream) -> anyhow::Result<()> {
        let mut progress = None;
        let (mut summary, mut resumed) = (InvokeSummary::default(), false);
        while let Some(mut part) = parts.next().await? {
            resumed |= part.resumed;
            let partitions = Some(u64::from(part.partitions));
            let progress = progress.get_or_insert_with(|| answers.progress(partitions));
            let entries = std::mem::take(&mut part.entries);
            summary.add(part);
            progress.advance(u64::from(summary.complete), summary.processed);
            entries.iter().for_each(|entry| answers.add(entry, progress));
        }
        drop(progress);
        answers.end(&summary);
        if resumed && self.responses {
            eprintln!("the call was interrupted and went on: the responses of some entries may be missing");
        }
        answers.judge(&summary)
    }

    /// Of all entries only those that failed are told, unless responses are asked for.
    fn most_told(&self, format: Format) -> u64 {
        let only_failures = self.target.all && !self.responses;
        if only_failures && format == Format::Table { FAILURES_SHOWN } else { u64::MAX }
    }
}

/// What is printed of a call, until that fails.
#[derive(Debug)]
struct Answers {
    format: Format,
    most: u64,
    told: u64,
    unwritten: Option<io::Error>,
}

impl Answers {
    fn progress(&self, partitions: Option<u64>) -> Progress {
        if self.most == FAILURES_SHOWN {
            Progress::begin(partitions, "entries")
        } else {
            Progress::begin_among_lines(partitions, "entries")
        }
    }

    fn add(&mut self, entry: &EntryAnswer, progress: &Progress) {
        self.told += 1;
        if self.told <= self.most {
            self.print(|format| progress.above(|| print_entry(format, entry)));
        }
    }

    fn end(&mut self, summary: &InvokeSummary) {
        if self.told > self.most {
            let more = self.told - self.most;
            self.print(|_| output::line(&format!("… and {more} more")));
        }
        self.print(|format| print_summary(format, summary));
    }

    fn print(&mut self, print: impl FnOnce(Format) -> io::Result<()>) {
        if self.unwritten.is_none() {
            self.unwritten = print(self.format).err();
        }
    }

    /// How the call ended; a reader who has seen enough makes no difference.
    fn judge(self, summary: &InvokeSummary) -> anyhow::Result<()> {
        let judged = judge(summary);
        let Some(error) = self.unwritten.filter(|error| !output::was_closed(error)) else {
            return judged;
        };
        let unprinted = Unprinted { error, ended: counts(summary) };
        match judged {
            Ok(()) => Err(unprinted.into()),
            Err(judged) => Err(judged.context(unprinted)),
        }
    }
}

fn print_entry(format: Format, entry: &EntryAnswer) -> io::Result<()> {
    let key = shown::as_json(ContentType::Text, &entry.key);
    let (response, error) = match &entry.response {
        Ok(response) => (shown::response_as_json(response), None),
        Err(error) => (Value::Null, Some(error.to_string())),
    };
    match (format, error) {
        (Format::Json, Some(error)) => output::json(&json!({ "key": key, "error": error })),
        (Format::Json, None) => output::json(&json!({ "key": key, "response": response })),
        (Format::Table, Some(error)) => output::line(&format!("{}\terror: {error}", as_text(&key))),
        (Format::Table, None) => output::line(&format!("{}\t{}", as_text(&key), as_text(&response))),
    }
}

fn print_summary(format: Format, summary: &InvokeSummary) -> io::Result<()> {
    match format {
        Format::Json => {
            let error = |(partition, error): &(u32, wattle_client::Error)| json!({ "partition": partition, "error": error.to_string() });
            output::json(&json!({
                "processed": summary.processed,
                "failed": summary.failed,
                "partitions": summary.partitions,
                "complete": summary.complete,
                "errors": summary.errors.iter().map(error).collect::<Vec<_>>(),
            }))
        }
        Format::Table => output::line(&counts(summary)),
    }
}

/// What became of the entries and partitions, for people.
fn counts(summary: &InvokeSummary) -> String {
    let failed = match summary.failed {
        0 => String::new(),
        failed => format!("{failed} failed, "),
    };
    let processed = summary.processed.saturating_sub(summary.failed);
    let (complete, partitions) = (summary.complete, summary.partitions);
    format!("{processed} entries processed, {failed}{complete} of {partitions} partitions complete")
}

/// A text by itself needs no quotes on a terminal.
fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn keys_of(file: &Path) -> anyhow::Result<Vec<String>> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        io::stdin().lock().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

fn judge(summary: &InvokeSummary) -> anyhow::Result<()> {
    if let Some((partition, error)) = summary.errors.first() {
        let others = summary.errors.len() - 1;
        bail!(
            "partition {partition} was not processed to its end: {error}; {others} other partitions neither"
        );
    }
    if summary.complete < summary.partitions {
        bail!(
            "{} of {} partitions did not complete",
            summary.partitions - summary.complete,
            summary.partitions
        );
    }
    if summary.failed > 0 {
        return Err(EntriesFailed { failed: summary.failed, processed: summary.processed }.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(failed: u64, complete: u32) -> InvokeSummary {
        InvokeSummary { processed: 9, failed, complete, partitions: 3, errors: Vec::new() }
    }

    #[test]
    fn entries_that_failed_are_not_counted_as_processed() {
        assert_eq!(counts(&summary(0, 3)), "9 entries processed, 3 of 3 partitions complete");
        assert_eq!(counts(&summary(9, 3)), "0 entries processed, 9 failed, 3 of 3 partitions complete");
    }

    fn ended(unwritten: Option<io::ErrorKind>, summary: &InvokeSummary) -> anyhow::Result<()> {
        let unwritten = unwritten.map(io::Error::from);
        Answers { format: Format::Table, most: FAILURES_SHOWN, told: 0, unwritten }.judge(summary)
    }

    #[test]
    fn a_closed_output_does_not_change_how_a_call_ended() {
        let closed = Some(io::ErrorKind::BrokenPipe);
        assert!(ended(closed, &summary(0, 3)).is_ok());
        let failed = ended(closed, &summary(2, 3)).unwrap_err();
        assert_eq!(failed.downcast_ref::<EntriesFailed>().map(|failed| failed.failed), Some(2));
    }

    #[test]
    fn an_output_that_fails_is_told_with_what_became_of_the_entries() {
        let full = Some(io::ErrorKind::StorageFull);
        let unprinted = ended(full, &summary(0, 3)).unwrap_err();
        assert_eq!(
            format!("{unprinted:#}"),
            "no storage space; the call went on to its end: 9 entries processed, 3 of 3 partitions complete"
        );
        let failed = ended(full, &summary(9, 3)).unwrap_err();
        assert_eq!(failed.downcast_ref::<EntriesFailed>().map(|failed| failed.failed), Some(9));
        assert!(format!("{failed:#}").contains("0 entries processed, 9 failed"), "{failed:#}");
    }

    #[test]
    fn a_part_that_failed_never_hides_behind_a_success() {
        assert!(judge(&summary(0, 3)).is_ok());
        assert_eq!(judge(&summary(0, 2)).unwrap_err().to_string(), "1 of 3 partitions did not complete");
        let failed = judge(&summary(2, 3)).unwrap_err();
        assert_eq!(failed.downcast_ref::<EntriesFailed>().map(|failed| failed.failed), Some(2));
        let mut broken = summary(0, 3);
        broken.errors.push((1, wattle_client::Error::PipelineClosed));
        let broken = judge(&broken).unwrap_err().to_string();
        assert!(broken.starts_with("partition 1 was not processed to its end"), "{broken}");
    }
}
