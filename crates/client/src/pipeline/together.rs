//! The answers of a batch whose operations went to several members, put together.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use wattle_frame::pipeline::{OperationResult, ResultsWriter};

use super::batch::BatchAnswers;
use crate::error::Error;
use crate::failure::Outcome;

/// What became of some operations of a batch, and where they stand in it.
pub(crate) type Answered = (Vec<u32>, Result<BatchAnswers, Error>);

/// Who waits for a batch, and its place in the window.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) reply: oneshot::Sender<Result<BatchAnswers, Error>>,
    pub(super) _permit: OwnedSemaphorePermit,
}

/// Where the answer of a share of a batch goes. The last one tells all.
#[derive(Debug)]
pub(super) struct Reply {
    batch: Arc<Mutex<Open>>,
    places: Vec<u32>,
}

/// A batch of which something is not answered.
#[derive(Debug)]
struct Open {
    waiter: Option<Waiter>,
    count: usize,
    shares: usize,
    answered: Vec<Answered>,
}

impl Reply {
    /// Of each of the shares of a batch, whose operations stand at these places of `count`.
    pub(super) fn each(waiter: Waiter, count: usize, shares: Vec<Vec<u32>>) -> impl Iterator<Item = Self> {
        let (waiter, answered) = (Some(waiter), Vec::with_capacity(shares.len()));
        let batch = Arc::new(Mutex::new(Open { waiter, count, shares: shares.len(), answered }));
        shares.into_iter().map(move |places| Self { batch: Arc::clone(&batch), places })
    }

    pub(super) fn answer(self, answer: Result<BatchAnswers, Error>) {
        // Nothing panics while it is held, and it is whole at every step.
        let mut batch = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        batch.answered.push((self.places, answer));
        if batch.answered.len() < batch.shares {
            return;
        }
        let told = together(batch.count, std::mem::take(&mut batch.answered));
        if let Some(waiter) = batch.waiter.take() {
            // Whoever asked may have stopped waiting.
            drop(waiter.reply.send(told));
        }
    }
}

/// What became of all operations of a batch. Where a share failed as a whole each of its operations did, unless nobody knows any
/// better of the others.
pub(crate) fn together(count: usize, mut shares: Vec<Answered>) -> Result<BatchAnswers, Error> {
    let is_in_doubt = |(_, answer): &Answered| {
        answer.as_ref().is_err_and(|error| error.outcome() == Some(Outcome::InDoubt))
    };
    let is_broken = |(_, answer): &Answered| answer.as_ref().is_err_and(|error| error.failure().is_none());
    let place = if shares.iter().all(|(_, answer)| answer.is_err()) || shares.len() == 1 {
        Some(shares.iter().position(is_in_doubt).unwrap_or_default())
    } else {
        shares.iter().position(is_broken)
    };
    if let Some(place) = place.filter(|place| *place < shares.len()) {
        return shares.swap_remove(place).1;
    }
    let mut frame = Vec::new();
    let mut writer = ResultsWriter::new(&mut frame, count)?;
    for (places, answer) in &shares {
        write(&mut writer, places, answer)?;
    }
    writer.finish()?;
    Ok(BatchAnswers { frame: frame.into(), count })
}

fn write(
    writer: &mut ResultsWriter<'_>,
    places: &[u32],
    answer: &Result<BatchAnswers, Error>,
) -> Result<(), Error> {
    let places = places.iter().map(|place| *place as usize);
    match answer {
        Ok(answers) => {
            for (place, result) in places.zip(answers.results()) {
                writer.set(place, &result)?;
            }
        }
        Err(error) => {
            let mut facts = Vec::new();
            let Some(failure) = error.failure() else { return Ok(()) };
            let failed = OperationResult::Failed(failure.pack(&mut facts)?);
            for place in places {
                writer.set(place, &failed)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::failure::Failure;

    fn put(version: u64) -> OperationResult<'static> {
        OperationResult::Put { version, previous: None }
    }

    fn answers(versions: &[u64]) -> Result<BatchAnswers, Error> {
        Ok(BatchAnswers::collect(versions.len(), versions.iter().copied().map(put))?)
    }

    #[test]
    fn each_answer_stands_where_its_operation_did() {
        let told = together(3, vec![(vec![2, 0], answers(&[7, 5])), (vec![1], answers(&[6]))]).unwrap();
        assert_eq!(told.results().collect::<Vec<_>>(), [put(5), put(6), put(7)]);
    }

    #[test]
    fn operations_whose_share_failed_have_failed_and_the_others_have_not() {
        let lost = || Err(Failure::timed_out(Duration::from_secs(1)).in_doubt().into());
        let unsent = || Err(Failure::not_connected().into());
        let told = together(3, vec![(vec![0, 2], lost()), (vec![1], answers(&[6]))]).unwrap();
        let told: Vec<_> = told.answers().map(|answer| answer.map_err(|error| error.outcome())).collect();
        assert!(matches!(told[..], [Err(Some(Outcome::InDoubt)), Ok(_), Err(Some(Outcome::InDoubt))]));
        let in_doubt = together(2, vec![(vec![0], unsent()), (vec![1], lost())]).unwrap_err();
        assert!(matches!(in_doubt, Error::InDoubt(_)), "{in_doubt:?}");
        let unsent = together(2, vec![(vec![0], unsent()), (vec![1], unsent())]).unwrap_err();
        assert_eq!(unsent.outcome(), Some(Outcome::NotApplied));
        let broken = Err(Error::PipelineClosed);
        let broken = together(2, vec![(vec![0], answers(&[5])), (vec![1], broken)]).unwrap_err();
        assert!(matches!(broken, Error::PipelineClosed), "{broken:?}");
    }
}
