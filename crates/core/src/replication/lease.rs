//! Leases: for how long a primary may answer reads without asking its backups.
//!
//! They run from backup to primary, one for each pair of members and not for each partition. The holder counts from when it
//! asked, the granter from when it heard, and the holder's time is shorter: so clocks need only run at about the same speed. Each
//! member grants for the term that it is configured with, and says so with the grant.
//! A new primary waits until what it granted is over (Gray and Cheriton, SOSP 1989).

use std::collections::BTreeMap;
use std::ops::Add;
use std::time::Duration;

use crate::ids::MemberId;
use crate::limits::{HEARTBEAT_TIME, LEASE_RENEWALS, LEASE_TERM, LEASE_TERM_MAX, LEASE_WISHES};

/// A clock of this machine that goes on while the machine sleeps, in milliseconds. Not to be compared with that of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct LocalTime(pub u64);

impl Add<Duration> for LocalTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// A wish for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Wish {
    /// When the holder asks, by its own clock.
    pub asked: LocalTime,
    /// By what it will count the lease.
    pub reckoning: Reckoning,
}

/// By what a holder counts a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reckoning {
    /// By the term that the grant names.
    Granted,
    /// By the default, whatever the grant names: the holder is of a version that knows no other.
    Default,
}

/// An answer to the wish for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Grant {
    /// When the holder asked, by its own clock.
    pub asked: LocalTime,
    /// The version of the table that the granter had: the holder must have seen as much before it counts on the lease.
    pub table: u64,
    /// How long it counts for the granter, from when it heard the wish. The holder counts a twentieth less.
    pub term: Duration,
}

/// What this member has granted to others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GrantedLeases {
    term: Duration,
    until: BTreeMap<MemberId, LocalTime>,
}

impl Default for GrantedLeases {
    fn default() -> Self {
        Self::of_term(LEASE_TERM)
    }
}

impl GrantedLeases {
    /// For a term that may be another member's or not.
    #[must_use]
    pub fn of_term(term: Duration) -> Self {
        Self { term, until: BTreeMap::new() }
    }

    /// Grants a lease. `table` must be read after this is stamped, or an epoch that was raised in between would not show.
    pub fn grant(&mut self, to: MemberId, now: LocalTime, wish: Wish, table: u64) -> Grant {
        let term = match wish.reckoning {
            Reckoning::Default if !cfg!(mutant = "rule-5-default-term") => self.term.max(LEASE_TERM),
            Reckoning::Default | Reckoning::Granted => self.term,
        };
        let until = self.until.entry(to).or_default();
        *until = (*until).max(now + term);
        Grant { asked: wish.asked, table, term }
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
    term: Duration,
}

impl HeldLeases {
    /// Half a second has passed and a lease is wished for; whether the member has left so many wishes unanswered that it is to leave the sets of this primary.
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
        let term = if cfg!(mutant = "rule-6-term") { LEASE_TERM } else { grant.term.min(LEASE_TERM_MAX) };
        let until = grant.asked + (term - term / 20);
        let held = self.held.entry(from).or_insert(Held { until, table: grant.table, term });
        held.until = held.until.max(until);
        held.term = term;
        // Also if this answer was overtaken: who has seen a table once has seen it.
        held.table = held.table.max(grant.table);
    }

    /// How often to wish for the leases of these members, so that none ends as long as it is renewed.
    pub fn renewal(&self, of: impl IntoIterator<Item = MemberId>) -> Duration {
        let held = of.into_iter().filter_map(|member| self.held.get(&member));
        let renewals = held.map(|held| held.term / LEASE_RENEWALS);
        renewals.fold(HEARTBEAT_TIME, Duration::min)
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
        leases.receive(one, Grant { asked: LocalTime(7), table: 1, term: LEASE_TERM });
        assert_eq!(wishes(&mut leases, one), patient);
    }

    const ASKED: LocalTime = LocalTime(700);
    const HEARD: LocalTime = LocalTime(90_000);

    /// How long a lease of such a term counts, for who grants it and for who holds it.
    fn check_term(term: u64, reckoning: Reckoning, expected: (u64, u64)) {
        let [granter, holder] = [1, 2].map(|node| MemberId { node: NodeId(node), incarnation: 1 });
        let mut granted = GrantedLeases::of_term(Duration::from_millis(term));
        let mut held = HeldLeases::default();
        let grant = granted.grant(holder, HEARD, Wish { asked: ASKED, reckoning }, 1);
        held.receive(granter, grant);
        let granted = granted.until(holder).unwrap().0 - HEARD.0;
        let held = held.until(granter, 1).unwrap().0 - ASKED.0;
        assert_eq!((granted, held), expected);
    }

    #[test]
    fn a_lease_counts_a_twentieth_less_for_who_holds_it_than_for_who_granted_it() {
        check_term(2000, Reckoning::Granted, (2000, 1900));
        check_term(200, Reckoning::Granted, (200, 190));
        check_term(10_000, Reckoning::Granted, (10_000, 9500));
    }

    #[test]
    fn who_knows_of_no_terms_is_granted_no_less_than_it_counts() {
        check_term(200, Reckoning::Default, (2000, 1900));
        check_term(2000, Reckoning::Default, (2000, 1900));
        check_term(7000, Reckoning::Default, (7000, 6650));
    }

    #[test]
    fn a_lease_is_never_granted_for_less_than_before() {
        let holder = MemberId { node: NodeId(2), incarnation: 1 };
        let mut granted = GrantedLeases::of_term(Duration::from_millis(200));
        granted.grant(holder, HEARD, Wish { asked: ASKED, reckoning: Reckoning::Default }, 1);
        granted.grant(holder, HEARD, Wish { asked: ASKED, reckoning: Reckoning::Granted }, 1);
        assert_eq!(granted.until(holder), Some(HEARD + LEASE_TERM));
    }

    #[test]
    fn a_term_that_nobody_can_have_configured_counts_as_the_longest() {
        let granter = MemberId { node: NodeId(1), incarnation: 1 };
        let mut held = HeldLeases::default();
        held.receive(granter, Grant { asked: ASKED, table: 1, term: Duration::MAX });
        assert_eq!(held.until(granter, 1), Some(LocalTime(ASKED.0 + 9500)));
    }

    #[test]
    fn leases_are_renewed_as_often_as_the_shortest_demands() {
        let [one, other, stranger] = [1, 2, 3].map(|node| MemberId { node: NodeId(node), incarnation: 1 });
        let mut held = HeldLeases::default();
        assert_eq!(held.renewal([one, other]), HEARTBEAT_TIME);
        for (member, term) in [(one, 4000), (other, 600), (stranger, 200)] {
            held.receive(member, Grant { asked: ASKED, table: 1, term: Duration::from_millis(term) });
        }
        assert_eq!(held.renewal([one]), HEARTBEAT_TIME);
        assert_eq!(held.renewal([one, other]), Duration::from_millis(150));
    }
}
