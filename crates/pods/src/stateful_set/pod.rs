//! The pods that a StatefulSet makes.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Pod, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::REVISION;
use super::claims;
use super::revisions::Revision;
use crate::error::Error;
use crate::object;

/// Of a pod of this set.
pub(super) fn ordinal(set: &StatefulSet, pod: &str) -> Option<i32> {
    let ordinal = pod.strip_prefix(object::name(&set.metadata))?.strip_prefix('-')?;
    ordinal.parse().ok().filter(|number: &i32| number.to_string() == ordinal)
}

pub(super) fn name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", object::name(&set.metadata))
}

pub(super) fn new(set: &StatefulSet, ordinal: i32, revision: &Revision) -> Result<Pod, Error> {
    let template = revision.template()?;
    let name = name(set, ordinal);
    let own = template.metadata.unwrap_or_default();
    let mut labels = own.labels.unwrap_or_default();
    labels.insert(REVISION.to_owned(), revision.name.clone());
    labels.insert("statefulset.kubernetes.io/pod-name".to_owned(), name.clone());
    labels.insert("apps.kubernetes.io/pod-index".to_owned(), ordinal.to_string());
    let mut spec = template.spec.unwrap_or_default();
    spec.hostname = Some(name.clone());
    spec.subdomain = set.spec.as_ref().and_then(|spec| spec.service_name.clone());
    let mut volumes = spec.volumes.take().unwrap_or_default();
    for template in claims::templates(set) {
        let volume = object::name(&template.metadata);
        // A template wins over a volume of the same name.
        volumes.retain(|other| other.name != volume);
        volumes.push(Volume {
            name: volume.to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claims::name(set, template, ordinal),
                read_only: None,
            }),
            ..Volume::default()
        });
    }
    spec.volumes = (!volumes.is_empty()).then_some(volumes);
    Ok(Pod {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: set.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: own.annotations,
            finalizers: own.finalizers,
            owner_references: Some(object::controlled_by(set)),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_are_ordinals() {
        let mut set = StatefulSet::default();
        set.metadata.name = Some("web".to_owned());
        let check = |pod: &str, expected: Option<i32>| assert_eq!(ordinal(&set, pod), expected, "{pod}");
        check("web-0", Some(0));
        check("web-12", Some(12));
        check("web-01", None);
        check("web-a", None);
        check("web", None);
        check("web-db-0", None);
    }
}
