//! The world's part of the control group: who reaches whom, elections, and what becomes of entries.

use wattle_core::control::grid::{
    ClassOptions, Grid, GridApplied, GridCommand, GridRefusal, JoinNonce, NewGrid, OnFullLoss, Recovery,
};
use wattle_core::ids::{GridTime, MemberId, NodeId};
use wattle_core::name::Name;
use wattle_core::replication::LocalTime;

use super::faults::usual_clock;
use super::machines::Machine;
use super::{CLIENTS_STOP, Event, FAULTS, Scenario, World};
use crate::clock::{MILLISECOND, SECOND, Time};
use crate::group::Group;
use crate::judge::{Judge, Violation};
use crate::network::{Link, Network};
use crate::node::{Beginning, Entry, Node};
use crate::random::Random;
use crate::trace::Trace;

/// How often it is looked whether the leader still leads.
const ELECTION_LOOK: u64 = 100 * MILLISECOND;
/// How long voters wait for a leader before they elect another, from and to.
const ELECTION_TIME: (u64, u64) = (600 * MILLISECOND, 2 * SECOND);
/// What it takes to ask a majority, from and to.
const DECISION_TIME: (u64, u64) = (MILLISECOND, 12 * MILLISECOND);
/// How often people look after what is lost, once all is well again.
const OPERATOR_TIME: u64 = 2 * SECOND;
/// Entries that wait at a leader that reaches no majority.
const PENDING: usize = 1000;
/// Entries of a grid's life: many times as many as it needs.
pub(super) const RESTLESS: u64 = 10_000;

impl World {
    pub(super) fn found(mut random: Random, scenario: Scenario, usual: Link, trace: Trace) -> Self {
        let machines: Vec<Machine> = (0..scenario.machines)
            .map(|place| {
                let zone = scenario.zones.then(|| ["a", "b", "c"][place % 3]);
                Machine::new(usual_clock(&mut random), zone)
            })
            .collect();
        let (grid, founder) = new_grid(scenario, &mut random);
        let mut world = Self {
            now: Time::default(),
            queue: std::collections::BinaryHeap::new(),
            queued: 0,
            random,
            scenario,
            machines,
            clients: Vec::new(),
            network: Network::new(usual),
            group: Group::new(grid, founder.node),
            homes: std::collections::BTreeMap::new(),
            judge: Judge::new(scenario.may_lose),
            trace,
            violation: None,
            calm: false,
            decided: 0,
            unread: Vec::new(),
        };
        world.start(0, Some(founder));
        for place in 1..scenario.machines {
            let wait = world.random.between(0, 3 * SECOND);
            world.after(wait, Event::Mend(super::faults::Mend::Restart(place)));
        }
        world.add_clients();
        world.after(0, Event::Election);
        world.at(Time(FAULTS.0), Event::Fault);
        world.at(Time(FAULTS.1), Event::StopFaults);
        world.at(Time(CLIENTS_STOP), Event::ReadAll);
        world
    }

    /// Whether a voter is up and reached by a machine.
    fn reaches(&self, place: usize, voter: NodeId) -> bool {
        let Some(home) = self.homes.get(&voter).copied() else { return false };
        let machine = &self.machines[home];
        let is_it = machine.known.is_some_and(|known| known.node == voter);
        is_it && machine.is_awake() && self.network.connects(place, home)
    }

    fn leads(&self, place: usize, life: u32) -> bool {
        let machine = &self.machines[place];
        let is_voter = machine.known.is_some_and(|known| self.group.voters.contains(&known.node));
        machine.life == life
            && machine.is_awake()
            && is_voter
            && Group::is_majority(&self.group.voters, |voter| self.reaches(place, voter))
    }

    /// The leader that can decide.
    fn leader(&self) -> Option<usize> {
        let (place, life) = self.group.leader?;
        self.leads(place, life).then_some(place)
    }

    pub(super) fn append(&mut self, place: usize, entry: Entry) {
        let leading = self.machines[place].process.as_ref().and_then(|node| node.leading.as_ref());
        let Some(term) = leading.map(|leading| leading.term) else { return };
        // Who was replaced appends what nobody will ever see.
        if term == self.group.term && self.group.pending.len() < PENDING {
            self.group.pending.push_back(entry);
            let wait = self.random.between(DECISION_TIME.0, DECISION_TIME.1);
            self.after(wait, Event::Decide { term });
        }
    }

    pub(super) fn decide_first(&mut self, term: u64) {
        if term != self.group.term || self.leader().is_none() {
            return;
        }
        if let Some(entry) = self.group.pending.pop_front() {
            self.decide(&entry);
        }
    }

    /// An entry is decided, and the leader hears of it.
    fn decide(&mut self, entry: &Entry) {
        let before = self.group.grid.clone();
        let leader = self.group.leader.map(|(place, _)| place);
        let reaches = |voter| leader.is_some_and(|leader| self.reaches(leader, voter));
        let result = match entry {
            // The control group gives up a change that no majority of the new voters takes.
            Entry::Voters(voters) if !Group::is_majority(voters, reaches) => Ok(GridApplied::Unchanged),
            Entry::Voters(_) | Entry::Reconciled(_) | Entry::Asked(_) | Entry::Join { .. } => {
                self.group.decide(entry)
            }
        };
        let words = || format!("decided: {entry:?}: {result:?}");
        self.trace.note(self.now, &(self.group.grid.version(), format!("{result:?}")), words);
        self.count(entry, &result);
        self.decided += 1;
        if self.decided > RESTLESS {
            self.judged(Err(Violation::Restless { decided: self.decided }));
        }
        let machines = &self.machines;
        let lives = |member: MemberId| machines.iter().any(|machine| machine.member() == Some(member));
        let judgement = self.judge.decided((&before, &self.group.grid), entry, lives);
        self.judged(judgement);
        let Some((place, _)) = self.group.leader else { return };
        let (grid, voters) = (self.group.grid.clone(), self.group.voters.clone());
        self.on(place, |node, now, out| node.decided(now, (&grid, &voters), (entry, &result), out));
    }

    /// Looks whether the leader leads; if nobody has for a while, voters elect another.
    pub(super) fn hold_election(&mut self) {
        self.after(ELECTION_LOOK, Event::Election);
        self.depose_old_leaders();
        if self.leader().is_some() {
            self.group.election = None;
            // What had to wait for a majority.
            let term = self.group.term;
            if !self.group.pending.is_empty() {
                self.after(0, Event::Decide { term });
            }
            return;
        }
        let wait = self.random.between(ELECTION_TIME.0, ELECTION_TIME.1);
        let (now, first) = (self.now, self.group.term == 0);
        let due = *self.group.election.get_or_insert(now + wait);
        if first || now >= due {
            self.elect();
        }
    }

    pub(super) fn elect(&mut self) {
        let candidates: Vec<usize> =
            (0..self.machines.len()).filter(|place| self.leads(*place, self.machines[*place].life)).collect();
        let Some(place) = self.random.of(&candidates) else { return };
        self.group.election = None;
        self.group.term += 1;
        let survives = self.random.below(self.group.pending.len() + 1);
        let survivors: Vec<Entry> = self.group.pending.drain(..).take(survives).collect();
        self.group.leader = None;
        survivors.iter().for_each(|entry| self.decide(entry));
        self.group.pending.clear();
        let (term, life) = (self.group.term, self.machines[place].life);
        self.group.leader = Some((place, life));
        self.trace.note(self.now, &("leads", place, term), || format!("machine {place} leads term {term}"));
        self.trace.count("elected");
        let (grid, voters) = (self.group.grid.clone(), self.group.voters.clone());
        self.on(place, |node, now, out| node.lead(now, term, (&grid, &voters), out));
    }

    /// Whoever leads an older term hears of the newer one from the first voter that it reaches.
    fn depose_old_leaders(&mut self) {
        for place in 0..self.machines.len() {
            let knows = self.group.voters.iter().any(|voter| self.reaches(place, *voter));
            let (term, knows) = (self.group.term, knows && self.machines[place].is_awake());
            let Some(node) = self.machines[place].process.as_mut().filter(|_| knows) else { continue };
            if node.leading.as_ref().is_some_and(|leading| leading.term < term) {
                node.leading = None;
            }
        }
    }

    fn count(&mut self, entry: &Entry, result: &Result<GridApplied, GridRefusal>) {
        let event = match (entry, result) {
            (_, Err(_)) => "refused by the grid",
            (Entry::Asked(GridCommand::Propose { proposal, .. }), Ok(_)) => match proposal.change {
                change if change.successor.is_some() => "handed over",
                change if change.add.is_some() && change.remove.is_some() => "replaced",
                change if change.add.is_some() => "added",
                _ => "removed",
            },
            (Entry::Asked(GridCommand::Leave { .. }), Ok(_)) => "left",
            (Entry::Asked(GridCommand::RecoverLost { .. }), Ok(_)) => "recovered",
            (Entry::Asked(_), Ok(_)) => "decided for people",
            (Entry::Reconciled(GridCommand::StartEmpty), Ok(_)) => "started empty",
            (Entry::Reconciled(_), Ok(_)) => "reconciled",
            (Entry::Join { .. }, Ok(_)) => "joined",
            (Entry::Voters(_), Ok(_)) => "other voters",
        };
        self.trace.count(event);
    }

    /// People decide about what is lost, and forget nodes whose machines are scrapped.
    pub(super) fn operate(&mut self) {
        if self.now.0 < CLIENTS_STOP {
            self.after(OPERATOR_TIME, Event::Operator);
        }
        self.replenish();
        let Some(leader) = self.leader() else { return };
        let grid = &self.group.grid;
        let mut commands = Vec::new();
        let home = |node: NodeId| self.homes.get(&node).map(|home| &self.machines[*home]);
        let is_gone = |node: &NodeId| home(*node).is_none_or(|machine| machine.scrapped);
        for node in grid.nodes().map(|node| node.id()).filter(is_gone) {
            commands.push(GridCommand::Forget { node });
        }
        let lives =
            |member: &MemberId| home(member.node).is_some_and(|machine| machine.member() == Some(*member));
        let takers = grid.nodes().filter(|node| node.takes_partitions()).map(|node| node.member);
        let taker = takers.into_iter().find(lives);
        for (partition, row) in grid.rows().filter(|(_, row)| row.is_lost()) {
            let version = row.assignment.version;
            let from = Recovery::Empty;
            commands.extend(taker.map(|member| GridCommand::RecoverLost {
                partition,
                version,
                member,
                from,
            }));
        }
        commands.into_iter().for_each(|command| self.append(leader, Entry::Asked(command)));
    }

    /// Somebody drains a node, if others stay.
    pub(super) fn drain(&mut self, node: NodeId) {
        if let Some(leader) = self.leader() {
            self.append(leader, Entry::Asked(GridCommand::Drain { node }));
        }
    }
}

fn new_grid(scenario: Scenario, random: &mut Random) -> (Grid, MemberId) {
    let founder = Node::new(Beginning {
        machine: 0,
        nonce: JoinNonce([1; 16]),
        known: None,
        zone: scenario.zones.then(|| "a".to_owned()),
        seeds: scenario.machines,
        random: random.fork(),
        local: LocalTime::default(),
        wall: GridTime::default(),
    });
    let new = NewGrid {
        name: Name::new("simulated").expect("this is a name"),
        format: 1,
        partitions: scenario.partitions[0],
        on_full_loss: OnFullLoss::StartEmpty,
        founder: founder.joining(),
    };
    let (mut grid, founder) = Grid::new(&new).expect("the first node is let in");
    let options = ClassOptions::durable(scenario.partitions[1]);
    grid.apply(&GridCommand::CreateClass { options }).expect("there is room for a second class");
    (grid, founder)
}
