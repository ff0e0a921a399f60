//! The grid behind the scripted nodes: what its members say, and what it was told.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use wattle_proto::v1;

pub(crate) type Script = Arc<Mutex<Grid>>;

#[derive(Debug, Default)]
pub(crate) struct Grid {
    pub(crate) founded: bool,
    /// How many pods there is room for, if not for all.
    pub(crate) room: Option<usize>,
    /// Why `/safez` says no.
    pub(crate) unsafe_because: Option<String>,
    members: BTreeMap<IpAddr, Member>,
    pub(crate) dead: Vec<Member>,
    pub(crate) maps: BTreeMap<String, v1::Map>,
    pub(crate) entries: BTreeMap<String, u64>,
    /// Somebody writes all the time.
    pub(crate) entries_grow: bool,
    /// A member that hears nothing of the others.
    pub(crate) cut_off: Option<IpAddr>,
    pub(crate) functions: BTreeMap<String, v1::Function>,
    pub(crate) uploads: usize,
    /// What modules say of their functions.
    pub(crate) read_only: bool,
    /// Why modules do not compile: a reason, and words.
    pub(crate) refuse_modules: Option<(&'static str, String)>,
    /// What a node cannot run, and why.
    pub(crate) not_loaded: Option<(u64, v1::FunctionProblem)>,
    /// A node that has not heard of the newest version yet, and what it runs.
    pub(crate) behind: Option<(u64, v1::RunningVersion)>,
    nodes: u64,
    api_port: u16,
}

#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) node: u64,
    pub(crate) address: SocketAddr,
    pub(crate) arbiter: bool,
    pub(crate) version: String,
}

impl Grid {
    pub(crate) fn new(api_port: u16) -> Script {
        Arc::new(Mutex::new(Self { api_port, ..Self::default() }))
    }

    pub(crate) fn join(&mut self, address: IpAddr, arbiter: bool, version: &str) {
        self.nodes += 1;
        let address_of_member = SocketAddr::new(address, self.api_port);
        let version = version.to_owned();
        self.members
            .insert(address, Member { node: self.nodes, address: address_of_member, arbiter, version });
        self.founded = true;
    }

    /// It has handed over what it held.
    pub(crate) fn leave(&mut self, address: IpAddr) {
        self.members.remove(&address);
    }

    pub(crate) fn crash(&mut self, address: IpAddr) {
        self.dead.extend(self.members.remove(&address));
    }

    pub(crate) fn members(&self) -> usize {
        self.members.len()
    }

    /// What each member runs of a function beside.
    pub(crate) fn status_about(&self, function: &str) -> v1::StatusResponse {
        let mut status = self.status();
        let function = self.functions.get(function);
        let active = function.and_then(|function| {
            let version = function.versions.iter().find(|version| version.number == function.active)?;
            Some(v1::RunningVersion { number: version.number, module: version.module.clone() })
        });
        for member in &mut status.members {
            let fails = !member.not_loaded.is_empty();
            member.runs = match &self.behind {
                Some((node, former)) if *node == member.node => Some(former.clone()),
                _ => active.clone().filter(|_| !fails),
            };
        }
        status
    }

    pub(crate) fn status(&self) -> v1::StatusResponse {
        let voters = match self.members.len() + self.dead.len() {
            0..=2 => 1,
            3 | 4 => 3,
            _ => 5,
        };
        // Those who hold data vote first.
        let mut order: Vec<&Member> = self.members.values().collect();
        order.sort_by_key(|member| (member.arbiter, member.node));
        let living = order.into_iter().enumerate().map(|(at, member)| shown(member, at < voters, true, self));
        let dead = self.dead.iter().map(|member| shown(member, false, false, self));
        v1::StatusResponse {
            version: "0.1.0".to_owned(),
            members: living.chain(dead).collect(),
            name: "g".to_owned(),
            grid_id: bytes::Bytes::from_static(&[0xab; 16]),
            partitions: Some(v1::PartitionCounts { ok: 271, ..v1::PartitionCounts::default() }),
            ..v1::StatusResponse::default()
        }
    }
}

fn shown(member: &Member, votes: bool, answers: bool, grid: &Grid) -> v1::Member {
    let problem = grid.not_loaded.iter().filter(|(node, _)| *node == member.node);
    v1::Member {
        node: member.node,
        address: member.address.to_string(),
        role: if member.arbiter { v1::NodeRole::Arbiter } else { v1::NodeRole::Data }.into(),
        state: v1::NodeState::Joined.into(),
        version: member.version.clone(),
        votes,
        report: answers.then(v1::MemberReport::default),
        not_loaded: problem.map(|(_, problem)| problem.clone()).collect(),
        ..v1::Member::default()
    }
}
