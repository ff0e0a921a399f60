//! A node for tests: it answers what the test says, in turn, and keeps what it was asked.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};
use wattle_proto::v1;
use wattle_proto::v1::compute_service_server::{ComputeService, ComputeServiceServer};
use wattle_proto::v1::grid_service_server::{GridService, GridServiceServer};
use wattle_proto::v1::map_service_server::{MapService, MapServiceServer};

use crate::not_scripted::not_scripted;
use crate::{Client, Options, RetryPolicy};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Answer<T> = Result<Response<T>, Status>;

/// What the node does about a message of a pipeline.
pub(crate) enum PipelineStep {
    Answer(Box<dyn Fn(&v1::PipelineRequest) -> v1::PipelineResponse + Send>),
    Ignore,
    Break(Status),
}

/// What matters of a call on many entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InvokeRequest {
    pub(crate) sequence: u64,
    pub(crate) repeated: bool,
    /// The partitions that it names: where it runs, or whose keys it leaves out.
    pub(crate) partitions: Vec<u32>,
    /// What it is to go on with.
    pub(crate) export: Option<v1::ModuleExport>,
}

/// The answers to come, and the requests that came. A call without an answer waits for ever.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) puts: Mutex<VecDeque<Result<v1::PutResponse, Status>>>,
    pub(crate) put_requests: Mutex<Vec<v1::PutRequest>>,
    pub(crate) batches: Mutex<VecDeque<Result<v1::BatchResponse, Status>>>,
    pub(crate) batch_requests: Mutex<Vec<v1::BatchRequest>>,
    pub(crate) deletes: Mutex<VecDeque<Status>>,
    pub(crate) delete_requests: Mutex<usize>,
    pub(crate) scans: Mutex<VecDeque<Vec<Result<v1::ScanResponse, Status>>>>,
    pub(crate) scan_requests: Mutex<Vec<v1::ScanRequest>>,
    pub(crate) watches: Mutex<VecDeque<Vec<Result<v1::WatchResponse, Status>>>>,
    pub(crate) watch_requests: Mutex<Vec<v1::WatchRequest>>,
    pub(crate) invokes: Mutex<VecDeque<Vec<Result<v1::InvokePart, Status>>>>,
    pub(crate) invoke_requests: Mutex<Vec<InvokeRequest>>,
    /// What each stream of tables says before it says no more.
    pub(crate) tables: Mutex<Vec<v1::WatchTableResponse>>,
    /// How often a stream of tables was asked for.
    pub(crate) table_requests: Mutex<usize>,
    pub(crate) pipeline: Mutex<VecDeque<PipelineStep>>,
    pub(crate) pipeline_requests: Mutex<Vec<v1::PipelineRequest>>,
}

pub(crate) struct TestNode {
    pub(crate) script: Arc<Script>,
    endpoint: String,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Drop for TestNode {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl TestNode {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::new(Script::default());
        let server = tonic::transport::Server::builder()
            .add_service(MapServiceServer::new(Services(script.clone())))
            .add_service(GridServiceServer::new(Services(script.clone())))
            .add_service(ComputeServiceServer::new(Services(script.clone())))
            .serve_with_incoming(TcpListenerStream::new(listener));
        Self { script, endpoint, server: tokio::spawn(server) }
    }

    /// HOST:PORT
    pub(crate) fn address(&self) -> String {
        self.endpoint.trim_start_matches("http://").to_owned()
    }

    pub(crate) fn options(&self) -> Options {
        let hasty = RetryPolicy::new(Duration::from_millis(1), Duration::from_millis(4));
        Options::new(&self.endpoint).connections(1).retry(hasty)
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.options()).await.unwrap()
    }
}

fn next<T>(answers: &Mutex<VecDeque<T>>) -> Option<T> {
    answers.lock().unwrap().pop_front()
}

async fn or_wait<T>(answer: Option<T>) -> T {
    match answer {
        Some(answer) => answer,
        None => std::future::pending().await,
    }
}

struct Services(Arc<Script>);

#[tonic::async_trait]
impl GridService for Services {
    not_scripted! {
        status: StatusRequest -> StatusResponse;
        list_partitions: ListPartitionsRequest -> ListPartitionsResponse;
        drain_node: DrainNodeRequest -> DrainNodeResponse;
        forget_node: ForgetNodeRequest -> ForgetNodeResponse;
        create_grid: CreateGridRequest -> CreateGridResponse;
        list_copies: ListCopiesRequest -> ListCopiesResponse;
        survey_control: SurveyControlRequest -> SurveyControlResponse;
        recover_control: RecoverControlRequest -> RecoverControlResponse;
        recover_lost: RecoverLostRequest -> RecoverLostResponse;
    }

    type WatchTableStream = Answers<v1::WatchTableResponse>;

    async fn watch_table(&self, _: Request<v1::WatchTableRequest>) -> Answer<Self::WatchTableStream> {
        *self.0.table_requests.lock().unwrap() += 1;
        let tables = self.0.tables.lock().unwrap().clone();
        Ok(Response::new(stream::iter(tables.into_iter().map(Ok)).chain(stream::pending()).boxed()))
    }

    async fn issue_client_id(
        &self,
        _: Request<v1::IssueClientIdRequest>,
    ) -> Answer<v1::IssueClientIdResponse> {
        Ok(Response::new(v1::IssueClientIdResponse {
            client_id: Bytes::from_static(b"0123456789abcdef"),
            renew_after: Some(prost_types::Duration { seconds: 300, nanos: 0 }),
        }))
    }
}

#[tonic::async_trait]
impl MapService for Services {
    not_scripted! {
        create_map: CreateMapRequest -> CreateMapResponse;
        update_map: UpdateMapRequest -> UpdateMapResponse;
        describe_map: DescribeMapRequest -> DescribeMapResponse;
        list_maps: ListMapsRequest -> ListMapsResponse;
        get: GetRequest -> GetResponse;
        remove: RemoveRequest -> RemoveResponse;
        increment: IncrementRequest -> IncrementResponse;
        touch: TouchRequest -> TouchResponse;
        size: SizeRequest -> SizeResponse;
        clear: ClearRequest -> ClearResponse;
    }

    async fn put(&self, request: Request<v1::PutRequest>) -> Answer<v1::PutResponse> {
        self.0.put_requests.lock().unwrap().push(request.into_inner());
        or_wait(next(&self.0.puts)).await.map(Response::new)
    }

    async fn batch(&self, request: Request<v1::BatchRequest>) -> Answer<v1::BatchResponse> {
        self.0.batch_requests.lock().unwrap().push(request.into_inner());
        or_wait(next(&self.0.batches)).await.map(Response::new)
    }

    async fn delete_map(&self, _: Request<v1::DeleteMapRequest>) -> Answer<v1::DeleteMapResponse> {
        *self.0.delete_requests.lock().unwrap() += 1;
        Err(or_wait(next(&self.0.deletes)).await)
    }

    type ScanStream = Answers<v1::ScanResponse>;

    async fn scan(&self, request: Request<v1::ScanRequest>) -> Answer<Self::ScanStream> {
        self.0.scan_requests.lock().unwrap().push(request.into_inner());
        Ok(Response::new(stream::iter(or_wait(next(&self.0.scans)).await).boxed()))
    }

    type WatchStream = Answers<v1::WatchResponse>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Answer<Self::WatchStream> {
        self.0.watch_requests.lock().unwrap().push(request.into_inner());
        Ok(Response::new(stream::iter(or_wait(next(&self.0.watches)).await).boxed()))
    }

    type PipelineStream = Answers<v1::PipelineResponse>;

    async fn pipeline(
        &self,
        requests: Request<Streaming<v1::PipelineRequest>>,
    ) -> Answer<Self::PipelineStream> {
        let state = (requests.into_inner(), self.0.clone());
        let answers = stream::unfold(state, async |(mut requests, script)| {
            let answer = follow(&mut requests, &script).await?;
            Some((answer, (requests, script)))
        });
        Ok(Response::new(answers.boxed()))
    }
}

impl Services {
    async fn parts(
        &self,
        id: Option<v1::RequestId>,
        partitions: Vec<u32>,
        export: Option<v1::ModuleExport>,
    ) -> Answer<Answers<v1::InvokePart>> {
        let asked = |id: v1::RequestId| {
            let v1::RequestId { sequence, repeated, .. } = id;
            InvokeRequest { sequence, repeated, partitions, export }
        };
        let asked = id.map(asked);
        self.0.invoke_requests.lock().unwrap().extend(asked);
        Ok(Response::new(stream::iter(or_wait(next(&self.0.invokes)).await).boxed()))
    }
}

#[tonic::async_trait]
impl ComputeService for Services {
    not_scripted! { invoke: InvokeRequest -> InvokeResponse; }

    type InvokeKeysStream = Answers<v1::InvokePart>;

    async fn invoke_keys(&self, request: Request<v1::InvokeKeysRequest>) -> Answer<Self::InvokeKeysStream> {
        let v1::InvokeKeysRequest { request_id, answered_partitions, export, .. } = request.into_inner();
        self.parts(request_id, answered_partitions, export).await
    }

    type InvokeAllStream = Answers<v1::InvokePart>;

    async fn invoke_all(&self, request: Request<v1::InvokeAllRequest>) -> Answer<Self::InvokeAllStream> {
        let v1::InvokeAllRequest { request_id, partitions, export, .. } = request.into_inner();
        self.parts(request_id, partitions, export).await
    }
}

async fn follow(
    requests: &mut Streaming<v1::PipelineRequest>,
    script: &Script,
) -> Option<Result<v1::PipelineResponse, Status>> {
    loop {
        let request = requests.message().await.ok()??;
        script.pipeline_requests.lock().unwrap().push(request.clone());
        match or_wait(next(&script.pipeline)).await {
            PipelineStep::Answer(answer) => return Some(Ok(answer(&request))),
            PipelineStep::Ignore => {}
            PipelineStep::Break(status) => return Some(Err(status)),
        }
    }
}
