//! What becomes of a definition that is deleted: it stays, serves and takes nothing new, until the collector has seen
//! the last of its objects go. The conditions are those of apiextensions-apiserver's `pkg/controller/finalizer`.

use serde_json::{Value, json};

use crate::object;
use crate::time;

/// With this a definition waits for its objects.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

const TERMINATING: &str = "Terminating";

/// How far the deletion of a definition is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stage {
    Pending,
    InProgress,
    /// The definition goes with this, unless another finalizer holds it.
    Completed,
}

impl Stage {
    fn status(self) -> &'static str {
        match self {
            Self::Pending | Self::InProgress => "True",
            Self::Completed => "False",
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Pending => "InstanceDeletionPending",
            Self::InProgress => "InstanceDeletionInProgress",
            Self::Completed => "InstanceDeletionCompleted",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::Pending => {
                "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
            }
            Self::InProgress => "CustomResource deletion is in progress",
            Self::Completed => "removed all instances",
        }
    }

    pub(crate) fn is_of(self, definition: &Value) -> bool {
        condition(definition).is_some_and(|found| found["reason"] == self.reason())
    }

    /// Says so in the definition's status.
    pub(crate) fn enter(self, definition: &mut Value) {
        let before = condition(definition);
        let since = before
            .filter(|found| found["status"] == self.status())
            .map_or_else(|| json!(time::now()), |found| found["lastTransitionTime"].clone());
        let entered = json!({"type": TERMINATING, "status": self.status(), "reason": self.reason(),
            "message": self.message(), "lastTransitionTime": since});
        let mut conditions = object::list(definition, "/status/conditions").to_vec();
        conditions.retain(|one| one["type"] != TERMINATING);
        conditions.push(entered);
        object::child(definition, "status").insert("conditions".to_owned(), json!(conditions));
    }
}

pub(super) fn condition(definition: &Value) -> Option<&Value> {
    object::list(definition, "/status/conditions").iter().find(|one| one["type"] == TERMINATING)
}

/// Whether it still waits for its objects.
pub(super) fn is_terminating(definition: &Value) -> bool {
    condition(definition).is_some_and(|found| found["status"] == "True")
}

/// The first request to delete it does nothing else, whatever it says of grace and dependents.
pub(crate) fn begin_termination(definition: &mut Value) {
    object::set_meta(definition, "deletionTimestamp", json!(time::now()));
    let mut finalizers: Vec<String> = object::finalizers(definition).into_iter().map(str::to_owned).collect();
    if !finalizers.iter().any(|one| one == CLEANUP) {
        finalizers.push(CLEANUP.to_owned());
    }
    object::set_finalizers(definition, &finalizers);
    Stage::Pending.enter(definition);
}
