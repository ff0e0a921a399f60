//! Evictions: deletions of pods that ask the pod's disruption budget first, as `kubectl drain` does. What a budget
//! allows is its controller's to say.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::delete::DeleteOptions;
use crate::error::ApiError;
use crate::object::{self, list, text};
use crate::scale::selector_text;
use crate::selector::Selector;
use crate::state::State;
use crate::time;
use crate::write::Place;

/// Until a client should ask again whose budget has not been looked at since it changed.
const RETRY_AFTER: u64 = 10;

impl State {
    pub(crate) fn evict(
        &mut self,
        place: &Place,
        eviction: &Value,
        options: &DeleteOptions,
    ) -> Result<Value, ApiError> {
        let wanted = object::name(eviction);
        if !wanted.is_empty() && wanted != place.name {
            let message = "name in URL does not match name in Eviction object: ".to_owned() + wanted;
            return Err(ApiError::BadRequest(message));
        }
        let pod = self.get(place)?;
        if needs_budget(&pod) {
            self.spend(place, &pod, options)?;
        }
        if !options.dry_run {
            self.mark_disrupted(place, &pod);
        }
        self.delete(place, options)?;
        Ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}))
    }

    /// Takes one disruption from the pod's budget, if it has one.
    fn spend(&mut self, place: &Place, pod: &Value, options: &DeleteOptions) -> Result<(), ApiError> {
        let Some(budgets) = self.registry.find("policy", "v1", "poddisruptionbudgets") else { return Ok(()) };
        let all = self.store.list(&budgets.id(), place.namespace.as_deref());
        let found: Vec<Arc<Value>> = all
            .filter(|(_, budget)| selects(&budgets, budget, pod))
            .map(|(_, budget)| Arc::clone(budget))
            .collect();
        let budget = match found.as_slice() {
            [] => return Ok(()),
            [budget] => budget,
            _ => {
                let message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does \
                               not support.";
                return Err(ApiError::Internal(message.to_owned()));
            }
        };
        let status = &budget["status"];
        let count = |field: &str| status[field].as_i64().unwrap_or(0);
        let is_healthy = count("currentHealthy") >= count("desiredHealthy") && count("desiredHealthy") > 0;
        let always = text(budget, "/spec/unhealthyPodEvictionPolicy") == "AlwaysAllow";
        if !is_ready(pod) && (always || is_healthy) {
            return Ok(());
        }
        let name = object::name(budget);
        if count("observedGeneration") < object::generation(budget) {
            let cause = format!("The disruption budget {name} is still being processed by the server.");
            return Err(ApiError::Disruption { cause, retry_after: RETRY_AFTER });
        }
        let allowed = count("disruptionsAllowed");
        if allowed <= 0 {
            let (needed, current) = (count("desiredHealthy"), count("currentHealthy"));
            let cause = format!(
                "The disruption budget {name} needs {needed} healthy pods and has {current} currently"
            );
            return Err(ApiError::Disruption { cause, retry_after: 0 });
        }
        let mut spent = Value::clone(budget);
        spent["status"]["disruptionsAllowed"] = json!(allowed - 1);
        object::child(&mut spent["status"], "disruptedPods").insert(place.name.clone(), json!(time::now()));
        if !options.dry_run {
            self.commit(&budgets, spent);
        }
        Ok(())
    }

    fn mark_disrupted(&mut self, place: &Place, pod: &Value) {
        let mut marked = pod.clone();
        let mut conditions = list(pod, "/status/conditions").to_vec();
        conditions.retain(|condition| condition["type"] != "DisruptionTarget");
        conditions
            .push(json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting", "lastTransitionTime": time::now()}));
        marked["status"]["conditions"] = json!(conditions);
        self.commit(&place.resource, marked);
    }
}

/// One that has not begun to run, has ended or is going anyway is missed by nobody.
fn needs_budget(pod: &Value) -> bool {
    !object::is_terminating(pod) && !matches!(text(pod, "/status/phase"), "Pending" | "Succeeded" | "Failed")
}

fn is_ready(pod: &Value) -> bool {
    list(pod, "/status/conditions").iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// A budget without a selector is about no pods, one with an empty selector about all.
fn selects(budgets: &crate::resource::ResourceType, budget: &Value, pod: &Value) -> bool {
    let selector = &budget["spec"]["selector"];
    let parsed = Selector::parse(budgets, &selector_text(selector), "");
    selector.is_object() && parsed.is_ok_and(|selector| selector.matches(pod))
}
