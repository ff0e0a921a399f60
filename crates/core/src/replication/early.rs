//! What a node makes of a message about a reign before it reaches a copy: [`KnownReign`], and [`EarlyMessages`], which wait for the
//! table that knows of it.
//!
//! Who follows a higher epoch refuses all lower ones for good. So nobody follows one on another's word who can find out whether the
//! control group has decided it: such a message waits until this node's table knows as much, and goes if that does not come.

use std::collections::VecDeque;

use super::lease::LocalTime;
use super::message::{Body, Message};
use super::replicated::PartitionMessage;
use crate::ids::{Epoch, MemberId, PartitionId};
use crate::limits::{EARLY_BYTES, EARLY_MESSAGES, RESEND_TIME};

/// Who reigns over a partition, by the table that a node has followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KnownReign {
    /// Which reign.
    pub epoch: Epoch,
    /// Whose; `None` if nobody decides.
    pub primary: Option<MemberId>,
}

/// Whether a node hears of what the control group decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    /// What was decided before now is soon in its table.
    Kept,
    /// Others may have replaced it without its hearing of that.
    Lost,
}

/// What is to become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credence {
    /// It goes to the copy.
    Believed,
    /// It waits until the table knows of the reign.
    Early,
    /// Whoever has sent it does not reign.
    Refused,
}

impl KnownReign {
    /// What a node makes of a message from a member.
    #[must_use]
    pub fn judge<P, C>(&self, from: MemberId, message: &Message<P, C>, contact: Contact) -> Credence {
        let is_newer = message.epoch > self.epoch && contact == Contact::Kept;
        if is_newer && !cfg!(mutant = "rule-3-undecided") {
            return Credence::Early;
        }
        let is_other = message.epoch == self.epoch && self.primary.is_some_and(|primary| primary != from);
        if is_other && is_of_primary(&message.body) { Credence::Refused } else { Credence::Believed }
    }
}

fn is_of_primary<P, C>(body: &Body<P, C>) -> bool {
    match body {
        Body::Begin { .. } | Body::Append { .. } | Body::Chunk { .. } | Body::Released => true,
        Body::Acknowledge { .. } | Body::Deposed => false,
    }
}

/// A message, from whom it has come and for which partition.
pub type Addressed = (MemberId, PartitionId, PartitionMessage);

/// Messages of reigns that the table does not know yet. It comes soon, as a rule; what waits longer has been sent again.
#[derive(Debug, Default)]
pub struct EarlyMessages {
    /// In the order in which they have come.
    waiting: VecDeque<(LocalTime, Addressed)>,
    bytes: usize,
}

impl EarlyMessages {
    /// Keeps one, if there is room. Returns one that goes because the table has not come to know of its reign.
    pub fn keep(&mut self, now: LocalTime, early: Addressed) -> Option<Addressed> {
        let forgotten = self.forget(now);
        let bytes = bytes(&early.2);
        if self.waiting.len() < EARLY_MESSAGES && self.bytes + bytes <= EARLY_BYTES {
            self.bytes += bytes;
            self.waiting.push_back((now, early));
        }
        forgotten
    }

    fn forget(&mut self, now: LocalTime) -> Option<Addressed> {
        let mut first = None;
        while let Some((_, late)) = self.waiting.pop_front_if(|(came, _)| *came + RESEND_TIME <= now) {
            self.bytes -= bytes(&late.2);
            first = first.or(Some(late));
        }
        first
    }

    /// The messages of reigns that the table knows by now, in the order in which they have come, but for those that it refuses.
    pub fn take(&mut self, now: LocalTime, known: impl Fn(PartitionId) -> KnownReign) -> Vec<Addressed> {
        self.forget(now);
        let mut believed = Vec::new();
        for (came, (from, partition, message)) in std::mem::take(&mut self.waiting) {
            let bytes = bytes(&message);
            match known(partition).judge(from, &message, Contact::Kept) {
                Credence::Early => {
                    self.waiting.push_back((came, (from, partition, message)));
                    continue;
                }
                Credence::Believed => believed.push((from, partition, message)),
                Credence::Refused => {}
            }
            self.bytes -= bytes;
        }
        believed
    }
}

/// What a message takes beside what all take.
fn bytes(message: &PartitionMessage) -> usize {
    match &message.body {
        Body::Append { records, .. } => records.iter().map(|record| record.payload.as_bytes().len()).sum(),
        Body::Chunk { content, .. } => content.as_bytes().len(),
        Body::Begin { .. } | Body::Acknowledge { .. } | Body::Released | Body::Deposed => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::log::Mark;
    use super::*;
    use crate::ids::{NodeId, ReplicationClass, Version};

    const fn member(node: u64) -> MemberId {
        MemberId { node: NodeId(node), incarnation: 1 }
    }

    const PARTITION: PartitionId = PartitionId { class: ReplicationClass(0), index: 7 };
    const NOW: LocalTime = LocalTime(1000);

    fn epoch(generation: u32, number: u64) -> Epoch {
        Epoch { generation, number }
    }

    fn known(number: u64, primary: u64) -> KnownReign {
        KnownReign { epoch: epoch(2, number), primary: Some(member(primary)) }
    }

    fn notice() -> Body<crate::partition::Mutations, crate::partition::Mutations> {
        let (previous, commit) = (Mark::default(), Version::NONE);
        Body::Append { attempt: 0, previous, records: Vec::new(), commit, probe: 0 }
    }

    fn message(epoch: Epoch) -> PartitionMessage {
        Message { epoch, body: notice() }
    }

    fn check(epoch: Epoch, body: Body<(), ()>, from: u64, (contact, expected): (Contact, Credence)) {
        let message = Message { epoch, body };
        assert_eq!(known(5, 1).judge(member(from), &message, contact), expected, "{message:?}");
    }

    #[test]
    fn a_reign_that_the_table_does_not_know_is_waited_for_by_who_will_hear_of_it() {
        for newer in [epoch(2, 6), epoch(2, u64::MAX), epoch(3, 0)] {
            for body in [Body::Released, Body::Deposed, Body::Begin { attempt: 1, start: Mark::default() }] {
                check(newer, body.clone(), 1, (Contact::Kept, Credence::Early));
                check(newer, body, 1, (Contact::Lost, Credence::Believed));
            }
        }
    }

    #[test]
    fn what_is_said_under_the_known_reign_is_said_by_its_primary() {
        let now = epoch(2, 5);
        for body in [Body::Released, Body::Begin { attempt: 1, start: Mark::default() }] {
            check(now, body.clone(), 1, (Contact::Kept, Credence::Believed));
            check(now, body.clone(), 2, (Contact::Kept, Credence::Refused));
            check(now, body, 2, (Contact::Lost, Credence::Refused));
        }
        check(now, Body::Deposed, 2, (Contact::Kept, Credence::Believed));
        // An earlier reign's primary is not known any more; the copy refuses it.
        check(epoch(2, 4), Body::Released, 2, (Contact::Kept, Credence::Believed));
        let nobody = KnownReign { epoch: now, primary: None };
        let message = Message::<(), ()> { epoch: now, body: Body::Released };
        assert_eq!(nobody.judge(member(2), &message, Contact::Kept), Credence::Believed);
    }

    #[test]
    fn messages_wait_for_the_table_that_knows_of_their_reign() {
        let mut early = EarlyMessages::default();
        let reigns = [(1, 6), (2, 7), (1, 7), (1, 9)].map(|(from, number)| (member(from), epoch(2, number)));
        for (from, epoch) in reigns {
            assert_eq!(early.keep(NOW, (from, PARTITION, message(epoch))), None);
        }
        let taken = |early: &mut EarlyMessages, known: KnownReign| {
            let taken = early.take(NOW, |_| known);
            taken.into_iter().map(|(from, _, message)| (from, message.epoch)).collect::<Vec<_>>()
        };
        assert_eq!(taken(&mut early, known(5, 1)), []);
        assert_eq!(taken(&mut early, known(7, 1)), [reigns[0], reigns[2]]);
        assert_eq!(taken(&mut early, known(7, 1)), []);
        assert_eq!(taken(&mut early, known(9, 1)), [reigns[3]]);
    }

    #[test]
    fn messages_of_reigns_that_nobody_decides_are_forgotten_when_they_would_have_been_sent_again() {
        let mut early = EarlyMessages::default();
        let said = |number| (member(1), PARTITION, message(epoch(9, number)));
        assert_eq!(early.keep(NOW, said(1)), None);
        assert_eq!(early.keep(NOW + RESEND_TIME / 2, said(2)), None);
        assert_eq!(early.keep(NOW + RESEND_TIME, said(3)), Some(said(1)));
        assert_eq!(early.waiting.len(), 2);
        let decided = KnownReign { epoch: epoch(9, 3), primary: Some(member(1)) };
        let late = NOW + RESEND_TIME * 3 / 2;
        assert_eq!(
            early.take(late, |_| decided),
            [said(3)],
            "what was said before it was decided comes again"
        );
        assert_eq!(early.bytes, 0);
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let mut early = EarlyMessages::default();
        for number in 0..EARLY_MESSAGES as u64 + 10 {
            early.keep(NOW, (member(1), PARTITION, message(epoch(9, number))));
        }
        assert_eq!(early.waiting.len(), EARLY_MESSAGES);
        assert_eq!(early.waiting[0].1.2.epoch, epoch(9, 0));
    }
}
