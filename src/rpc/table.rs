//! The table as clients need it: where members serve, and which of them decides about which partition.

use std::pin::Pin;

use futures_util::stream::{self, Stream};
use tonic::Status;
use wattle_core::control::grid::{self, Node};
use wattle_core::control::{ControlState, GroupState};
use wattle_core::ids::{MemberId, ReplicationClass};
use wattle_proto::v1;

use crate::failure::Failure;
use crate::grid::Grid;

pub(super) type Tables = Pin<Box<dyn Stream<Item = Result<v1::WatchTableResponse, Status>> + Send>>;

/// The table, and then again whenever it says something else. Between two messages it may have changed often: the next one is made when
/// the last has been taken.
pub(super) fn tables(
    grid: &Grid,
) -> Result<impl Stream<Item = Result<v1::WatchTableResponse, Status>> + use<>, Failure> {
    let (me, decided) = (grid.partitions.replication().me(), grid.control.watch());
    if decided.borrow().state.grid().is_none() {
        return Err(Failure::NoMember);
    }
    let told = v1::WatchTableResponse::default();
    Ok(stream::unfold((decided, told), move |(mut decided, told)| async move {
        loop {
            let state = decided.borrow_and_update().state.clone();
            if let Some(table) = news(&told, &state, me) {
                return Some((Ok(table.clone()), (decided, table)));
            }
            decided.changed().await.ok()?;
        }
    }))
}

/// The table, unless it says what was told already.
fn news(told: &v1::WatchTableResponse, state: &GroupState, me: MemberId) -> Option<v1::WatchTableResponse> {
    let grid = state.grid()?;
    // What is decided about functions, and most of what is about maps, is no news.
    let maps = maps(state.catalog());
    if (told.generation, told.version) == (grid.generation(), grid.version()) && told.maps == maps {
        return None;
    }
    let now = v1::WatchTableResponse { maps, ..table(grid, me) };
    let as_before = v1::WatchTableResponse { version: now.version, ..told.clone() };
    (now != as_before).then_some(now)
}

fn table(grid: &grid::Grid, me: MemberId) -> v1::WatchTableResponse {
    let member = |node: &Node| v1::MemberAddress {
        node: node.id().0,
        incarnation: node.member.incarnation,
        address: node.description.client_address.clone(),
    };
    let primary = |row: &grid::Row| row.assignment.primary.map_or(0, |primary| primary.node.0);
    let class = |class: ReplicationClass| v1::ClassTable {
        class: class.0.into(),
        primaries: grid.rows_of(class).map(|(_, row)| primary(row)).collect(),
    };
    v1::WatchTableResponse {
        grid_id: grid.id().0.to_vec().into(),
        node: me.node.0,
        incarnation: me.incarnation,
        generation: grid.generation(),
        version: grid.version(),
        members: grid.nodes().map(member).collect(),
        classes: grid.classes().map(|(number, _)| class(number)).collect(),
        maps: Vec::new(),
    }
}

/// Maps that do not belong to the first class.
fn maps(catalog: &ControlState) -> Vec<v1::MapClass> {
    let others = catalog.maps().filter(|map| !map.options.class.is_first());
    others.map(|map| v1::MapClass { map: map.name.to_string(), class: map.options.class.0.into() }).collect()
}
