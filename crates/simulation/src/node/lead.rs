//! What a node does that leads the control group: it hears who lives, and proposes what is to be done next.

use std::collections::{BTreeMap, BTreeSet};

use wattle_core::control::grid::{
    Grid, GridApplied, GridCommand, GridRefusal, Joining, Reconciler, desired_voters,
};
use wattle_core::ids::{MemberId, NodeId};
use wattle_core::membership::Sessions;
use wattle_core::replication::{LocalTime, Now};

use super::{Node, Out, Timer, machine};
use crate::letter::{Address, Letter};

/// A leader, by its own lights: it may have been replaced.
#[derive(Debug)]
pub(crate) struct Leading {
    pub(crate) term: u64,
    /// As it is decided, as far as this leader knows.
    pub(crate) grid: Grid,
    voters: BTreeSet<NodeId>,
    sessions: Sessions,
    reconciler: Reconciler,
    /// It has proposed something by itself that is not decided yet.
    busy: bool,
    /// Which table each member has said to have.
    tables: BTreeMap<MemberId, u64>,
}

/// What a leader appends to the control log.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    /// Its own idea.
    Reconciled(GridCommand),
    /// Somebody has asked for it.
    Asked(GridCommand),
    Join {
        joining: Box<Joining>,
        from: Address,
    },
    /// These are to vote.
    Voters(BTreeSet<NodeId>),
}

impl Node {
    /// The control group has made this node its leader.
    pub(crate) fn lead(
        &mut self,
        now: Now,
        term: u64,
        (grid, voters): (&Grid, &BTreeSet<NodeId>),
        out: &mut Out,
    ) {
        // A voter that has started anew leads before it is a member again.
        let Some(me) = self.me.or(self.known) else { return };
        self.leading = Some(Leading {
            term,
            grid: grid.clone(),
            voters: voters.clone(),
            sessions: Sessions::new(me, now.local, grid.nodes().map(|node| node.member)),
            reconciler: Reconciler::default(),
            busy: false,
            tables: BTreeMap::new(),
        });
        out.timers.push((now.local, Timer::Look));
        // Everybody has to hear of it soon: sessions are short.
        if let Some(leading) = &self.leading {
            leading.publish(out);
        }
        self.follow(now, grid.changes_since(self.table.version), out);
    }

    /// Who leads has become a member: its session is that one's from now on.
    pub(super) fn lead_as(&mut self, now: Now, me: MemberId, out: &mut Out) {
        let Some(leading) = &mut self.leading else { return };
        let members = leading.grid.nodes().map(|node| node.member);
        leading.sessions = Sessions::new(me, now.local, members);
        // Who leads no more, and has not heard so, knows an earlier life of itself.
        let knows_itself = leading.grid.node(me.node).is_some_and(|node| node.member == me);
        if knows_itself {
            let delta = leading.grid.changes_since(0);
            self.follow(now, delta, out);
        }
    }

    /// Looks who has fallen silent.
    pub(super) fn look(&mut self, now: Now, out: &mut Out) {
        let Some(leading) = &mut self.leading else { return };
        let look = leading.sessions.look(now.local);
        out.timers.push((look.again, Timer::Look));
        for member in look.ask {
            leading.send(member, Letter::AskHeartbeat { to: member }, out);
        }
        leading.reconcile(now, out);
        if let Some(me) = self.me {
            let needs = leading.grid.needs(me, &leading.sessions.presences());
            self.leave_if_spare(needs, out);
        }
    }

    /// A member says that it lives.
    pub(super) fn hear(
        &mut self,
        now: Now,
        from: Address,
        (member, table, said): (MemberId, u64, LocalTime),
        out: &mut Out,
    ) {
        let time = self.time.known(now);
        let leader = self.leader.0;
        let Some(leading) = &mut self.leading else {
            let leader = (leader != self.machine).then_some(leader);
            out.letters.push((from, Letter::NotLeader { leader }));
            return;
        };
        if leading.sessions.heard(now.local, member) {
            leading.reconcile(now, out);
        }
        leading.tables.insert(member, table);
        let needs = leading.grid.needs(member, &leading.sessions.presences());
        let delta = leading.grid.changes_since(table);
        out.letters.push((from, Letter::Heard { to: member, delta, needs, said, time }));
    }

    /// A machine has refused a connection: nobody listens there.
    pub(crate) fn refused(&mut self, now: Now, member: MemberId, out: &mut Out) {
        if let Some(leading) = &mut self.leading
            && leading.sessions.refused(member)
        {
            leading.reconcile(now, out);
        }
    }

    pub(super) fn lead_or_tell(&mut self, from: Address, entry: Entry, out: &mut Out) {
        if self.leading.is_some() {
            out.entries.push(entry);
        } else {
            let leader = (self.leader.0 != self.machine).then_some(self.leader.0);
            out.letters.push((from, Letter::NotLeader { leader }));
        }
    }

    /// An entry was decided while this node leads.
    pub(crate) fn decided(
        &mut self,
        now: Now,
        (grid, voters): (&Grid, &BTreeSet<NodeId>),
        (entry, result): (&Entry, &Result<GridApplied, GridRefusal>),
        out: &mut Out,
    ) {
        let Some(leading) = &mut self.leading else { return };
        match entry {
            Entry::Reconciled(_) | Entry::Voters(_) => leading.busy = false,
            Entry::Asked(_) => {}
            Entry::Join { joining, from } => leading.tell(*from, joining, result, out),
        }
        let changed = grid.version() > leading.grid.version();
        // What was given up is tried again when it is time to look.
        let given_up = matches!(entry, Entry::Voters(asked) if asked != voters);
        leading.voters.clone_from(voters);
        if changed {
            leading.grid = grid.clone();
            leading.sessions.follow(now.local, grid.nodes().map(|node| node.member));
            leading.publish(out);
        }
        if !given_up {
            leading.reconcile(now, out);
        }
        if changed {
            self.follow(now, grid.changes_since(self.table.version), out);
        }
    }
}

impl Leading {
    /// Whether nobody is waited for who may know better what time it is.
    pub(super) fn has_settled(&self) -> bool {
        self.sessions.have_settled() || self.grid.nodes().len() == 1
    }

    /// Proposes what is next, if anything is.
    fn reconcile(&mut self, now: Now, out: &mut Out) {
        if self.busy {
            return;
        }
        let presences = self.sessions.presences();
        let voters = desired_voters(&self.grid, &self.voters, &self.sessions.proven());
        let next = match self.reconciler.next(now.local, &self.grid, &presences) {
            Some(command) => Some(Entry::Reconciled(command)),
            None if voters != self.voters => Some(Entry::Voters(voters)),
            None => None,
        };
        self.busy = next.is_some();
        out.entries.extend(next);
    }

    /// Tells everybody what has changed.
    fn publish(&self, out: &mut Out) {
        for node in self.grid.nodes() {
            let since = self.tables.get(&node.member).copied().unwrap_or_default();
            let delta = self.grid.changes_since(since);
            self.send(node.member, Letter::Changes { to: node.member, delta }, out);
        }
    }

    fn tell(
        &self,
        from: Address,
        joining: &Joining,
        result: &Result<GridApplied, GridRefusal>,
        out: &mut Out,
    ) {
        let result = match result {
            Ok(GridApplied::Joined { member, .. }) => Ok(*member),
            Ok(other) => panic!("who joins is told {other:?}"),
            Err(refusal) => Err(refusal.clone()),
        };
        out.letters.push((from, Letter::Joined { nonce: joining.nonce, result }));
    }

    fn send(&self, to: MemberId, letter: Letter, out: &mut Out) {
        if let Some(machine) = self.grid.node(to.node).and_then(machine) {
            out.letters.push((Address::Machine(machine), letter));
        }
    }
}
