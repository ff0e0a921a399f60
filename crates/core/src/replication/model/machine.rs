//! A member: a replica, its store, its leases, its clock, and the clients that wait at it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::store::{Chunk, Store, Write};
use super::world::{Envelope, Letter};
use crate::ids::{Epoch, MemberId, Version};
use crate::limits::LEASE_TERM;
use crate::replication::{
    Assignment, Contact, Credence, Effect, Grant, GrantedLeases, HeldLeases, KnownReign, LocalTime, Message,
    Proposal, Reckoning, Replica, Unavailable, Wish,
};

pub(super) type Copy = Replica<Write, Chunk>;

/// What a client waits for.
#[derive(Debug, Clone)]
pub(super) enum Waiting {
    /// A write, or what an earlier run of it left.
    Write { request: u32, position: Version },
    /// A read of the store as it was: may leave as the permit says, or when so many confirmations are in.
    Read {
        shown: Store,
        committed: Version,
        not_after: Option<LocalTime>,
        confirmed: Option<u64>,
        floor: Version,
    },
}

/// How a member grants leases and counts on them: members may be configured differently.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leasing {
    pub(super) term: Duration,
    /// An earlier version grants for the default, and counts all by that.
    pub(super) reckoning: Reckoning,
}

#[derive(Debug, Clone)]
pub(super) struct Machine {
    pub(super) me: MemberId,
    pub(super) replica: Copy,
    pub(super) store: Store,
    /// The store as it was at each position that may have to be gone back to.
    states: BTreeMap<Version, Store>,
    /// What was applied here, by position.
    pub(super) applied: BTreeMap<Version, Write>,
    /// The node's table, which the partition's strand may not have heard of yet.
    pub(super) table: Assignment,
    pub(super) granted: GrantedLeases,
    pub(super) held: HeldLeases,
    /// How it grants leases, and counts on them.
    pub(super) leasing: Leasing,
    pub(super) waiting: Vec<Waiting>,
    pub(super) wake_at: Option<LocalTime>,
    /// Of a thousandth of real time.
    pub(super) speed: u64,
    pub(super) outbox: Vec<Envelope>,
    pub(super) proposals: Vec<Proposal>,
    /// Writes up to here may be acknowledged.
    answered: Version,
    /// Positions that were found to be committed, for the judge.
    pub(super) committed: Vec<Version>,
}

impl Machine {
    pub(super) fn new(
        me: MemberId,
        min_in_sync: usize,
        table: &Assignment,
        (speed, leasing): (u64, Leasing),
    ) -> Self {
        // A newcomer has heard of nothing yet.
        let unheard = Assignment { version: 0, epoch: Epoch::default(), primary: None, ..table.clone() };
        Self {
            me,
            replica: Replica::new(me, min_in_sync, unheard.clone()),
            store: Store::default(),
            states: BTreeMap::from([(Version::NONE, Store::default())]),
            applied: BTreeMap::new(),
            table: unheard,
            granted: GrantedLeases::of_term(leasing.term),
            held: HeldLeases::default(),
            leasing,
            waiting: Vec::new(),
            wake_at: None,
            speed,
            outbox: Vec::new(),
            proposals: Vec::new(),
            answered: Version::NONE,
            committed: Vec::new(),
        }
    }

    pub(super) fn clock(&self, now: u64) -> LocalTime {
        LocalTime(now * self.speed / 1000)
    }

    pub(super) fn wish(&self, now: u64) -> Wish {
        Wish { asked: self.clock(now), reckoning: self.leasing.reckoning }
    }

    pub(super) fn grant(&mut self, now: u64, to: MemberId, wish: Wish) -> Grant {
        self.granted.grant(to, self.clock(now), wish, self.table.version)
    }

    pub(super) fn hold(&mut self, from: MemberId, grant: Grant) {
        let term = match self.leasing.reckoning {
            Reckoning::Granted => grant.term,
            Reckoning::Default => LEASE_TERM,
        };
        self.held.receive(from, Grant { term, ..grant });
    }

    /// Steps the replica and does what it says.
    fn step(
        &mut self,
        now: u64,
        step: impl FnOnce(&mut Copy, LocalTime, &GrantedLeases, &mut Vec<Effect<Write, Chunk>>),
    ) {
        let local = self.clock(now);
        let mut effects = Vec::new();
        step(&mut self.replica, local, &self.granted, &mut effects);
        for effect in effects {
            self.act(now, effect);
        }
        self.replica.check_invariants();
    }

    fn act(&mut self, now: u64, effect: Effect<Write, Chunk>) {
        match effect {
            Effect::Send { to, message } => {
                self.outbox.push(Envelope { from: self.me, to, letter: Letter::Replica(message) });
            }
            Effect::Apply(record) => {
                self.store.apply(record.payload, record.mark.position);
                self.keep(record.mark.position, record.payload);
            }
            Effect::Committed(position) => {
                self.committed.push(position);
                if !cfg!(mutant = "rule-8-undo") {
                    self.states = self.states.split_off(&position);
                }
            }
            Effect::Answer(position) => self.answered = position,
            Effect::Undo(position) => {
                self.states.split_off(&position.next());
                self.applied.split_off(&position.next());
                let (_, state) = self.states.last_key_value().expect("the committed state is kept");
                assert_eq!(state.position, position, "a store goes back to what is committed");
                self.store = state.clone();
            }
            Effect::Begin { .. } => {
                self.store.begin(self.replica.last().position);
                self.applied.clear();
                self.states = BTreeMap::from([(self.store.position, self.store.clone())]);
            }
            Effect::Replace { content, .. } => {
                self.store.replace(content);
                self.states = BTreeMap::from([(self.store.position, self.store.clone())]);
            }
            Effect::ReadChunk { to, number, attempt } => {
                let chunk = self.store.read_chunk(number);
                self.step(now, |replica, local, _, out| replica.chunk_read(local, (to, attempt), chunk, out));
            }
            Effect::Propose(proposal) => self.proposals.push(proposal),
            Effect::WakeAt(at) => self.wake_at = Some(self.wake_at.map_or(at, |before| before.min(at))),
        }
    }

    fn keep(&mut self, position: Version, write: Write) {
        self.states.insert(position, self.store.clone());
        self.applied.insert(position, write);
    }

    /// What is early is lost: it is sent again.
    pub(super) fn hear(
        &mut self,
        now: u64,
        from: MemberId,
        message: Message<Write, Chunk>,
        contact: Contact,
    ) {
        let Assignment { epoch, primary, .. } = self.table;
        if (KnownReign { epoch, primary }).judge(from, &message, contact) == Credence::Believed {
            self.receive(now, from, message);
        }
    }

    fn receive(&mut self, now: u64, from: MemberId, message: Message<Write, Chunk>) {
        self.step(now, |replica, local, _, out| replica.receive(local, from, message, out));
    }

    /// The strand hears of the node's table.
    pub(super) fn hear_table(&mut self, now: u64) {
        let table = self.table.clone();
        self.step(now, |replica, local, granted, out| replica.assign(local, table, granted, out));
    }

    pub(super) fn wake(&mut self, now: u64) {
        if self.wake_at.is_some_and(|at| at <= self.clock(now)) {
            self.wake_at = None;
            self.step(now, |replica, local, _, out| replica.wake(local, out));
        }
    }

    pub(super) fn suspect(&mut self, now: u64, member: MemberId) {
        self.step(now, |replica, local, _, out| replica.suspect(local, member, out));
    }

    pub(super) fn hand_over(&mut self, now: u64, to: MemberId) {
        self.step(now, |replica, local, _, out| replica.hand_over(local, to, out));
    }

    /// A client's write.
    pub(super) fn write(&mut self, now: u64, write: Write) {
        if self.replica.may_write().is_err() {
            return;
        }
        let known = self.store.done(write.request);
        let position = known.unwrap_or_else(|| {
            let position = self.store.position.next();
            assert!(self.replica.last().position < position, "the store is not behind the log");
            self.store.apply(write, position);
            self.keep(position, write);
            self.replica.append(position, write);
            position
        });
        self.step(now, |replica, local, _, out| replica.flush(local, out));
        self.waiting.push(Waiting::Write { request: write.request, position });
    }

    /// A client's read; `floor` is what somebody has seen already.
    pub(super) fn read(&mut self, now: u64, confirm: bool, floor: Version) {
        let Ok(permit) = self.replica.may_read(&self.held, (self.table.version, self.table.epoch)) else {
            return;
        };
        let confirmed = confirm.then(|| {
            let mut probe = Err(Unavailable::NotPrimary);
            self.step(now, |replica, local, _, out| probe = replica.confirm(local, out));
            probe.expect("it serves")
        });
        let (shown, committed, not_after) = (self.store.clone(), permit.committed, permit.not_after);
        self.waiting.push(Waiting::Read { shown, committed, not_after, confirmed, floor });
    }

    /// The answers that may leave now.
    pub(super) fn answers(&mut self, now: u64) -> Vec<Waiting> {
        let (local, commit, confirmed) = (self.clock(now), self.replica.commit(), self.replica.confirmed());
        let answered = self.answered;
        let primary = self.replica.may_read(&self.held, (self.table.version, self.table.epoch)).is_ok();
        let ready = |waiting: &mut Waiting| match waiting {
            Waiting::Write { position, .. } => *position <= answered,
            Waiting::Read { committed, not_after, confirmed: None, .. } => {
                *committed <= commit && not_after.is_none_or(|end| local <= end)
            }
            Waiting::Read { committed, confirmed: Some(probe), .. } => {
                primary && *committed <= commit && *probe <= confirmed
            }
        };
        self.waiting.extract_if(.., ready).collect()
    }

    /// What was waiting gets no answer any more: somebody else decides.
    pub(super) fn forsake_clients(&mut self) {
        if let Err(Unavailable::NotPrimary) = self.replica.may_write() {
            self.waiting.clear();
        }
    }

    /// What it holds, up to a position.
    pub(super) fn view(&self, position: Version) -> Option<Store> {
        let mut view = self.states.get(&self.replica.commit())?.clone();
        for record in self.replica.records_after(view.position) {
            if record.mark.position <= position {
                view.apply(record.payload, record.mark.position);
            }
        }
        Some(view)
    }
}
