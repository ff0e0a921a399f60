//! Workers that keep messages in flight until the time is over.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use wattle_client::packed::OperationResult;
use wattle_client::{BatchAnswers, Client, Pending, Pipeline, PipelineOptions};

use super::operations::{Operations, Random};
use super::progress::Progress;

/// Latencies up to a minute, in microseconds, to three digits.
const LONGEST_US: u64 = 60_000_000;
const FILL_BATCH: u64 = 256;
const FILL_WINDOW: usize = 16;

#[derive(Debug)]
pub(super) struct Measured {
    pub(super) operations: u64,
    pub(super) elapsed: Duration,
    pub(super) latency: Histogram<u64>,
    /// The longest time without any answer.
    pub(super) longest_gap: Duration,
}

impl Measured {
    fn begin() -> anyhow::Result<Self> {
        let latency = Histogram::new_with_bounds(1, LONGEST_US, 3)?;
        Ok(Self { operations: 0, elapsed: Duration::ZERO, latency, longest_gap: Duration::ZERO })
    }

    fn count(&mut self, operations: usize, sent: Instant, progress: &Progress) {
        self.operations += operations as u64;
        let latency = progress.answered().saturating_duration_since(sent);
        let microseconds = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latency.saturating_record(microseconds.max(1));
    }

    fn sum(workers: Vec<Self>, progress: &Progress) -> anyhow::Result<Self> {
        let mut sum = Self::begin()?;
        for worker in workers {
            sum.operations += worker.operations;
            sum.latency.add(worker.latency)?;
        }
        Ok(Self { elapsed: progress.elapsed(), longest_gap: progress.longest_gap(), ..sum })
    }
}

/// How a pipelined load is spread.
#[derive(Debug, Clone, Copy)]
pub(super) struct PipelineShape {
    pub(super) pipelines: usize,
    /// Messages, over all pipelines.
    pub(super) in_flight: usize,
    /// Operations in each.
    pub(super) batch: usize,
}

pub(super) async fn unary(
    client: &Client,
    operations: &Operations,
    in_flight: usize,
    progress: &Progress,
) -> anyhow::Result<Measured> {
    let map = client.raw_map(&operations.map);
    let map = &map;
    let workers = (0..in_flight).map(|worker| async move {
        let (mut measured, mut random) = (Measured::begin()?, Random::new(worker));
        while progress.goes_on() {
            let sent = Instant::now();
            operations.call(map, &mut random).await?;
            measured.count(1, sent, progress);
        }
        anyhow::Ok(measured)
    });
    let workers = try_join_all(workers).await?;
    Measured::sum(workers, progress)
}

pub(super) async fn pipelined(
    client: &Client,
    operations: &Operations,
    shape: PipelineShape,
    progress: &Progress,
) -> anyhow::Result<Measured> {
    let options = PipelineOptions::new().window(shape.in_flight);
    let pipelines = (0..shape.pipelines.min(shape.in_flight)).map(|_| client.pipeline(options));
    let pipelines = pipelines.collect::<Vec<_>>();
    let pipelines = &pipelines;
    let workers = (0..shape.in_flight).map(|worker| async move {
        let (mut measured, mut random) = (Measured::begin()?, Random::new(worker));
        let pipeline = &pipelines[worker % pipelines.len()];
        while progress.goes_on() {
            let batch = operations.batch(shape.batch, &mut random)?;
            let sent = Instant::now();
            let answers = pipeline.submit(batch).await?.await?;
            measured.count(answers.len(), sent, progress);
            check(&answers)?;
        }
        anyhow::Ok(measured)
    });
    let workers = try_join_all(workers).await?;
    Measured::sum(workers, progress)
}

/// A failed operation would count as a fast one.
fn check(answers: &BatchAnswers) -> anyhow::Result<()> {
    if answers.results().any(|result| matches!(result, OperationResult::Failed(_))) {
        for answer in answers.answers() {
            answer?;
        }
    }
    Ok(())
}

/// Writes each of so many keys once.
pub(super) async fn fill(client: &Client, operations: &Operations, keys: u64) -> anyhow::Result<()> {
    let pipeline: Pipeline = client.pipeline(PipelineOptions::new().window(FILL_WINDOW));
    let mut in_flight = VecDeque::new();
    let mut next = 0;
    while next < keys {
        if in_flight.len() == FILL_WINDOW {
            settle_fill(in_flight.pop_front()).await?;
        }
        let end = keys.min(next + FILL_BATCH);
        in_flight.push_back(pipeline.submit(operations.fill(next..end)?).await?);
        next = end;
    }
    while let Some(oldest) = in_flight.pop_front() {
        settle_fill(Some(oldest)).await?;
    }
    pipeline.close().await;
    Ok(())
}

async fn settle_fill(pending: Option<Pending>) -> anyhow::Result<()> {
    match pending {
        Some(pending) => check(&pending.await?),
        None => Ok(()),
    }
}
