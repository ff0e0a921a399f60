//! A grid of several nodes on this machine: what backups cost, how long nobody decides when a node dies, and what it takes to share
//! entries with a node that joins. All nodes and the load generator share this machine's cores.

mod backups;
mod failover;
mod rebalance;
mod sent;

use crate::failure::Failure;
use crate::grid::{Member, members, settle};
use crate::node::Node;
use crate::steps::seconds;
pub(super) use backups::run as backups;
pub(super) use failover::run as failover;
pub(super) use rebalance::run as rebalance;
use std::path::Path;
use std::time::Duration;

/// What a grid of Wattle has at least.
const NODES: usize = 3;

/// Nodes that are one grid.
#[derive(Debug)]
struct Grid {
    nodes: Vec<Node>,
}

impl Grid {
    fn start(binary: &Path, nodes: usize) -> Result<Self, Failure> {
        Self::configured(binary, nodes, "")
    }

    /// With what a configuration file would say.
    fn configured(binary: &Path, nodes: usize, settings: &str) -> Result<Self, Failure> {
        println!("starting {nodes} nodes");
        let mut grid = Self { nodes: vec![Node::configured(binary, settings)?] };
        while grid.nodes.len() < nodes {
            grid.join()?;
        }
        grid.settle()?;
        Ok(grid)
    }

    fn join(&mut self) -> Result<(), Failure> {
        let first = self.first();
        self.nodes.push(Node::join(first.binary(), first)?);
        Ok(())
    }

    /// Who is asked.
    fn first(&self) -> &Node {
        self.nodes.first().expect("a grid has nodes")
    }

    fn settle(&self) -> Result<(), Failure> {
        let tell = |time: Duration, state: &str| println!("  {:>6}  {state}", seconds(time));
        settle(&self.first().caller(), self.nodes.len(), tell)
    }

    fn members(&self) -> Result<Vec<Member>, Failure> {
        members(&self.first().caller())
    }

    /// The member that is one of the nodes.
    fn member(&self, node: &Node) -> Result<Member, Failure> {
        let found = self.members()?.into_iter().find(|member| member.address == node.address());
        found.ok_or_else(|| Failure::NotSettled { state: format!("{} is no member", node.address()) })
    }

    /// The processes, as the load generator takes them.
    fn pids(&self) -> String {
        self.nodes.iter().map(|node| node.pid().to_string()).collect::<Vec<_>>().join(",")
    }
}
