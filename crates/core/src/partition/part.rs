//! The part of a request that lies in one partition: run once, and answered from its record when it comes again.

use smallvec::SmallVec;

use super::completions::{Admission, Completion, Recorded};
use super::operation::{Access, Operation, Outcome, PartRefusal, Refusal};
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
            Operation::Touch { key, change } => Ok(Outcome::Answer(self.touch(at, key, *change))),
        }
    }

    /// Runs the operations of a request in order, and hands each result to `answer` with the operation's place. A request
    /// with an id that has run before is answered from its record: what took effect then does not again.
    ///
    /// What changed nothing is not recorded, unless it stood beside something that did: doing it again is doing it once.
    ///
    /// # Errors
    /// The whole part is refused; nothing has run.
    pub fn run_part<'o>(
        &mut self,
        id: Option<&RequestId>,
        operations: impl Iterator<Item = (Access<'o>, Operation<'o>)> + Clone,
        mut answer: impl FnMut(usize, Result<Outcome<'_>, Refusal>),
    ) -> Result<(), PartRefusal> {
        let id = id.filter(|_| operations.clone().any(|(_, operation)| operation.may_change()));
        let Some(id) = id else {
            for (place, (at, operation)) in operations.enumerate() {
                answer(place, self.execute(&at, &operation));
            }
            return Ok(());
        };
        match self.known_results(id)? {
            Some(results) => self.answer_again(&results, operations, answer),
            None => {
                self.reserve(id)?;
                let before = self.position();
                let mut results = SmallVec::new();
                for (place, (at, operation)) in operations.enumerate() {
                    results.push(self.execute_recorded(&at, &operation, |result| answer(place, result)));
                }
                if self.position() > before
                    && results.iter().any(|result| matches!(result, Recorded::Applied(_)))
                {
                    self.complete(id, Completion::Results(results));
                }
                Ok(())
            }
        }
    }

    /// The results that a request left when it ran here; `None` if it did not.
    ///
    /// # Errors
    /// It is in doubt, or its id was used for a call over the whole partition.
    pub fn known_results(&mut self, id: &RequestId) -> Result<Option<SmallVec<[Recorded; 1]>>, PartRefusal> {
        match self.admit(id) {
            Admission::Fresh => Ok(None),
            Admission::InDoubt => Err(PartRefusal::InDoubt),
            Admission::Known(Completion::Sweep { .. }) => Err(PartRefusal::ReusedId),
            Admission::Known(Completion::Results(results)) => Ok(Some(results.clone())),
        }
    }

    fn execute_recorded(
        &mut self,
        at: &Access<'_>,
        operation: &Operation<'_>,
        answer: impl FnOnce(Result<Outcome<'_>, Refusal>),
    ) -> Recorded {
        let before = self.position();
        let result = self.execute(at, operation);
        let recorded = match &result {
            Ok(Outcome::Entry(_)) => Recorded::Again,
            Ok(Outcome::Answer(answer)) => Recorded::Applied(answer.clone()),
            Err(refusal) => Recorded::Refused(refusal.clone()),
        };
        answer(result);
        match recorded {
            Recorded::Applied(_) if self.position() == before => Recorded::Again,
            Recorded::Applied(_) | Recorded::Refused(_) | Recorded::Again => recorded,
        }
    }

    fn answer_again<'o>(
        &mut self,
        results: &[Recorded],
        operations: impl Iterator<Item = (Access<'o>, Operation<'o>)> + Clone,
        mut answer: impl FnMut(usize, Result<Outcome<'_>, Refusal>),
    ) -> Result<(), PartRefusal> {
        if operations.clone().count() != results.len() {
            return Err(PartRefusal::ReusedId);
        }
        for (place, ((at, operation), recorded)) in operations.zip(results).enumerate() {
            match recorded {
                Recorded::Applied(applied) if operation.is_answered_by(applied) => {
                    answer(place, Ok(Outcome::Answer(applied.clone())))
                }
                Recorded::Refused(refusal) => answer(place, Err(refusal.clone())),
                Recorded::Again if !writes(&operation) => answer(place, self.execute(&at, &operation)),
                Recorded::Applied(_) | Recorded::Again => return Err(PartRefusal::ReusedId),
            }
        }
        Ok(())
    }
}

/// Whether an operation would change something whatever it finds: such a one is never left to be done again.
fn writes(operation: &Operation<'_>) -> bool {
    matches!(operation, Operation::Put(_) | Operation::Increment { .. })
}
