//! ControllerRevisions: the templates a StatefulSet has had, which `kubectl rollout history` and `undo` read.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::REVISION;
use crate::controller::Context;
use crate::error::Error;
use crate::object;

const HISTORY: i32 = 10;

pub(super) struct Revision {
    pub(super) name: String,
    number: i64,
    data: Value,
}

impl Revision {
    pub(super) fn template(&self) -> Result<PodTemplateSpec, Error> {
        let mut template = self.data["spec"]["template"].clone();
        if let Some(fields) = template.as_object_mut() {
            fields.remove("$patch");
        }
        serde_json::from_value(template).map_err(|source| Error::Revision { name: self.name.clone(), source })
    }
}

/// The revision of today's template, and the one that all pods had after the last update that was completed.
pub(super) struct Revisions {
    current: Option<Revision>,
    update: Revision,
}

impl Revisions {
    pub(super) fn update_name(&self) -> &str {
        &self.update.name
    }

    pub(super) fn current_name(&self) -> &str {
        self.current.as_ref().map_or(&self.update.name, |current| &current.name)
    }

    pub(super) fn named(&self, name: &str) -> &Revision {
        self.current.as_ref().filter(|current| current.name == name).unwrap_or(&self.update)
    }
}

/// Makes the revision of today's template if it is a new one, and forgets those that are too old.
pub(super) async fn settle(
    context: &Context,
    set: &StatefulSet,
    pods: &BTreeMap<i32, Pod>,
) -> Result<Revisions, Error> {
    let api: Api<ControllerRevision> = context.within(object::namespace(&set.metadata));
    let mut known: Vec<Revision> = Vec::new();
    for found in api.list(&ListParams::default()).await? {
        if object::is_controlled_by(&found.metadata, &set.metadata) {
            known.push(read(found));
        }
    }
    known.sort_by_key(|revision| revision.number);
    let data = data(set);
    let name = format!("{}-{}", object::name(&set.metadata), object::hash(&data));
    let newest = known.last().map_or(0, |newest| newest.number);
    let found = known.iter().position(|revision| revision.name == name).map(|at| known.remove(at));
    let update = match found {
        Some(same) if same.number == newest => same,
        Some(old) => {
            let renumber = Patch::Merge(json!({"revision": newest + 1}));
            read(api.patch(&old.name, &PatchParams::default(), &renumber).await?)
        }
        None => {
            let revision = new(set, &name, newest + 1, data);
            read(api.create(&PostParams::default(), &revision).await?)
        }
    };
    let current = set.status.as_ref().and_then(|status| status.current_revision.as_deref());
    let current = known.iter().position(|revision| Some(revision.name.as_str()) == current);
    let current = current.map(|at| known.remove(at));
    forget(&api, set, &known, pods).await?;
    Ok(Revisions { current, update })
}

fn read(revision: ControllerRevision) -> Revision {
    Revision {
        name: object::name(&revision.metadata).to_owned(),
        number: revision.revision,
        data: revision.data.map_or(Value::Null, |data| data.0),
    }
}

/// A patch that brings a set back to this template.
fn data(set: &StatefulSet) -> Value {
    let template = set.spec.as_ref().map(|spec| &spec.template);
    let mut template = serde_json::to_value(template).expect("templates can be written as JSON");
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

fn new(set: &StatefulSet, name: &str, number: i64, data: Value) -> ControllerRevision {
    let template = set.spec.as_ref().and_then(|spec| spec.template.metadata.clone()).unwrap_or_default();
    let mut labels = template.labels.unwrap_or_default();
    let hash = name.rsplit('-').next().unwrap_or_default();
    labels.insert("controller.kubernetes.io/hash".to_owned(), hash.to_owned());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels),
            annotations: set.metadata.annotations.clone(),
            owner_references: Some(object::controlled_by(set)),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data)),
        revision: number,
    }
}

async fn forget(
    api: &Api<ControllerRevision>,
    set: &StatefulSet,
    old: &[Revision],
    pods: &BTreeMap<i32, Pod>,
) -> Result<(), Error> {
    let is_used = |name: &str| pods.values().any(|pod| object::label(&pod.metadata, REVISION) == name);
    let unused: Vec<&Revision> = old.iter().filter(|revision| !is_used(&revision.name)).collect();
    let limit = set.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(HISTORY);
    let surplus = unused.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    for revision in &unused[..surplus] {
        api.delete(&revision.name, &DeleteParams::default()).await?;
    }
    Ok(())
}
