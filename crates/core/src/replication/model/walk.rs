//! One walk through the states of a world, drawn from a seed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::machine::Leasing;
use super::store::{SLOTS, Write};
use super::world::{Envelope, Letter, World};
use crate::ids::{Epoch, MemberId, Version};
use crate::limits::LEASE_TERM;
use crate::replication::{Body, Contact, Mark, Message, Reckoning};

/// What may go wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scenario {
    pub(super) nodes: u64,
    pub(super) copies: usize,
    pub(super) min_in_sync: usize,
    /// Nodes that lose their memory, at most.
    pub(super) crashes: u32,
    /// Members are taken for dead that are not.
    pub(super) suspicions: bool,
    /// Messages are lost, doubled and overtaken.
    pub(super) losses: bool,
}

const STEPS: u32 = 1000;
/// For how long members may grant leases, in milliseconds.
const TERMS: [u64; 4] = [200, 700, 2000, 6000];
/// Enough for every timer there is, several times.
const HEALING: u32 = 150;

/// splitmix64 (Steele et al., OOPSLA 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.next().is_multiple_of(chances)
    }

    /// Every fourth member is of an earlier version.
    fn leasing(&mut self) -> Leasing {
        let term = Duration::from_millis(TERMS[self.below(TERMS.len())]);
        if self.one_in(4) {
            Leasing { term: LEASE_TERM, reckoning: Reckoning::Default }
        } else {
            Leasing { term, reckoning: Reckoning::Granted }
        }
    }
}

/// Returns how many answers were given, and how many of them by lease alone.
pub(super) fn walk(scenario: Scenario, seed: u64) -> (u64, u64) {
    let mut random = Random(seed);
    // Members that do not wait for their table to tell them of a reign follow reigns that only messages have told them of.
    let contact = if random.one_in(2) { Contact::Kept } else { Contact::Lost };
    let leasing: Vec<Leasing> = (0..scenario.nodes).map(|_| random.leasing()).collect();
    let mut walk = Walk {
        world: World::new(&leasing, scenario.copies, scenario.min_in_sync, contact),
        random,
        scenario,
        crashes: 0,
        requests: 0,
    };
    for _ in 0..STEPS {
        walk.step();
    }
    let judge = &walk.world.judge;
    let answers = (judge.answers, judge.leased_reads);
    walk.heal();
    answers
}

struct Walk {
    world: World,
    random: Random,
    scenario: Scenario,
    crashes: u32,
    requests: u32,
}

impl Walk {
    fn step(&mut self) {
        let index = self.random.below(self.world.machines.len());
        let now = self.world.now;
        match self.random.below(100) {
            0..45 => self.deliver(),
            45..53 => self.write(index),
            53..61 => {
                let (confirm, floor) = (self.random.one_in(4), self.world.judge.shown);
                self.world.machines[index].read(now, confirm, floor);
            }
            61..67 => self.world.publish(index),
            67..74 => {
                if self.world.deaf != Some(self.world.machines[index].me) {
                    self.world.machines[index].hear_table(now);
                }
            }
            74..80 => self.world.machines[index].wake(now),
            80..85 => self.ask_leases(index),
            85..91 => {
                let most = if self.random.one_in(25) { 3000 } else { 40 };
                self.world.now += self.random.next() % most;
            }
            91..96 => {
                if !self.world.proposals.is_empty() {
                    let place = self.random.below(self.world.proposals.len());
                    let proposal = self.world.proposals.swap_remove(place);
                    self.world.decide(&proposal);
                }
            }
            _ if self.random.one_in(4) => self.fault(index),
            _ => self.deliver(),
        }
        if let Some(machine) = self.world.machines.get(index) {
            let me = machine.me;
            self.world.settle(me);
        }
    }

    fn deliver(&mut self) {
        if self.world.network.is_empty() {
            return;
        }
        let place = if self.scenario.losses && self.random.one_in(3) {
            self.random.below(self.world.network.len())
        } else {
            0
        };
        if self.scenario.losses && self.random.one_in(12) {
            let twice = self.world.network[place].clone();
            self.world.network.push(twice);
        }
        let envelope = self.world.network.remove(place);
        if !(self.scenario.losses && self.random.one_in(12)) {
            self.world.deliver(envelope);
        }
    }

    fn write(&mut self, index: usize) {
        // Most clients know who is primary; others write where they should not.
        let primary =
            self.world.machines.iter().position(|machine| Some(machine.me) == self.world.control.primary);
        let index = primary.filter(|_| !self.random.one_in(8)).unwrap_or(index);
        // Every third is one that was asked for before.
        let request = if self.requests > 0 && self.random.one_in(3) {
            u32::try_from(self.random.below(self.requests as usize)).unwrap()
        } else {
            self.requests += 1;
            self.requests - 1
        };
        let slot = u8::try_from(request % u32::from(SLOTS)).unwrap();
        let removes = request % 5 < 2;
        self.world.machines[index].write(self.world.now, Write { request, slot, removes });
    }

    fn ask_leases(&mut self, index: usize) {
        let (now, machine) = (self.world.now, &self.world.machines[index]);
        let (from, wish) = (machine.me, machine.wish(now));
        let others: Vec<MemberId> =
            self.world.machines.iter().map(|m| m.me).filter(|to| *to != from).collect();
        self.world.network.extend(others.into_iter().map(|to| Envelope {
            from,
            to,
            letter: Letter::Ask(wish),
        }));
    }

    fn fault(&mut self, index: usize) {
        let me = self.world.machines[index].me;
        match self.random.below(9) {
            8 if self.world.contact == Contact::Kept => self.lie(index),
            7 => {
                let to = self.world.machines[self.random.below(self.world.machines.len())].me;
                let now = self.world.now;
                self.world.machines[index].hand_over(now, to);
            }
            6 if self.scenario.losses => self.depose(),
            0 | 4 => {
                let members: Vec<MemberId> = self.world.control.in_sync.iter().copied().collect();
                let members: Vec<_> =
                    members.into_iter().filter(|member| Some(*member) != self.world.cut).collect();
                let to = if members.is_empty() { me } else { members[self.random.below(members.len())] };
                self.world.fail_over(to);
            }
            1 if self.scenario.suspicions => {
                let anyone = self.world.machines[self.random.below(self.world.machines.len())].me;
                let member = self.world.cut.or(self.world.deaf).unwrap_or(anyone);
                let now = self.world.now;
                self.world.machines[index].suspect(now, member);
            }
            2 => self.want(),
            3 if self.crashes < self.scenario.crashes && self.random.one_in(3) => {
                self.crashes += 1;
                self.world.crash(index);
                self.check_loss();
            }
            5 if self.scenario.losses => {
                self.world.deaf = None;
                self.world.cut = if self.world.cut.is_none() { Some(me) } else { None };
            }
            _ => {}
        }
    }

    /// A member is told of a reign that nobody has decided.
    fn lie(&mut self, to: usize) {
        let (to, control) = (self.world.machines[to].me, &self.world.control);
        let Some(from) = self.world.machines.iter().map(|machine| machine.me).find(|from| *from != to) else {
            return;
        };
        let Epoch { generation, number } = control.epoch;
        let epoch = match self.random.below(3) {
            0 => Epoch { generation, number: number + 1000 },
            1 => Epoch { generation, number: u64::MAX },
            _ => Epoch { generation: generation + 1, number: 0 },
        };
        let position = Version(self.random.next() % 100);
        let mark = Mark { epoch, position };
        let body = match self.random.below(4) {
            0 => Body::Begin { attempt: 1, start: mark },
            1 => {
                let (previous, commit) = (Mark::default(), position);
                Body::Append { attempt: 0, previous, records: Vec::new(), commit, probe: 0 }
            }
            2 => Body::Deposed,
            _ => Body::Released,
        };
        let letter = Letter::Replica(Message { epoch, body });
        self.world.deliver(Envelope { from, to, letter });
    }

    /// Another primary is named, or the old one hands over; the new one hears of it at once, and the old one is cut off.
    fn depose(&mut self) {
        let Some(old) = self.world.control.primary else { return };
        let others: Vec<MemberId> =
            self.world.control.in_sync.iter().copied().filter(|to| *to != old).collect();
        let index = self.random.below(others.len());
        let Some(to) = others.get(index).copied() else { return };
        if self.random.one_in(3) {
            self.world.hand_over(old, to);
        } else {
            self.world.fail_over(to);
        }
        if self.random.one_in(2) {
            self.world.cut = Some(old);
        } else if let Some(index) = self.world.machines.iter().position(|machine| machine.me == old) {
            self.world.deaf = Some(old);
            self.world.blind = self.random.one_in(2);
            self.world.publish(index);
        }
        let Some(index) = self.world.machines.iter().position(|machine| machine.me == to) else { return };
        self.world.publish(index);
        let now = self.world.now;
        self.world.machines[index].hear_table(now);
        if self.scenario.suspicions {
            self.world.machines[index].suspect(now, old);
        }
        self.world.settle(to);
    }

    /// Placement moves.
    fn want(&mut self) {
        let members: Vec<MemberId> = self.world.machines.iter().map(|machine| machine.me).collect();
        let first = self.random.below(members.len());
        let wanted: BTreeSet<MemberId> =
            members.iter().cycle().skip(first).take(self.scenario.copies).copied().collect();
        self.world.control.want(wanted);
    }

    /// What a single crash must not do.
    fn check_loss(&self) {
        let asked = self.world.removals_asked > 0;
        if self.crashes <= 1 && (self.scenario.min_in_sync > 1 || !asked) {
            let live = |member: &MemberId| self.world.machines.iter().any(|machine| machine.me == *member);
            assert!(self.world.control.in_sync.iter().any(live), "one crash has lost the partition");
        }
    }

    /// No more faults: everything must come right again.
    fn heal(&mut self) {
        (self.world.cut, self.world.deaf) = (None, None);
        let lost = self.world.control.is_lost();
        self.want();
        for _ in 0..HEALING {
            self.world.now += 100;
            let control = &self.world.control;
            if control.primary.is_none_or(|primary| self.world.machines.iter().all(|m| m.me != primary)) {
                let live =
                    |member: &&MemberId| self.world.machines.iter().any(|machine| machine.me == **member);
                if let Some(to) = control.in_sync.iter().find(live).copied() {
                    self.world.fail_over(to);
                }
            }
            for index in 0..self.world.machines.len() {
                let now = self.world.now;
                self.world.publish(index);
                self.world.machines[index].hear_table(now);
                self.world.machines[index].wake(now);
                self.ask_leases(index);
                let me = self.world.machines[index].me;
                self.world.settle(me);
            }
            for envelope in std::mem::take(&mut self.world.network) {
                self.world.deliver(envelope);
            }
            for proposal in std::mem::take(&mut self.world.proposals) {
                self.world.decide(&proposal);
            }
        }
        if !lost {
            self.check_healed();
        }
    }

    fn check_healed(&mut self) {
        let control = self.world.control.clone();
        let primary = control.primary.expect("there is a primary");
        let now = self.world.now;
        let shown = self.world.judge.shown;
        let request = self.requests;
        let before = self.world.judge.answers;
        let machine = self.world.machine(primary).expect("the primary lives");
        assert_eq!(machine.replica.may_write(), Ok(()), "writes go on: {:#?}", machine.replica);
        machine.write(now, Write { request, slot: 0, removes: false });
        self.world.settle(primary);
        for _ in 0..1000 {
            let Some(envelope) = self.world.network.pop() else { break };
            self.world.deliver(envelope);
        }
        let machine = self.world.machine(primary).expect("the primary lives");
        machine.read(now, false, shown);
        self.world.settle(primary);
        assert!(self.world.judge.answers >= before + 2, "a write and a read are answered");
        assert!(
            control.wanted.is_subset(&control.in_sync),
            "every wanted copy is in sync: {control:#?} {:#?}",
            self.world.machine(primary).map(|machine| &machine.replica)
        );
        let position = self.world.judge.shown;
        for machine in self.world.machines.iter().filter(|machine| control.in_sync.contains(&machine.me)) {
            let view = machine.view(position).expect("its committed state is kept");
            assert!(view.same(&self.world.judge.replayed(position)), "all copies are the same");
        }
    }
}
