//! Conditions of a status: what holds, why, and since when.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// Conditions that are being told anew. The time of one that has not changed stays.
#[derive(Debug)]
pub(crate) struct Conditions<'a> {
    previous: &'a [Condition],
    generation: Option<i64>,
    now: Timestamp,
    told: Vec<Condition>,
    dropped: Vec<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    Yes,
    No,
    Unknown,
}

impl From<bool> for Holds {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

/// Whether the readiness that was told last had other grounds.
pub(crate) fn is_news(before: &[Condition], reason: &str, message: &str) -> bool {
    let was = before.iter().find(|condition| condition.type_ == "Ready");
    was.is_none_or(|was| was.reason != reason || was.message != message)
}

impl<'a> Conditions<'a> {
    pub(crate) fn new(previous: &'a [Condition], generation: Option<i64>, now: Timestamp) -> Self {
        Self { previous, generation, now, told: Vec::new(), dropped: Vec::new() }
    }

    pub(crate) fn tell(
        &mut self,
        kind: &str,
        holds: impl Into<Holds>,
        reason: &str,
        message: impl Into<String>,
    ) {
        let status = match holds.into() {
            Holds::Yes => "True",
            Holds::No => "False",
            Holds::Unknown => "Unknown",
        };
        let same = self.previous.iter().find(|before| before.type_ == kind && before.status == status);
        let since = same.map_or(Time(self.now), |before| before.last_transition_time.clone());
        self.told.push(Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.into(),
            last_transition_time: since,
            observed_generation: self.generation,
        });
    }

    /// There is nothing to tell of it any more.
    pub(crate) fn drop(&mut self, kind: &'static str) {
        self.dropped.push(kind);
    }

    /// The others stay as they were.
    pub(crate) fn finish(mut self) -> Vec<Condition> {
        let told = |kind: &str| self.told.iter().any(|told| told.type_ == kind);
        let untold =
            |before: &&Condition| !told(&before.type_) && !self.dropped.contains(&before.type_.as_str());
        let kept: Vec<Condition> = self.previous.iter().filter(untold).cloned().collect();
        self.told.extend(kept);
        self.told.sort_by(|one, other| one.type_.cmp(&other.type_));
        self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_condition_has_the_time_of_its_last_change() {
        let mut first = Conditions::new(&[], Some(1), at(10));
        first.tell("Ready", false, "Starting", "");
        first.tell("Safe", Holds::Unknown, "Unknown", "");
        let first = first.finish();
        let mut second = Conditions::new(&first, Some(2), at(20));
        second.tell("Ready", false, "StillStarting", "g-0");
        second.tell("Safe", true, "Safe", "");
        let second = second.finish();
        assert_eq!((second[0].last_transition_time.0, second[0].observed_generation), (at(10), Some(2)));
        assert_eq!((second[0].reason.as_str(), second[0].message.as_str()), ("StillStarting", "g-0"));
        assert_eq!((second[1].last_transition_time.0, second[1].status.as_str()), (at(20), "True"));
        let mut third = Conditions::new(&second, Some(3), at(30));
        third.tell("Ready", true, "Ready", "");
        assert_eq!(third.finish()[1], second[1], "what is not told stays");
        let mut fourth = Conditions::new(&second, Some(3), at(30));
        fourth.drop("Safe");
        assert_eq!(fourth.finish(), second[..1]);
    }
}
