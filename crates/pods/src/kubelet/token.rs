//! What a process in a pod finds its API server with: the files that containers have at
//! `/var/run/secrets/kubernetes.io/serviceaccount`, and a kubeconfig that leads to them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;
use kube::api::PostParams;
use kube::config::Kubeconfig;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::unprepared::Unprepared;
use super::volumes::write;
use crate::controller::Context;
use crate::error::is_status;
use crate::object;
use crate::service_accounts::DEFAULT;

pub(crate) const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const PRIVATE: i32 = 0o600;

/// How the cluster's API server is reached.
#[derive(Debug)]
pub(crate) struct Entrance {
    clusters: Value,
    server: String,
    authority: Option<Vec<u8>>,
    pub(crate) lifetime: Duration,
}

impl Entrance {
    /// To the cluster of the current context.
    pub(crate) fn new(kubeconfig: &Kubeconfig, lifetime: Duration) -> Self {
        let whole = serde_json::to_value(kubeconfig).expect("kubeconfigs can be written as JSON");
        let find = |list: &str, name: &Value| {
            let all = whole[list].as_array().cloned().unwrap_or_default();
            all.into_iter().find(|one| one["name"] == *name).unwrap_or_default()
        };
        let context = find("contexts", &whole["current-context"]);
        let cluster = find("clusters", &context["context"]["cluster"])["cluster"].take();
        let authority = cluster["certificate-authority-data"].clone();
        Self {
            server: cluster["server"].as_str().unwrap_or_default().to_owned(),
            authority: serde_json::from_value::<ByteString>(authority).ok().map(|bytes| bytes.0),
            clusters: json!([{"name": "cluster", "cluster": cluster}]),
            lifetime,
        }
    }

    /// The variables by which every container is told of the API server.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let address = self.server.split("://").last().unwrap_or_default().trim_end_matches('/');
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "443"));
        [("HOST", host), ("PORT", port), ("PORT_HTTPS", port)]
            .map(|(name, value)| (format!("KUBERNETES_SERVICE_{name}"), value.to_owned()))
            .to_vec()
    }

    fn kubeconfig(&self, folder: &Path, namespace: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "pod", "clusters": self.clusters,
            "users": [{"name": "pod", "user": {"tokenFile": folder.join("token")}}],
            "contexts": [{"name": "pod", "context": {"cluster": "cluster", "user": "pod", "namespace": namespace}}],
        })
    }
}

/// The files of a pod's service account.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    folder: PathBuf,
    name: String,
}

impl Account {
    /// `None` if the pod is to have no token.
    pub(crate) async fn of(
        context: &Context,
        pod: &Pod,
        folder: PathBuf,
    ) -> Result<Option<Self>, Unprepared> {
        let spec = pod.spec.as_ref();
        let named = spec.and_then(|spec| spec.service_account_name.clone()).filter(|name| !name.is_empty());
        let name = named.unwrap_or_else(|| DEFAULT.to_owned());
        let accounts: Api<ServiceAccount> = context.within(object::namespace(&pod.metadata));
        let Some(account) = accounts.get_opt(&name).await? else {
            return Err(Unprepared::Missing { kind: "serviceaccount", name });
        };
        let wanted = spec.and_then(|spec| spec.automount_service_account_token);
        let is_wanted = wanted.or(account.automount_service_account_token).unwrap_or(true);
        Ok(is_wanted.then_some(Self { folder, name }))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// Writes a new token with all that belongs to it; says when the next one is due, long before this one is refused.
    pub(crate) async fn write(
        &self,
        context: &Context,
        entrance: &Entrance,
        namespace: &str,
    ) -> Result<Instant, Unprepared> {
        let accounts: Api<ServiceAccount> = context.within(namespace);
        let seconds = i64::try_from(entrance.lifetime.as_secs()).ok();
        let spec = TokenRequestSpec { expiration_seconds: seconds, ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let granted = match accounts.create_token_request(&self.name, &PostParams::default(), &request).await
        {
            Err(error) if is_status(&error, 404) => {
                return Err(Unprepared::Missing { kind: "serviceaccount", name: self.name.clone() });
            }
            granted => granted?,
        };
        let token = granted.status.map(|status| status.token).unwrap_or_default();
        write(&self.folder.join("token"), token.as_bytes(), PRIVATE)?;
        write(&self.folder.join("namespace"), namespace.as_bytes(), PRIVATE)?;
        if let Some(authority) = &entrance.authority {
            write(&self.folder.join("ca.crt"), authority, PRIVATE)?;
        }
        let kubeconfig = entrance.kubeconfig(&self.folder, namespace).to_string();
        write(&self.kubeconfig(), kubeconfig.as_bytes(), PRIVATE)?;
        Ok(Instant::now() + entrance.lifetime.mul_f64(0.8))
    }
}
