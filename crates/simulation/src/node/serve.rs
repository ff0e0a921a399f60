//! What a node does for clients: runs their requests where it is primary, and lets each answer leave when it may.

use wattle_core::ids::{Epoch, GridTime, MapId, PartitionId, ReplicationClass, RequestId, Version};
use wattle_core::map::{MapDescriptor, MapOptions};
use wattle_core::name::Name;
use wattle_core::partition::{
    Access, Answer, Condition, Operation, Outcome, PartRefusal, Partition, Previous, Put, Refusal, Remove,
    Room, TtlChoice,
};
use wattle_core::replication::{LocalTime, Now, ReadPermit};

use super::{Copy, Node, Out, Timer};
use crate::letter::{Action, Address, Key, Letter, Reply, Request, Shown, Verdict};

/// One answer in so many is not given at once: the thread that has it waits for its turn.
const DESCHEDULED_ONE_IN: u64 = 16;
/// For so long at the most, in milliseconds: as a rule shortly, and seldom for longer than a lease.
const DESCHEDULED_TIME: [u64; 4] = [10, 100, 500, 2_500];
/// Answers that wait at one partition: more are not asked for at a time.
const WAITING: usize = 256;

/// An answer that may not leave yet.
#[derive(Debug)]
pub(super) struct Waiting {
    to: Address,
    id: RequestId,
    attempt: u32,
    shown: Shown,
    epoch: Epoch,
    gate: Gate,
    /// Not looked at before.
    not_before: LocalTime,
}

/// What it waits for.
#[derive(Debug, Clone, Copy)]
enum Gate {
    /// All copies have what was changed: that proves that none of them had followed another primary.
    Committed(Version),
    /// Something was read.
    Read(ReadPermit),
    /// And the lease was over: all copies are asked.
    Confirmed { committed: Version, probe: u64 },
}

/// Whether it may leave.
enum Passage {
    Open,
    Closed,
    /// The lease is over.
    Late(Version),
}

impl Node {
    pub(super) fn request(&mut self, now: Now, (from, request): (Address, Request), out: &mut Out) {
        let reply = |verdict| {
            let Request { id, attempt, .. } = request;
            Letter::Reply(Reply { sequence: id.sequence, attempt, verdict })
        };
        let Request { partition, action, .. } = request;
        let row = self.table.rows.get(&partition);
        let primary = row.and_then(|row| row.assignment.primary);
        let (Some(row), Some(copy)) =
            (row.filter(|_| primary == self.me && primary.is_some()), self.copies.get(&partition))
        else {
            let owner = primary.and_then(|primary| self.table.machine(primary));
            let owner = owner.filter(|owner| *owner != self.machine);
            out.letters.push((from, reply(Verdict::NotOwner { owner })));
            return;
        };
        let table = (self.table.version, row.assignment.epoch);
        let may = match action {
            Action::Get => copy.replicated.may_read(&self.held, table).map(drop),
            Action::Put(_) | Action::CompareAndSet { .. } | Action::Increment(_) | Action::Remove => {
                copy.replicated.may_write()
            }
        };
        if may.is_err() || copy.waiting.len() == WAITING || !self.time.slew.is_set() {
            out.letters.push((from, reply(Verdict::Unavailable)));
            return;
        }
        let epoch = copy.replicated.epoch();
        let before = copy.replicated.partition().position();
        let ran = self.step(now, partition, out, |copy, now, deeds| {
            let result = run(copy.partition_mut(), &request, now.grid);
            (result, copy.seal(|| now, deeds))
        });
        let (result, position) = ran.expect("the copy is there");
        let shown = match result {
            Ok(shown) => shown,
            Err(PartRefusal::InDoubt) => {
                out.letters.push((from, reply(Verdict::Forgotten)));
                return;
            }
            Err(refusal) => panic!("{request:?} is refused: {refusal}"),
        };
        let copy = &self.copies[&partition];
        let gate = if copy.replicated.partition().position() > before {
            Gate::Committed(position)
        } else {
            match copy.replicated.may_read(&self.held, table) {
                Ok(permit) => Gate::Read(permit),
                Err(_) => {
                    out.letters.push((from, reply(Verdict::Interrupted)));
                    return;
                }
            }
        };
        let (id, attempt) = (request.id, request.attempt);
        let waiting = Waiting { to: from, id, attempt, shown, epoch, gate, not_before: now.local };
        self.wait(now, partition, waiting, out);
    }

    fn wait(&mut self, now: Now, partition: PartitionId, mut waiting: Waiting, out: &mut Out) {
        if self.random.one_in(DESCHEDULED_ONE_IN) {
            let most = self.random.of(&DESCHEDULED_TIME).unwrap_or(1);
            let wait = self.random.between(1, most);
            waiting.not_before = now.local + std::time::Duration::from_millis(wait);
            out.timers.push((waiting.not_before, Timer::Answer(partition)));
        }
        if let Some(copy) = self.copies.get_mut(&partition) {
            copy.waiting.push(waiting);
        }
        self.answer(now, partition, out);
    }

    /// Gives the answers that may leave.
    pub(super) fn answer(&mut self, now: Now, partition: PartitionId, out: &mut Out) {
        let Some(copy) = self.copies.get_mut(&partition) else { return };
        let mut late = Vec::new();
        for mut waiting in std::mem::take(&mut copy.waiting) {
            match copy.passage(now, &waiting) {
                Passage::Closed => copy.waiting.push(waiting),
                Passage::Open => {
                    out.events.push(match waiting.gate {
                        Gate::Committed(_) => "answer to a write",
                        Gate::Read(ReadPermit { not_after: Some(_), .. }) => "answer by lease",
                        Gate::Read(ReadPermit { not_after: None, .. }) => "answer alone",
                        Gate::Confirmed { .. } => "answer by confirmation",
                    });
                    let verdict = Verdict::Done { shown: waiting.shown, epoch: waiting.epoch };
                    out.letters.push((waiting.to, waiting.reply(verdict)));
                }
                Passage::Late(committed) => {
                    waiting.gate = Gate::Confirmed { committed, probe: u64::MAX };
                    late.push(waiting);
                }
            }
        }
        if late.is_empty() {
            return;
        }
        let confirmed = self.step(now, partition, out, |copy, now, deeds| copy.confirm(now, deeds));
        for mut waiting in late {
            match (&mut waiting.gate, confirmed) {
                (Gate::Confirmed { probe, .. }, Some(Ok(given))) => {
                    *probe = given;
                    if let Some(copy) = self.copies.get_mut(&partition) {
                        copy.waiting.push(waiting);
                    }
                }
                (Gate::Confirmed { .. } | Gate::Committed(_) | Gate::Read(_), _) => {
                    out.letters.push((waiting.to, waiting.reply(Verdict::Interrupted)));
                }
            }
        }
        // With nobody to ask it is confirmed already.
        if matches!(confirmed, Some(Ok(_))) && self.copies.get(&partition).is_some_and(Copy::is_confirmed) {
            self.answer(now, partition, out);
        }
    }

    /// Nobody knows here any more what becomes of what waits.
    pub(super) fn interrupt(&mut self, partition: PartitionId, out: &mut Out) {
        if let Some(copy) = self.copies.get_mut(&partition) {
            for waiting in std::mem::take(&mut copy.waiting) {
                out.letters.push((waiting.to, waiting.reply(Verdict::Interrupted)));
            }
        }
    }
}

impl Waiting {
    fn reply(&self, verdict: Verdict) -> Letter {
        Letter::Reply(Reply { sequence: self.id.sequence, attempt: self.attempt, verdict })
    }
}

impl Copy {
    fn passage(&self, now: Now, waiting: &Waiting) -> Passage {
        let committed = |position| self.replicated.is_answerable(position);
        if now.local < waiting.not_before {
            return Passage::Closed;
        }
        let open = match waiting.gate {
            Gate::Committed(position) => committed(position),
            Gate::Read(permit) if committed(permit.committed) => {
                if permit.not_after.is_some_and(|end| now.local > end) {
                    return Passage::Late(permit.committed);
                }
                true
            }
            Gate::Read(_) => false,
            Gate::Confirmed { committed: position, probe } => {
                committed(position) && self.replicated.confirmed() >= probe
            }
        };
        if open { Passage::Open } else { Passage::Closed }
    }

    /// Whether somebody waits for what all have confirmed.
    fn is_confirmed(&self) -> bool {
        let confirmed = self.replicated.confirmed();
        let is =
            |waiting: &Waiting| matches!(waiting.gate, Gate::Confirmed { probe, .. } if probe <= confirmed);
        self.waiting.iter().any(is)
    }
}

/// The map of a class that clients use.
pub(crate) fn map(class: ReplicationClass) -> MapDescriptor {
    MapDescriptor {
        id: MapId(u64::from(class.0) + 1),
        name: Name::new(if class.0 == 0 { "even" } else { "odd" }).expect("these are names"),
        revision: 1,
        options: MapOptions::default(),
    }
}

impl Key {
    pub(crate) fn bytes(self) -> Vec<u8> {
        format!("key-{}", self.0).into_bytes()
    }
}

/// Runs an operation as a request of its own.
fn run(partition: &mut Partition, request: &Request, now: GridTime) -> Result<Shown, PartRefusal> {
    let map = map(partition.id().class);
    let at = Access { map: &map, now, room: Room::UNLIMITED, record: 0 };
    let key = request.key.bytes();
    let (text, condition) = match request.action {
        Action::Put(value) => (value.to_string(), Condition::Always),
        Action::CompareAndSet { expected, value } => (value.to_string(), Condition::IfVersion(expected)),
        Action::Get | Action::Increment(_) | Action::Remove => (String::new(), Condition::Always),
    };
    let operation = match request.action {
        Action::Get => Operation::Get { key: &key },
        Action::Put(_) | Action::CompareAndSet { .. } => Operation::Put(Put {
            key: &key,
            value: text.as_bytes(),
            ttl: TtlChoice::OfMap,
            condition,
            previous: Previous::Ignore,
        }),
        Action::Increment(delta) => Operation::Increment { key: &key, delta },
        Action::Remove => {
            Operation::Remove(Remove { key: &key, if_version: None, previous: Previous::Ignore })
        }
    };
    let mut shown = None;
    let operations = std::iter::once(Ok((at, operation)));
    partition.run_part(Some((&request.id, at.room)), operations, |_, result| shown = Some(seen(result)))?;
    Ok(shown.expect("every operation has a result"))
}

fn seen(result: Result<Outcome<'_>, Refusal>) -> Shown {
    match result {
        Ok(Outcome::Entry(entry)) => Shown::Found(entry.map(|entry| {
            let text = std::str::from_utf8(entry.value).expect("clients write text");
            (text.parse().expect("clients write integers"), entry.version)
        })),
        Ok(Outcome::Answer(Answer::Put { version, .. })) => Shown::Written(version),
        Ok(Outcome::Answer(Answer::Incremented { value, version })) => Shown::Sum(value, version),
        Ok(Outcome::Answer(Answer::Removed { removed, .. })) => Shown::Removed(removed),
        Err(Refusal::VersionMismatch { found, .. }) => Shown::Mismatch(found),
        other => panic!("no client asks for what is answered by {other:?}"),
    }
}
