//! The objects of a grid, made from its specification alone. They look as those of the Helm chart in `deploy/chart` do.

mod access;
mod configuration;
mod founders;
mod monitor;
mod network;
mod pods;
#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use crate::api::{ArbiterPolicy, Grid, GridSpec};

pub(crate) use access::new_secret;
pub use configuration::node_configuration;
pub(crate) use founders::Founders;
pub(crate) use monitor::service_monitor;
pub(crate) use pods::{arbiter_set, node_set};

/// Where every node listens.
pub const API_PORT: u16 = 7117;
pub(crate) const PEERS_PORT: u16 = 7118;
pub const HTTP_PORT: u16 = 7119;

/// Tells the grid's services apart.
const SERVICE_LABEL: &str = "wattle.dev/service";

/// `true` on all pods of grids.
pub(crate) const MEMBER_LABEL: &str = "wattle.dev/member";

/// Says of an object which Grid it was made for.
pub(crate) const GRID_UID: &str = "wattle.dev/grid-uid";

/// How long a node may take to hand over what it holds, and how much longer its pod has for it.
const STOP_SECONDS: i32 = 120;
const GRACE_SECONDS: i32 = 30;

/// What a grid's objects are made from.
#[derive(Debug, Clone)]
pub(crate) struct Blueprint<'a> {
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
    /// Of the Grid: it says of an object whose it is.
    pub(crate) uid: &'a str,
    pub(crate) spec: &'a GridSpec,
    /// There is a grid, as far as is known without asking it.
    pub(crate) is_founded: bool,
    /// What the nodes run.
    pub(crate) image: String,
    /// Where the operator is, who has to reach the nodes.
    pub(crate) operator_namespace: &'a str,
}

impl<'a> Blueprint<'a> {
    /// Nothing for a Grid that no API server has seen: it has no identity that objects could refer to.
    pub(crate) fn new(grid: &'a Grid, images: &Images, operator_namespace: &'a str) -> Option<Self> {
        Some(Self {
            name: grid.metadata.name.as_deref()?,
            namespace: grid.metadata.namespace.as_deref()?,
            uid: grid.metadata.uid.as_deref()?,
            is_founded: false,
            spec: &grid.spec,
            image: images.of(&grid.spec),
            operator_namespace,
        })
    }

    /// All objects but the sets of pods and the secret, in the order in which they are needed.
    pub(crate) fn surroundings(&self) -> Vec<Value> {
        let mut objects = access::objects(self);
        objects.push(configuration::config_map(self));
        objects.extend(network::objects(self));
        objects
    }

    pub(crate) fn secret_name(&self) -> String {
        self.spec.secret.clone().unwrap_or_else(|| format!("{}-secret", self.name))
    }

    fn metadata(&self, name: &str, component: Option<Component>) -> Value {
        json!({
            "name": name,
            "namespace": self.namespace,
            "labels": self.labels(component),
            "annotations": {GRID_UID: self.uid},
        })
    }

    fn labels(&self, component: Option<Component>) -> Value {
        let mut labels = json!({
            "app.kubernetes.io/name": "wattle",
            "app.kubernetes.io/instance": self.name,
            "app.kubernetes.io/managed-by": "wattle-operator",
        });
        if let Some(component) = component {
            labels["app.kubernetes.io/component"] = json!(component.label());
        }
        labels
    }

    /// What tells the pods of the grid from all others.
    fn members(&self) -> Value {
        json!({
            "app.kubernetes.io/name": "wattle",
            "app.kubernetes.io/instance": self.name,
            MEMBER_LABEL: "true",
        })
    }

    /// What tells the pods of a component from all others.
    fn selector(&self, component: Component) -> Value {
        json!({
            "app.kubernetes.io/name": "wattle",
            "app.kubernetes.io/instance": self.name,
            "app.kubernetes.io/component": component.label(),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Component {
    Node,
    Arbiter,
}

impl Component {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Arbiter => "arbiter",
        }
    }
}

/// The label of all pods of a grid.
pub(crate) fn grid_selector(grid: &str) -> String {
    format!("app.kubernetes.io/name=wattle,app.kubernetes.io/instance={grid},{MEMBER_LABEL}=true")
}

/// The label of the pods that hold data, for the scale subresource.
pub(crate) fn node_selector(grid: &str) -> String {
    format!(
        "app.kubernetes.io/name=wattle,app.kubernetes.io/instance={grid},app.kubernetes.io/component=node"
    )
}

pub(crate) fn nodes_service(grid: &str) -> String {
    format!("{grid}-nodes")
}

/// The ConfigMap that the node makes which founds the grid.
pub(crate) fn fence(grid: &str) -> String {
    format!("{grid}-nodes-grid")
}

pub(crate) fn arbiter_name(grid: &str) -> String {
    format!("{grid}-arbiter")
}

/// Whether a grid as it is specified has an arbiter.
pub(crate) fn has_arbiter(spec: &GridSpec) -> bool {
    match spec.arbiter.policy {
        ArbiterPolicy::Automatic => spec.nodes() == 2,
        ArbiterPolicy::Never => false,
    }
}

/// What nodes run whose Grid names no image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// Of a Grid that says no version.
    image: String,
    /// The same without tag and digest.
    repository: String,
}

impl Images {
    /// Takes `REPOSITORY`, `REPOSITORY:TAG` or `REPOSITORY@DIGEST` apart. A port of a registry is no tag.
    pub fn parse(image: &str, default_tag: &str) -> Self {
        if let Some((name, _)) = image.split_once('@') {
            return Self { image: image.to_owned(), repository: without_tag(name).to_owned() };
        }
        let repository = without_tag(image).to_owned();
        let image = if repository == image { format!("{image}:{default_tag}") } else { image.to_owned() };
        Self { image, repository }
    }

    fn of(&self, spec: &GridSpec) -> String {
        match (&spec.image, &spec.version) {
            (Some(image), _) => image.clone(),
            (None, Some(version)) => format!("{}:{version}", self.repository),
            (None, None) => self.image.clone(),
        }
    }
}

fn without_tag(image: &str) -> &str {
    match image.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => image,
    }
}
