//! Machines: their clocks, what of them outlives a process, processes that begin, stand still and end, and what they ask for.

use std::hash::{DefaultHasher, Hash, Hasher};

use wattle_core::control::grid::JoinNonce;
use wattle_core::ids::{GridTime, MemberId, NodeId};
use wattle_core::limits::SLEW_PART;
use wattle_core::replication::{LocalTime, Now};

use super::{Event, World};
use crate::clock::{Clock, Time};
use crate::judge::Violation;
use crate::letter::{Address, Letter, Reply, Request, Verdict};
use crate::node::{Beginning, Node, Out, Timer};

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) clock: Clock,
    /// Processes so far.
    pub(super) life: u32,
    pub(super) process: Option<Node>,
    /// What the process was shown of grid time when it looked last, if it was told by then.
    shown: Option<Now>,
    /// What the data directory says of who it was.
    pub(super) known: Option<MemberId>,
    zone: Option<&'static str>,
    /// The process stands still, and this has come for it.
    pub(super) frozen: Option<Vec<Event>>,
    /// It never comes back.
    pub(super) scrapped: bool,
    /// Its node was drained and has left: people have switched it off.
    pub(super) retired: bool,
}

impl Machine {
    pub(super) fn new(clock: Clock, zone: Option<&'static str>) -> Self {
        Self {
            clock,
            life: 0,
            process: None,
            shown: None,
            known: None,
            zone,
            frozen: None,
            scrapped: false,
            retired: false,
        }
    }

    fn read(&self, now: Time) -> Now {
        let local = self.clock.local(now);
        let grid = self.process.as_ref().map(|node| node.time.slew.read(local));
        Now { local, grid: grid.unwrap_or_default() }
    }

    /// What the process is shown: whether grid time goes on as it should.
    fn show(&mut self, now: Now) -> Result<(), Violation> {
        let Some(node) = &self.process else { return Ok(()) };
        let before = self.shown.take();
        self.shown = node.time.slew.is_set().then_some(now);
        let Some((before, member)) = before.zip(node.me) else { return Ok(()) };
        let passed = now.local.0 - before.local.0;
        let most = before.grid.0 + passed + passed / SLEW_PART + 1;
        let is_steady = before.grid <= now.grid && now.grid.0 <= most;
        let (from, to) = (before.grid, now.grid);
        if is_steady { Ok(()) } else { Err(Violation::TimeJumped { member, from, to, passed }) }
    }

    /// Whether something goes on here.
    pub(super) fn is_awake(&self) -> bool {
        self.process.is_some() && self.frozen.is_none()
    }

    pub(super) fn member(&self) -> Option<MemberId> {
        self.process.as_ref()?.me
    }
}

impl World {
    /// A process begins; who it is it has to ask, unless it founds the grid.
    pub(super) fn start(&mut self, place: usize, founder: Option<MemberId>) {
        let seeds = self.machines.len();
        let random = self.random.fork();
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.random.draw().to_be_bytes());
        let machine = &mut self.machines[place];
        if machine.process.is_some() || machine.scrapped || machine.retired {
            return;
        }
        machine.life += 1;
        machine.frozen = None;
        machine.shown = None;
        let mut node = Node::new(Beginning {
            machine: place,
            nonce: JoinNonce(nonce),
            known: machine.known,
            zone: machine.zone.map(str::to_owned),
            seeds,
            random,
            local: machine.clock.local(self.now),
            wall: GridTime(machine.clock.wall(self.now)),
        });
        if let Some(member) = founder {
            node.found(member, &self.group.grid);
            machine.known = Some(member);
            self.homes.insert(member.node, place);
        }
        machine.process = Some(node);
        let (life, timer) = (machine.life, Timer::Beat);
        self.after(0, Event::Timer { machine: place, life, timer });
    }

    /// The process ends, and its memory is gone.
    pub(super) fn stop(&mut self, place: usize) {
        let machine = &mut self.machines[place];
        machine.frozen = None;
        if let Some(node) = machine.process.take().and_then(|process| process.id()) {
            let wait = self.random.between(1_000, 100_000);
            self.after(wait, Event::Refused { machine: place, node });
        }
    }

    /// Whoever leads finds that nobody listens on a machine any more, if it looks.
    pub(super) fn refuse(&mut self, place: usize, node: NodeId) {
        let Some((leader, _)) = self.group.leader.filter(|_| self.machines[place].process.is_none()) else {
            return;
        };
        if self.network.connects(leader, place) && self.machines[leader].is_awake() {
            let member = self.group.grid.node(node).map(|node| node.member);
            self.on(leader, |node, now, out| {
                member.into_iter().for_each(|member| node.refused(now, member, out));
            });
        }
    }

    pub(super) fn deliver(&mut self, from: Address, place: usize, letter: Letter) {
        let machine = &mut self.machines[place];
        if machine.process.is_none() {
            self.bounce(from, place, &letter);
            return;
        }
        if let Some(frozen) = &mut machine.frozen {
            frozen.push(Event::Letter { from, to: Address::Machine(place), letter });
            return;
        }
        let number = fingerprint(&letter);
        self.trace.note(self.now, &(from, place, number), || format!("{from:?} to {place}: {letter:?}"));
        self.on(place, |node, now, out| node.receive(now, from, letter, out));
    }

    /// Nobody listens there: a client finds that at once, and that nothing was done.
    fn bounce(&mut self, from: Address, place: usize, letter: &Letter) {
        if let Letter::Request(Request { id, attempt, .. }) = letter {
            let verdict = Verdict::NotOwner { owner: None };
            let reply = Reply { sequence: id.sequence, attempt: *attempt, verdict };
            self.send(Address::Machine(place), from, Letter::Reply(reply));
        }
    }

    pub(super) fn wake(&mut self, place: usize, life: u32, timer: Timer) {
        let machine = &mut self.machines[place];
        if machine.process.is_none() || machine.life != life {
            return;
        }
        if let Some(frozen) = &mut machine.frozen {
            frozen.push(Event::Timer { machine: place, life, timer });
            return;
        }
        self.trace.note(self.now, &(place, timer), || format!("machine {place}: {timer:?}"));
        self.on(place, |node, now, out| node.wake(now, timer, out));
    }

    /// Lets the process of a machine do something, and carries out what it asks for.
    pub(super) fn on(&mut self, place: usize, step: impl FnOnce(&mut Node, Now, &mut Out)) {
        let machine = &mut self.machines[place];
        let now = machine.read(self.now);
        let mut judgement = machine.show(now);
        let wall = GridTime(machine.clock.wall(self.now));
        let Some(node) = &mut machine.process else { return };
        let mut out = Out::default();
        node.time.wall = wall;
        step(node, now, &mut out);
        let (life, clock, me) = (machine.life, machine.clock, node.me);
        for partition in out.stepped {
            if let (Some(me), Some(copy)) = (me, node.copies.get(&partition)) {
                let min_in_sync = node.table.min_in_sync(partition).unwrap_or_default();
                let looked = self.judge.look(partition, me, (&copy.replicated, min_in_sync));
                judgement = judgement.and(looked);
            }
        }
        self.judged(judgement);
        out.events.into_iter().for_each(|event| self.trace.count(event));
        for (to, letter) in out.letters {
            self.send(Address::Machine(place), to, letter);
        }
        for (at, timer) in out.timers {
            let at = clock.when(at.max(LocalTime(now.local.0))).max(self.now);
            self.at(at, Event::Timer { machine: place, life, timer });
        }
        for entry in out.entries {
            self.append(place, entry);
        }
        if let Some(member) = out.joined {
            self.machines[place].known = Some(member);
            self.homes.insert(member.node, place);
        }
        if out.ends {
            self.end(place);
        }
    }

    /// The grid does not know the process any more: it was forgotten, or it has left.
    fn end(&mut self, place: usize) {
        let Some(member) = self.machines[place].member() else { return };
        self.trace.note(self.now, &("ends", place), || format!("machine {place} ends: {member:?}"));
        self.trace.count("ended by the grid");
        self.stop(place);
        let machine = &mut self.machines[place];
        machine.known = None;
        machine.retired = true;
    }
}

/// A number that differs if the letter does.
fn fingerprint(letter: &Letter) -> u64 {
    let mut hasher = DefaultHasher::new();
    std::mem::discriminant(letter).hash(&mut hasher);
    match letter {
        Letter::Replica { from, to, partition, message } => (from, to, partition, message).hash(&mut hasher),
        Letter::AskLease { from, to, wish } => (from, to, wish).hash(&mut hasher),
        Letter::Lease { from, to, grant } => (from, to, grant).hash(&mut hasher),
        Letter::Heartbeat { from, table, said, time } => (from, table, said, time).hash(&mut hasher),
        Letter::Heard { to, delta, needs, said, time } => {
            (to, delta.version, delta.partitions.len(), needs, said, time).hash(&mut hasher)
        }
        Letter::AskHeartbeat { to } => to.hash(&mut hasher),
        Letter::Changes { to, delta } => (to, delta.version, delta.partitions.len()).hash(&mut hasher),
        Letter::NotLeader { leader } => leader.hash(&mut hasher),
        Letter::Command(command) => format!("{command:?}").hash(&mut hasher),
        Letter::Join(joining) => (joining.nonce, joining.known).hash(&mut hasher),
        Letter::Joined { nonce, result } => (nonce, result.as_ref().ok()).hash(&mut hasher),
        Letter::Request(request) => request.hash(&mut hasher),
        Letter::Reply(reply) => reply.hash(&mut hasher),
    }
    hasher.finish()
}
