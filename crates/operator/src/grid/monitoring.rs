//! The ServiceMonitor of a grid, which is looked after whether there can be one or not.

use crate::api::Grid;
use crate::apply::{apply, remove};
use crate::context::Context;
use crate::error::Error;
use crate::manifests::{Blueprint, service_monitor};

/// What became of the ServiceMonitor.
#[derive(Debug)]
pub(super) enum Monitoring {
    /// Nobody has asked for one.
    Off,
    On,
    Failed(NotMonitored),
}

/// Why it is not as it should be. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotMonitored {
    #[error(
        "the cluster has no kind ServiceMonitor of monitoring.coreos.com/v1: install Prometheus' operator, or set \
         spec.monitoring.serviceMonitor.enabled to false"
    )]
    NoKind,
    #[error("ServiceMonitor not made: {0}")]
    NotMade(#[source] Error),
    #[error("ServiceMonitor not removed: {0}")]
    NotRemoved(#[source] Error),
}

impl NotMonitored {
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NoKind => "NoSuchKind",
            Self::NotMade(error) | Self::NotRemoved(error) => error.reason(),
        }
    }
}

pub(super) async fn ensure(context: &Context, grid: &Grid, blueprint: &Blueprint<'_>) -> Monitoring {
    let wanted = service_monitor(blueprint);
    if blueprint.spec.monitoring.service_monitor.enabled {
        return match apply(&context.client, &wanted).await {
            Ok(_) => Monitoring::On,
            // A namespace that is gone would have been noticed before.
            Err(Error::Refused { code: 404, .. }) => Monitoring::Failed(NotMonitored::NoKind),
            Err(error) => Monitoring::Failed(NotMonitored::NotMade(error)),
        };
    }
    match remove(&context.client, &wanted).await {
        Ok(()) => Monitoring::Off,
        // Who may not ask for one has made none.
        Err(Error::Forbidden(_)) if !is_told(grid) => Monitoring::Off,
        Err(error) => Monitoring::Failed(NotMonitored::NotRemoved(error)),
    }
}

/// There is one, or should have been.
fn is_told(grid: &Grid) -> bool {
    let mut conditions = grid.status.iter().flat_map(|status| &status.conditions);
    conditions.any(|condition| condition.type_ == "Monitored")
}
