//! [`World`]: machines, clients, the network between them and the control group, moved from event to event by one queue.

mod clients;
mod control;
mod faults;
mod machines;
mod rest;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use wattle_core::ids::{MemberId, NodeId, PartitionId, ReplicationClass};
use wattle_core::partition::partition_of;

use crate::client::Client;
use crate::clock::{MILLISECOND, SECOND, Time};
use crate::group::Group;
use crate::judge::{Judge, Violation};
use crate::letter::{Address, Key, Letter};
use crate::network::{Link, Network};
use crate::node::Timer;
use crate::random::Random;
use crate::trace::Trace;
use faults::Mend;
use machines::Machine;

/// Faults begin when the grid has formed, and stop.
const FAULTS: (u64, u64) = (8 * SECOND, 68 * SECOND);
/// Clients stop when everything had time to come right again.
const CLIENTS_STOP: u64 = 108 * SECOND;
/// From then on nobody waits long: longer than silence makes a member be replaced, and a copy to be given up.
const CALM: u64 = 92 * SECOND;
/// Every key is read once more, and all is over.
const END: u64 = 114 * SECOND;

/// Few keys that many use, and many that few do.
const HOT_KEYS: u16 = 4;
const KEYS: u16 = 40;

/// What happens next.
#[derive(Debug)]
enum Event {
    Letter {
        from: Address,
        to: Address,
        letter: Letter,
    },
    /// Of a life of a machine.
    Timer {
        machine: usize,
        life: u32,
        timer: Timer,
    },
    /// A client wants to look at its attempt.
    Client {
        client: usize,
        attempt: (u64, u32),
    },
    /// The leader has had time to ask the voters about the first entry that it has appended.
    Decide {
        term: u64,
    },
    /// Elections.
    Election,
    Fault,
    Mend(Mend),
    /// A machine refuses connections: whoever leads hears of it.
    Refused {
        machine: usize,
        node: NodeId,
    },
    /// Connections from a machine to a member are refused.
    Defamed {
        machine: usize,
        member: MemberId,
    },
    StopFaults,
    /// People look after what is lost.
    Operator,
    ReadAll,
}

#[derive(Debug)]
struct Queued {
    at: Time,
    number: u64,
    event: Event,
}

/// How a seed's grid is.
#[derive(Debug, Clone, Copy)]
struct Scenario {
    machines: usize,
    /// The number of partitions of the two classes.
    partitions: [u16; 2],
    clients: usize,
    zones: bool,
    /// All copies of a partition may die together.
    may_lose: bool,
}

#[derive(Debug)]
pub(crate) struct World {
    now: Time,
    queue: BinaryHeap<Reverse<Queued>>,
    queued: u64,
    random: Random,
    scenario: Scenario,
    machines: Vec<Machine>,
    clients: Vec<Client>,
    network: Network,
    group: Group,
    /// Which machine a node has its data directory on.
    homes: BTreeMap<NodeId, usize>,
    judge: Judge,
    pub(crate) trace: Trace,
    violation: Option<Violation>,
    /// Faults have stopped.
    calm: bool,
    /// Entries of the control group so far.
    decided: u64,
    /// Keys that are still to be read at the end.
    unread: Vec<Key>,
}

impl World {
    pub(crate) fn new(seed: u64, trace: Trace) -> Self {
        let mut random = Random::new(seed);
        let scenario = Scenario {
            machines: 3 + random.below(4),
            partitions: [5, 4],
            clients: 6,
            zones: random.one_in(3),
            may_lose: random.one_in(6),
        };
        let lost = random.of(&[0, 2, 20]).unwrap_or_default();
        let slow = random.of(&[2, 5, 30]).unwrap_or(2);
        let usual = Link { cut: false, delay: (MILLISECOND / 5, slow * MILLISECOND), lost, doubled: 10 };
        Self::found(random, scenario, usual, trace)
    }

    /// Runs until all is over.
    pub(crate) fn run(&mut self) -> Result<(), Violation> {
        while let Some(Reverse(Queued { at, event, .. })) = self.queue.pop() {
            self.now = at;
            if at.0 >= END {
                break;
            }
            self.happen(event);
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
        }
        self.check_rest()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Letter { from, to: Address::Machine(machine), letter } => {
                self.deliver(from, machine, letter);
            }
            Event::Letter { to: Address::Client(client), letter, .. } => self.tell_client(client, &letter),
            Event::Timer { machine, life, timer } => self.wake(machine, life, timer),
            Event::Client { client, attempt } => self.look_after(client, attempt),
            Event::Decide { term } => self.decide_first(term),
            Event::Election => self.hold_election(),
            Event::Fault => self.fault(),
            Event::Mend(mend) => self.mend(mend),
            Event::Refused { machine, node } => self.refuse(machine, node),
            Event::Defamed { machine, member } => self.suspect(machine, member),
            Event::StopFaults => self.stop_faults(),
            Event::Operator => self.operate(),
            Event::ReadAll => self.read_all(),
        }
    }

    fn at(&mut self, at: Time, event: Event) {
        self.queued += 1;
        self.queue.push(Reverse(Queued { at, number: self.queued, event }));
    }

    fn after(&mut self, microseconds: u64, event: Event) {
        self.at(self.now + microseconds, event);
    }

    /// Something must not be: the first is what counts.
    fn judged(&mut self, judgement: Result<(), Violation>) {
        if let Err(violation) = judgement {
            self.violation.get_or_insert(violation);
        }
    }

    fn send(&mut self, from: Address, to: Address, letter: Letter) {
        let mut delays = self.network.carry(from, to, &mut self.random);
        while let Some(delay) = delays.pop() {
            if delays.is_empty() {
                self.after(delay, Event::Letter { from, to, letter });
                return;
            }
            self.after(delay, Event::Letter { from, to, letter: letter.clone() });
        }
    }

    /// Where a key lies.
    fn partition_of(&self, key: Key) -> PartitionId {
        let class = key.0 % 2;
        let partitions = self.scenario.partitions[usize::from(class)];
        let class = ReplicationClass(u8::try_from(class).expect("there are two"));
        PartitionId { class, index: partition_of(&key.bytes(), partitions) }
    }
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}
