//! The API as it is on the wire, for what the client hides: request ids, single messages of a pipeline.

use std::future::Future;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use wattle_proto::v1;
use wattle_proto::v1::compute_service_client::ComputeServiceClient;
use wattle_proto::v1::grid_service_client::GridServiceClient;
use wattle_proto::v1::map_service_client::MapServiceClient;

use super::TestNode;

/// One connection, and a client id of its own.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    pub(crate) maps: MapServiceClient<Channel>,
    pub(crate) compute: ComputeServiceClient<Channel>,
    pub(crate) client_id: Bytes,
}

impl Wire {
    pub(crate) async fn to(node: &TestNode) -> Self {
        let endpoint = tonic::transport::Endpoint::from_shared(node.endpoint()).unwrap();
        let channel = endpoint.connect().await.expect("the node serves");
        let mut grid = GridServiceClient::new(channel.clone());
        let issued = grid.issue_client_id(v1::IssueClientIdRequest {}).await.unwrap().into_inner();
        let (maps, compute) = (MapServiceClient::new(channel.clone()), ComputeServiceClient::new(channel));
        Self { maps, compute, client_id: issued.client_id }
    }

    /// A request id of this client that acknowledges nothing.
    pub(crate) fn id(&self, sequence: u64) -> Option<v1::RequestId> {
        self.acknowledging(sequence, 0)
    }

    /// A request id of this client, with the oldest sequence that it still waits for.
    pub(crate) fn acknowledging(&self, sequence: u64, oldest_pending: u64) -> Option<v1::RequestId> {
        let client_id = self.client_id.clone();
        Some(v1::RequestId { client_id, sequence, oldest_pending, repeated: false })
    }

    /// As [`Self::id`], of an attempt after one that was not answered.
    pub(crate) fn again(&self, sequence: u64) -> Option<v1::RequestId> {
        self.id(sequence).map(|id| v1::RequestId { repeated: true, ..id })
    }

    /// Stands for a call of another client: no request id.
    pub(crate) async fn put_by_another(&mut self, map: &str, key: &str, value: &str) -> u64 {
        let put = put(map, key, value, None);
        self.maps.put(put).await.unwrap().into_inner().version
    }

    pub(crate) async fn value(&mut self, map: &str, key: &str) -> Option<Bytes> {
        let get = v1::GetRequest { map: map.to_owned(), key: Bytes::copy_from_slice(key.as_bytes()) };
        self.maps.get(get).await.unwrap().into_inner().value
    }
}

pub(crate) fn put(map: &str, key: &str, value: &str, request_id: Option<v1::RequestId>) -> v1::PutRequest {
    v1::PutRequest {
        map: map.to_owned(),
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        request_id,
        ..Default::default()
    }
}

/// What a refusal says to programs: code, reason, outcome.
pub(crate) fn facts(status: &Status) -> (Code, String, String) {
    let details = status.get_error_details();
    let info = details.error_info().expect("every refusal carries ErrorInfo");
    (status.code(), info.reason.clone(), info.metadata.get("outcome").cloned().unwrap_or_default())
}

pub(crate) fn refusal(code: Code, reason: &str, outcome: &str) -> (Code, String, String) {
    (code, reason.to_owned(), outcome.to_owned())
}

/// How long anything that happens by itself may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again until there is an answer.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(mut ask: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "nothing came of it within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What comes back when HTTP/1 is spoken.
pub(crate) async fn get(address: &str, path: &str) -> Vec<u8> {
    try_get(address, path).await.unwrap()
}

/// The same of somebody who may not be there.
pub(crate) async fn try_get(address: &str, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let ask = format!("GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).await?;
    let mut answer = Vec::new();
    // A reset is an end, too.
    drop(stream.read_to_end(&mut answer).await);
    Ok(answer)
}
