//! How failures look on the wire: a gRPC status with `google.rpc` details, or an `OperationError` in an answer of several.

use std::collections::HashMap;

use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};
use wattle_proto::v1;

use crate::failure::{Facts, Failure};

/// Whose reasons they are.
const DOMAIN: &str = "wattle.dev";

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let facts = failure.facts();
        let message = failure.to_string();
        let mut metadata: HashMap<String, String> =
            facts.metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        metadata.insert(
            "outcome".to_owned(),
            facts.outcome.as_str_name().trim_start_matches("OUTCOME_").to_owned(),
        );
        let mut details = ErrorDetails::with_error_info(facts.reason, DOMAIN, metadata);
        if let Some(delay) = facts.retry_after {
            details.set_retry_info(Some(delay));
        }
        if let Some(field) = facts.field {
            details.add_bad_request_violation(field, message.clone());
        }
        Self::with_error_details(facts.code, message, details)
    }
}

/// A failure of one operation among several.
pub(super) fn operation_error(failure: &Failure) -> v1::OperationError {
    let facts = failure.facts();
    v1::OperationError {
        code: facts.code.into(),
        reason: facts.reason.to_owned(),
        message: failure.to_string(),
        outcome: facts.outcome.into(),
        metadata: metadata(&facts).map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}

/// What an error of one operation says beside its reason: it has no details that could tell when to try again.
pub(super) fn metadata<'a>(facts: &Facts<'a>) -> impl Iterator<Item = (&'a str, String)> {
    let delay = facts.retry_after.map(|delay| ("retry_after_ms", delay.as_millis().to_string()));
    facts.metadata.iter().cloned().chain(delay)
}
