//! [`Sessions`]: one for each member of the grid.

use std::collections::BTreeMap;

use crate::ids::MemberId;
use crate::limits::{HEARTBEAT_TIME, LAPSE_CHECK_TIME, LAPSE_PERCENT, SESSION_TIME, SILENCE_TIME};
use crate::replication::LocalTime;

/// Whether a member lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Presence {
    /// It was heard of.
    Alive,
    /// It was not: others take over what it decides about.
    Suspect,
    /// It was not for long: others take over what it holds.
    Gone,
}

/// The sessions that the leader keeps. Its own never lapses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sessions {
    me: MemberId,
    sessions: BTreeMap<MemberId, Session>,
    /// When the leader looked last.
    looked: LocalTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Session {
    presence: Presence,
    heard: LocalTime,
    /// It was heard in this term: who was not may have died before.
    proven: bool,
    /// When it was asked whether it lives, after it had fallen silent together with many.
    asked: Option<LocalTime>,
}

/// What a look at the sessions has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Somebody's presence is another.
    pub changed: bool,
    /// Who is to be asked at once for a heartbeat.
    pub ask: Vec<MemberId>,
    /// Look again then.
    pub again: LocalTime,
}

impl Sessions {
    /// A leader's, at the beginning of its term: everybody has a full session, whatever the leader before has heard.
    #[must_use]
    pub fn new(me: MemberId, now: LocalTime, members: impl IntoIterator<Item = MemberId>) -> Self {
        let mut sessions = Self { me, sessions: BTreeMap::new(), looked: now };
        sessions.follow(now, members);
        sessions
    }

    /// These are the members from now on.
    pub fn follow(&mut self, now: LocalTime, members: impl IntoIterator<Item = MemberId>) {
        let before = std::mem::take(&mut self.sessions);
        let session = |member| {
            let new = Session { presence: Presence::Alive, heard: now, proven: false, asked: None };
            (member, before.get(&member).copied().unwrap_or(new))
        };
        self.sessions = members.into_iter().map(session).collect();
    }

    /// A member says that it lives; whether its presence is another now.
    pub fn heard(&mut self, now: LocalTime, member: MemberId) -> bool {
        let Some(session) = self.sessions.get_mut(&member) else { return false };
        let before = session.presence;
        *session = Session { presence: Presence::Alive, heard: now, proven: true, asked: None };
        before != Presence::Alive
    }

    /// A member's connection was closed and another one refused: its process is dead. Whether its presence is another now.
    pub fn refused(&mut self, member: MemberId) -> bool {
        let Some(session) = self.sessions.get_mut(&member).filter(|_| member != self.me) else {
            return false;
        };
        let lives = session.presence == Presence::Alive;
        if lives {
            session.presence = Presence::Suspect;
        }
        lives
    }

    /// Looks who has fallen silent.
    pub fn look(&mut self, now: LocalTime) -> Look {
        self.excuse(now);
        self.heard(now, self.me);
        let lapsed =
            |session: &Session| session.presence == Presence::Alive && session.heard + SESSION_TIME <= now;
        let silent = self.sessions.values().filter(|session| lapsed(session)).count();
        // One alone is no sign of a leader that does not hear.
        let many = silent > 1 && silent * 100 > self.sessions.len() * LAPSE_PERCENT;
        let mut look = Look { changed: false, ask: Vec::new(), again: now + HEARTBEAT_TIME };
        for (member, session) in &mut self.sessions {
            let checked = session.asked.is_some_and(|asked| asked + LAPSE_CHECK_TIME <= now);
            let before = session.presence;
            if lapsed(session) {
                if !many || checked {
                    session.presence = Presence::Suspect;
                } else if session.asked.is_none() {
                    session.asked = Some(now);
                    look.ask.push(*member);
                }
            }
            if session.presence == Presence::Suspect && session.heard + SILENCE_TIME <= now {
                session.presence = Presence::Gone;
            }
            look.changed |= before != session.presence;
            look.again = look.again.min(session.next(now));
        }
        look
    }

    /// Everybody's presence.
    #[must_use]
    pub fn presences(&self) -> BTreeMap<MemberId, Presence> {
        self.sessions.iter().map(|(member, session)| (*member, session.presence)).collect()
    }

    /// As [`Self::presences`], but who has a session only because the leader is new counts as silent.
    #[must_use]
    pub fn proven(&self) -> BTreeMap<MemberId, Presence> {
        let presence = |session: &Session| match session.presence {
            Presence::Alive if !session.proven => Presence::Suspect,
            presence => presence,
        };
        self.sessions.iter().map(|(member, session)| (*member, presence(session))).collect()
    }

    /// Whether everybody was heard in this term, or has fallen silent.
    #[must_use]
    pub fn have_settled(&self) -> bool {
        self.sessions.values().all(|session| session.proven || session.presence != Presence::Alive)
    }

    /// While the leader did not look it did not hear, either: that time does not count.
    fn excuse(&mut self, now: LocalTime) {
        let due = self.looked + HEARTBEAT_TIME + HEARTBEAT_TIME;
        if due < now {
            let missed = now.0 - self.looked.0;
            for session in self.sessions.values_mut() {
                session.heard = LocalTime(session.heard.0.saturating_add(missed)).min(now);
            }
        }
        self.looked = now;
    }
}

impl Session {
    /// When it will be another if nothing is heard, if that is to come.
    fn next(&self, now: LocalTime) -> LocalTime {
        let turns = [self.heard + SESSION_TIME, self.heard + SILENCE_TIME];
        let check = self.asked.map(|asked| asked + LAPSE_CHECK_TIME);
        let ahead = turns.into_iter().chain(check).filter(|at| *at > now);
        ahead.min().unwrap_or(LocalTime(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ids::NodeId;

    const START: LocalTime = LocalTime(1_000_000);

    fn member(node: u64) -> MemberId {
        MemberId { node: NodeId(node), incarnation: 1 }
    }

    /// Of nodes 1 to `nodes`; 1 leads.
    fn sessions(nodes: u64) -> Sessions {
        Sessions::new(member(1), START, (1..=nodes).map(member))
    }

    fn at(millis: u64) -> LocalTime {
        START + Duration::from_millis(millis)
    }

    /// Looks until then as often as it must, and hears these members all the time; returns who was asked.
    fn pass(sessions: &mut Sessions, (from, to): (u64, u64), heard: &[u64]) -> Vec<MemberId> {
        let mut asked = Vec::new();
        let mut now = from;
        while now <= to {
            heard.iter().for_each(|node| assert!(!sessions.heard(at(now), member(*node))));
            let look = sessions.look(at(now));
            asked.extend(look.ask);
            assert!(look.again > at(now));
            now += 100;
        }
        asked
    }

    fn presence(sessions: &Sessions, node: u64) -> Presence {
        sessions.presences()[&member(node)]
    }

    #[test]
    fn sessions_have_settled_when_nobody_is_waited_for() {
        let mut sessions = sessions(3);
        sessions.look(at(0));
        assert!(!sessions.have_settled());
        sessions.heard(at(10), member(2));
        assert!(!sessions.have_settled());
        sessions.refused(member(3));
        assert!(sessions.have_settled(), "nobody listens where the third was");
        sessions.heard(at(20), member(3));
        assert!(sessions.have_settled());
    }

    #[test]
    fn silence_makes_a_suspect_and_then_one_who_is_gone() {
        let mut sessions = sessions(2);
        pass(&mut sessions, (0, 2900), &[]);
        assert_eq!(presence(&sessions, 2), Presence::Alive);
        assert!(sessions.look(at(3000)).changed);
        assert_eq!(presence(&sessions, 2), Presence::Suspect);
        pass(&mut sessions, (3100, 9900), &[]);
        assert_eq!(presence(&sessions, 2), Presence::Suspect);
        assert!(sessions.look(at(10_000)).changed);
        assert_eq!(presence(&sessions, 2), Presence::Gone);
        assert!(sessions.heard(at(10_100), member(2)), "and it is back");
        assert_eq!(presence(&sessions, 2), Presence::Alive);
        assert_eq!(presence(&sessions, 1), Presence::Alive, "the leader lives");
    }

    #[test]
    fn who_was_not_heard_in_this_term_proves_nothing() {
        let mut sessions = sessions(3);
        sessions.look(at(100));
        let proven = |sessions: &Sessions| sessions.proven().into_values().collect::<Vec<_>>();
        assert_eq!(proven(&sessions), [Presence::Alive, Presence::Suspect, Presence::Suspect]);
        sessions.heard(at(200), member(2));
        assert_eq!(proven(&sessions), [Presence::Alive, Presence::Alive, Presence::Suspect]);
        pass(&mut sessions, (300, 10_000), &[]);
        assert_eq!(proven(&sessions), [Presence::Alive, Presence::Suspect, Presence::Gone]);
    }

    #[test]
    fn a_refused_connection_is_suspicion_at_once() {
        let mut sessions = sessions(3);
        assert!(sessions.refused(member(3)));
        assert!(!sessions.refused(member(3)), "it was so already");
        assert!(!sessions.refused(member(1)), "a leader knows that it lives");
        assert!(!sessions.refused(member(4)), "nobody");
        let seen = [1, 2, 3].map(|node| presence(&sessions, node));
        assert_eq!(seen, [Presence::Alive, Presence::Alive, Presence::Suspect]);
    }

    #[test]
    fn many_who_fall_silent_together_are_asked_first() {
        let mut sessions = sessions(4);
        let asked = pass(&mut sessions, (0, 3000), &[4]);
        assert_eq!(asked, [member(2), member(3)], "each once");
        assert_eq!(presence(&sessions, 2), Presence::Alive);
        sessions.heard(at(3050), member(2));
        assert_eq!(pass(&mut sessions, (3100, 3900), &[2, 4]), []);
        let seen = [2, 3, 4].map(|node| presence(&sessions, node));
        assert_eq!(seen, [Presence::Alive, Presence::Suspect, Presence::Alive], "one alone is no sign");
    }

    #[test]
    fn many_who_stay_silent_are_suspects_after_they_were_asked() {
        let mut sessions = sessions(4);
        pass(&mut sessions, (0, 3900), &[4]);
        assert_eq!(presence(&sessions, 2), Presence::Alive);
        pass(&mut sessions, (4000, 4000), &[4]);
        let seen = [2, 3, 4].map(|node| presence(&sessions, node));
        assert_eq!(seen, [Presence::Suspect, Presence::Suspect, Presence::Alive]);
    }

    #[test]
    fn few_who_fall_silent_together_are_suspects_at_once() {
        let mut sessions = sessions(10);
        let heard: Vec<u64> = (2..=7).collect();
        pass(&mut sessions, (0, 3000), &heard);
        let suspects = (1..=10).filter(|node| presence(&sessions, *node) == Presence::Suspect);
        assert_eq!(suspects.collect::<Vec<_>>(), [8, 9, 10]);
    }

    #[test]
    fn a_leader_that_stood_still_blames_nobody() {
        let mut sessions = sessions(2);
        pass(&mut sessions, (0, 1000), &[2]);
        assert!(!sessions.look(at(60_000)).changed);
        pass(&mut sessions, (60_100, 62_900), &[]);
        assert_eq!(presence(&sessions, 2), Presence::Alive);
        pass(&mut sessions, (63_000, 63_000), &[]);
        assert_eq!(presence(&sessions, 2), Presence::Suspect, "it had a full session from then on");
    }

    #[test]
    fn a_member_has_a_session_from_when_it_joins_until_it_is_no_more() {
        let mut sessions = sessions(2);
        pass(&mut sessions, (0, 2500), &[]);
        let reborn = MemberId { incarnation: 2, ..member(2) };
        sessions.follow(at(2500), [member(1), reborn]);
        assert!(!sessions.heard(at(2600), member(2)), "its earlier life counts no more");
        pass(&mut sessions, (2600, 5400), &[]);
        assert_eq!(
            sessions.presences(),
            BTreeMap::from([(member(1), Presence::Alive), (reborn, Presence::Alive)])
        );
    }
}
