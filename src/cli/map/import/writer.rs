//! Writes rows through a pipeline, and knows which line each of them came from.

use std::collections::VecDeque;

use wattle_client::packed::{Condition, NameIndex, Operation, OperationResult};
use wattle_client::{Batch, BatchAnswers, Error, Pending, Pipeline};

use super::row::{BadRow, Row};

/// Batches in flight.
pub(super) const WINDOW: usize = 16;
const BATCH_ROWS: usize = 256;
const BATCH_BYTES: usize = 256 << 10;

pub(super) struct Writer {
    pipeline: Pipeline,
    map: String,
    rows: Vec<Row>,
    bytes: usize,
    in_flight: VecDeque<(Vec<u64>, Pending)>,
    written: u64,
}

impl Writer {
    pub(super) fn new(pipeline: Pipeline, map: &str) -> Self {
        let (rows, in_flight) = (Vec::new(), VecDeque::new());
        Self { pipeline, map: map.to_owned(), rows, bytes: 0, in_flight, written: 0 }
    }

    /// Rows that are certainly in the map.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Takes a row, and answers rows that the grid has refused meanwhile.
    pub(super) async fn write(&mut self, row: Row) -> Result<Vec<BadRow>, Error> {
        self.bytes += row.key.len() + row.value.len();
        self.rows.push(row);
        if self.rows.len() < BATCH_ROWS && self.bytes < BATCH_BYTES {
            return Ok(Vec::new());
        }
        self.send().await?;
        if self.in_flight.len() < WINDOW { Ok(Vec::new()) } else { self.settle_oldest().await }
    }

    /// Sends the rest and waits for everything.
    pub(super) async fn finish(&mut self) -> Result<Vec<BadRow>, Error> {
        if !self.rows.is_empty() {
            self.send().await?;
        }
        let mut refused = Vec::new();
        while !self.in_flight.is_empty() {
            refused.extend(self.settle_oldest().await?);
        }
        Ok(refused)
    }

    async fn send(&mut self) -> Result<(), Error> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let batch = Batch::packed(&[&self.map], rows.len(), |frame| {
            rows.iter().try_for_each(|row| frame.push(&put(row)))
        })?;
        let pending = self.pipeline.submit(batch).await?;
        self.in_flight.push_back((rows.iter().map(|row| row.line).collect(), pending));
        // Reading a file never waits: let what was sent go out.
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn settle_oldest(&mut self) -> Result<Vec<BadRow>, Error> {
        let Some((lines, pending)) = self.in_flight.pop_front() else { return Ok(Vec::new()) };
        let answers = pending.await?;
        let refused = refused(&lines, &answers);
        self.written += (lines.len() - refused.len()) as u64;
        Ok(refused)
    }
}

fn put(row: &Row) -> Operation<'_> {
    Operation::Put {
        map: NameIndex(0),
        key: row.key.as_bytes(),
        value: &row.value,
        ttl_ms: None,
        condition: Condition::Always,
        return_previous: false,
    }
}

fn refused(lines: &[u64], answers: &BatchAnswers) -> Vec<BadRow> {
    // Reading results costs less than making answers of them, and nearly all of them are good.
    if !answers.results().any(|result| matches!(result, OperationResult::Failed(_))) {
        return Vec::new();
    }
    let answered = lines.iter().zip(answers.answers());
    answered
        .filter_map(|(&line, answer)| answer.err().map(|error| BadRow { line, error: error.into() }))
        .collect()
}
