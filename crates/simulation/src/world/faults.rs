//! What goes wrong, and how it comes right again.

use std::collections::BTreeSet;

use wattle_core::control::grid::NodeState;
use wattle_core::ids::{Epoch, MemberId, NodeId, Version};
use wattle_core::replication::{Body, Contact, Mark, Message};

use super::control::RESTLESS;
use super::machines::Machine;
use super::{Event, World};
use crate::clock::{Clock, MILLISECOND, SECOND};
use crate::letter::{Address, Letter};
use crate::network::Link;
use crate::random::Random;

/// Between two faults, from and to.
const BETWEEN: (u64, u64) = (200 * MILLISECOND, 4 * SECOND);
/// Machines of a grid, with those that came later.
const MACHINES: usize = 8;
/// Nodes that stay: so that two copies can be in sync when one of them is down.
const STAYING: usize = 3;

/// How something comes right again.
#[derive(Debug)]
pub(super) enum Mend {
    Restart(usize),
    Resume(usize, u32),
    Links(Vec<(Address, Address)>),
}

impl World {
    pub(super) fn fault(&mut self) {
        if self.calm {
            return;
        }
        let wait = self.random.between(BETWEEN.0, BETWEEN.1);
        self.after(wait, Event::Fault);
        let place = self.random.below(self.machines.len());
        let fault = match self.random.below(24) {
            0..3 => self.crash(place),
            3 => self.scrap(place),
            4..8 => self.pause(place),
            8..10 => self.cut_off(place),
            10 | 11 => self.cut_one_way(place),
            12 => self.cut_pair(place),
            13 | 14 => self.slow_down(place),
            15 => self.other_leader(),
            16 => self.drain_one(place),
            17 => self.add_machine(),
            18 => self.turn_clock(place),
            19..22 => self.defame(place),
            22 => self.lie(place),
            _ if self.scenario.may_lose && self.random.one_in(2) => self.black_out(),
            _ => self.restart_at_once(place),
        };
        if let Some(fault) = fault {
            self.trace.note(self.now, &(fault, place), || format!("fault: {fault}, machine {place}"));
            self.trace.count(fault);
        }
    }

    pub(super) fn mend(&mut self, mend: Mend) {
        match mend {
            Mend::Restart(place) => self.start(place, None),
            Mend::Resume(place, life) => self.resume(place, life),
            Mend::Links(links) => links.into_iter().for_each(|(from, to)| self.network.mend(from, to)),
        }
    }

    /// Everything comes right: who is down starts, and who stands still goes on.
    pub(super) fn stop_faults(&mut self) {
        self.calm = true;
        self.network.mend_all();
        for place in 0..self.machines.len() {
            let life = self.machines[place].life;
            self.resume(place, life);
            self.start(place, None);
        }
        self.after(0, Event::Operator);
    }

    fn is_up(&self, place: usize) -> bool {
        self.machines[place].process.is_some()
    }

    /// Whether every partition that a member holds has another holder with its memory, who is not about to leave.
    fn is_spare(&self, member: MemberId) -> bool {
        let stays: BTreeSet<MemberId> = self
            .members()
            .filter(|node| node.state == NodeState::Joined)
            .map(|node| node.member)
            .filter(|other| {
                *other != member && self.machines.iter().any(|machine| machine.member() == Some(*other))
            })
            .collect();
        self.group.grid.rows().all(|(_, row)| {
            let in_sync = &row.assignment.in_sync;
            !in_sync.contains(&member) || in_sync.iter().any(|other| stays.contains(other))
        })
    }

    /// Whether its memory may go without taking all of anything with it.
    fn may_die(&self, place: usize) -> bool {
        let member = self.machines[place].member();
        self.is_up(place) && (self.scenario.may_lose || member.is_none_or(|member| self.is_spare(member)))
    }

    fn crash(&mut self, place: usize) -> Option<&'static str> {
        self.may_die(place).then(|| {
            self.stop(place);
            let wait = self.random.between(50 * MILLISECOND, 16 * SECOND);
            self.after(wait, Event::Mend(Mend::Restart(place)));
            "crash"
        })
    }

    /// It is back before anybody has noticed.
    fn restart_at_once(&mut self, place: usize) -> Option<&'static str> {
        self.may_die(place).then(|| {
            self.stop(place);
            self.start(place, None);
            "restart at once"
        })
    }

    /// All go down at once.
    fn black_out(&mut self) -> Option<&'static str> {
        for place in 0..self.machines.len() {
            self.stop(place);
            let wait = self.random.between(50 * MILLISECOND, 5 * SECOND);
            self.after(wait, Event::Mend(Mend::Restart(place)));
        }
        Some("black-out")
    }

    /// It never comes back, and neither does its disk. The control group must keep a majority of its logs.
    fn scrap(&mut self, place: usize) -> Option<&'static str> {
        let is_scrapped = |voter: &&NodeId| {
            self.homes.get(voter).is_some_and(|home| *home == place || self.machines[*home].scrapped)
        };
        let voters = &self.group.voters;
        let lost = voters.iter().filter(is_scrapped).count();
        if lost * 2 >= voters.len() || self.staying() <= STAYING || !self.may_die(place) {
            return None;
        }
        self.stop(place);
        self.machines[place].scrapped = true;
        Some("scrapped")
    }

    /// The process does nothing for a while, and goes on with its old ideas.
    fn pause(&mut self, place: usize) -> Option<&'static str> {
        let machine = &mut self.machines[place];
        if !machine.is_awake() {
            return None;
        }
        machine.frozen = Some(Vec::new());
        let life = machine.life;
        let longest = self.random.of(&[1, 3, 12]).unwrap_or(1);
        let wait = self.random.between(100 * MILLISECOND, longest * SECOND);
        self.after(wait, Event::Mend(Mend::Resume(place, life)));
        Some("pause")
    }

    fn resume(&mut self, place: usize, life: u32) {
        let machine = &mut self.machines[place];
        if machine.life != life {
            return;
        }
        // All that has come meanwhile, in its order: timers are due, letters lie in the socket's buffer.
        for event in machine.frozen.take().into_iter().flatten() {
            self.after(0, event);
        }
    }

    fn others(&self, place: usize) -> Vec<Address> {
        (0..self.machines.len()).filter(|other| *other != place).map(Address::Machine).collect()
    }

    /// Makes links another for a while.
    fn disturb(&mut self, links: Vec<(Address, Address)>, link: Link, most: u64) {
        links.iter().for_each(|(from, to)| self.network.set(*from, *to, link));
        let wait = self.random.between(300 * MILLISECOND, most);
        self.after(wait, Event::Mend(Mend::Links(links)));
    }

    /// No machine reaches it, but clients do.
    fn cut_off(&mut self, place: usize) -> Option<&'static str> {
        let me = Address::Machine(place);
        let links = self.others(place).into_iter().flat_map(|other| [(me, other), (other, me)]).collect();
        let link = Link { cut: true, ..self.network.usual() };
        self.disturb(links, link, 14 * SECOND);
        Some("cut off")
    }

    /// A switch resets its connections and refuses new ones: all others take it for dead at once, and clients reach it.
    fn defame(&mut self, place: usize) -> Option<&'static str> {
        let member = self.machines[place].member()?;
        let me = Address::Machine(place);
        let links = self.others(place).into_iter().flat_map(|other| [(me, other), (other, me)]).collect();
        let link = Link { cut: true, ..self.network.usual() };
        self.disturb(links, link, 5 * SECOND);
        for other in (0..self.machines.len()).filter(|other| *other != place) {
            for wait in [0, 300, 800, 1500] {
                self.after(wait * MILLISECOND, Event::Defamed { machine: other, member });
            }
        }
        Some("taken for dead")
    }

    /// A node finds that connections to a member are refused.
    pub(super) fn suspect(&mut self, place: usize, member: MemberId) {
        if self.machines[place].is_awake() {
            self.on(place, |node, now, out| node.suspect(now, member, out));
        }
    }

    /// It is heard by the others, or hears them, but not both.
    fn cut_one_way(&mut self, place: usize) -> Option<&'static str> {
        let me = Address::Machine(place);
        let out = self.random.one_in(2);
        let link = |other| if out { (me, other) } else { (other, me) };
        let links = self.others(place).into_iter().map(link).collect();
        let link = Link { cut: true, ..self.network.usual() };
        self.disturb(links, link, 10 * SECOND);
        Some(if out { "not heard" } else { "deaf" })
    }

    fn cut_pair(&mut self, place: usize) -> Option<&'static str> {
        let others = self.others(place);
        let (me, other) = (Address::Machine(place), self.random.of(&others)?);
        let link = Link { cut: true, ..self.network.usual() };
        self.disturb(vec![(me, other), (other, me)], link, 14 * SECOND);
        Some("cut pair")
    }

    fn slow_down(&mut self, place: usize) -> Option<&'static str> {
        let me = Address::Machine(place);
        let links = self.others(place).into_iter().flat_map(|other| [(me, other), (other, me)]).collect();
        let delay = (50 * MILLISECOND, self.random.between(100, 1200) * MILLISECOND);
        let link = Link { cut: false, delay, lost: 50, doubled: 50 };
        self.disturb(links, link, 8 * SECOND);
        Some("slow")
    }

    fn other_leader(&mut self) -> Option<&'static str> {
        self.elect();
        Some("other leader")
    }

    fn drain_one(&mut self, place: usize) -> Option<&'static str> {
        let node = self.machines[place].member()?.node;
        if self.staying() <= STAYING {
            return None;
        }
        self.drain(node);
        Some("drain")
    }

    fn add_machine(&mut self) -> Option<&'static str> {
        if self.machines.len() >= MACHINES {
            return None;
        }
        self.buy_machine();
        Some("new machine")
    }

    fn buy_machine(&mut self) {
        let place = self.machines.len();
        let clock = usual_clock(&mut self.random);
        let zone = self.scenario.zones.then(|| ["a", "b", "c"][place % 3]);
        self.machines.push(Machine::new(clock, zone));
        self.start(place, None);
    }

    /// Nodes that stay, and whose machines do.
    fn staying(&self) -> usize {
        let joined = self.members().filter(|node| node.state == NodeState::Joined);
        let home = |node: NodeId| self.homes.get(&node).map(|home| &self.machines[*home]);
        joined.filter(|node| home(node.id()).is_some_and(|machine| !machine.scrapped)).count()
    }

    /// Where too few nodes stay, people start another.
    pub(super) fn replenish(&mut self) {
        let waits =
            self.machines.iter().any(|machine| machine.process.is_some() && machine.member().is_none());
        if self.staying() < STAYING && !waits {
            self.buy_machine();
        }
    }

    /// Somebody who knows the grid's secret speaks to a node as a member who reigns, in reigns that nobody has decided. Who has not been
    /// heard by a leader for long would believe it.
    fn lie(&mut self, place: usize) -> Option<&'static str> {
        let to = self.machines[place].member().filter(|_| self.machines[place].is_awake())?;
        let others: Vec<MemberId> =
            self.members().map(|node| node.member).filter(|member| *member != to).collect();
        let from = self.random.of(&others)?;
        let rows = self.group.grid.rows();
        let reigns: Vec<_> = rows.map(|(partition, row)| (partition, row.assignment.epoch)).collect();
        let lies = reigns.into_iter().map(|(partition, epoch)| {
            let later = Epoch { generation: epoch.generation + 1, number: 0 };
            let far = Epoch { number: epoch.number + RESTLESS, ..epoch };
            let epoch = if self.random.one_in(2) { later } else { far };
            let (attempt, start) = (1, Mark { epoch, position: Version(u64::MAX) });
            let body = if self.random.one_in(2) { Body::Deposed } else { Body::Begin { attempt, start } };
            (partition, Message { epoch, body })
        });
        let lies: Vec<_> = lies.collect();
        self.on(place, |node, now, out| {
            if node.time.contact(now.local) == Contact::Kept {
                for (partition, message) in lies {
                    let letter = Letter::Replica { from, to, partition, message };
                    node.receive(now, Address::Machine(place), letter, out);
                }
            }
        });
        Some("lie")
    }

    /// The clock on the wall jumps. Grid time does not.
    fn turn_clock(&mut self, place: usize) -> Option<&'static str> {
        let ahead = self.random.one_in(2);
        let error = i64::try_from(self.random.between(1, 300_000)).expect("minutes fit");
        self.machines[place].clock.wall_error = if ahead { error } else { -error };
        Some("clock turned")
    }
}

/// A clock that is right within two seconds, and fast or slow within the twentieth that leases allow for.
pub(super) fn usual_clock(random: &mut Random) -> Clock {
    let error = i64::try_from(random.below(4_000)).expect("seconds fit") - 2_000;
    Clock::new(random.below(1 << 40) as u64, random.between(980_000, 1_020_000), error)
}
