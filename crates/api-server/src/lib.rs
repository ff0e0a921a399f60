//! A double of the Kubernetes API server: real HTTP on the loopback, real objects, real refusals, and faults on demand.
//!
//! It knows nothing of any particular project. Behind it run no controllers but the collector of what is deleted; what containers write and listen to, it asks the kubelets of nodes for.

mod apply;
mod apply_config;
mod auth;
mod binding;
mod cells;
mod collector;
mod columns;
mod custom;
mod decode;
mod defaults;
mod delete;
mod discovery;
mod duplicates;
mod error;
mod escalation;
mod events;
mod eviction;
mod faults;
mod field_error;
mod go_value;
mod health;
mod hpa;
mod impersonation;
mod json_path;
mod kubelet;
mod label_parser;
mod list;
mod names;
mod object;
mod open_api;
mod owner_references;
mod patch;
mod pod_rules;
mod pod_summary;
mod preconditions;
mod protobuf;
mod rbac;
mod registry;
mod reply;
mod request;
mod request_log;
mod resource;
mod reviews;
mod routes;
mod scale;
mod schema;
mod selector;
mod server;
mod state;
mod store;
mod strategy;
mod table;
mod time;
mod tls;
mod type_rules;
mod unrecognized;
mod validate;
mod watch;
mod write;
mod yaml;
mod zero;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::auth::User;
use crate::server::Shared;
use crate::state::State;
use crate::tls::Tls;

pub use crate::faults::{Break, Faults, Outage, Refusal};
pub use crate::request_log::AnsweredRequest;

#[derive(Debug, Clone)]
pub struct Settings {
    pub listen: SocketAddr,
    /// How often watches that allow it hear how far they are.
    pub bookmark_interval: Duration,
    /// Whether to speak TLS, as every cluster does: kubectl sends tokens over TLS only.
    pub tls: bool,
    /// Whoever brings no token may do everything.
    pub anonymous_is_admin: bool,
    /// Whether giving an object an owner needs rights to the object and its owner: the admission plugin
    /// OwnerReferencesPermissionEnforcement, which OpenShift has on and plain Kubernetes off.
    pub owner_references_enforced: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            bookmark_interval: Duration::from_secs(60),
            tls: false,
            anonymous_is_admin: false,
            owner_references_enforced: false,
        }
    }
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct ApiServer {
    shared: Arc<Shared>,
    admin_token: String,
    tasks: Vec<JoinHandle<()>>,
}

impl ApiServer {
    /// Starts on the current tokio runtime.
    pub async fn start(settings: Settings) -> io::Result<Self> {
        let listener = TcpListener::bind(settings.listen).await?;
        let address = listener.local_addr()?;
        let mut state = State::new();
        state.owner_references_enforced = settings.owner_references_enforced;
        let admin_token = state.mint(User::admin(), None);
        let newest = state.store.subscribe();
        let tls = if settings.tls { Some(Tls::new()?) } else { None };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            faults: Faults::new(),
            requests: Mutex::default(),
            settings,
            address,
            tls,
        });
        let tasks = vec![
            tokio::spawn(server::serve(Arc::clone(&shared), listener)),
            tokio::spawn(server::collect(Arc::clone(&shared), newest)),
        ];
        Ok(Self { shared, admin_token, tasks })
    }

    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    pub fn url(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.shared.address)
    }

    /// The token of somebody who may do everything.
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// A token of a service account, whether it is there or not; after its lifetime it is refused with 401.
    pub fn service_account_token(&self, namespace: &str, name: &str, lifetime: Option<Duration>) -> String {
        self.shared.state.lock().mint(User::service_account(namespace, name, String::new()), lifetime)
    }

    /// The token is refused from now on.
    pub fn revoke(&self, token: &str) {
        self.shared.state.lock().tokens.remove(token);
    }

    pub fn faults(&self) -> Faults {
        self.shared.faults.clone()
    }

    /// The requests so far, the oldest first. Of very many the oldest are forgotten, but not what was forbidden (403).
    pub fn requests(&self) -> Vec<AnsweredRequest> {
        self.shared.requests.lock().all()
    }

    pub fn forget_requests(&self) {
        self.shared.requests.lock().clear();
    }

    /// Forgets history: watches and continue tokens from before get 410.
    pub fn compact(&self) {
        self.shared.state.lock().store.compact();
    }

    /// Raises the resource version as changes elsewhere in a cluster would.
    pub fn advance_resource_version(&self, by: u64) {
        self.shared.state.lock().store.advance(by);
    }

    pub fn resource_version(&self) -> u64 {
        self.shared.state.lock().store.revision()
    }

    /// The certificate of who signed the server's certificate, as PEM; none without TLS.
    pub fn authority(&self) -> Option<&str> {
        self.shared.tls.as_ref().map(|tls| tls.authority.as_str())
    }

    /// A kubeconfig for a token; kubeconfigs may be JSON.
    pub fn kubeconfig(&self, token: &str) -> String {
        let mut cluster = json!({"server": self.url()});
        if let Some(authority) = self.authority() {
            cluster["certificate-authority-data"] = json!(defaults::base64(authority.as_bytes()));
        }
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "double",
            "clusters": [{"name": "double", "cluster": cluster}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "double", "context": {"cluster": "double", "user": "user", "namespace": "default"}}],
        });
        format!("{config:#}\n")
    }

    pub fn write_kubeconfig(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, self.kubeconfig(&self.admin_token))
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
