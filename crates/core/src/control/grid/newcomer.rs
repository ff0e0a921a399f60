//! [`Newcomer`]: whether a process that is in no grid joins one, founds one, or waits. Two processes must never found one each.
//!
//! All that it can do is ask addresses. It founds a grid only if everybody who was found is in none either, if they are as many as were
//! said to come, and if each of them has promised it to this process; nobody promises it twice. Two founders would each need the promises
//! of `expect` processes: as long as fewer than twice as many are started, one of those would have promised both.
//!
//! A promise ends with the process that gave it, never before: whoever it was given to may have founded its grid out of sight. Where
//! founders also claim their grid at one place, which lets one of them, it ends when nobody finds who has it.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::node::{GridId, JoinNonce};

/// What a process that is in no grid has in mind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newcomer {
    process: JoinNonce,
    expect: Option<usize>,
    claims: bool,
    told: Option<Told>,
    promised: Option<JoinNonce>,
}

/// People want a grid to be founded now, with whoever is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// If everybody answers who may be there.
    IfAllAnswer,
    /// Also if somebody is silent: they know that nobody there is in a grid.
    WhoeverAnswers,
}

/// What is known of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nobody has answered, or nobody of use.
    Nobody,
    /// A process that is in no grid either.
    Fresh {
        /// Which one: it may be the one that asks.
        process: JoinNonce,
        /// Whom it has promised that it may found a grid.
        promised: Option<JoinNonce>,
    },
    /// A node of a grid.
    Node {
        /// Of which one.
        grid: GridId,
    },
}

/// What a newcomer does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It joins this grid.
    Join(GridId),
    /// It asks everybody to promise it that it may found a grid.
    Court,
    /// It founds a grid.
    Found,
    /// It asks again later, and says why.
    Wait(Waiting),
}

/// Why a newcomer waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Waiting {
    /// No address is known.
    #[error("no other node is known")]
    NoAddress,
    /// It was not told that a grid is to be founded.
    #[error("no node that was found is in a grid: have one created (wattle grid create)")]
    NotAsked,
    /// Somebody may be there who knows a grid.
    #[error("{silent} of {addresses} addresses do not answer")]
    Silent {
        /// So many do not answer.
        silent: usize,
        /// Of so many.
        addresses: usize,
    },
    /// Not all who should come are there.
    #[error("{found} nodes without a grid were found, {expected} are expected")]
    TooFew {
        /// So many are there, this one too.
        found: usize,
        /// So many should be.
        expected: usize,
    },
    /// So few do not speak for all.
    #[error(
        "{found} nodes without a grid were found: {expected}, as are expected, are not more than half of them"
    )]
    TooMany {
        /// So many are there, this one too.
        found: usize,
        /// So many should be.
        expected: usize,
    },
    /// Another process is to found the grid.
    #[error("another node is to create the grid")]
    Other {
        /// Which one.
        process: JoinNonce,
    },
    /// Where founders claim their grid somebody has claimed another one.
    #[error("a grid was founded here before, and none of its nodes is found: see the node's log")]
    Claimed,
    /// It is not known whether somebody has claimed another grid.
    #[error("it cannot be claimed that this is the first grid here: see the node's log")]
    Unclaimed,
    /// Who is there belongs to different grids.
    #[error("nodes of different grids were found: {one} and {other}")]
    DifferentGrids {
        /// One of them.
        one: GridId,
        /// Another one.
        other: GridId,
    },
}

impl Newcomer {
    /// A process that founds a grid if it is one of at least so many, or never.
    #[must_use]
    pub fn new(process: JoinNonce, expect: Option<usize>) -> Self {
        Self { process, expect, claims: false, told: None, promised: None }
    }

    /// It claims its grid before it founds it, as all others do.
    #[must_use]
    pub fn with_claims(self) -> Self {
        Self { claims: true, ..self }
    }

    /// What people want. It holds until something else is said.
    pub fn tell(&mut self, told: Option<Told>) {
        self.told = told;
    }

    /// Answers a process that asks: to whom this one has promised that it may found a grid. The first that asks for the promise has it.
    pub fn answer(&mut self, asks: JoinNonce, founds: bool) -> Option<JoinNonce> {
        if founds {
            self.promised.get_or_insert(asks);
        }
        self.promised
    }

    /// Decides what to do, given what is known of every address there is. What was heard last may be old.
    pub fn decide(&mut self, found: &[Found]) -> Step {
        let mut grids = found.iter().filter_map(|found| match found {
            Found::Node { grid } => Some(*grid),
            Found::Nobody | Found::Fresh { .. } => None,
        });
        if let Some(one) = grids.next() {
            let other = grids.find(|other| *other != one);
            return other.map_or(Step::Join(one), |other| Step::Wait(Waiting::DifferentGrids { one, other }));
        }
        match self.may_found(found) {
            Ok(step) => step,
            Err(waiting) => Step::Wait(waiting),
        }
    }

    fn may_found(&mut self, found: &[Found]) -> Result<Step, Waiting> {
        if found.is_empty() && self.told.is_none() {
            return Err(Waiting::NoAddress);
        }
        if self.told.is_none() && self.expect.is_none() {
            return Err(Waiting::NotAsked);
        }
        let silent = found.iter().filter(|found| **found == Found::Nobody).count();
        if silent > 0 && self.told != Some(Told::WhoeverAnswers) {
            return Err(Waiting::Silent { silent, addresses: found.len() });
        }
        // It may not have found itself.
        let mut fresh = BTreeMap::from([(self.process, None)]);
        fresh.extend(found.iter().filter_map(|found| match found {
            Found::Fresh { process, promised } => Some((*process, *promised)),
            Found::Nobody | Found::Node { .. } => None,
        }));
        let count = fresh.len();
        match self.expect.filter(|_| self.told.is_none()) {
            Some(expected) if count < expected => return Err(Waiting::TooFew { found: count, expected }),
            Some(expected) if expected * 2 <= count => {
                return Err(Waiting::TooMany { found: count, expected });
            }
            Some(_) | None => {}
        }
        let holds = |promised: &JoinNonce| !self.claims || fresh.contains_key(promised);
        self.promised = self.promised.filter(holds);
        let others = fresh.values().copied().flatten().filter(holds);
        let mut founders: BTreeSet<JoinNonce> = others.chain(self.promised).collect();
        // Where nobody has promised anything it is for the first of them, lest each promises it to itself; or for who was told.
        if founders.is_empty() && self.told.is_none() {
            founders.extend(fresh.keys().next());
        }
        if let Some(process) = founders.into_iter().find(|founder| *founder != self.process) {
            return Err(Waiting::Other { process });
        }
        fresh.insert(self.process, self.answer(self.process, true));
        let all = fresh.values().all(|promised| *promised == Some(self.process));
        Ok(if all { Step::Found } else { Step::Court })
    }
}
