//! [`Fault`]: what can happen to nodes and links, and in which order it does.

use std::fmt;
use std::time::Duration;

use wattle_simulation::Random;

use crate::grid::Roles;
use crate::links::{Pair, Way};

/// How long something lasts, in milliseconds: within a lease, past it, past a session, past patience, and past all hope.
const TIMES: [u64; 5] = [1_200, 2_700, 4_500, 6_500, 11_500];
/// How long a dead node is away.
const AWAY: [u64; 4] = [100, 2_000, 4_500, 12_000];
/// One in so many is joined by another that leaves all memories alone.
const TWO_AT_A_TIME: u64 = 4;

/// Whom something happens to, with a busy partition in mind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Primary,
    Backup,
    Leader,
    /// Who does not lead.
    Voter,
}

/// Which links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Between two, in both directions.
    Between(Role, Role),
    OneWay(Role, Role),
    /// All of somebody's.
    Around(Role),
    /// All to somebody.
    Into(Role),
    /// All from somebody.
    OutOf(Role),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// SIGKILL, and a new life on the same data directory.
    Kill(Role),
    /// SIGKILL of all, and a new life on their data directories: all entries are gone, and nothing else.
    KillAll,
    /// SIGSTOP and SIGCONT.
    Pause(Role),
    Link(Way, Shape),
    /// All nodes one after the other, with SIGTERM.
    RollingRestart,
}

/// Something that happens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) time: Duration,
}

const KINDS: [Kind; 17] = [
    Kind::Kill(Role::Primary),
    Kind::Kill(Role::Backup),
    Kind::Kill(Role::Leader),
    Kind::Kill(Role::Voter),
    Kind::KillAll,
    Kind::Pause(Role::Primary),
    Kind::Pause(Role::Backup),
    Kind::Pause(Role::Leader),
    Kind::Link(Way::Cut, Shape::Between(Role::Primary, Role::Backup)),
    Kind::Link(Way::Cut, Shape::OneWay(Role::Primary, Role::Backup)),
    Kind::Link(Way::Cut, Shape::OneWay(Role::Backup, Role::Primary)),
    Kind::Link(Way::Cut, Shape::Around(Role::Primary)),
    Kind::Link(Way::Cut, Shape::Into(Role::Leader)),
    Kind::Link(Way::Cut, Shape::OutOf(Role::Primary)),
    Kind::Link(Way::Slow, Shape::Around(Role::Primary)),
    Kind::Link(Way::Lossy, Shape::Around(Role::Leader)),
    Kind::RollingRestart,
];

impl Kind {
    /// Nobody's memory is lost.
    fn is_harmless(self) -> bool {
        match self {
            Self::Pause(_) | Self::Link(..) => true,
            Self::Kill(_) | Self::KillAll | Self::RollingRestart => false,
        }
    }

    fn lasting(self, random: &mut Random) -> Fault {
        let times: &[u64] = match self {
            Self::Kill(_) | Self::KillAll => &AWAY,
            Self::Pause(_) | Self::Link(..) => &TIMES,
            Self::RollingRestart => &[0],
        };
        let time = Duration::from_millis(random.of(times).unwrap_or_default());
        Fault { kind: self, time }
    }
}

/// Draws faults: each kind before one comes again.
#[derive(Debug)]
pub(crate) struct Deck {
    random: Random,
    left: Vec<Kind>,
}

impl Deck {
    pub(crate) fn new(random: Random) -> Self {
        Self { random, left: Vec::new() }
    }

    fn kind(&mut self) -> Kind {
        if self.left.is_empty() {
            self.left = KINDS.to_vec();
        }
        let place = self.random.below(self.left.len());
        self.left.swap_remove(place)
    }

    /// What happens next, together and for the same time.
    pub(crate) fn draw(&mut self) -> Vec<Fault> {
        let first = self.kind().lasting(&mut self.random);
        let mut drawn = vec![first];
        if first.kind.is_harmless() && self.random.one_in(TWO_AT_A_TIME) {
            let second = self.left.iter().position(|kind| kind.is_harmless() && *kind != first.kind);
            drawn.extend(second.map(|place| Fault { kind: self.left.swap_remove(place), ..first }));
        }
        drawn
    }
}

impl Role {
    /// Who has it, as far as a partition is concerned.
    pub(crate) fn node(self, roles: &Roles, partition: usize) -> usize {
        let copies = roles.copies.get(partition).map_or(&[][..], Vec::as_slice);
        let not_leading = |node: &&usize| **node != roles.leader;
        match self {
            Self::Primary => copies.first().copied().unwrap_or_default(),
            Self::Backup => copies.get(1).copied().unwrap_or(roles.leader),
            Self::Leader => roles.leader,
            Self::Voter => roles.voters.iter().find(not_leading).copied().unwrap_or(roles.leader),
        }
    }
}

impl Shape {
    /// The links, in a grid of so many nodes.
    pub(crate) fn pairs(self, nodes: usize, node: impl Fn(Role) -> usize) -> Vec<Pair> {
        let of = |role: Role, toward: bool, away: bool| {
            let centre = node(role);
            let others = (0..nodes).filter(move |other| *other != centre);
            let pairs = others
                .flat_map(move |other| [toward.then_some((other, centre)), away.then_some((centre, other))]);
            pairs.flatten().collect()
        };
        match self {
            Self::Between(one, other) => {
                let (one, other) = (node(one), node(other));
                vec![(one, other), (other, one)]
            }
            Self::OneWay(from, to) => vec![(node(from), node(to))],
            Self::Around(role) => of(role, true, true),
            Self::Into(role) => of(role, true, false),
            Self::OutOf(role) => of(role, false, true),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Kill(role) => write!(f, "kill {role:?}, back after {:?}", self.time),
            Kind::KillAll => write!(f, "kill all, back after {:?}", self.time),
            Kind::Pause(role) => write!(f, "pause {role:?} for {:?}", self.time),
            Kind::Link(way, shape) => write!(f, "links {shape:?} {way:?} for {:?}", self.time),
            Kind::RollingRestart => f.write_str("restart one after the other"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_before_one_comes_again() {
        let mut deck = Deck::new(Random::new(7));
        let mut drawn = Vec::new();
        while drawn.len() < KINDS.len() {
            drawn.extend(deck.draw().into_iter().map(|fault| fault.kind));
        }
        assert!(KINDS.iter().all(|kind| drawn.iter().filter(|drawn| *drawn == kind).count() == 1));
    }

    #[test]
    fn whoever_loses_memory_is_the_only_one_in_trouble() {
        let mut deck = Deck::new(Random::new(3));
        let draws: Vec<Vec<Fault>> = (0..1000).map(|_| deck.draw()).collect();
        assert!(draws.iter().any(|drawn| drawn.len() == 2));
        let harmless = |drawn: &Vec<Fault>| drawn.iter().all(|fault| fault.kind.is_harmless());
        assert!(draws.iter().all(|drawn| drawn.len() == 1 || harmless(drawn)));
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let draws = |seed| {
            let mut deck = Deck::new(Random::new(seed));
            (0..40).map(|_| deck.draw()).collect::<Vec<_>>()
        };
        assert_eq!(draws(5), draws(5));
        assert_ne!(draws(5), draws(6));
    }

    #[test]
    fn shapes_name_their_links() {
        let roles = Roles { leader: 2, voters: vec![0, 1, 2], copies: vec![vec![1, 0]] };
        let pairs = |shape: Shape| shape.pairs(3, |role| role.node(&roles, 0));
        assert_eq!(pairs(Shape::Between(Role::Primary, Role::Backup)), [(1, 0), (0, 1)]);
        assert_eq!(pairs(Shape::OneWay(Role::Backup, Role::Primary)), [(0, 1)]);
        assert_eq!(pairs(Shape::Into(Role::Leader)), [(0, 2), (1, 2)]);
        assert_eq!(pairs(Shape::OutOf(Role::Primary)), [(1, 0), (1, 2)]);
        assert_eq!(pairs(Shape::Around(Role::Voter)), [(1, 0), (0, 1), (2, 0), (0, 2)]);
    }
}
