//! [`Routing`]: which other node decides about a partition, and the way of calls there. A call goes on once: who it was sent to does it
//! or refuses it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tonic::Request;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use wattle_core::control::grid::{Grid, Row};
use wattle_core::ids::{MemberId, PartitionId};
use wattle_core::limits::{
    CALL_TIMEOUT, CONNECTION_UNREAD_BYTES, PEER_CONNECT_TIME, PEER_KEEP_ALIVE_TIMEOUT, UNREAD_BYTES,
};

use crate::failure::Failure;
use crate::partition::ReadMode;

/// On calls of a node for its clients: how much was decided, as far as the node knew.
const FORWARDED: &str = "wattle-forwarded";
/// On calls of clients, and of nodes for them: how to make sure of what is read.
const READ_MODE: &str = "wattle-read-mode";
const CONFIRM: &str = "confirm";
/// A connection is asked whether it is there when nothing has come for so long.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// What a connection to another node is for. Calls that are answered at once never wait for readers who take their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// Answers that this node reads as they come.
    Calls,
    /// Answers that a client reads.
    Streams,
    /// As those, and open as long as the client likes: there may be as many as a connection takes.
    Watches,
}

/// Another node, which may decide about partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) member: MemberId,
    address: Arc<str>,
}

/// Who decides about the partitions of each class, by their index; `None` is this node, or nobody.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Owners(Vec<Vec<Option<Owner>>>);

impl Owners {
    /// The other node that decides about a partition.
    pub(crate) fn of(&self, partition: PartitionId) -> Option<&Owner> {
        self.0.get(usize::from(partition.class.0))?.get(usize::from(partition.index))?.as_ref()
    }
}

/// Where the partitions are decided about.
#[derive(Debug)]
pub(crate) struct Routing {
    me: MemberId,
    /// Whether any partition is another's: most calls need not look further where none is.
    elsewhere: AtomicBool,
    /// Held to look it up or to exchange it.
    owners: RwLock<Arc<Owners>>,
    /// All other members. Held to copy it or to exchange it.
    members: RwLock<Vec<Owner>>,
    channels: RwLock<HashMap<(MemberId, Purpose), Channel>>,
}

impl Routing {
    pub(crate) fn new(me: MemberId) -> Self {
        Self {
            me,
            elsewhere: AtomicBool::new(false),
            owners: RwLock::new(Arc::default()),
            members: RwLock::default(),
            channels: RwLock::default(),
        }
    }

    /// The table is another.
    pub(crate) fn follow(&self, grid: &Grid) {
        let place = |member: MemberId| {
            let node = grid.node(member.node).filter(|node| node.member == member)?;
            Some(Owner { member, address: node.description.client_address.as_str().into() })
        };
        let members: HashMap<MemberId, Owner> =
            grid.nodes().filter_map(|node| Some((node.member, place(node.member)?))).collect();
        let owner =
            |row: &Row| members.get(&row.assignment.primary.filter(|primary| *primary != self.me)?).cloned();
        let owners =
            grid.classes().map(|(class, _)| grid.rows_of(class).map(|(_, row)| owner(row)).collect());
        let owners = Owners(owners.collect());
        let elsewhere = owners.0.iter().flatten().any(Option::is_some);
        *self.members.write() = members.values().filter(|owner| owner.member != self.me).cloned().collect();
        self.channels.write().retain(|(member, _), _| members.contains_key(member));
        // Who compares tables by their places is told only of another.
        if **self.owners.read() != owners {
            *self.owners.write() = Arc::new(owners);
        }
        self.elsewhere.store(elsewhere, Ordering::Release);
    }

    /// Who decides about the partitions, if not this node about all that somebody decides about.
    pub(crate) fn owners(&self) -> Option<Arc<Owners>> {
        self.elsewhere.load(Ordering::Acquire).then(|| Arc::clone(&self.owners.read()))
    }

    /// The other node that decides about a partition.
    pub(crate) fn owner(&self, partition: PartitionId) -> Option<Owner> {
        self.owners()?.of(partition).cloned()
    }

    /// All other members.
    pub(crate) fn members(&self) -> Vec<Owner> {
        self.members.read().clone()
    }

    /// The way to a node. It is opened when it is first used.
    pub(crate) fn channel(&self, owner: &Owner, purpose: Purpose) -> Result<Channel, Failure> {
        if let Some(channel) = self.channels.read().get(&(owner.member, purpose)) {
            return Ok(channel.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{}", owner.address));
        let endpoint = endpoint.map_err(|_| Failure::Internal { what: "a member's address is none" })?;
        let endpoint = endpoint
            .connect_timeout(PEER_CONNECT_TIME)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(PEER_KEEP_ALIVE_TIMEOUT);
        let endpoint = match purpose {
            Purpose::Calls => endpoint,
            // What some do not read fills none of what the others share.
            Purpose::Streams | Purpose::Watches => endpoint
                .initial_stream_window_size(UNREAD_BYTES)
                .initial_connection_window_size(CONNECTION_UNREAD_BYTES),
        };
        let channel = endpoint.connect_lazy();
        Ok(self.channels.write().entry((owner.member, purpose)).or_insert(channel).clone())
    }
}

/// A call that goes on to another node, which must know at least what was decided up to `decided`.
pub(crate) fn forward<T>(message: T, decided: u64) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(FORWARDED, MetadataValue::from(decided));
    request.set_timeout(CALL_TIMEOUT);
    request
}

/// A call that is to make sure of what it reads.
pub(crate) fn reading<T>(mut request: Request<T>, reads: ReadMode) -> Request<T> {
    if reads == ReadMode::Confirm {
        request.metadata_mut().insert(READ_MODE, MetadataValue::from_static(CONFIRM));
    }
    request
}

/// How a call is to make sure of what it reads.
///
/// # Errors
/// In no way that there is.
pub(crate) fn read_mode(metadata: &MetadataMap) -> Result<ReadMode, Failure> {
    match metadata.get(READ_MODE).map(|mode| mode.as_bytes()) {
        None | Some(b"linearizable") => Ok(ReadMode::Linearizable),
        Some(mode) if mode == CONFIRM.as_bytes() => Ok(ReadMode::Confirm),
        Some(_) => {
            let problem = "it is linearizable or confirm; stale is reserved";
            Err(Failure::Argument { field: READ_MODE, problem })
        }
    }
}

/// What a call from another node says that it knew; `None` for a client's own call.
pub(crate) fn forwarded(metadata: &MetadataMap) -> Option<u64> {
    metadata.get(FORWARDED)?.to_str().ok()?.parse().ok()
}

/// Why another node has not answered a call as a whole.
pub(crate) fn not_answered(status: &tonic::Status) -> Failure {
    use tonic_types::StatusExt;
    let details = status.get_error_details();
    let Some(info) = details.error_info() else {
        // It may have heard of the call before the connection broke.
        return Failure::Unreached { message: status.message().to_owned() };
    };
    let mut metadata = info.metadata.clone();
    let outcome = metadata.remove("outcome").unwrap_or_default();
    let outcome = wattle_proto::v1::Outcome::from_str_name(&format!("OUTCOME_{outcome}"));
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        metadata.insert("retry_after_ms".to_owned(), delay.as_millis().to_string());
    }
    Failure::Elsewhere(Box::new(wattle_proto::v1::OperationError {
        code: status.code().into(),
        reason: info.reason.clone(),
        message: status.message().to_owned(),
        outcome: outcome.unwrap_or(wattle_proto::v1::Outcome::InDoubt).into(),
        metadata: metadata.into_iter().collect(),
    }))
}
