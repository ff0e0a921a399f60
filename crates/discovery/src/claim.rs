//! [`Claim`]: in a cluster, one ConfigMap says which grid was founded for a service. It is made if it is absent, by who is about to found
//! one; the API server lets one of them succeed. After that nobody founds another, however few nodes one sees.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Resource};
use tokio::time::timeout;

use crate::error::{LookupError, Unanswered};
use crate::kubernetes::KubernetesService;

/// How long the API server may take for an answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// What has the grid's id in the ConfigMap.
const GRID: &str = "grid";

/// Who may found the grid of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Who asks.
    Own,
    /// Another one, for another grid.
    Other {
        /// What says so.
        config_map: String,
        /// For which one.
        grid: String,
    },
}

impl KubernetesService {
    /// Claims that the grid of this service is this one.
    ///
    /// # Errors
    /// [`LookupError`]: whether it is claimed is not known. To ask again is harmless.
    pub async fn claim(&self, grid: &str) -> Result<Claim, LookupError> {
        let name = format!("{}-grid", self.name);
        let config_maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let claim = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                // It goes with the service.
                owner_references: self.service().await?.owner_ref(&()).map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(GRID.to_owned(), grid.to_owned())])),
            ..ConfigMap::default()
        };
        match answered(config_maps.create(&PostParams::default(), &claim)).await {
            Ok(_) => return Ok(Claim::Own),
            Err(Unanswered::Asked(kube::Error::Api(status))) if status.is_already_exists() => {}
            Err(error) => return Err(self.no_answer("create configmaps", Arc::new(error))),
        }
        let found = answered(config_maps.get(&name)).await;
        let found = found.map_err(|error| self.no_answer("get configmaps", Arc::new(error)))?;
        let claimed = found.data.and_then(|mut data| data.remove(GRID)).unwrap_or_default();
        // An earlier answer may have been lost.
        Ok(if claimed == grid {
            Claim::Own
        } else {
            Claim::Other { config_map: format!("{}/{name}", self.namespace), grid: claimed }
        })
    }

    async fn service(&self) -> Result<Service, LookupError> {
        let services: Api<Service> = Api::namespaced(self.client.clone(), &self.namespace);
        let service = answered(services.get(&self.name)).await;
        service.map_err(|error| self.no_answer("get services", Arc::new(error)))
    }
}

async fn answered<T>(asked: impl Future<Output = kube::Result<T>>) -> Result<T, Unanswered> {
    timeout(ANSWER_TIME, asked).await.map_err(|_elapsed| Unanswered::Silent)?.map_err(Unanswered::Asked)
}
