//! The part of a request that lies in one partition: run once, and answered from its record when it comes again.

use smallvec::SmallVec;

use super::completions::{Admission, Completion, Recorded};
use super::operation::{Access, Answer, Operation, Outcome, PartRefusal, Refusal, Room};
use super::partition::Partition;
use crate::ids::RequestId;

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
    /// with an id that has run before is answered from its record: what took effect then does not again.
    ///
    /// `None` is an operation that cannot be done now, because its map is gone, say. It has a result only if it had one
    /// before: its place is kept, so that a retry has the same places whatever happened meanwhile.
    ///
    /// What changed nothing is not recorded, unless it stood beside something that did: doing it again is doing it once.
    ///
    /// # Errors
    /// The whole part is refused; nothing has run.
    pub fn run_part<'o>(
        &mut self,
        id: Option<&RequestId>,
        operations: impl Iterator<Item = Option<(Access<'o>, Operation<'o>)>> + Clone,
        mut answer: impl FnMut(usize, Result<Outcome<'_>, Refusal>),
    ) -> Result<(), PartRefusal> {
        let may_change =
            |done: Option<(_, Operation<'_>)>| done.is_none_or(|(_, operation)| operation.may_change());
        let Some(id) = id.filter(|_| operations.clone().any(may_change)) else {
            for (place, done) in operations.enumerate() {
                if let Some((at, operation)) = done {
                    answer(place, self.execute(&at, &operation));
                }
            }
            return Ok(());
        };
        let fits = |done: &Option<(_, Operation<'_>)>, answer: &Answer| {
            done.as_ref().is_none_or(|(_, operation)| operation.is_answered_by(answer))
        };
        if let Some(results) = self.known_results(id, operations.clone(), fits)? {
            self.answer_again(id, results, operations, answer);
            return Ok(());
        }
        let mut record = Completion::bytes(operations.clone().count());
        let room = operations.clone().flatten().next().map_or(Room::UNLIMITED, |(at, _)| at.room);
        self.reserve(id, room, record)?;
        let before = self.position();
        let mut results = SmallVec::new();
        for (place, done) in operations.enumerate() {
            let done = done.map(|(at, operation)| (Access { record, ..at }, operation));
            let result = self.execute_recorded(done, |result| answer(place, result));
            record += result.payload() as u64;
            results.push(result);
        }
        if self.position() > before && results.iter().any(|result| matches!(result, Recorded::Applied(_))) {
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
        done: Option<(Access<'_>, Operation<'_>)>,
        answer: impl FnOnce(Result<Outcome<'_>, Refusal>),
    ) -> Recorded {
        let Some((at, operation)) = done else { return Recorded::Again };
        let result = self.execute(&at, &operation);
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
        operations: impl Iterator<Item = Option<(Access<'o>, Operation<'o>)>>,
        mut answer: impl FnMut(usize, Result<Outcome<'_>, Refusal>),
    ) {
        let before = self.position();
        for (place, (done, recorded)) in operations.zip(&mut results).enumerate() {
            match recorded {
                Recorded::Applied(applied) => answer(place, Ok(Outcome::Answer(applied.clone()))),
                Recorded::Refused(refusal) => answer(place, Err(refusal.clone())),
                Recorded::Again => {
                    *recorded = self.execute_recorded(done, |result| answer(place, result));
                }
            }
        }
        if self.position() > before {
            self.complete(id, Completion::Results(results));
        }
    }
}
