//! What was seen of a grid: its sets of pods, and what its members say.

use crate::api::UpgradeStrategy;

/// What the specification asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) size: u32,
    pub(crate) arbiter: bool,
    pub(crate) strategy: UpgradeStrategy,
    pub(crate) paused: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Observed {
    pub(crate) wanted: Wanted,
    /// There is a grid, or was: it may hold something.
    pub(crate) founded: bool,
    /// The pods that hold data; absent before their set is made.
    pub(crate) nodes: Option<PodSet>,
    pub(crate) arbiter: Option<PodSet>,
    pub(crate) grid: GridView,
}

/// A StatefulSet and its pods.
#[derive(Debug, Clone)]
pub(crate) struct PodSet {
    pub(crate) replicas: u32,
    /// Its controller has seen it as it is.
    pub(crate) is_seen: bool,
    /// By ordinal.
    pub(crate) pods: Vec<PodView>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodView {
    pub(crate) name: String,
    pub(crate) ordinal: u32,
    /// Made from an older template than the set's.
    pub(crate) outdated: bool,
    pub(crate) ready: bool,
    /// Its process is there.
    pub(crate) running: bool,
    /// It was told to stop.
    pub(crate) leaving: bool,
    /// The grid has a member at its address, whether that answers or not: it may hold something.
    pub(crate) listed: bool,
    /// What the grid says of it, if it is a member that answers.
    pub(crate) member: Option<MemberView>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberView {
    pub(crate) node: u64,
    pub(crate) zone: String,
    pub(crate) votes: bool,
    pub(crate) leads: bool,
}

/// What members say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GridView {
    /// Nobody answers who knows.
    Unknown { why: String },
    Known {
        safety: Safety,
        voters: Voters,
        /// Members that do not answer and are none of the pods.
        gone: Vec<u64>,
        /// Partitions that nobody who answers holds completely, lost ones too: who is gone may have something of them.
        missed: u32,
        /// Ready pods hold every partition completely, and are more than half of the voters: nothing is lost if all others die.
        ready_suffice: bool,
    },
}

/// What `/safez` of a ready pod says, or that a member leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Safety {
    Safe,
    Unsafe { why: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Voters {
    pub(crate) voting: usize,
    /// With the members that there are.
    pub(crate) wanted: usize,
}

impl Voters {
    /// As the control group's reconciler wants it: an odd number, and three as long as the dead are not forgotten.
    pub(crate) fn wanted(answering: usize, joined: usize) -> usize {
        odd(answering).max(odd(joined).min(3))
    }
}

fn odd(nodes: usize) -> usize {
    match nodes {
        0 => 0,
        1 | 2 => 1,
        3 | 4 => 3,
        _ => 5,
    }
}

impl Observed {
    pub(crate) fn sets(&self) -> impl Iterator<Item = &PodSet> {
        self.nodes.iter().chain(&self.arbiter)
    }

    pub(crate) fn pods(&self) -> impl Iterator<Item = &PodView> {
        self.sets().flat_map(|set| &set.pods)
    }
}

impl PodSet {
    pub(crate) fn found(&self) -> u32 {
        u32::try_from(self.pods.len()).unwrap_or(u32::MAX)
    }
}
