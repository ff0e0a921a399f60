//! What makes a node a member of its grid, and all parts of one.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tracing::warn;
use wattle_control::ControlVersion;
use wattle_core::control::grid::{Formats, NodeDescription};
use wattle_core::ids::{MemberId, ReplicationClass};
use wattle_core::limits::{MESSAGE_BYTES, MODULE_BYTES};
use wattle_discovery::{Discovery, DnsService, KubernetesService, Service};
use wattle_proto::v1;
use wattle_wasm::Runtime;
use wattle_wasm::compile::Compiler;

use super::{COMPILE_MODULE, NodeError, random, refused};
use crate::config::{Config, DiscoveryKind};
use crate::control::{Arrival, Control, DataDirectory, FORMAT, arrive};
use crate::follower::Follower;
use crate::functions::{Catalog, Loader, ModuleFiles, Tripped};
use crate::grid::Grid;
use crate::in_flight::InFlight;
use crate::maps::Maps;
use crate::membership::{
    Leaver, Sessions, Suspects, lead, live, release_spare, settle_voters, tell_prepared,
};
use crate::observability::{Metrics, router};
use crate::partition::{Memory, Partitions, tick_partitions};
use crate::peering::{CopyWay, Inside, Links, Member, carry_proposals};
use crate::replication::Replication;
use crate::routing::Routing;
use crate::rpc::{Compute, Functions, GridInfo, MapCalls, Watches};

/// Modules that are compiled at the same time.
const COMPILERS: u32 = 1;
/// Instances of guests in the whole node.
const INSTANCES: u32 = 256;

/// A node that is to become a member.
pub(super) struct Becoming {
    pub(super) config: Config,
    pub(super) directory: Option<Arc<DataDirectory>>,
    /// Where it listens, and where to other nodes.
    pub(super) address: SocketAddr,
    pub(super) peer_address: SocketAddr,
    pub(super) started: Instant,
    pub(super) process: u128,
    pub(super) in_flight: Arc<InFlight>,
    pub(super) inside: Inside,
    pub(super) links: Arc<Links>,
    pub(super) stop: CancellationToken,
    pub(super) leave: CancellationToken,
    pub(super) replaced: CancellationToken,
}

/// A member of a grid, which works as long as this is kept.
pub(super) struct Membership {
    grid: Arc<Grid>,
    leaver: Leaver,
    services: Option<(Routes, axum::Router)>,
    tasks: JoinSet<()>,
}

impl Becoming {
    /// Finds or founds the node's grid; returns when the node has done what was decided there up to then.
    pub(super) async fn become_member(self) -> Result<Membership, NodeError> {
        let others = self.others().await?;
        let mut description = self.description();
        if description.zone.is_none() {
            let host = description.client_address.rsplit_once(':').map_or("", |(host, _)| host);
            description.zone = others.zone_of(host.trim_matches(['[', ']'])).await;
        }
        let arrival = Arrival {
            grid: self.config.grid.clone(),
            partitions: self.config.partitions,
            others,
            description,
            lease_term: self.config.replication.lease_term,
            process: self.process,
        };
        let (control, me) = arrive(self.directory.as_deref(), arrival, (&self.links, &self.inside)).await?;
        let metrics = Arc::new(Metrics::new(Arc::clone(&self.links)));
        let (way, asked) = CopyWay::new(Arc::clone(&self.links));
        let replication = Arc::new(Replication::new(me, Box::new(way), self.config.replication));
        let (grid, tripped) = self.grid(&metrics, &control, replication)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(carry_proposals(Arc::clone(&control), asked));
        tasks.spawn(Arc::clone(&grid).suspend_tripped(tripped));
        self.live(&mut tasks, (&grid, me)).await;
        let services = self.services(&grid, metrics)?;
        let leaver = Leaver {
            grid: Arc::clone(&grid),
            links: Arc::clone(&self.links),
            inside: self.inside.clone(),
            asked: self.leave.clone(),
            within: self.config.stop_within,
            may_return: self.directory.is_some(),
        };
        Ok(Membership { grid, leaver, services: Some(services), tasks })
    }

    async fn others(&self) -> Result<Discovery, NodeError> {
        let Config { join, service, namespace, dns_server, .. } = &self.config;
        let port = self.peer_address.port();
        let service = match service {
            None => None,
            Some((DiscoveryKind::Dns, name)) => {
                Some(DnsService::new(name.clone(), port, *dns_server).map(|dns| Service::Dns(Box::new(dns))))
            }
            Some((DiscoveryKind::Kubernetes, name)) => {
                Some(KubernetesService::watch(name, port, namespace.clone()).await.map(Service::Kubernetes))
            }
        };
        let service = service.transpose().map_err(|error| NodeError::Grid(error.into()))?;
        Ok(Discovery::new(join.clone(), service))
    }

    fn description(&self) -> NodeDescription {
        let Config { advertise, peer_advertise, peer_listen, .. } = &self.config;
        // Where it listens everywhere, others find it by its name, if at all.
        let client_address = advertise.clone().unwrap_or_else(|| place(self.address, &host_name()));
        let peer_address = match peer_listen {
            None => client_address.clone(),
            Some(_) => {
                let host = client_address.rsplit_once(':').map_or(client_address.as_str(), |(host, _)| host);
                place(self.peer_address, host)
            }
        };
        NodeDescription {
            peer_address: peer_advertise.clone().unwrap_or(peer_address),
            client_address,
            zone: self.config.zone.clone(),
            host: host_name(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            formats: Formats { oldest: FORMAT, newest: FORMAT },
            role: self.config.role,
            prepares: true,
            in_memory: self.directory.is_none(),
        }
    }

    /// The grid as services see it, and the functions that it is to suspend.
    fn grid(
        &self,
        metrics: &Metrics,
        control: &Arc<Control>,
        replication: Arc<Replication>,
    ) -> Result<(Arc<Grid>, mpsc::Receiver<Tripped>), NodeError> {
        let config = &self.config;
        let runtime = Arc::new(Runtime::new(INSTANCES)?);
        let files = self.directory.as_deref();
        let files = files.map(|directory| ModuleFiles::open(directory, runtime.engine_key())).transpose()?;
        let arguments = vec![COMPILE_MODULE.into()];
        let compiler = Compiler::new(config.compiler.clone(), arguments, COMPILERS, config.compile);
        let (catalog, tripped) = Catalog::new(metrics.functions());
        let memory = Arc::new(Memory::new(config.memory_bytes));
        let state = control.decided();
        let class = state.grid().and_then(|grid| grid.class(ReplicationClass::default()));
        let class = class.expect("who is a member knows a grid, and each has this class");
        if class.partitions != config.partitions {
            warn!(partitions = class.partitions, "the grid keeps the partitions that it was founded with");
        }
        let partitions = Partitions::new(Arc::clone(&catalog), (memory, replication), random()?);
        let partitions = Arc::new(partitions.map_err(refused("a thread"))?);
        let (maps, loader) = (Arc::<Maps>::default(), Arc::new(Loader::new(runtime, compiler, files)));
        let functions = (Arc::clone(&catalog), Arc::clone(&loader));
        let routing = Arc::new(Routing::new(partitions.replication().me()));
        let outwards = (Arc::clone(&partitions), Arc::clone(&self.links), Arc::clone(&routing));
        let follower = Arc::new(Follower::new(Arc::clone(&maps), functions, outwards));
        let (control, in_flight) = (Arc::clone(control), Arc::clone(&self.in_flight));
        let value_bytes = config.value_bytes;
        let grid =
            Grid { maps, catalog, loader, partitions, control, follower, routing, in_flight, value_bytes };
        Ok((Arc::new(grid), tripped))
    }

    /// Begins the life of a member: it follows, says that it lives, and leads if it is to. Returns when it has prepared what calls run.
    async fn live(&self, tasks: &mut JoinSet<()>, (grid, me): (&Arc<Grid>, MemberId)) {
        let (control, links) = (&grid.control, &self.links);
        let sessions = Arc::new(Sessions::new(grid.partitions.clock()));
        let suspects = Suspects::default();
        self.inside.set_member(Member {
            partitions: Arc::downgrade(&grid.partitions),
            sessions: Arc::clone(&sessions),
            suspects: suspects.clone(),
        });
        tasks.spawn(Arc::clone(control).keep());
        let known = ControlVersion(control.decided_position().version);
        let ended = (self.replaced.clone(), self.stop.clone());
        tasks.spawn(Arc::clone(&grid.follower).run(Arc::clone(control), ended));
        // It does so before anything else, but for functions: to fetch and compile them takes long, and others count on this member.
        control.has_followed_table(known).await;
        tasks.spawn(tick_partitions(Arc::clone(&grid.partitions)));
        tasks.spawn(release_spare(Arc::clone(grid)));
        tasks.spawn(live(
            Arc::clone(control),
            me,
            (Arc::clone(&grid.partitions), Arc::clone(links)),
            (Arc::clone(&sessions), suspects),
        ));
        let (settled, has_settled) = oneshot::channel();
        let leading = (Arc::clone(&sessions), Arc::clone(links));
        tasks.spawn(lead(Arc::clone(control), me, leading, settled));
        tasks.spawn(settle_voters(Arc::clone(control), sessions));
        control.has_followed(known).await;
        let (told, is_told) = oneshot::channel();
        tasks.spawn(tell_prepared(Arc::clone(control), me, told));
        is_told.await.ok();
        if control.decided().grid().is_some_and(|grid| grid.nodes().len() == 1) {
            // Who is alone leads, and all partitions are soon its own.
            has_settled.await.ok();
        }
    }

    fn services(&self, grid: &Arc<Grid>, metrics: Arc<Metrics>) -> Result<(Routes, axum::Router), NodeError> {
        let info = GridInfo { grid: Arc::clone(grid), started: self.started, stop: self.stop.clone() };
        let routes = routes(grid, info, Watches::new(), &self.stop);
        Ok((routes, router(Arc::clone(grid), metrics)))
    }
}

impl Membership {
    /// Opens the ports for everybody: probes on a port of their own, if there is one.
    pub(super) fn serve(&mut self, services: &OnceLock<Routes>, probes: Option<&Arc<OnceLock<Routes>>>) {
        let Some((mut routes, router)) = self.services.take() else { return };
        match probes {
            Some(probes) => drop(probes.set(router.into())),
            None => {
                let merged = routes.axum_router_mut();
                *merged = std::mem::take(merged).reset_fallback().merge(router);
            }
        }
        drop(services.set(routes));
    }

    /// Returns when the process may end: it was asked to leave, or drained.
    pub(super) async fn leave(&self) {
        self.leaver.leave().await;
    }

    /// Ends what the member does.
    pub(super) async fn end(mut self) {
        self.tasks.shutdown().await;
        self.grid.control.shutdown().await;
    }
}

/// Where a port is found that a host may have at all its addresses.
fn place(listens: SocketAddr, host: &str) -> String {
    if listens.ip().is_unspecified() { format!("{host}:{}", listens.port()) } else { listens.to_string() }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn routes(grid: &Arc<Grid>, info: GridInfo, watches: Watches, stop: &CancellationToken) -> Routes {
    let maps = MapCalls { grid: Arc::clone(grid), watches: Arc::new(watches), stop: stop.clone() };
    let maps = v1::map_service_server::MapServiceServer::new(maps).max_decoding_message_size(MESSAGE_BYTES);
    let compute = v1::compute_service_server::ComputeServiceServer::new(Compute { grid: Arc::clone(grid) });
    let functions = v1::function_service_server::FunctionServiceServer::new(Functions::new(Arc::clone(grid)));
    let (health, health_service) = tonic_health::server::health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(wattle_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let routes = Routes::new(maps)
        .add_service(compute.max_decoding_message_size(MESSAGE_BYTES))
        .add_service(functions.max_decoding_message_size(MODULE_BYTES + (1 << 20)))
        .add_service(v1::grid_service_server::GridServiceServer::new(info))
        .add_service(health_service)
        .add_service(reflection().build_v1().expect("the descriptors were generated with the services"))
        .add_service(reflection().build_v1alpha().expect("the descriptors were generated with the services"));
    // The reporter goes: a node that answers serves, and what does not serve does not answer.
    drop(health);
    routes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_at_its_address_or_at_the_host_if_it_is_at_all() {
        let check = |listens: &str, expected| assert_eq!(place(listens.parse().unwrap(), "[::1]"), expected);
        check("10.0.0.7:7119", "10.0.0.7:7119");
        check("[fe80::7]:7119", "[fe80::7]:7119");
        check("0.0.0.0:7119", "[::1]:7119");
        check("[::]:7119", "[::1]:7119");
    }
}
