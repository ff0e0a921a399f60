//! What is asked of objects and done to them everywhere.

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use kube::api::{DeleteParams, Preconditions};
use serde::Serialize;

pub(crate) fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or_default()
}

pub(crate) fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

pub(crate) fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

pub(crate) fn label<'a>(meta: &'a ObjectMeta, name: &str) -> &'a str {
    meta.labels.as_ref().and_then(|labels| labels.get(name)).map_or("", String::as_str)
}

pub(crate) fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

pub(crate) fn is_controlled_by(meta: &ObjectMeta, owner: &ObjectMeta) -> bool {
    controller(meta).is_some_and(|controller| controller.uid == uid(owner))
}

/// A reference that makes the owner the controller, as all controllers write it.
pub(crate) fn controlled_by<K: Resource<DynamicType = ()>>(owner: &K) -> Vec<OwnerReference> {
    owner
        .controller_owner_ref(&())
        .map(|reference| OwnerReference { block_owner_deletion: Some(true), ..reference })
        .into_iter()
        .collect()
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub(crate) fn is_over(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub(crate) fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

fn ready_condition(pod: &Pod) -> Option<&PodCondition> {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().find(|one| one.type_ == "Ready" && one.status == "True")
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    ready_condition(pod).is_some()
}

/// Ready for at least so long.
pub(crate) fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    let Some(ready) = ready_condition(pod) else { return false };
    let since = ready.last_transition_time.as_ref().map_or(now, |time| time.0);
    min_ready_seconds == 0 || now.duration_since(since).as_secs() >= i64::from(min_ready_seconds)
}

pub(crate) fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

pub(crate) fn address(pod: &Pod) -> Option<&str> {
    pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).filter(|address| !address.is_empty())
}

pub(crate) fn now() -> Time {
    // Times of objects have whole seconds.
    Time(Timestamp::from_second(Timestamp::now().as_second()).expect("the present can be written"))
}

/// The condition with the time of its last change, which is now if it was another before.
pub(crate) fn condition(before: &[PodCondition], type_: &str, status: bool, reason: &str) -> PodCondition {
    let status = if status { "True" } else { "False" };
    let same = before.iter().find(|one| one.type_ == type_ && one.status == status);
    PodCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: (!reason.is_empty()).then(|| reason.to_owned()),
        last_transition_time: Some(same.and_then(|one| one.last_transition_time.clone()).unwrap_or_else(now)),
        ..PodCondition::default()
    }
}

/// Deletes this very object, and not its successor of the same name.
pub(crate) fn deletion_of(meta: &ObjectMeta) -> DeleteParams {
    let uid = meta.uid.clone();
    DeleteParams::default().preconditions(Preconditions { uid, resource_version: None })
}

/// Names what is written in JSON, in letters that make no words, as Kubernetes' hashes do.
pub(crate) fn hash(value: &impl Serialize) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    const LENGTH: usize = 10;
    let text = serde_json::to_vec(value).expect("objects can be written as JSON");
    // FNV-1a.
    let mut state = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| {
        (state ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mut name = String::new();
    for _ in 0..LENGTH {
        name.push(char::from(LETTERS[(state % LETTERS.len() as u64) as usize]));
        state /= LETTERS.len() as u64;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_while_it_lasts() {
        let mut ready = condition(&[], "Ready", true, "");
        ready.last_transition_time = Some(Time(Timestamp::from_second(7).unwrap()));
        let before = [ready];
        assert_eq!(condition(&before, "Ready", true, ""), before[0]);
        assert_ne!(
            condition(&before, "Ready", false, "").last_transition_time,
            before[0].last_transition_time
        );
    }

    #[test]
    fn hashes_differ_and_last() {
        assert_eq!(hash(&"a"), hash(&"a"));
        assert_ne!(hash(&"a"), hash(&"b"));
        assert_eq!(hash(&"a").len(), 10);
    }
}
