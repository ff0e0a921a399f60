//! The claims of a StatefulSet's pods: made before the pod, kept after it unless the retention policy says otherwise.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource as _};
use serde_json::json;

use super::plan::Goal;
use crate::controller::Context;
use crate::error::{Error, is_status};
use crate::object;

pub(super) fn templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    let templates = set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_deref());
    templates.unwrap_or_default()
}

pub(super) fn name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}", object::name(&template.metadata), super::pod::name(set, ordinal))
}

pub(super) async fn ensure(context: &Context, set: &StatefulSet, ordinal: i32) -> Result<(), Error> {
    let claims: Api<PersistentVolumeClaim> = context.within(object::namespace(&set.metadata));
    for template in templates(set) {
        let claim = new(set, template, ordinal);
        match claims.create(&PostParams::default(), &claim).await {
            Err(error) if !is_status(&error, 409) => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

fn new(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> PersistentVolumeClaim {
    let mut labels = template.metadata.labels.clone().unwrap_or_default();
    let selector = set.spec.as_ref().and_then(|spec| spec.selector.match_labels.clone());
    labels.extend(selector.unwrap_or_default());
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name(set, template, ordinal)),
            labels: Some(labels),
            annotations: template.metadata.annotations.clone(),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Whose a claim is, so that it goes with its owner: the set's, a condemned pod's, or nobody's.
pub(super) async fn retain(
    context: &Context,
    set: &StatefulSet,
    goal: &Goal,
    pods: &BTreeMap<i32, Pod>,
) -> Result<(), Error> {
    let policy = set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
    let deletes = |when: Option<&String>| when.is_some_and(|when| when == "Delete");
    let with_set = deletes(policy.and_then(|policy| policy.when_deleted.as_ref()));
    let when_scaled = deletes(policy.and_then(|policy| policy.when_scaled.as_ref()));
    let claims: Api<PersistentVolumeClaim> = context.within(object::namespace(&set.metadata));
    for (ordinal, pod) in pods {
        let is_condemned = when_scaled && !goal.ordinals().contains(ordinal);
        let owner = if is_condemned { pod.owner_ref(&()) } else { set.owner_ref(&()).filter(|_| with_set) };
        for template in templates(set) {
            own(&claims, &name(set, template, *ordinal), owner.as_ref(), [set.meta(), pod.meta()]).await?;
        }
    }
    Ok(())
}

async fn own(
    claims: &Api<PersistentVolumeClaim>,
    claim: &str,
    owner: Option<&OwnerReference>,
    possible: [&ObjectMeta; 2],
) -> Result<(), Error> {
    let Some(claim) = claims.get_opt(claim).await? else { return Ok(()) };
    let before = claim.metadata.owner_references.clone().unwrap_or_default();
    let mut after = before.clone();
    after.retain(|other| possible.iter().all(|meta| object::uid(meta) != other.uid));
    after.extend(owner.cloned());
    if after != before {
        let patch = json!({"metadata": {"uid": claim.metadata.uid, "ownerReferences": after}});
        claims.patch(object::name(&claim.metadata), &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    Ok(())
}
