//! How many nodes found a grid together, as the template of their pods says it.

use k8s_openapi::api::apps::v1::StatefulSet;

use crate::api::GridSpec;

pub(super) const ANNOTATION: &str = "wattle.dev/bootstrap-expect";

/// Nodes read the number in their configuration when they start. It is in the template only so that pods which wait for another number are
/// outdated. Once there is a grid it stays what it was: scaling replaces no pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Founders(Option<String>);

impl Founders {
    pub(crate) fn wanted(spec: &GridSpec) -> Self {
        Self(Some(spec.nodes().to_string()))
    }

    /// Of a set that is there.
    pub(crate) fn of(set: &StatefulSet) -> Self {
        let template = set.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref());
        let annotations = template.and_then(|metadata| metadata.annotations.as_ref());
        Self(annotations.and_then(|annotations| annotations.get(ANNOTATION)).cloned())
    }

    pub(super) fn annotation(&self) -> Option<&str> {
        self.0.as_deref()
    }
}
