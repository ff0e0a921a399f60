//! [`Node`]: a process of the grid, as small as it can be: it follows the table, keeps leases, carries out what the protocol says
//! about its copies, answers clients, and leads if the control group says so. All decisions are production code.

mod copies;
mod lead;
mod serve;
mod table;
mod time;

use std::collections::BTreeMap;
use std::time::Duration;

use wattle_core::control::grid::{
    Delta, Formats, Grid, GridCommand, GridId, GridRefusal, JoinNonce, Joining, NodeDescription, NodeState,
    Role,
};
use wattle_core::ids::{Epoch, GridTime, MemberId, NodeId, PartitionId};
use wattle_core::limits::{HEARTBEAT_TIME, LEASE_TERM};
use wattle_core::replication::{
    EarlyMessages, GrantedLeases, HeldLeases, LocalTime, Now, Reckoning, ReplicatedPartition, Wish,
};

use crate::letter::{Address, Letter};
use crate::random::Random;
pub(crate) use lead::{Entry, Leading};
use serve::Waiting;
pub(crate) use serve::map;
pub(crate) use table::{Table, machine};
use time::TimeKeeper;

/// Heartbeats without an answer after which another machine is asked.
const PATIENCE: u32 = 2;
/// For how long nodes grant leases, in milliseconds: they need not be configured the same.
const LEASE_TERMS: [u64; 4] = [200, 600, 2_000, 6_000];
/// How long a partition may go on with the assignment that it has when the table has a newer one, in milliseconds.
const ASSIGN_TIME: u64 = 20;

#[derive(Debug)]
pub(crate) struct Node {
    machine: usize,
    nonce: JoinNonce,
    /// Who it was, by its data directory.
    known: Option<MemberId>,
    zone: Option<String>,
    pub(crate) me: Option<MemberId>,
    pub(crate) table: Table,
    pub(crate) copies: BTreeMap<PartitionId, Copy>,
    granted: GrantedLeases,
    held: HeldLeases,
    next_beat: LocalTime,
    /// What is said about reigns that its table does not know of.
    early: EarlyMessages,
    pub(crate) time: TimeKeeper,
    /// All machines that may be one of the grid's.
    seeds: usize,
    /// Who may lead, and how often it was asked without an answer.
    leader: (usize, u32),
    pub(crate) leading: Option<Leading>,
    random: Random,
}

/// A copy of a partition, and who waits for what happens to it.
#[derive(Debug)]
pub(crate) struct Copy {
    pub(crate) replicated: ReplicatedPartition,
    /// The last reign in which it was of use: a primary has sent it something, or the table has named it.
    heard: Epoch,
    waiting: Vec<Waiting>,
}

/// What a node has asked for to be done at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Timer {
    /// Every half second: heartbeats, leases, duties.
    Beat,
    /// Leases are asked for again.
    Renew,
    /// The leader looks who is silent.
    Look,
    Wake(PartitionId),
    /// The partition is to hear of the node's table.
    Assign(PartitionId),
    /// Answers may be due: somebody's thread has waited for its turn.
    Answer(PartitionId),
}

/// What a step of a node is to do outside.
#[derive(Debug, Default)]
pub(crate) struct Out {
    pub(crate) letters: Vec<(Address, Letter)>,
    pub(crate) timers: Vec<(LocalTime, Timer)>,
    /// To be appended to the control log.
    pub(crate) entries: Vec<Entry>,
    /// Copies that may be others now.
    pub(crate) stepped: Vec<PartitionId>,
    /// To be kept in the data directory.
    pub(crate) joined: Option<MemberId>,
    /// The grid has no such member: the process ends.
    pub(crate) ends: bool,
    /// How often what has happened.
    pub(crate) events: Vec<&'static str>,
}

/// What a process begins with.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub(crate) machine: usize,
    pub(crate) nonce: JoinNonce,
    pub(crate) known: Option<MemberId>,
    pub(crate) zone: Option<String>,
    pub(crate) seeds: usize,
    pub(crate) random: Random,
    /// What its clocks show.
    pub(crate) local: LocalTime,
    pub(crate) wall: GridTime,
}

impl Node {
    pub(crate) fn new(beginning: Beginning) -> Self {
        let Beginning { machine, nonce, known, zone, seeds, mut random, local, wall } = beginning;
        let term = random.of(&LEASE_TERMS).map_or(LEASE_TERM, Duration::from_millis);
        Self {
            machine,
            nonce,
            known,
            zone,
            me: None,
            table: Table::default(),
            copies: BTreeMap::new(),
            granted: GrantedLeases::of_term(term),
            held: HeldLeases::default(),
            next_beat: LocalTime::default(),
            early: EarlyMessages::default(),
            time: TimeKeeper::new(local, wall),
            seeds,
            leader: (random.below(seeds), 0),
            leading: None,
            random,
        }
    }

    /// What it says to be a member.
    pub(crate) fn joining(&self) -> Joining {
        Joining {
            grid: GRID,
            nonce: self.nonce,
            known: self.known,
            description: NodeDescription {
                peer_address: self.machine.to_string(),
                client_address: self.machine.to_string(),
                zone: self.zone.clone(),
                host: format!("machine-{}", self.machine),
                version: "0.1.0".to_owned(),
                formats: Formats { oldest: 1, newest: 1 },
                role: Role::Data,
                prepares: false,
                in_memory: false,
            },
        }
    }

    pub(crate) fn wake(&mut self, now: Now, timer: Timer, out: &mut Out) {
        match timer {
            Timer::Beat => self.beat(now, out),
            Timer::Renew => self.ask_leases(now, out),
            Timer::Look => self.look(now, out),
            Timer::Wake(partition) => {
                self.step(now, partition, out, |copy, now, deeds| copy.wake(now, deeds));
            }
            Timer::Assign(partition) => self.assign(now, partition, out),
            Timer::Answer(partition) => self.answer(now, partition, out),
        }
    }

    pub(crate) fn receive(&mut self, now: Now, from: Address, letter: Letter, out: &mut Out) {
        match letter {
            Letter::Replica { from, to, partition, message } if Some(to) == self.me => {
                self.receive_replica(now, from, (partition, message), out);
            }
            Letter::AskLease { from: asker, to, wish } if Some(to) == self.me => {
                let grant = self.granted.grant(asker, now.local, wish, self.table.version);
                out.letters.push((from, Letter::Lease { from: to, to: asker, grant }));
            }
            Letter::Lease { from, to, grant } if Some(to) == self.me => self.held.receive(from, grant),
            Letter::Heartbeat { from: member, table, said, time } => {
                self.begin_with(now, time);
                self.hear(now, from, (member, table, said), out);
            }
            Letter::Heard { to, delta, needs, said, time } if Some(to) == self.me => {
                self.leader.1 = 0;
                self.follow(now, delta, out);
                self.is_heard(now, (said, time));
                self.leave_if_spare(needs, out);
            }
            Letter::AskHeartbeat { to } if Some(to) == self.me => self.send_heartbeat(now, to, out),
            Letter::Changes { to, delta } if Some(to) == self.me => {
                // Who has news of the grid leads it, or has.
                if let Address::Machine(leader) = from
                    && delta.version >= self.table.version
                {
                    self.leader = (leader, 0);
                }
                self.follow(now, delta, out);
            }
            Letter::NotLeader { leader } => {
                let guess = leader.filter(|leader| *leader != self.machine);
                self.leader = (guess.unwrap_or_else(|| self.random.below(self.seeds)), 0);
            }
            Letter::Command(command) => self.lead_or_tell(from, Entry::Asked(command), out),
            Letter::Join(joining) => self.lead_or_tell(from, Entry::Join { joining, from }, out),
            Letter::Joined { nonce, result } if nonce == self.nonce => self.join(now, result, out),
            Letter::Request(request) => self.request(now, (from, request), out),
            // For an earlier life of this machine.
            Letter::Replica { .. }
            | Letter::AskLease { .. }
            | Letter::Lease { .. }
            | Letter::Heard { .. }
            | Letter::AskHeartbeat { .. }
            | Letter::Changes { .. }
            | Letter::Joined { .. }
            // For clients.
            | Letter::Reply(_) => {}
        }
    }

    /// Half a second has passed.
    fn beat(&mut self, now: Now, out: &mut Out) {
        self.next_beat = now.local + HEARTBEAT_TIME;
        out.timers.push((self.next_beat, Timer::Beat));
        self.leader.1 += 1;
        if self.leader.1 > PATIENCE {
            self.leader = (self.random.below(self.seeds), 0);
        }
        let Some(me) = self.me else {
            let joining = Box::new(self.joining());
            out.letters.push((Address::Machine(self.leader.0), Letter::Join(joining)));
            return;
        };
        self.keep_time(now);
        self.send_heartbeat(now, me, out);
        for member in self.table.others(me) {
            if self.held.wish(member) {
                self.remove(now, member, out);
            }
        }
        self.ask_leases(now, out);
        let partitions: Vec<PartitionId> = self.copies.keys().copied().collect();
        for partition in partitions {
            self.do_duty(now, partition, out);
            self.step(now, partition, out, |copy, now, deeds| copy.tick(now, deeds));
        }
    }

    /// Asks for the leases of all others; where they are short, once more before the next beat.
    fn ask_leases(&mut self, now: Now, out: &mut Out) {
        let Some(me) = self.me else { return };
        let others = self.table.others(me);
        for member in &others {
            if let Some(machine) = self.table.machine(*member) {
                let wish = Wish { asked: now.local, reckoning: Reckoning::Granted };
                let ask = Letter::AskLease { from: me, to: *member, wish };
                out.letters.push((Address::Machine(machine), ask));
            }
        }
        let again = now.local + self.held.renewal(others);
        if again < self.next_beat {
            out.timers.push((again, Timer::Renew));
        }
    }

    fn send_heartbeat(&mut self, now: Now, me: MemberId, out: &mut Out) {
        if self.leading.is_none() {
            let (table, said, time) = (self.table.version, now.local, self.time.known(now));
            let heartbeat = Letter::Heartbeat { from: me, table, said, time };
            out.letters.push((Address::Machine(self.leader.0), heartbeat));
        }
    }

    fn join(&mut self, now: Now, result: Result<MemberId, GridRefusal>, out: &mut Out) {
        match result {
            Ok(member) if self.me.is_none() => {
                self.me = Some(member);
                out.joined = Some(member);
                self.lead_as(now, member, out);
            }
            Ok(_) => {}
            Err(GridRefusal::OtherIncarnation { current, .. }) => self.known = Some(current),
            // Its data directory is of nobody any more: it comes as a new one.
            Err(GridRefusal::NodeNotFound { .. }) => self.known = None,
            Err(refusal) => panic!("machine {} is refused: {refusal}", self.machine),
        }
    }

    /// The table has changed. Its version counts at once, for leases; the partitions hear of it by and by.
    pub(crate) fn follow(&mut self, now: Now, delta: Delta, out: &mut Out) {
        let Some(me) = self.me else { return };
        for partition in self.table.follow(delta) {
            let wait = Duration::from_millis(self.random.between(0, ASSIGN_TIME));
            out.timers.push((now.local + wait, Timer::Assign(partition)));
        }
        let table = &self.table;
        for (from, partition, message) in self.early.take(now.local, |partition| table.reign(partition)) {
            self.hear_replica(now, from, (partition, message), out);
        }
        let newest = self.table.node(me.node).map(|node| node.member);
        out.ends |= self.table.version > 0 && newest != Some(me);
    }

    /// A node that drains leaves when nothing needs it.
    fn leave_if_spare(&mut self, needs: usize, out: &mut Out) {
        let Some(me) = self.me else { return };
        let drains = self.table.node(me.node).is_some_and(|node| node.state == NodeState::Draining);
        if drains && needs == 0 {
            self.ask_leader(GridCommand::Leave { member: me }, out);
        }
    }

    /// Asks the leader, who may be this node.
    fn ask_leader(&mut self, command: GridCommand, out: &mut Out) {
        if self.leading.is_some() {
            out.entries.push(Entry::Asked(command));
        } else {
            out.letters.push((Address::Machine(self.leader.0), Letter::Command(command)));
        }
    }

    /// The process that has created the grid.
    pub(crate) fn found(&mut self, me: MemberId, grid: &Grid) {
        self.me = Some(me);
        self.table.follow(grid.changes_since(0));
    }

    pub(crate) fn id(&self) -> Option<NodeId> {
        self.me.map(|me| me.node)
    }
}

pub(crate) const GRID: GridId = GridId(*b"simulated grid 1");
