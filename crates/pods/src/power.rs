//! Machines that people switch off with kubectl, by an annotation of the Node, and on again by taking it away.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::{WatchStreamExt as _, watcher};
use tracing::warn;

use crate::controller::{Context, RETRY, Steady, everything};
use crate::machines::Machines;
use crate::object;

const POWER: &str = "wattle.dev/power";
const OFF: &str = "off";

pub(crate) async fn control(context: Arc<Context>, machines: Machines) {
    let watch = watcher(context.all::<Node>(), everything()).backoff(Steady(RETRY));
    let mut watch = std::pin::pin!(watch);
    // A machine whose object is deleted stays in here: nobody has switched it on.
    let mut off = BTreeSet::new();
    while let Some(event) = watch.next().await {
        let node = match event {
            Ok(watcher::Event::Apply(node) | watcher::Event::InitApply(node)) => node,
            Ok(_) => continue,
            Err(error) => {
                warn!(%error, "the watch of nodes broke");
                continue;
            }
        };
        let name = object::name(&node.metadata);
        let is_off = is_switched_off(&node);
        let has_changed = if is_off { off.insert(name.to_owned()) } else { off.remove(name) };
        let switched = match (has_changed, is_off) {
            (false, _) => Ok(()),
            (true, true) => machines.fail(name).await,
            (true, false) => machines.restore(name).await,
        };
        if let Err(error) = switched {
            warn!(name, is_off, %error, "a machine is not switched");
        }
    }
}

fn is_switched_off(node: &Node) -> bool {
    let annotations = node.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(POWER)).is_some_and(|power| power == OFF)
}
