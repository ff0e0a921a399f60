//! Which pods a StatefulSet makes and deletes next: the rules of Kubernetes' `stateful_set_control.go`, without its IO.

use std::ops::Range;

#[derive(Debug, Clone)]
pub(crate) struct Goal {
    pub(crate) start: i32,
    pub(crate) replicas: i32,
    /// How many of the first replicas a rolling update leaves alone; none if pods are updated when others delete them.
    pub(crate) partition: Option<i32>,
    pub(crate) is_ordered: bool,
    pub(crate) current: String,
    pub(crate) update: String,
}

impl Goal {
    pub(crate) fn ordinals(&self) -> Range<i32> {
        self.start..self.start.saturating_add(self.replicas)
    }

    fn revision_of(&self, ordinal: i32) -> &str {
        let is_kept = self.partition.is_some_and(|partition| ordinal < self.start + partition);
        if is_kept { &self.current } else { &self.update }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) ordinal: i32,
    pub(crate) revision: String,
    pub(crate) is_over: bool,
    pub(crate) is_ready: bool,
    /// Ready for long enough.
    pub(crate) is_available: bool,
    pub(crate) is_terminating: bool,
}

impl Member {
    fn is_healthy(&self) -> bool {
        self.is_available && !self.is_terminating
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    Create { ordinal: i32, revision: String },
    Delete { ordinal: i32 },
}

/// `members` are in the order of their ordinals.
pub(crate) fn plan(goal: &Goal, members: &[Member]) -> Vec<Step> {
    let mut steps = Vec::new();
    let goes_on = fill(goal, members, &mut steps) && condemn(goal, members, &mut steps);
    if goes_on && let Some(partition) = goal.partition {
        update(goal, members, partition, &mut steps);
    }
    steps
}

/// Pods that are missing, in order; says whether anything else may happen.
fn fill(goal: &Goal, members: &[Member], steps: &mut Vec<Step>) -> bool {
    for ordinal in goal.ordinals() {
        let step = match find(members, ordinal) {
            Some(member) if member.is_over && !member.is_terminating => Step::Delete { ordinal },
            None => Step::Create { ordinal, revision: goal.revision_of(ordinal).to_owned() },
            Some(member) if goal.is_ordered && !member.is_healthy() => return false,
            Some(_) => continue,
        };
        steps.push(step);
        if goal.is_ordered {
            return false;
        }
    }
    true
}

/// Pods beyond the replicas, the highest first. In order, each waits until the one above is gone and all below are well.
fn condemn(goal: &Goal, members: &[Member], steps: &mut Vec<Step>) -> bool {
    let kept = goal.ordinals();
    let (replicas, condemned): (Vec<&Member>, Vec<&Member>) =
        members.iter().partition(|member| kept.contains(&member.ordinal));
    let first_ill = replicas.iter().chain(&condemned).find(|member| !member.is_healthy());
    for member in condemned.iter().rev() {
        if member.is_terminating {
            if goal.is_ordered {
                return false;
            }
            continue;
        }
        let is_first_ill = first_ill.is_some_and(|ill| ill.ordinal == member.ordinal);
        if goal.is_ordered && !member.is_healthy() && !is_first_ill {
            return false;
        }
        steps.push(Step::Delete { ordinal: member.ordinal });
        if goal.is_ordered {
            return false;
        }
    }
    true
}

/// One pod of an old revision, the highest first, once all above it are well.
fn update(goal: &Goal, members: &[Member], partition: i32, steps: &mut Vec<Step>) {
    let all = goal.ordinals();
    for ordinal in (all.start.saturating_add(partition)..all.end).rev() {
        let Some(member) = find(members, ordinal) else { return };
        if member.revision != goal.update && !member.is_terminating {
            let step = Step::Delete { ordinal };
            if !steps.contains(&step) {
                steps.push(step);
            }
            return;
        }
        if !member.is_healthy() {
            return;
        }
    }
}

fn find(members: &[Member], ordinal: i32) -> Option<&Member> {
    members.iter().find(|member| member.ordinal == ordinal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goal(replicas: i32) -> Goal {
        Goal {
            start: 0,
            replicas,
            partition: Some(0),
            is_ordered: false,
            current: "old".to_owned(),
            update: "new".to_owned(),
        }
    }

    fn ordered(replicas: i32) -> Goal {
        Goal { is_ordered: true, ..goal(replicas) }
    }

    /// Each word is a pod: its revision, then `!` if it is not ready, `-` if it terminates, `.` if it is over.
    fn check(goal: &Goal, pods: &str, expected: &str) {
        let members: Vec<Member> = pods
            .split_whitespace()
            .enumerate()
            .filter(|(_, word)| *word != "none")
            .map(|(ordinal, word)| Member {
                ordinal: i32::try_from(ordinal).unwrap(),
                revision: word.trim_end_matches(['!', '-', '.']).to_owned(),
                is_over: word.ends_with('.'),
                is_ready: !word.ends_with(['!', '.']),
                is_available: !word.ends_with(['!', '.']),
                is_terminating: word.ends_with('-'),
            })
            .collect();
        let steps: Vec<String> = plan(goal, &members)
            .into_iter()
            .map(|step| match step {
                Step::Create { ordinal, revision } => format!("+{ordinal}:{revision}"),
                Step::Delete { ordinal } => format!("-{ordinal}"),
            })
            .collect();
        assert_eq!(steps.join(" "), expected, "{pods}");
    }

    #[test]
    fn pods_are_made_together_or_one_by_one() {
        check(&goal(3), "", "+0:new +1:new +2:new");
        check(&goal(3), "new! none new!", "+1:new");
        check(&ordered(3), "", "+0:new");
        check(&ordered(3), "new!", "");
        check(&ordered(3), "new", "+1:new");
        check(&Goal { start: 5, ..goal(2) }, "none none none none none new", "+6:new");
    }

    #[test]
    fn an_update_takes_the_highest_pod_once_those_above_are_ready() {
        check(&goal(3), "old old old", "-2");
        check(&goal(3), "old old old-", "");
        check(&goal(3), "old old none", "+2:new");
        check(&goal(3), "old old new!", "");
        check(&goal(3), "old old new", "-1");
        check(&goal(3), "old! old old", "-2");
    }

    #[test]
    fn a_revision_that_never_gets_ready_can_be_taken_back_in_parallel_only() {
        let back = Goal { update: "old".to_owned(), ..goal(3) };
        check(&back, "old old new!", "-2");
        check(&Goal { is_ordered: true, ..back }, "old old new!", "");
    }

    #[test]
    fn a_partition_keeps_the_first_pods() {
        let split = Goal { partition: Some(2), ..goal(3) };
        check(&split, "old old old", "-2");
        check(&split, "old old new", "");
        check(&split, "none old new", "+0:old");
        check(&Goal { partition: None, ..goal(3) }, "old none old", "+1:new");
    }

    #[test]
    fn the_highest_pods_go_first() {
        check(&goal(1), "new new new", "-2 -1");
        check(&ordered(1), "new new new", "-2");
        check(&ordered(1), "new new new-", "");
        check(&ordered(1), "new new! new", "-2");
        check(&ordered(1), "new! new new", "");
        check(&ordered(1), "new new! new!", "");
        check(&goal(0), "new new", "-1 -0");
    }

    #[test]
    fn pods_that_are_over_are_replaced() {
        check(&goal(2), "new. new", "-0");
        check(&goal(2), "old new.", "-1");
    }
}
