//! Leases: for how long a primary may answer reads without asking its backups.
//!
//! They run from backup to primary, one for each pair of members and not for each partition. The holder counts from when it
//! asked, the granter from when it heard, and the holder's time is shorter: so clocks need only run at about the same speed.
//! A new primary waits until what it granted is over (Gray and Cheriton, SOSP 1989).

use std::collections::BTreeMap;
use std::ops::Add;
use std::time::Duration;

use crate::ids::MemberId;
use crate::limits::{LEASE_GRANTED, LEASE_HELD, LEASE_WISHES};

/// A clock of this machine that goes on while the machine sleeps, in milliseconds. Not to be compared with that of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct LocalTime(pub u64);

impl Add<Duration> for LocalTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// An answer to the wish for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Grant {
    /// When the holder asked, by its own clock.
    pub asked: LocalTime,
    /// The version of the table that the granter had: the holder must have seen as much before it counts on the lease.
    pub table: u64,
}

/// What this member has granted to others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct GrantedLeases {
    until: BTreeMap<MemberId, LocalTime>,
}

impl GrantedLeases {
    /// Grants a lease. `table` must be read after this is stamped, or an epoch that was raised in between would not show.
    pub fn grant(&mut self, to: MemberId, now: LocalTime, asked: LocalTime, table: u64) -> Grant {
        self.until.insert(to, now + LEASE_GRANTED);
        Grant { asked, table }
    }

    /// When the last lease of a member is over.
    #[must_use]
    pub fn until(&self, member: MemberId) -> Option<LocalTime> {
        self.until.get(&member).copied()
    }
}

/// What others have granted to this member.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct HeldLeases {
    held: BTreeMap<MemberId, Held>,
    /// Wishes since the last grant.
    unanswered: BTreeMap<MemberId, u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Held {
    until: LocalTime,
    table: u64,
}

impl HeldLeases {
    /// A lease is wished for; whether the member has left so many wishes unanswered that it is to leave the sets of this primary.
    /// Wishes count, and not time: a member that stood still itself blames nobody.
    pub fn wish(&mut self, of: MemberId) -> bool {
        let unanswered = self.unanswered.entry(of).or_default();
        let is_silent = *unanswered >= LEASE_WISHES;
        *unanswered = unanswered.saturating_add(1);
        is_silent
    }

    /// A member has granted a lease.
    pub fn receive(&mut self, from: MemberId, grant: Grant) {
        self.unanswered.remove(&from);
        let until = grant.asked + LEASE_HELD;
        let held = self.held.entry(from).or_insert(Held { until, table: grant.table });
        held.until = held.until.max(until);
        // Also if this answer was overtaken: who has seen a table once has seen it.
        held.table = held.table.max(grant.table);
    }

    /// Until when a member's lease counts, for one who has seen `table`.
    #[must_use]
    pub fn until(&self, from: MemberId, table: u64) -> Option<LocalTime> {
        let held = self.held.get(&from)?;
        (held.table <= table || cfg!(mutant = "rule-6-table-version")).then_some(held.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::NodeId;

    #[test]
    fn who_leaves_many_wishes_unanswered_is_silent_until_it_answers() {
        let [one, other] = [1, 2].map(|node| MemberId { node: NodeId(node), incarnation: 1 });
        let mut leases = HeldLeases::default();
        let wishes =
            |leases: &mut HeldLeases, of| (0..=LEASE_WISHES).map(|_| leases.wish(of)).collect::<Vec<_>>();
        let patient = [vec![false; LEASE_WISHES as usize], vec![true]].concat();
        assert_eq!(wishes(&mut leases, one), patient);
        assert!(leases.wish(one) && !leases.wish(other));
        leases.receive(one, Grant { asked: LocalTime(7), table: 1 });
        assert_eq!(wishes(&mut leases, one), patient);
    }
}
