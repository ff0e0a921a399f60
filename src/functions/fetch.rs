//! Modules that another node has.

use futures_util::future::join_all;
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};
use tracing::debug;
use wattle_core::ids::ModuleHash;
use wattle_core::limits::REPORT_TIME;
use wattle_proto::v1;
use wattle_proto::v1::function_service_client::FunctionServiceClient;

use super::upload::{Upload, UploadError, UploadedModule};
use crate::failure::Failure;
use crate::routing::{Owner, Purpose, Routing, forward};

/// Why another node has not given a module.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    /// It has none, or there is no way to it.
    #[error(transparent)]
    Way(#[from] Failure),
    /// It has not answered, or says why not.
    #[error("{}", .0.message())]
    Refused(Box<Status>),
    /// What came is another module.
    #[error(transparent)]
    Module(#[from] UploadError),
}

impl From<Status> for FetchError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// Gets a module from the first other node that has it.
pub(crate) async fn fetch(routing: &Routing, module: &ModuleHash, decided: u64) -> Option<UploadedModule> {
    for member in routing.members() {
        match fetch_from(routing, &member, (module, decided)).await {
            Ok(uploaded) => return Some(uploaded),
            Err(error) => debug!(node = member.member.node.0, %module, %error, "a module was not fetched"),
        }
    }
    None
}

/// Whether a node besides this one has stored a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Elsewhere {
    Stored,
    /// Others answer, and none of them has.
    NotStored,
    /// There is nobody who serves.
    Nobody,
}

/// Asks all other nodes whether they have stored a module.
pub(crate) async fn stored_elsewhere(routing: &Routing, module: &ModuleHash, decided: u64) -> Elsewhere {
    let members = routing.members();
    let asked = members.iter().map(|member| timeout(REPORT_TIME, begin(routing, member, (module, decided))));
    let mut stored = Elsewhere::Nobody;
    for answer in join_all(asked).await {
        match answer {
            Ok(Ok(_)) => return Elsewhere::Stored,
            Ok(Err(FetchError::Refused(status))) if status.code() == Code::NotFound => {
                stored = Elsewhere::NotStored;
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
    stored
}

async fn fetch_from(
    routing: &Routing,
    member: &Owner,
    (module, decided): (&ModuleHash, u64),
) -> Result<UploadedModule, FetchError> {
    let mut answers = begin(routing, member, (module, decided)).await?;
    let mut upload = Upload::new(Some(*module));
    while let Some(part) = answers.message().await? {
        upload.push(&part.chunk)?;
    }
    Ok(upload.finish()?)
}

/// Begins to get a module from a node that has stored it.
async fn begin(
    routing: &Routing,
    member: &Owner,
    (module, decided): (&ModuleHash, u64),
) -> Result<Streaming<v1::DownloadModuleResponse>, FetchError> {
    let channel = routing.channel(member, Purpose::Calls)?;
    let request = forward(v1::DownloadModuleRequest { module: module.to_string() }, decided);
    Ok(FunctionServiceClient::new(channel).download_module(request).await?.into_inner())
}
