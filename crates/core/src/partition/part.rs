//! The part of a request that lies in one partition: run once, and answered from its record when it comes again.

use smallvec::SmallVec;

use super::completions::{Admission, Completion, Recorded};
use super::operation::{Access, Answer, Operation, Outcome, PartRefusal, Refusal, Room};
use super::partition::Partition;
use crate::ids::RequestId;

/// An operation of a request, or the refusal of one that cannot be done now, because its map is gone, say; without it, it is
/// refused in this attempt alone.
pub type Asked<'o> = Result<(Access<'o>, Operation<'o>), Option<Refusal>>;

impl Partition {
    /// Does one operation.
    ///
    /// # Errors
    /// A refusal; nothing has changed but what was due anyway (expiry, eviction).
    pub fn execute<'p>(
        &'p mut self,
        at: &Access<'_>,
        operation: &Operation<'_>,
    ) -> Result<Outcome<'p>, Refusal> {
        match operation {
            Operation::Get { key } => Ok(Outcome::Entry(self.get(at, key))),
            Operation::Put(put) => self.put(at, put).map(Outcome::Answer),
            Operation::Remove(remove) => self.remove(at, remove).map(Outcome::Answer),
            Operation::Increment { key, delta } => self.increment(at, key, *delta).map(Outcome::Answer),
            Operation::Touch { key, change } => self.touch(at, key, *change).map(Outcome::Answer),
        }
    }

    /// Runs the operations of a request in order, and hands each result to `answer` with the operation's place. A request
    /// with an id that has run before is answered from its record, for which there is `Room`: what took effect then does not again.
    ///
    /// What cannot be done now has the result that it had before, if it had one: its place is kept, so that a retry has the same
    /// places whatever happened meanwhile.
    ///
    /// What changed nothing is not recorded, unless it stood beside something that did, or its request is repeated: doing it again
    /// is doing it once. A repetition is believed for all attempts, and one before it may still come.
    ///
    /// # Errors
    /// The whole part is refused; nothing has run.
    pub fn run_part<'o>(
        &mut self,
        request: Option<(&RequestId, Room)>,
        operations: impl Iterator<Item = Asked<'o>> + Clone,
        mut answer: impl FnMut(usize, Result<Outcome<'_>, Refusal>),
    ) -> Result<(), PartRefusal> {
        let may_change = |asked: Asked<'_>| asked.map_or(true, |(_, operation)| operation.may_change());
        let Some((id, room)) = request.filter(|_| operations.clone().any(may_change)) else {
            for (place, asked) in operations.enumerate() {
                match asked {
                    Ok((at, operation)) => answer(place, self.execute(&at, &operation)),
                    Err(Some(refusal)) => answer(place, Err(refusal)),
                    Err(None) => {}
                }
            }
            return Ok(());
        };
        let fits = |asked: &Asked<'_>, answer: &Answer| {
            asked.as_ref().map_or(true, |(_, operation)| operation.is_answered_by(answer))
        };
        if let Some(results) = self.known_results(id, operations.clone(), fits)? {
            self.answer_again(id, results, operations, answer);
            return Ok(());
        }
        let mut record = Completion::bytes(operations.clone().count());
        self.reserve(id, room, record + refused_bytes(id, operations.clone()))?;
        let before = self.position();
        let mut results = SmallVec::new();
        for (place, asked) in operations.enumerate() {
            let asked = asked.map(|(at, operation)| (Access { record, ..at }, operation));
            let result = self.execute_recorded(asked, |result| answer(place, result));
            record += result.payload() as u64;
            results.push(result);
        }
        let changed = self.position() > before;
        if changed && results.iter().any(|result| matches!(result, Recorded::Applied(_)))
            || id.repeated && results.iter().any(|result| *result != Recorded::Again)
        {
            self.complete(id, Completion::Results(results));
        }
        Ok(())
    }

    /// The results that a request left when it ran here; `None` if it did not. `fits` says whether an answer is of the kind
    /// that an operation has: the results are one for each of those that are asked now, and of their kinds.
    ///
    /// # Errors
    /// It is in doubt, or its id was used for another request.
    pub fn known_results<O>(
        &mut self,
        id: &RequestId,
        operations: impl IntoIterator<Item = O>,
        fits: impl Fn(&O, &Answer) -> bool,
    ) -> Result<Option<SmallVec<[Recorded; 1]>>, PartRefusal> {
        let results = match self.admit(id) {
            Admission::Fresh => return Ok(None),
            Admission::InDoubt => return Err(PartRefusal::InDoubt),
            Admission::Known(Completion::Sweep { .. }) => return Err(PartRefusal::ReusedId),
            Admission::Known(Completion::Refused { refusal, .. }) => {
                // Whatever is asked: the call was refused as a whole.
                return Ok(Some(
                    operations.into_iter().map(|_| Recorded::Refused(refusal.clone())).collect(),
                ));
            }
            Admission::Known(Completion::Results(results)) => results,
        };
        let mut left = results.iter();
        let left_by = |operation: O| match left.next() {
            Some(Recorded::Applied(answer)) => fits(&operation, answer),
            Some(Recorded::Refused(_) | Recorded::Again) => true,
            None => false,
        };
        if operations.into_iter().all(left_by) && left.next().is_none() {
            Ok(Some(results.clone()))
        } else {
            Err(PartRefusal::ReusedId)
        }
    }

    fn execute_recorded(
        &mut self,
        asked: Asked<'_>,
        answer: impl FnOnce(Result<Outcome<'_>, Refusal>),
    ) -> Recorded {
        let result = match asked {
            Ok((at, operation)) => self.execute(&at, &operation),
            Err(Some(refusal)) => Err(refusal),
            Err(None) => return Recorded::Again,
        };
        let recorded = match &result {
            Ok(Outcome::Entry(_)) => Recorded::Again,
            // Also one that changed nothing, such as the removal of nothing: a retry might find something.
            Ok(Outcome::Answer(answer)) => Recorded::Applied(answer.clone()),
            Err(refusal) => Recorded::Refused(refusal.clone()),
        };
        answer(result);
        recorded
    }

    /// Answers from the record; what is to be done again leaves its result there now.
    fn answer_again<'o>(
        &mut self,
        id: &RequestId,
        mut results: SmallVec<[Recorded; 1]>,
        operations: impl Iterator<Item = Asked<'o>>,
        mut answer: impl FnMut(usize, Result<Outcome<'_>, Refusal>),
    ) {
        let before = self.position();
        let mut settled = false;
        for (place, (asked, recorded)) in operations.zip(&mut results).enumerate() {
            match recorded {
                Recorded::Applied(applied) => answer(place, Ok(Outcome::Answer(applied.clone()))),
                Recorded::Refused(refusal) => answer(place, Err(refusal.clone())),
                Recorded::Again => {
                    *recorded = self.execute_recorded(asked, |result| answer(place, result));
                    settled |= *recorded != Recorded::Again;
                }
            }
        }
        if self.position() > before || id.repeated && settled {
            self.complete(id, Completion::Results(results));
        }
    }
}

/// What a repetition keeps of the refusals that are known before it runs, in bytes.
fn refused_bytes<'o>(id: &RequestId, operations: impl Iterator<Item = Asked<'o>>) -> u64 {
    if !id.repeated {
        return 0;
    }
    let refused = operations.filter_map(|asked| asked.err().flatten());
    refused.map(|refusal| refusal.payload() as u64).sum()
}
