//! A scripted node: the API on one port, the probes on another.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use bytes::Bytes;
use futures_util::Stream;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};
use wattle_operator::Ports;
use wattle_proto::v1;
use wattle_proto::v1::function_service_server::{FunctionService, FunctionServiceServer};
use wattle_proto::v1::grid_service_server::{GridService, GridServiceServer};
use wattle_proto::v1::map_service_server::{MapService, MapServiceServer};

use crate::not_scripted::not_scripted;
use crate::script::Script;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Answer<T> = Result<Response<T>, Status>;

#[derive(Debug)]
pub(crate) struct Node {
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Node {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Node {
    pub(crate) async fn start(address: IpAddr, ports: Ports, script: &Script) -> Self {
        let api = TcpListener::bind(SocketAddr::new(address, ports.api)).await.unwrap();
        let http = TcpListener::bind(SocketAddr::new(address, ports.http)).await.unwrap();
        let services = Services { grid: script.clone(), address };
        let served = tonic::transport::Server::builder()
            .add_service(GridServiceServer::new(services.clone()))
            .add_service(MapServiceServer::new(services.clone()))
            .add_service(FunctionServiceServer::new(services))
            .serve_with_incoming(TcpListenerStream::new(api));
        let safez = {
            let script = script.clone();
            get(move || async move {
                match script.lock().unsafe_because.clone() {
                    None => (StatusCode::OK, "safe\n".to_owned()),
                    Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
                }
            })
        };
        let probes = Router::new().route("/safez", safez);
        let tasks = [
            tokio::spawn(async move { served.await.unwrap() }),
            tokio::spawn(async move { axum::serve(http, probes).await.unwrap() }),
        ];
        Self { tasks }
    }
}

#[derive(Clone)]
struct Services {
    grid: Script,
    /// Of the node.
    address: IpAddr,
}

fn refused(code: Code, reason: &str, message: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(
        reason,
        "wattle.dev",
        std::collections::HashMap::from([("outcome".to_owned(), "NOT_APPLIED".to_owned())]),
    );
    Status::with_error_details(code, message, details)
}

fn not_found(reason: &str, name: &str) -> Status {
    refused(Code::NotFound, reason, &format!("{name} is not there"))
}

#[tonic::async_trait]
impl GridService for Services {
    not_scripted! {
        list_partitions: ListPartitionsRequest -> ListPartitionsResponse;
        drain_node: DrainNodeRequest -> DrainNodeResponse;
        create_grid: CreateGridRequest -> CreateGridResponse;
        list_copies: ListCopiesRequest -> ListCopiesResponse;
        survey_control: SurveyControlRequest -> SurveyControlResponse;
        recover_control: RecoverControlRequest -> RecoverControlResponse;
        recover_lost: RecoverLostRequest -> RecoverLostResponse;
    }

    type WatchTableStream = Answers<v1::WatchTableResponse>;

    async fn watch_table(&self, _: Request<v1::WatchTableRequest>) -> Answer<Self::WatchTableStream> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        let function = request.into_inner().function;
        let grid = self.grid.lock();
        if !grid.founded {
            return Err(refused(Code::Unavailable, "NOT_SERVING", "the node is in no grid yet"));
        }
        let outdated = grid.cut_off == Some(self.address);
        Ok(Response::new(v1::StatusResponse { outdated, ..grid.status_about(&function) }))
    }

    async fn forget_node(&self, request: Request<v1::ForgetNodeRequest>) -> Answer<v1::ForgetNodeResponse> {
        let node = request.into_inner().node;
        self.grid.lock().dead.retain(|member| member.node != node);
        Ok(Response::new(v1::ForgetNodeResponse::default()))
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
        get: GetRequest -> GetResponse;
        put: PutRequest -> PutResponse;
        remove: RemoveRequest -> RemoveResponse;
        increment: IncrementRequest -> IncrementResponse;
        touch: TouchRequest -> TouchResponse;
        batch: BatchRequest -> BatchResponse;
        size: SizeRequest -> SizeResponse;
        clear: ClearRequest -> ClearResponse;
    }

    type ScanStream = Answers<v1::ScanResponse>;
    type WatchStream = Answers<v1::WatchResponse>;
    type PipelineStream = Answers<v1::PipelineResponse>;

    async fn scan(&self, _: Request<v1::ScanRequest>) -> Answer<Self::ScanStream> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Answer<Self::WatchStream> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn pipeline(&self, _: Request<Streaming<v1::PipelineRequest>>) -> Answer<Self::PipelineStream> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn create_map(&self, request: Request<v1::CreateMapRequest>) -> Answer<v1::CreateMapResponse> {
        let v1::CreateMapRequest { name, options } = request.into_inner();
        let mut grid = self.grid.lock();
        let id = grid.maps.len() as u64 + 1;
        let map = v1::Map { name: name.clone(), id, options, revision: 1 };
        grid.maps.insert(name, map.clone());
        Ok(Response::new(v1::CreateMapResponse { map: Some(map) }))
    }

    async fn update_map(&self, request: Request<v1::UpdateMapRequest>) -> Answer<v1::UpdateMapResponse> {
        let asked = request.into_inner();
        let mut grid = self.grid.lock();
        let map = grid.maps.get_mut(&asked.name).ok_or_else(|| not_found("MAP_NOT_FOUND", &asked.name))?;
        let options = map.options.get_or_insert_default();
        options.ttl = asked.ttl.or(options.ttl);
        options.max_idle = asked.max_idle.or(options.max_idle);
        options.max_bytes = asked.max_bytes.unwrap_or(options.max_bytes);
        options.eviction = asked.eviction.unwrap_or(options.eviction);
        map.revision += 1;
        Ok(Response::new(v1::UpdateMapResponse { map: Some(map.clone()) }))
    }

    async fn describe_map(
        &self,
        request: Request<v1::DescribeMapRequest>,
    ) -> Answer<v1::DescribeMapResponse> {
        let name = request.into_inner().name;
        let mut grid = self.grid.lock();
        let map = grid.maps.get(&name).ok_or_else(|| not_found("MAP_NOT_FOUND", &name))?.clone();
        let entries = grid.entries.get(&name).copied().unwrap_or_default();
        if grid.entries_grow {
            grid.entries.insert(name, entries + 1);
        }
        let statistics = v1::MapStatistics { entries, ..v1::MapStatistics::default() };
        Ok(Response::new(v1::DescribeMapResponse { map: Some(map), statistics: Some(statistics) }))
    }

    async fn list_maps(&self, _: Request<v1::ListMapsRequest>) -> Answer<v1::ListMapsResponse> {
        let maps = self.grid.lock().maps.values().cloned().collect();
        Ok(Response::new(v1::ListMapsResponse { maps }))
    }

    async fn delete_map(&self, request: Request<v1::DeleteMapRequest>) -> Answer<v1::DeleteMapResponse> {
        let name = request.into_inner().name;
        let deleted = self.grid.lock().maps.remove(&name);
        deleted.ok_or_else(|| not_found("MAP_NOT_FOUND", &name))?;
        Ok(Response::new(v1::DeleteMapResponse {}))
    }
}

#[tonic::async_trait]
impl FunctionService for Services {
    not_scripted! {
        list_functions: ListFunctionsRequest -> ListFunctionsResponse;
        rollback: RollbackRequest -> RollbackResponse;
    }

    type DownloadModuleStream = Answers<v1::DownloadModuleResponse>;

    async fn download_module(
        &self,
        _: Request<v1::DownloadModuleRequest>,
    ) -> Answer<Self::DownloadModuleStream> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn upload(&self, request: Request<Streaming<v1::UploadRequest>>) -> Answer<v1::UploadResponse> {
        use v1::upload_request::Part;
        let mut messages = request.into_inner();
        let (mut header, mut size_bytes) = (v1::UploadHeader::default(), 0);
        while let Some(message) = messages.message().await? {
            match message.part.unwrap() {
                Part::Header(first) => header = first,
                Part::Chunk(chunk) => size_bytes += chunk.len() as u64,
            }
        }
        let mut grid = self.grid.lock();
        grid.uploads += 1;
        if let Some((reason, why)) = &grid.refuse_modules {
            return Err(refused(Code::InvalidArgument, reason, why));
        }
        let read_only = grid.read_only;
        let empty = || v1::Function { name: header.name.clone(), ..v1::Function::default() };
        let function = grid.functions.entry(header.name.clone()).or_insert_with(empty);
        let number = function.versions.len() as u32 + 1;
        let (module, options, export) = (header.sha256, header.options, "add".to_owned());
        function.versions.push(v1::FunctionVersion {
            number,
            module,
            size_bytes,
            export,
            options,
            read_only,
            ..Default::default()
        });
        if !header.stage {
            (function.previous, function.active) = (function.active, number);
            function.state = v1::FunctionState::Active.into();
        }
        Ok(Response::new(v1::UploadResponse { function: Some(function.clone()), version: number }))
    }

    async fn describe_function(
        &self,
        request: Request<v1::DescribeFunctionRequest>,
    ) -> Answer<v1::DescribeFunctionResponse> {
        let name = request.into_inner().name;
        let found = self.grid.lock().functions.get(&name).cloned();
        let function = found.ok_or_else(|| not_found("FUNCTION_NOT_FOUND", &name))?;
        Ok(Response::new(v1::DescribeFunctionResponse { function: Some(function), statistics: None }))
    }

    async fn promote(&self, request: Request<v1::PromoteRequest>) -> Answer<v1::PromoteResponse> {
        let v1::PromoteRequest { name, version } = request.into_inner();
        let mut grid = self.grid.lock();
        let function = grid.functions.get_mut(&name).ok_or_else(|| not_found("FUNCTION_NOT_FOUND", &name))?;
        (function.previous, function.active) = (function.active, version);
        function.state = v1::FunctionState::Active.into();
        Ok(Response::new(v1::PromoteResponse { function: Some(function.clone()) }))
    }

    async fn delete_function(
        &self,
        request: Request<v1::DeleteFunctionRequest>,
    ) -> Answer<v1::DeleteFunctionResponse> {
        let name = request.into_inner().name;
        let deleted = self.grid.lock().functions.remove(&name);
        deleted.ok_or_else(|| not_found("FUNCTION_NOT_FOUND", &name))?;
        Ok(Response::new(v1::DeleteFunctionResponse {}))
    }
}
