//! Every namespace has a service account `default`.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::PostParams;
use kube::runtime::controller::{Action, Controller};

use crate::controller::{Context, everything, run};
use crate::error::{Error, is_status};
use crate::object;

pub(crate) const DEFAULT: &str = "default";

pub(crate) async fn control(context: Arc<Context>) {
    let controller = Controller::new(context.all::<Namespace>(), everything());
    let controller = controller.watches(context.all::<ServiceAccount>(), everything(), |account| {
        account.metadata.namespace.as_deref().map(kube::runtime::reflector::ObjectRef::new)
    });
    run(controller, context, reconcile).await;
}

async fn reconcile(namespace: Arc<Namespace>, context: Arc<Context>) -> Result<Action, Error> {
    if namespace.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let mut account = ServiceAccount::default();
    account.metadata.name = Some(DEFAULT.to_owned());
    let accounts = context.within::<ServiceAccount>(object::name(&namespace.metadata));
    match accounts.create(&PostParams::default(), &account).await {
        Err(error) if !is_status(&error, 409) => Err(error.into()),
        _ => Ok(Action::await_change()),
    }
}
