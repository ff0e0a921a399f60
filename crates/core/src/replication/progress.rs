//! What follows for a primary from whatever has happened: what is committed, who is sent what, and who should join or leave.

use super::assignment::{Change, Proposal};
use super::lease::LocalTime;
use super::log::Log;
use super::message::{Body, Message};
use super::primary::{Expansion, Peer};
use super::replica::{Effect, Replica, Role};
use crate::ids::{MemberId, Version};
use crate::limits::{REPLICA_PATIENCE, RESEND_TIME};

impl<P: Clone, C: Clone> Replica<P, C> {
    /// Draws the conclusions.
    pub(super) fn go_on(&mut self, now: LocalTime, out: &mut Vec<Effect<P, C>>) {
        self.advance_commit(out);
        self.begin_serving(now);
        self.expand(now, out);
        self.propose(now, out);
        self.send(now, out);
        self.forget_records();
        self.plan_wake(now, out);
    }

    fn advance_commit(&mut self, out: &mut Vec<Effect<P, C>>) {
        let Role::Primary(primary) = &mut self.role else { return };
        let held = |member| primary.peers.get(&member).filter(|peer| peer.answered).map(|peer| peer.held);
        let members = primary.maximal(&self.assignment, self.me);
        let commit = members.map(|member| held(member).unwrap_or(Version::NONE)).min();
        let commit = commit.unwrap_or(self.log.last().position);
        if commit > self.commit {
            self.commit = commit;
            out.push(Effect::Committed(commit));
        }
        // Also with fewer copies than the class demands records are committed, or a new member could not be brought in sync; but
        // nobody is told so before there are as many.
        let enough = self.assignment.in_sync.len() >= self.min_in_sync || cfg!(mutant = "min-in-sync");
        if enough && self.commit > primary.answered {
            primary.answered = self.commit;
            out.push(Effect::Answer(self.commit));
        }
    }

    fn begin_serving(&mut self, now: LocalTime) {
        let Role::Primary(primary) = &mut self.role else { return };
        if primary.serving || primary.fences.values().any(|until| now < *until) {
            return;
        }
        // Also without records to agree on: who has not heard of this reign may still follow the one before.
        let answered = |member| primary.peers.get(&member).is_some_and(|peer| peer.answered);
        let agreed = primary.maximal(&self.assignment, self.me).all(answered);
        let inherited = self.commit >= primary.inherited;
        primary.serving = agreed && inherited || cfg!(mutant = "rule-5-inherited");
    }

    /// Begins to bring in sync who should be, and goes on with it.
    fn expand(&mut self, now: LocalTime, out: &mut Vec<Effect<P, C>>) {
        let start = self.log.last();
        let Role::Primary(primary) = &mut self.role else { return };
        if !primary.serving {
            return;
        }
        for member in &self.assignment.wanted {
            if *member == self.me || primary.peers.contains_key(member) {
                continue;
            }
            primary.attempts += 1;
            let expansion = Expansion { start, chunks: 0, reading: false, chunk: None };
            primary.peers.insert(*member, Peer::new(primary.attempts, start.position, now, Some(expansion)));
        }
        for (member, peer) in &mut primary.peers {
            let Some(expansion) = peer.expansion.as_mut().filter(|_| peer.answered) else { continue };
            if !expansion.reading && expansion.chunk.is_none() {
                expansion.reading = true;
                let (number, attempt) = (expansion.chunks, peer.attempt);
                out.push(Effect::ReadChunk { to: *member, number, attempt });
            }
        }
    }

    /// Asks for who should join and who should leave.
    fn propose(&mut self, now: LocalTime, out: &mut Vec<Effect<P, C>>) {
        let (me, commit, epoch) = (self.me, self.commit, self.epoch);
        let all_committed = commit == self.log.last().position;
        let Role::Primary(primary) = &mut self.role else { return };
        if let Some((proposal, asked)) = &mut primary.proposed {
            if *asked + RESEND_TIME <= now {
                *asked = now;
                out.push(Effect::Propose(*proposal));
            }
            return;
        }
        let in_sync = &self.assignment.in_sync;
        let joins = |(member, peer): (&MemberId, &Peer<C>)| peer.may_join(commit).then_some(*member);
        let add = primary.peers.iter().find_map(joins);
        let remove =
            in_sync.iter().copied().find(|member| primary.suspects.contains(member) && *member != me);
        // Without one who joins, the set must stay as large as the class demands.
        let remove = remove.filter(|_| add.is_some() || in_sync.len() > self.min_in_sync.max(1));
        let successor =
            primary.successor.filter(|to| all_committed && in_sync.contains(to) && remove != Some(*to));
        let change = match successor {
            Some(successor) => {
                if successor != me {
                    let message = Message { epoch, body: Body::Released };
                    out.push(Effect::Send { to: successor, message });
                }
                Change { successor: Some(successor), ..Change::default() }
            }
            None => Change { add, remove, successor: None },
        };
        if change == Change::default() {
            return;
        }
        let proposal = Proposal { by: me, version: self.assignment.version, change };
        primary.proposed = Some((proposal, now));
        out.push(Effect::Propose(proposal));
    }

    fn send(&mut self, now: LocalTime, out: &mut Vec<Effect<P, C>>) {
        let (epoch, commit, log) = (self.epoch, self.commit, &self.log);
        let Role::Primary(primary) = &mut self.role else { return };
        for (to, peer) in &mut primary.peers {
            let before = out.len();
            let mut send = |body| out.push(Effect::Send { to: *to, message: Message { epoch, body } });
            match &mut peer.expansion {
                Some(expansion) if !peer.answered => {
                    if std::mem::take(&mut peer.due) {
                        send(Body::Begin { attempt: peer.attempt, start: expansion.start });
                    }
                }
                _ => {
                    peer.send_records(log, (commit, primary.probe), &mut send);
                    peer.send_chunk(commit, &mut send);
                }
            }
            if out.len() > before {
                peer.sent_at = now;
                peer.owes_since = peer.owes_since.or(Some(now));
            }
        }
    }

    /// Drops the records that every peer has.
    fn forget_records(&mut self) {
        let Role::Primary(primary) = &self.role else { return };
        let held = primary.peers.values().map(|peer| peer.held).min();
        self.log.drop_through(held.map_or(self.commit, |held| held.min(self.commit)));
    }

    fn plan_wake(&mut self, now: LocalTime, out: &mut Vec<Effect<P, C>>) {
        let commit = self.commit;
        let Role::Primary(primary) = &mut self.role else { return };
        let fence = primary.fences.values().copied().max().filter(|until| !primary.serving && *until > now);
        let proposal = primary.proposed.map(|(_, asked)| asked + RESEND_TIME);
        let peers = primary.peers.values().filter_map(|peer| {
            let late = peer.owes_since.map(|since| since + REPLICA_PATIENCE);
            let again = (peer.owes() || peer.told < commit).then_some(peer.sent_at + RESEND_TIME);
            again.into_iter().chain(late.filter(|late| *late > now)).min()
        });
        let Some(next) = fence.into_iter().chain(proposal).chain(peers).min() else { return };
        if primary.wake_at.is_none_or(|at| next < at) {
            primary.wake_at = Some(next);
            out.push(Effect::WakeAt(next));
        }
    }
}

impl<C: Clone> Peer<C> {
    fn send_records<P: Clone>(
        &mut self,
        log: &Log<P>,
        (commit, probe): (Version, u64),
        send: &mut impl FnMut(Body<P, C>),
    ) {
        let chunk = self.expansion.as_ref().and_then(|expansion| expansion.chunk.as_ref());
        // A chunk is next: what comes after it must not overtake it.
        let end = chunk.map_or(log.last().position, |chunk| chunk.at);
        let is_behind = self.sent < end && !self.is_on_its_way();
        if !is_behind && self.probes.0 >= probe && !self.due {
            return;
        }
        let previous = log.mark_at(self.sent).expect("what a peer may miss is not dropped");
        let records = log.after(self.sent).take_while(|record| record.mark.position <= end);
        let records = records.cloned().collect();
        send(Body::Append { attempt: self.attempt, previous, records, commit, probe });
        self.sent = self.sent.max(end);
        (self.probes.0, self.due) = (probe, false);
    }

    /// Group commit: what is appended until the records on their way are acknowledged goes together, so that many share a message, a
    /// step there and an acknowledgement. Who is not complete is sent everything at once: a chunk must not come before what it follows.
    fn is_on_its_way(&self) -> bool {
        self.expansion.is_none() && self.held < self.sent
    }

    fn send_chunk<P>(&mut self, commit: Version, send: &mut impl FnMut(Body<P, C>)) {
        let Some(expansion) = &mut self.expansion else { return };
        let number = expansion.chunks;
        let Some(chunk) = expansion.chunk.as_mut().filter(|chunk| !chunk.sent) else { return };
        if chunk.at <= commit || cfg!(mutant = "rule-7-uncommitted") {
            let (at, content, last) = (chunk.at, chunk.content.clone(), chunk.last);
            send(Body::Chunk { attempt: self.attempt, number, at, content, last });
            chunk.sent = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::assignment::Assignment;
    use super::super::lease::GrantedLeases;
    use super::*;
    use crate::ids::{Epoch, NodeId};

    const NOW: LocalTime = LocalTime(7);

    fn member(node: u64) -> MemberId {
        MemberId { node: NodeId(node), incarnation: 1 }
    }

    /// The positions of the records of each append that is sent.
    fn appends(effects: Vec<Effect<(), ()>>) -> Vec<Vec<u64>> {
        let append = |effect| match effect {
            Effect::Send { message: Message { body: Body::Append { records, .. }, .. }, .. } => {
                Some(records.into_iter().map(|record| record.mark.position.0).collect())
            }
            _ => None,
        };
        effects.into_iter().filter_map(append).collect()
    }

    fn write(replica: &mut Replica<(), ()>, position: u64) -> Vec<Vec<u64>> {
        let mut effects = Vec::new();
        replica.append(Version(position), ());
        replica.flush(NOW, &mut effects);
        appends(effects)
    }

    fn acknowledge(replica: &mut Replica<(), ()>, position: u64) -> Vec<Vec<u64>> {
        answer(replica, position, false)
    }

    fn answer(replica: &mut Replica<(), ()>, position: u64, missing: bool) -> Vec<Vec<u64>> {
        let (mut effects, epoch) = (Vec::new(), replica.epoch());
        let (position, commit) = (Some(Version(position)), Version::NONE);
        let body = Body::Acknowledge { attempt: 0, position, commit, chunks: 0, probe: 0, missing };
        replica.receive(NOW, member(2), Message { epoch, body }, &mut effects);
        appends(effects)
    }

    fn primary() -> Replica<(), ()> {
        let (me, epoch) = (member(1), Epoch { generation: 1, number: 2 });
        let mut replica = Replica::new(me, 1, Assignment::default());
        let in_sync = [me, member(2)].into();
        let assignment =
            Assignment { version: 1, epoch, primary: Some(me), in_sync, ..Assignment::default() };
        replica.assign(NOW, assignment, &GrantedLeases::default(), &mut Vec::new());
        acknowledge(&mut replica, 0);
        replica
    }

    #[test]
    fn what_is_written_while_records_are_on_their_way_goes_together() {
        let mut replica = primary();
        assert_eq!(write(&mut replica, 5), [[5]]);
        assert_eq!(write(&mut replica, 6), [[0; 0]; 0]);
        assert_eq!(write(&mut replica, 9), [[0; 0]; 0]);
        assert_eq!(acknowledge(&mut replica, 5), [[6, 9]]);
        assert_eq!(acknowledge(&mut replica, 9), [[0; 0]; 0]);
        assert_eq!(write(&mut replica, 10), [[10]]);
    }

    #[test]
    fn nobody_waits_for_an_acknowledgement_that_is_lost() {
        let mut replica = primary();
        assert_eq!(write(&mut replica, 5), [[5]]);
        assert_eq!(write(&mut replica, 6), [[0; 0]; 0]);
        let mut effects = Vec::new();
        replica.wake(NOW + RESEND_TIME, &mut effects);
        assert_eq!(appends(effects), [[5, 6]]);
        // To be confirmed is a round trip of its own.
        let mut effects = Vec::new();
        assert_eq!(write(&mut replica, 7), [[0; 0]; 0]);
        replica.confirm(NOW, &mut effects).unwrap();
        assert_eq!(appends(effects), [[7]]);
    }

    #[test]
    fn who_holds_half_a_record_ends_nobody_and_is_sent_all_of_it() {
        let mut replica = primary();
        assert_eq!(write(&mut replica, 5), [[5]]);
        assert_eq!(acknowledge(&mut replica, 5), [[0; 0]; 0]);
        assert_eq!(write(&mut replica, 9), [[9]]);
        assert_eq!(answer(&mut replica, 7, true), [[9]]);
        assert_eq!((replica.commit(), acknowledge(&mut replica, 9)), (Version(5), vec![]));
        assert_eq!(replica.commit(), Version(9));
    }
}
