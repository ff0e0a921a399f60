//! [`Client`]: asks for one thing after the other, and does not give up before its deadline.

use wattle_core::ids::{ClientId, PartitionId, RequestId, Version};

use crate::clock::{MILLISECOND, SECOND, Time};
use crate::history::{Answer, Operation, Told};
use crate::letter::{Action, Key, Reply, Request, Shown, Verdict};
use crate::random::Random;

/// How long a client tries.
pub(crate) const DEADLINE: u64 = 20 * SECOND;
/// An attempt that is not answered within this time, from and to, is followed by another.
const ATTEMPT_TIME: (u64, u64) = (200 * MILLISECOND, 1500 * MILLISECOND);
/// A refused one within this time.
const RETRY_TIME: (u64, u64) = (5 * MILLISECOND, 120 * MILLISECOND);
/// Between an answer and the next question.
const PAUSE_TIME: (u64, u64) = (MILLISECOND, 120 * MILLISECOND);

#[derive(Debug)]
pub(crate) struct Client {
    id: ClientId,
    sequence: u64,
    current: Option<Current>,
    /// Who was told to be primary of each partition, as far as it knows.
    owners: std::collections::BTreeMap<PartitionId, usize>,
    /// The versions that it has seen last.
    seen: std::collections::BTreeMap<Key, Version>,
    machines: usize,
    random: Random,
    /// It reads far more than it writes: who is primary no more would be found out by a write.
    reads: bool,
    /// Operations that were answered.
    pub(crate) answered: u64,
    /// The longest that one took that was asked since faults have stopped, in microseconds.
    pub(crate) longest: u64,
}

/// What it waits for.
#[derive(Debug, Clone, Copy)]
struct Current {
    key: Key,
    partition: PartitionId,
    action: Action,
    asked: Time,
    attempt: u32,
    /// The machine that was asked.
    machine: usize,
    /// An attempt was not answered, or not to the end: it may take effect.
    doubt: bool,
    /// The last one may still be answered.
    open: bool,
}

/// What a client does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// It asks a machine, and looks again then.
    Ask(usize, Request, u64),
    /// It looks again after so long.
    Look(u64),
    /// The operation is over, and entered in the history if it may have taken effect. It looks again after so long.
    Ended(Key, Option<Told>, u64),
    Nothing,
}

impl Client {
    pub(crate) fn new(id: ClientId, machines: usize, mut random: Random) -> Self {
        let reads = random.one_in(2);
        Self {
            reads,
            id,
            sequence: 0,
            current: None,
            owners: std::collections::BTreeMap::new(),
            seen: std::collections::BTreeMap::new(),
            machines,
            random,
            answered: 0,
            longest: 0,
        }
    }

    /// There are more machines by now.
    pub(crate) fn learn_machines(&mut self, machines: usize) {
        self.machines = machines;
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.current.is_none()
    }

    /// How many attempts were made so far: a timer of an earlier one says nothing.
    pub(crate) fn attempts(&self) -> (u64, u32) {
        (self.sequence, self.current.map_or(0, |current| current.attempt))
    }

    /// Draws what to do to a key.
    pub(crate) fn draw(&mut self, key: Key) -> Action {
        // Sums of differing values differ: what counts twice, or not at all, shows.
        let value = i64::try_from(self.random.draw() % (1 << 48)).expect("it is below 2^48");
        if self.reads && !self.random.one_in(10) {
            return Action::Get;
        }
        match self.random.below(20) {
            0..7 => Action::Get,
            7..10 => Action::Put(value),
            10..14 => {
                let expected = self.seen.get(&key).copied().unwrap_or(Version::NONE);
                Action::CompareAndSet { expected, value }
            }
            14..19 => Action::Increment(value % (1 << 40)),
            _ => Action::Remove,
        }
    }

    /// Begins an operation.
    pub(crate) fn begin(&mut self, now: Time, (key, partition): (Key, PartitionId), action: Action) -> Next {
        self.sequence += 1;
        let machine = self.owner(partition);
        let (attempt, doubt, open) = (0, false, false);
        self.current = Some(Current { key, partition, action, asked: now, attempt, machine, doubt, open });
        self.ask()
    }

    fn owner(&mut self, partition: PartitionId) -> usize {
        let guess = self.owners.get(&partition).copied();
        guess.unwrap_or_else(|| self.random.below(self.machines))
    }

    fn ask(&mut self) -> Next {
        let Some(current) = &mut self.current else { return Next::Nothing };
        current.attempt += 1;
        current.open = true;
        let id = RequestId {
            client: self.id,
            sequence: self.sequence,
            oldest_pending: self.sequence,
            repeated: current.doubt,
        };
        let Current { attempt, key, partition, action, machine, .. } = *current;
        let wait = self.random.between(ATTEMPT_TIME.0, ATTEMPT_TIME.1);
        Next::Ask(machine, Request { id, attempt, key, partition, action }, wait)
    }

    /// The time has come that it wanted to look.
    pub(crate) fn look(&mut self, now: Time) -> Next {
        let Some(current) = &mut self.current else { return Next::Nothing };
        if std::mem::take(&mut current.open) {
            current.doubt = true;
            current.machine = self.random.below(self.machines);
            self.owners.remove(&current.partition);
        }
        if now.0 >= current.asked.0 + DEADLINE {
            return self.give_up();
        }
        self.ask()
    }

    /// What may have taken effect is in doubt; anything else was not done.
    pub(crate) fn give_up(&mut self) -> Next {
        let Some(current) = self.current.take() else { return Next::Nothing };
        let Current { key, action, asked, doubt, open, .. } = current;
        let operation = Operation { action, asked, answer: None };
        let doubtful = (doubt || open).then_some(Told { operation, epoch: None });
        Next::Ended(key, doubtful, self.random.between(PAUSE_TIME.0, PAUSE_TIME.1))
    }

    pub(crate) fn receive(&mut self, now: Time, reply: Reply) -> Next {
        let Some(current) = &mut self.current else { return Next::Nothing };
        if reply.sequence != self.sequence || reply.attempt != current.attempt || !current.open {
            // An answer that is late is as good as any, but nobody waits for it.
            return Next::Nothing;
        }
        current.open = false;
        match reply.verdict {
            Verdict::Done { shown, epoch } => {
                let Current { key, action, asked, partition, machine, .. } = *current;
                self.owners.insert(partition, machine);
                self.note(key, shown);
                self.current = None;
                self.answered += 1;
                self.longest = self.longest.max(now.0 - asked.0);
                let operation = Operation { action, asked, answer: Some(Answer { at: now, shown }) };
                let pause = self.random.between(PAUSE_TIME.0, PAUSE_TIME.1);
                Next::Ended(key, Some(Told { operation, epoch: Some(epoch) }), pause)
            }
            Verdict::NotOwner { owner: Some(owner) } => {
                current.machine = owner;
                self.owners.insert(current.partition, owner);
                Next::Look(self.random.between(RETRY_TIME.0, RETRY_TIME.1))
            }
            Verdict::NotOwner { owner: None } => {
                current.machine = self.random.below(self.machines);
                Next::Look(self.random.between(RETRY_TIME.0, RETRY_TIME.1))
            }
            Verdict::Unavailable => Next::Look(self.random.between(RETRY_TIME.0, RETRY_TIME.1)),
            Verdict::Interrupted => {
                current.doubt = true;
                Next::Look(self.random.between(RETRY_TIME.0, RETRY_TIME.1))
            }
            Verdict::Forgotten => {
                current.doubt = true;
                self.give_up()
            }
        }
    }

    fn note(&mut self, key: Key, shown: Shown) {
        let version = match shown {
            Shown::Found(entry) => entry.map_or(Version::NONE, |(_, version)| version),
            Shown::Written(version) | Shown::Mismatch(version) | Shown::Sum(_, version) => version,
            Shown::Counted(_) | Shown::Removed(_) => Version::NONE,
        };
        self.seen.insert(key, version);
    }
}
