//! How the operator reaches a grid: at the addresses of its pods, which works with and without DNS.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use hyper::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::ListParams;
use wattle_client::{Client, Options, api as wire};

use crate::api::Grid;
use crate::backoff;
use crate::claims::Claims;
use crate::context::Context;
use crate::error::Error;
use crate::http_get::{Get, GetError, get};
use crate::manifests::{API_PORT, HTTP_PORT, grid_selector};

/// Longer than members wait for each other's reports.
pub(crate) const CALL_TIME: Duration = Duration::from_secs(8);
/// Before a grid is founded nobody knows one as a rule, and whoever asks has better things to do.
pub(crate) const CALL_TIME_BEFORE: Duration = Duration::from_secs(1);
const CONNECT_TIME: Duration = Duration::from_secs(2);
const PROBE_TIME: Duration = Duration::from_secs(5);
/// Members that are asked for the same.
const ASKED_AT_ONCE: usize = 3;
/// A probe says one line.
const PROBE_BYTES: usize = 64 << 10;

/// Where the pods of a grid listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    pub api: u16,
    pub http: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { api: API_PORT, http: HTTP_PORT }
    }
}

/// Why a grid cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    #[error("none of its pods is ready")]
    NobodyReady,
    #[error("none of its pods runs")]
    NobodyRuns,
    #[error("the control group's leader has not said in time what is decided")]
    Outdated,
    #[error(transparent)]
    Client(#[from] wattle_client::Error),
}

/// A client of a grid that asks these pods.
pub(crate) fn client_of(addresses: &[IpAddr], ports: Ports) -> Result<Client, Unreachable> {
    client_within(addresses, ports, CALL_TIME)
}

/// The same, for calls that end after this time.
pub(crate) fn client_within(
    addresses: &[IpAddr],
    ports: Ports,
    time: Duration,
) -> Result<Client, Unreachable> {
    let mut urls = addresses.iter().map(|address| format!("http://{}", SocketAddr::new(*address, ports.api)));
    let first = urls.next().ok_or(Unreachable::NobodyReady)?;
    let options = urls.fold(Options::new(first), Options::endpoint);
    let patient = options.connections(1).timeout(time).connect_timeout(CONNECT_TIME);
    Ok(Client::prepare(patient.endpoints_only())?)
}

/// The first member that knows what is decided, and what it says. If the first that is asked does not, several are asked at once: it may be
/// cut off from the others.
pub(crate) async fn ask(
    addresses: &[IpAddr],
    ports: Ports,
    time: Duration,
) -> Result<(IpAddr, wire::StatusResponse), Unreachable> {
    let asked = |address: IpAddr| async move {
        let status = client_within(&[address], ports, time)?.status().await?;
        if status.outdated { Err(Unreachable::Outdated) } else { Ok((address, status)) }
    };
    let (first, others) = addresses.split_first().ok_or(Unreachable::NobodyReady)?;
    let mut why = match asked(*first).await {
        Ok(found) => return Ok(found),
        Err(error) => error,
    };
    let mut answers = stream::iter(others.iter().copied()).map(asked).buffer_unordered(ASKED_AT_ONCE);
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(found) => return Ok(found),
            // It is told the same, whoever answers last.
            Err(error) if !matches!(why, Unreachable::Outdated) => why = error,
            Err(_) => {}
        }
    }
    Err(why)
}

/// A client of a grid that begins with a member that knows what is decided.
async fn informed_client(mut addresses: Vec<IpAddr>, ports: Ports) -> Result<Client, Unreachable> {
    let (informed, _) = ask(&addresses, ports, CALL_TIME).await?;
    addresses.sort_by_key(|address| *address != informed);
    client_of(&addresses, ports)
}

/// Why an object cannot ask the grid that it names.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoGrid {
    #[error("there is no Grid {name} in namespace {namespace}")]
    NotFound { name: String, namespace: String },
    #[error("Grid {name} cannot be asked: {why}")]
    NotReady { name: String, why: Unreachable },
}

impl NoGrid {
    /// For conditions and events.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "GridNotFound",
            Self::NotReady { .. } => "GridNotReady",
        }
    }
}

/// The Grid that an object names and a client of it, if it is there and can be asked.
pub(crate) async fn grid_client<K: Claims>(
    object: &K,
    context: &Context,
) -> Result<Result<(Grid, Client), NoGrid>, Error> {
    let name = object.claim().0.to_owned();
    let Some(grid) = context.api_beside::<Grid>(object)?.get_opt(&name).await? else {
        return Ok(Err(NoGrid::NotFound { name, namespace: object.namespace().unwrap_or_default() }));
    };
    let addresses = ready_addresses(context, &grid).await?;
    let client = informed_client(addresses, context.ports).await;
    Ok(client.map(|client| (grid, client)).map_err(|why| NoGrid::NotReady { name, why }))
}

/// A client for whoever has to take something out of a grid; none if there is nothing left of that. Fails softly while it cannot be asked.
pub(crate) async fn client_while_there<K: Claims>(
    object: &K,
    context: &Context,
) -> Result<Option<Client>, Error> {
    match grid_client(object, context).await? {
        Ok((_, client)) => Ok(Some(client)),
        Err(NoGrid::NotFound { .. }) => Ok(None),
        Err(why @ NoGrid::NotReady { .. }) => {
            Err(Error::DeletionRefused { why: why.to_string(), retry: backoff::while_busy() })
        }
    }
}

/// What the members run: several versions while an upgrade is under way.
pub(crate) fn versions(members: &[wire::Member]) -> String {
    let mut versions: Vec<&str> = members.iter().map(|member| member.version.as_str()).collect();
    versions.retain(|version| !version.is_empty());
    versions.sort_unstable();
    versions.dedup();
    versions.join(", ")
}

/// The addresses of a grid's pods that are ready.
pub(crate) async fn ready_addresses(context: &Context, grid: &Grid) -> Result<Vec<IpAddr>, Error> {
    let pods = context.api_beside::<Pod>(grid)?;
    let listed = pods.list(&ListParams::default().labels(&grid_selector(&grid.name_any()))).await?;
    Ok(listed.iter().filter(|pod| is_ready(pod)).filter_map(address).collect())
}

pub(crate) fn address(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    let is_ready = conditions.filter(|condition| condition.type_ == "Ready").any(|one| one.status == "True");
    is_ready && pod.metadata.deletion_timestamp.is_none()
}

/// Why a pod does not say that its grid is safe.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsafe {
    #[error("{why}")]
    Says { why: String },
    #[error("/safez answers {status}")]
    Answers { status: StatusCode },
    #[error("/safez does not answer: {0}")]
    Silent(#[from] GetError),
}

/// Succeeds if a pod says that its grid is safe.
pub(crate) async fn ask_safez(address: IpAddr, ports: Ports) -> Result<(), Unsafe> {
    let url = format!("http://{}/safez", SocketAddr::new(address, ports.http));
    let answer = get(&Get { url: &url, authority: None, longest: PROBE_BYTES, time: PROBE_TIME }).await?;
    if answer.status.is_success() {
        return Ok(());
    }
    let body = String::from_utf8_lossy(&answer.body);
    let why = body.trim();
    Err(if why.is_empty() || answer.status != StatusCode::SERVICE_UNAVAILABLE {
        Unsafe::Answers { status: answer.status }
    } else {
        Unsafe::Says { why: why.to_owned() }
    })
}
