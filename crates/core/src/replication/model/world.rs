//! Members, the network between them and the control group, which here is one that never fails.

use std::collections::BTreeSet;

use super::judge::Judge;
use super::machine::{Leasing, Machine};
use super::store::{Chunk, Write};
use crate::ids::{Epoch, MemberId, NodeId};
use crate::replication::{Assignment, Body, Contact, Grant, Message, Proposal, Wish};

/// What travels.
#[derive(Debug, Clone)]
pub(super) enum Letter {
    Replica(Message<Write, Chunk>),
    Ask(Wish),
    Lease(Grant),
}

#[derive(Debug, Clone)]
pub(super) struct Envelope {
    pub(super) from: MemberId,
    pub(super) to: MemberId,
    pub(super) letter: Letter,
}

#[derive(Debug)]
pub(super) struct World {
    /// In milliseconds.
    pub(super) now: u64,
    pub(super) machines: Vec<Machine>,
    pub(super) network: Vec<Envelope>,
    /// On their way to the control group.
    pub(super) proposals: Vec<Proposal>,
    pub(super) control: Assignment,
    pub(super) min_in_sync: usize,
    pub(super) judge: Judge,
    pub(super) removals_asked: u32,
    /// Who is cut off from all others and from the control group, but not from its clients.
    pub(super) cut: Option<MemberId>,
    /// Whose partition hears of nothing, while its node goes on.
    pub(super) deaf: Option<MemberId>,
    /// And the control group does not reach that node either.
    pub(super) blind: bool,
    /// Whether members wait for the table to tell them of a reign.
    pub(super) contact: Contact,
}

impl World {
    /// Of as many members as have a way with leases.
    pub(super) fn new(leasing: &[Leasing], copies: usize, min_in_sync: usize, contact: Contact) -> Self {
        let members: Vec<MemberId> =
            (1..).zip(leasing).map(|(n, _)| MemberId { node: NodeId(n), incarnation: 1 }).collect();
        let first: BTreeSet<MemberId> = members[..copies].iter().copied().collect();
        let control = Assignment {
            version: 1,
            epoch: Epoch { generation: 1, number: 1 },
            primary: Some(members[0]),
            in_sync: first.clone(),
            wanted: first,
        };
        let machine = |((n, me), leasing): ((usize, &MemberId), &Leasing)| {
            Machine::new(*me, min_in_sync, &control, (1000 + 15 * n as u64, *leasing))
        };
        let machines = members.iter().enumerate().zip(leasing).map(machine).collect();
        Self {
            now: 10_000,
            machines,
            network: Vec::new(),
            proposals: Vec::new(),
            control,
            min_in_sync,
            judge: Judge::default(),
            removals_asked: 0,
            cut: None,
            deaf: None,
            blind: false,
            contact,
        }
    }

    pub(super) fn machine(&mut self, member: MemberId) -> Option<&mut Machine> {
        self.machines.iter_mut().find(|machine| machine.me == member)
    }

    /// Hands a letter over.
    pub(super) fn deliver(&mut self, Envelope { from, to, letter }: Envelope) {
        let now = self.now;
        if self.cut == Some(from) || self.cut == Some(to) {
            return;
        }
        if self.deaf == Some(to) && matches!(letter, Letter::Replica(_)) {
            return;
        }
        let contact = self.contact;
        let Some(machine) = self.machine(to) else { return };
        match letter {
            Letter::Replica(message) => machine.hear(now, from, message, contact),
            Letter::Ask(wish) => {
                let grant = machine.grant(now, from, wish);
                machine.outbox.push(Envelope { from: to, to: from, letter: Letter::Lease(grant) });
            }
            Letter::Lease(grant) => machine.hold(from, grant),
        }
        self.settle(to);
    }

    /// A member has done something: its letters leave, and the judge looks at what it shows.
    pub(super) fn settle(&mut self, member: MemberId) {
        let now = self.now;
        let Some(index) = self.machines.iter().position(|machine| machine.me == member) else { return };
        let machine = &mut self.machines[index];
        self.network.append(&mut machine.outbox);
        assert!(self.network.len() < 5000, "messages do not breed");
        self.removals_asked +=
            u32::try_from(machine.proposals.iter().filter(|p| p.change.remove.is_some()).count()).unwrap();
        self.proposals.append(&mut machine.proposals);
        for position in std::mem::take(&mut machine.committed) {
            self.judge.committed(machine, position);
        }
        let answers = machine.answers(now);
        machine.forsake_clients();
        for answer in answers {
            self.judge.answered(member, answer, (&self.machines, self.min_in_sync));
        }
        self.judge.look(&self.control, &self.machines);
    }

    /// The control group decides about the oldest proposal.
    pub(super) fn decide(&mut self, proposal: &Proposal) {
        if self.cut == Some(proposal.by) {
            return;
        }
        // What is refused stays void: the primary finds out by the next version.
        self.control.change(proposal, self.min_in_sync).unwrap_or_default();
    }

    /// A node hears of the table as it is.
    pub(super) fn publish(&mut self, to: usize) {
        let control = self.control.clone();
        let machine = &mut self.machines[to];
        let blind = self.blind && self.deaf == Some(machine.me);
        if control.version > machine.table.version && self.cut != Some(machine.me) && !blind {
            machine.table = control;
        }
    }

    /// A primary makes another member its successor, and all that it asks for comes at once.
    pub(super) fn hand_over(&mut self, old: MemberId, to: MemberId) {
        let now = self.now;
        let Some(machine) = self.machine(old) else { return };
        machine.hand_over(now, to);
        self.settle(old);
        let released = |envelope: &Envelope| match &envelope.letter {
            Letter::Replica(message) => envelope.to == to && message.body == Body::Released,
            Letter::Ask(_) | Letter::Lease(_) => false,
        };
        let (now, later) = std::mem::take(&mut self.network).into_iter().partition(released);
        self.network = later;
        let now: Vec<Envelope> = now;
        now.into_iter().for_each(|envelope| self.deliver(envelope));
        for proposal in std::mem::take(&mut self.proposals) {
            self.decide(&proposal);
        }
    }

    /// The control group names a primary.
    pub(super) fn fail_over(&mut self, to: MemberId) {
        self.control.fail_over(to);
    }

    /// A node loses its memory and comes back.
    pub(super) fn crash(&mut self, index: usize) {
        let machine = &self.machines[index];
        let (before, ways) = (machine.me, (machine.speed, machine.leasing));
        self.judge.crashed.push(machine.replica.last().position);
        let after = before.reborn();
        self.machines[index] = Machine::new(after, self.min_in_sync, &self.control, ways);
        if before != after {
            self.control.forget(before);
        }
        self.judge.look(&self.control, &self.machines);
    }
}
