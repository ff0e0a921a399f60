//! [`Grid`]: the nodes of a run, and what they say of themselves.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use wattle_client::api::{Partition, PartitionCounts, StatusResponse};
use wattle_client::{Client, Error, Options};

use crate::links::Links;
use crate::node::Node;
use crate::violation::Violation;

/// How long a grid has to come to rest.
const SETTLE_TIME: Duration = Duration::from_secs(90);
/// It is at rest when nothing has changed for so long: a primary may have asked for a member to be removed, and not yet been heard.
const REST_TIME: Duration = Duration::from_secs(2);
const LOOK_TIME: Duration = Duration::from_millis(200);
/// How long a node may take to say how things are.
const ASK_TIME: Duration = Duration::from_secs(5);

pub(crate) struct Grid {
    nodes: Vec<Node>,
    /// One for each node, to ask that one alone.
    askers: Vec<Client>,
    pub(crate) links: Links,
}

/// Who does what; nodes by their place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Roles {
    pub(crate) leader: usize,
    pub(crate) voters: Vec<usize>,
    /// By partition: the primary first.
    pub(crate) copies: Vec<Vec<usize>>,
}

impl Grid {
    pub(crate) async fn start(
        count: usize,
        (binary, folder): (&Path, &Path),
        links: Links,
    ) -> Result<Self, Violation> {
        let nodes: Vec<Node> =
            (0..count).map(|number| Node::new(number, (binary, folder), links.clone())).collect();
        let asker = |node: &Node| {
            Client::prepare(Options::new(node.endpoint()).connections(1).timeout(ASK_TIME))
                .expect("an endpoint of ours is a URL")
        };
        let askers = nodes.iter().map(asker).collect();
        let mut grid = Self { nodes, askers, links };
        for node in 0..count {
            grid.start_node(node).await?;
        }
        Ok(grid)
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn node(&mut self, node: usize) -> &mut Node {
        &mut self.nodes[node]
    }

    /// Starts a node, and waits until it serves.
    pub(crate) async fn start_node(&mut self, node: usize) -> Result<(), Violation> {
        let others = self.others(node);
        self.nodes[node].launch(&others).await?;
        self.nodes[node].serves().await
    }

    /// Starts all of them: none serves before most are there.
    pub(crate) async fn start_together(&mut self) -> Result<(), Violation> {
        for node in 0..self.len() {
            let others = self.others(node);
            self.nodes[node].launch(&others).await?;
        }
        for node in &self.nodes {
            node.serves().await?;
        }
        Ok(())
    }

    /// The first founds the grid, and the others join whoever is there.
    fn others(&self, node: usize) -> Vec<String> {
        match node {
            0 => Vec::new(),
            node => {
                let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != node);
                others.map(|(_, other)| other.place()).collect()
            }
        }
    }

    /// A client of all nodes, which begins with one of them.
    pub(crate) fn client(&self, first: usize, timeout: Duration) -> Client {
        let count = self.nodes.len();
        let mut endpoints = (0..count).map(|place| self.nodes[(first + place) % count].endpoint());
        let options = Options::new(endpoints.next().expect("a grid has nodes"));
        let options = endpoints.fold(options, Options::endpoint);
        Client::prepare(options.connections(count).timeout(timeout)).expect("endpoints of ours are URLs")
    }

    pub(crate) fn logs(&self) -> impl Iterator<Item = (usize, PathBuf)> {
        self.nodes.iter().map(Node::log).enumerate()
    }

    /// Waits until every partition has its copies where they should be, all nodes are there and say the same, and nothing changes.
    pub(crate) async fn settled(&mut self) -> Result<Roles, Violation> {
        let all: Vec<usize> = (0..self.len()).collect();
        self.settled_of(&all).await
    }

    /// The same, of these nodes alone.
    pub(crate) async fn settled_of(&mut self, nodes: &[usize]) -> Result<Roles, Violation> {
        let began = Instant::now();
        let mut rest: Option<(u64, Instant)> = None;
        loop {
            for node in &mut self.nodes {
                node.check()?;
            }
            let said = self.ask(nodes).await;
            let version = at_rest(&said, nodes.len());
            rest = match (version, rest) {
                (Some(version), Some((before, since))) if version == before => Some((version, since)),
                (version, _) => version.map(|version| (version, Instant::now())),
            };
            let rested = rest.is_some_and(|(_, since)| since.elapsed() >= REST_TIME);
            if rested && let Some(roles) = self.roles(nodes[0], &said).await {
                return Ok(roles);
            }
            if began.elapsed() > SETTLE_TIME {
                let seen = said.iter().map(|said| format!("\n    {}", in_words(said))).collect();
                return Err(Violation::NotSettled { waited: began.elapsed(), seen });
            }
            tokio::time::sleep(LOOK_TIME).await;
        }
    }

    async fn ask(&self, nodes: &[usize]) -> Vec<Result<StatusResponse, Error>> {
        let mut said = Vec::new();
        for node in nodes {
            said.push(self.askers[*node].status().await);
        }
        said
    }

    async fn roles(&self, asked: usize, said: &[Result<StatusResponse, Error>]) -> Option<Roles> {
        let status = said.iter().find_map(|said| said.as_ref().ok())?;
        let place = |node: u64| {
            let member = status.members.iter().find(|member| member.node == node)?;
            self.nodes.iter().position(|node| node.place() == member.address)
        };
        let voters = status.members.iter().filter(|member| member.votes);
        let mut listed = self.askers[asked].partitions().await.ok()?.partitions;
        listed.sort_by_key(|partition| (partition.class, partition.index));
        let copies = |partition: Partition| {
            let primary = partition.primary?;
            let backups = partition.in_sync.into_iter().filter(|node| *node != primary);
            std::iter::once(primary).chain(backups).map(place).collect()
        };
        Some(Roles {
            leader: place(status.leader?)?,
            voters: voters.filter_map(|member| place(member.node)).collect(),
            copies: listed.into_iter().map(copies).collect::<Option<_>>()?,
        })
    }
}

/// The version of the table, if everybody who was asked has the same, and all is well in it.
fn at_rest(said: &[Result<StatusResponse, Error>], nodes: usize) -> Option<u64> {
    let mut version = None;
    for said in said {
        let said = said.as_ref().ok()?;
        let PartitionCounts { ok, under_replicated, lost, not_begun, unreachable } = said.partitions?;
        let is_well = ok > 0 && under_replicated + lost + not_begun + unreachable == 0;
        let ready = said.members.iter().filter(|member| member.report.as_ref().is_some_and(|r| r.ready));
        let is_same = version.is_none_or(|version| version == said.table_version);
        if !is_well || ready.count() != nodes || said.leader.is_none() || !is_same {
            return None;
        }
        version = Some(said.table_version);
    }
    version
}

fn in_words(said: &Result<StatusResponse, Error>) -> String {
    let said = match said {
        Ok(said) => said,
        Err(error) => return format!("no answer: {error}"),
    };
    let members = said.members.iter().map(|member| {
        let ready = member.report.as_ref().map(|report| report.ready);
        format!("{}.{} ready {ready:?}", member.node, member.incarnation)
    });
    let members: Vec<String> = members.collect();
    let (version, leader) = (said.table_version, said.leader);
    format!("table {version}, leader {leader:?}, {:?}, members {members:?}", said.partitions)
}

/// The first line of a log that tells of a panic.
pub(crate) fn panicked(log: &Path) -> Option<String> {
    let text = fs::read_to_string(log).ok()?;
    let mut lines = text.lines();
    let line = lines.find(|line| line.contains("panicked at"))?;
    Some(format!("{line} {}", lines.next().unwrap_or_default()))
}
