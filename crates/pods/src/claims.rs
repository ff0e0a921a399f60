//! PersistentVolumeClaims: bound at once to a directory, which goes with the claim. A claim that a pod uses is protected,
//! as in clusters: its deletion waits for the pod.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::ObjectRef;
use serde_json::json;

use crate::controller::{Context, everything, run};
use crate::error::Error;
use crate::object;

const PROTECTION: &str = "kubernetes.io/pvc-protection";

/// Where the claims' directories are.
pub(crate) fn directory(root: &Path, namespace: &str, claim: &str) -> PathBuf {
    root.join("claims").join(namespace).join(claim)
}

pub(crate) async fn control(context: Arc<Context>, root: Arc<PathBuf>) {
    let controller = Controller::new(context.all::<PersistentVolumeClaim>(), everything());
    let controller = controller.watches(context.all::<Pod>(), everything(), |pod| {
        let namespace = object::namespace(&pod.metadata).to_owned();
        let named = |claim: &str| ObjectRef::new(claim).within(&namespace);
        used_by(&pod).into_iter().map(named).collect::<Vec<_>>()
    });
    run(controller, context, move |claim, context| reconcile(claim, context, Arc::clone(&root))).await;
}

pub(crate) fn used_by(pod: &Pod) -> Vec<&str> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let claims = volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref());
    claims.map(|claim| claim.claim_name.as_str()).collect()
}

async fn reconcile(
    seen: Arc<PersistentVolumeClaim>,
    context: Arc<Context>,
    root: Arc<PathBuf>,
) -> Result<Action, Error> {
    let (namespace, name) = (object::namespace(&seen.metadata), object::name(&seen.metadata));
    let claims: Api<PersistentVolumeClaim> = context.within(namespace);
    let Some(claim) = claims.get_opt(name).await? else { return Ok(Action::await_change()) };
    let mut finalizers = claim.metadata.finalizers.clone().unwrap_or_default();
    let is_protected = finalizers.iter().any(|finalizer| finalizer == PROTECTION);
    let uid = claim.metadata.uid.clone();
    if claim.metadata.deletion_timestamp.is_some() {
        let pods = context.within::<Pod>(namespace).list(&ListParams::default()).await?;
        let is_running = |pod: &&Pod| !object::node_name(pod).is_empty() && !object::is_over(pod);
        let is_used = pods.iter().filter(is_running).any(|pod| used_by(pod).contains(&name));
        if is_protected && !is_used {
            let folder = directory(&root, namespace, name);
            if folder.exists() {
                std::fs::remove_dir_all(&folder).map_err(|error| Error::file(&folder, error))?;
            }
            finalizers.retain(|finalizer| finalizer != PROTECTION);
            let release = json!({"metadata": {"uid": uid, "finalizers": finalizers}});
            claims.patch(name, &PatchParams::default(), &Patch::Merge(release)).await?;
        }
        return Ok(Action::await_change());
    }
    let volume = format!("pvc-{}", object::uid(&claim.metadata));
    let spec = claim.spec.clone().unwrap_or_default();
    if !is_protected || spec.volume_name.as_deref() != Some(&volume) {
        if !is_protected {
            finalizers.push(PROTECTION.to_owned());
        }
        let bind =
            json!({"metadata": {"uid": uid, "finalizers": finalizers}, "spec": {"volumeName": volume}});
        claims.patch(name, &PatchParams::default(), &Patch::Merge(bind)).await?;
    }
    if !is_bound(&claim) {
        let capacity = spec.resources.and_then(|resources| resources.requests);
        let status = json!({"metadata": {"uid": uid},
            "status": {"phase": "Bound", "accessModes": spec.access_modes, "capacity": capacity}});
        claims.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await?;
    }
    Ok(Action::await_change())
}

pub(crate) fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
}
