//! What the attempts of a batch say together. An operation that took effect stays applied, whatever a later attempt was refused
//! for. One that had changed nothing may have taken effect since, in an attempt that nobody answered.

use wattle_frame::pipeline::{Facts, Failure as PackedFailure, OperationResult, Outcome};

use super::batch::BatchAnswers;
use crate::call::Doubt;
use crate::error::Error;
use crate::failure::Failure;

#[derive(Debug)]
pub(crate) struct Attempts {
    /// Of each operation, when an answer has left some to be asked again.
    known: Option<BatchAnswers>,
    /// About the attempts since.
    doubt: Doubt,
    /// One that nobody answered may still be on its way.
    open: bool,
}

/// What a node answered.
pub(crate) enum Answered {
    Each(BatchAnswers),
    /// The batch as a whole.
    Refused(Failure),
}

/// How far a batch is.
pub(crate) enum Progress {
    Done(BatchAnswers),
    /// Another attempt may cure this.
    Transient(Failure),
}

impl Attempts {
    pub(crate) fn new() -> Self {
        Self { known: None, doubt: Doubt::of_a_change(), open: false }
    }

    /// An attempt ended without an answer to each operation.
    pub(crate) fn note(&mut self, failure: &Failure) {
        self.doubt.note(failure);
        self.open |= self.doubt.is_unsure();
    }

    /// Whether the next attempt has to say that it is repeated.
    pub(crate) fn are_open(&self) -> bool {
        self.open
    }

    /// An attempt was answered.
    pub(crate) fn take(&mut self, answered: Answered) -> Result<Progress, Error> {
        let answers = match answered {
            Answered::Each(answers) => self.know(answers)?,
            Answered::Refused(failure) => {
                self.note(&failure);
                let repeat = failure.is_transient();
                return if repeat {
                    Ok(Progress::Transient(failure))
                } else {
                    self.give_up(failure).map(Progress::Done)
                };
            }
        };
        let Some(failure) = answers.transient_failure() else { return Ok(Progress::Done(answers)) };
        self.open |= answers.leave_doubt();
        self.known = Some(answers);
        self.doubt = Doubt::of_a_change();
        Ok(Progress::Transient(failure))
    }

    /// What is known of each operation when an attempt has answered this.
    fn know(&self, answers: BatchAnswers) -> Result<BatchAnswers, Error> {
        if self.known.is_none() && !self.doubt.is_unsure() {
            return Ok(answers);
        }
        let known = self.known.as_ref().unwrap_or(&answers);
        let results = known.results().zip(answers.results());
        let judged = results.map(|(known, answer)| self.judge(known, answer));
        Ok(BatchAnswers::collect(answers.len(), judged)?)
    }

    /// There is no time for another attempt. The last one's failure has been noted.
    pub(crate) fn give_up(&self, failure: Failure) -> Result<BatchAnswers, Error> {
        let Some(known) = &self.known else { return Err(self.doubt.settle(failure).into()) };
        if !self.doubt.is_unsure() {
            return Ok(known.clone());
        }
        Ok(BatchAnswers::collect(known.len(), known.results().map(in_doubt))?)
    }

    fn judge<'a>(&self, known: OperationResult<'a>, answer: OperationResult<'a>) -> OperationResult<'a> {
        let OperationResult::Failed(failure) = answer else { return answer };
        if stands(&known) {
            known
        } else if !Failure::from(failure).is_indefinite() {
            answer
        } else if failure.outcome != Outcome::NotApplied {
            in_doubt(answer)
        } else if self.doubt.is_unsure() {
            in_doubt(known)
        } else {
            known
        }
    }
}

/// Whether no attempt can make it untrue: it is recorded, or the operation only reads.
fn stands(result: &OperationResult<'_>) -> bool {
    match result {
        OperationResult::Get { .. } | OperationResult::Put { .. } | OperationResult::Increment { .. } => true,
        OperationResult::Remove { removed: found, .. } | OperationResult::Touch { found, .. } => *found,
        // A function that has kept its entry is run again.
        OperationResult::Invoke { .. } | OperationResult::Failed(_) => false,
    }
}

/// After an attempt that may have changed something.
fn in_doubt(result: OperationResult<'_>) -> OperationResult<'_> {
    match result {
        standing if stands(&standing) => standing,
        OperationResult::Failed(failure) => {
            OperationResult::Failed(PackedFailure { outcome: Outcome::InDoubt, ..failure })
        }
        OperationResult::Get { .. }
        | OperationResult::Put { .. }
        | OperationResult::Remove { .. }
        | OperationResult::Increment { .. }
        | OperationResult::Touch { .. }
        | OperationResult::Invoke { .. } => OperationResult::Failed(PackedFailure {
            code: tonic::Code::Aborted as u32,
            reason: "IN_DOUBT",
            message: "it had changed nothing, was sent again, and was not answered",
            outcome: Outcome::InDoubt,
            facts: Facts::default(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;

    const PUT: OperationResult<'static> = OperationResult::Put { version: 5, previous: None };
    const KEPT: OperationResult<'static> = OperationResult::Invoke { response: b"kept" };

    fn failed(code: u32, reason: &'static str, outcome: Outcome) -> OperationResult<'static> {
        let (message, facts) = ("told", Facts::default());
        OperationResult::Failed(PackedFailure { code, reason, message, outcome, facts })
    }

    fn busy() -> OperationResult<'static> {
        failed(8, "OVERLOADED", Outcome::NotApplied)
    }

    fn answers(results: &[OperationResult<'_>]) -> BatchAnswers {
        BatchAnswers::collect(results.len(), results.iter().copied()).unwrap()
    }

    /// One operation answered so by an attempt, then by another, with one between that nobody answered or without.
    fn check(
        known: OperationResult<'_>,
        lost_between: bool,
        answer: OperationResult<'_>,
        expected: OperationResult<'_>,
    ) {
        let mut attempts = Attempts::new();
        attempts.known = Some(answers(&[known]));
        if lost_between {
            attempts.note(&Failure::from(&Status::unknown("the connection broke")));
        }
        let told = attempts.know(answers(&[answer])).unwrap();
        assert_eq!(told.results().collect::<Vec<_>>(), [expected], "{known:?}, {lost_between}, {answer:?}");
    }

    #[test]
    fn the_last_answer_of_an_operation_that_ran_again_is_told() {
        let refused = failed(9, "VERSION_MISMATCH", Outcome::NotApplied);
        check(refused, false, PUT, PUT);
        check(busy(), true, refused, refused);
        check(
            KEPT,
            false,
            OperationResult::Invoke { response: b"put" },
            OperationResult::Invoke { response: b"put" },
        );
    }

    #[test]
    fn what_stands_is_not_taken_back() {
        check(PUT, true, busy(), PUT);
        check(PUT, false, failed(10, "IN_DOUBT", Outcome::InDoubt), PUT);
        check(KEPT, false, busy(), KEPT);
    }

    #[test]
    fn what_may_have_run_since_is_in_doubt() {
        let doubted = failed(8, "OVERLOADED", Outcome::InDoubt);
        check(busy(), true, busy(), doubted);
        check(doubted, false, busy(), doubted);
        let late = failed(4, "DEADLINE_BEFORE_START", Outcome::NotApplied);
        let mut attempts = Attempts::new();
        attempts.known = Some(answers(&[KEPT, PUT, busy()]));
        attempts.note(&Failure::from(&Status::unknown("the connection broke")));
        let told = attempts.know(answers(&[late, late, late])).unwrap();
        let reasons = told.answers().map(|answer| {
            let error = answer.err()?;
            Some((error.outcome()?, error.reason()?.to_owned()))
        });
        let in_doubt = |reason: &str| Some((crate::Outcome::InDoubt, reason.to_owned()));
        let expected = [in_doubt("IN_DOUBT"), None, in_doubt("OVERLOADED")];
        assert_eq!(reasons.collect::<Vec<_>>(), expected);
    }
}
