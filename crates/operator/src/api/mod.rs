//! The types of `wattle.dev/v1alpha1`. The definitions in `deploy/operator/crds.yaml` are made from them.

mod classes;
mod duration;
mod function;
mod grid;
mod grid_settings;
mod grid_status;
mod map;
mod schemas;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

pub(crate) use classes::Replication;
pub use classes::ReplicationClass;
pub use duration::{DurationError, duration};
pub use function::{
    ContentKey, FunctionCapability, FunctionDeletion, FunctionLimits, FunctionMember, FunctionSource,
    GridFunction, GridFunctionSpec, GridFunctionStatus, UrlSource,
};
pub use grid::{Grid, GridSpec};
pub use grid_settings::{
    Arbiter, ArbiterPolicy, GridDeletion, ListenAddress, Monitoring, PodOptions, PullPolicy, ServiceMonitor,
    Settings, Spread, Storage, Upgrade, UpgradeStrategy, Zones,
};
pub use grid_status::{GridMember, GridStatus, Phase};
pub use map::{Content, Eviction, GridMap, GridMapSpec, GridMapStatus, MapDeletion};

/// What the API server has to know before anything else works.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![Grid::crd(), GridMap::crd(), GridFunction::crd()]
}
