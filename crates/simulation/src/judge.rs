//! [`Judge`]: looks at every step of the grid and at what clients are shown, and says what must not be.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;
use wattle_core::control::grid::{Grid, GridCommand};
use wattle_core::ids::{Epoch, GridTime, MemberId, PartitionId, Version};
use wattle_core::replication::ReplicatedPartition;

use crate::history::{History, Operation, Told};
use crate::letter::{Action, Key, Shown};
use crate::linearizability::{self, Finding};
use crate::node::Entry;

/// What must not be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Violation {
    /// An assertion of the code itself, or of the node around it.
    #[error("it panicked: {message}")]
    Panic {
        /// What it said.
        message: String,
    },
    /// A reign has one primary.
    #[error("{one:?} and {other:?} both serve partition {partition} in epoch {epoch:?}")]
    TwoPrimaries {
        /// Which partition.
        partition: PartitionId,
        /// The reign.
        epoch: Epoch,
        /// Who served first.
        one: MemberId,
        /// And who serves, too.
        other: MemberId,
    },
    /// A copy follows no older reign than before.
    #[error("{member:?} has gone back from {before:?} to {after:?} in partition {partition}")]
    EpochBack {
        /// Which partition.
        partition: PartitionId,
        /// Whose copy.
        member: MemberId,
        /// What it had seen.
        before: Epoch,
        /// What it says now.
        after: Epoch,
    },
    /// What the control group decides never goes back.
    #[error("the assignment of partition {partition} has gone back")]
    AssignmentBack {
        /// Which partition.
        partition: PartitionId,
    },
    /// Nobody holds any more what was acknowledged, although one copy lived all the time.
    #[error("partition {partition} is lost; {holders:?} were in its set, and lived when the others died")]
    Lost {
        /// Which partition.
        partition: PartitionId,
        /// Who was in its set.
        holders: Vec<MemberId>,
    },
    /// A class demands copies in sync, and neither does a primary make them fewer nor does it serve writes with fewer.
    #[error("{in_sync} copies of partition {partition} are in sync where {min_in_sync} must be")]
    TooFewInSync {
        /// Which partition.
        partition: PartitionId,
        /// Copies in sync.
        in_sync: usize,
        /// Of its class.
        min_in_sync: usize,
    },
    /// Grid time never goes back, and never jumps once a process has heard of it.
    #[error("grid time at {member:?} went from {from:?} to {to:?} in {passed} ms")]
    TimeJumped {
        /// Where.
        member: MemberId,
        /// What it was.
        from: GridTime,
        /// What it is.
        to: GridTime,
        /// By the clock of the machine, in milliseconds.
        passed: u64,
    },
    /// A version is of one write.
    #[error("version {version:?} of partition {partition} was shown for two writes")]
    VersionReused {
        /// Which partition.
        partition: PartitionId,
        /// The version.
        version: Version,
    },
    /// No order of the operations explains what clients were shown.
    #[error(
        "key {key} in epochs from {began:?}: {explained} of {answered} answers can be explained:{history}"
    )]
    NotLinearizable {
        /// Its number.
        key: u16,
        /// When its partition began.
        began: Option<Epoch>,
        /// Answers that an order explains.
        explained: usize,
        /// All answers.
        answered: usize,
        /// All operations.
        history: String,
    },
    /// The checker has given up.
    #[error("key {key}: its history is too long to be judged")]
    Undecided {
        /// Its number.
        key: u16,
    },
    /// After faults have stopped, everything is where it should be.
    #[error("partition {partition} is not as it should be at the end: {row}")]
    NotHealed {
        /// Which partition.
        partition: PartitionId,
        /// What is decided about it.
        row: String,
    },
    /// A copy that counts has other entries than its primary.
    #[error("{member:?} has other entries of partition {partition} than its primary")]
    CopiesDiffer {
        /// Which partition.
        partition: PartitionId,
        /// Who.
        member: MemberId,
    },
    /// Copies are spread evenly.
    #[error("class {class} is spread unevenly: {counts:?}")]
    Uneven {
        /// Which class.
        class: u8,
        /// Copies, or primaries, of each member.
        counts: BTreeMap<MemberId, usize>,
    },
    /// After faults have stopped, clients are answered.
    #[error(
        "client {client} was answered {answered} times since faults have stopped, the last time after {longest} microseconds"
    )]
    NoProgress {
        /// Which one.
        client: usize,
        /// How often.
        answered: u64,
        /// The longest that it has waited.
        longest: u64,
    },
    /// A leader comes to an end.
    #[error("the control group has decided {decided} entries")]
    Restless {
        /// How many.
        decided: u64,
    },
    /// A drained node leaves.
    #[error("{nodes} nodes still drain long after faults have stopped")]
    StillDraining {
        /// How many.
        nodes: usize,
    },
    /// The same seed did something else.
    #[error("the seed gave trace {first:016x} first, and then {second:016x}")]
    NotRepeatable {
        /// The first time.
        first: u64,
        /// The second time.
        second: u64,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Judge {
    pub(crate) history: History,
    primaries: BTreeMap<(PartitionId, Epoch), MemberId>,
    epochs: BTreeMap<(PartitionId, MemberId), Epoch>,
    /// When each partition began empty.
    lives: BTreeMap<PartitionId, Vec<Epoch>>,
    versions: BTreeMap<(PartitionId, Version), (Key, Option<i64>)>,
    /// Whose primary has died while it asked for a member to be removed: that member may have been the last that lived.
    removed_by_dead: BTreeSet<PartitionId>,
    /// Copies may die together.
    may_lose: bool,
    /// Partitions that were lost.
    losses: u64,
}

impl Judge {
    pub(crate) fn new(may_lose: bool) -> Self {
        Self { may_lose, ..Self::default() }
    }

    /// A copy has taken a step.
    pub(crate) fn look(
        &mut self,
        partition: PartitionId,
        member: MemberId,
        (copy, min_in_sync): (&ReplicatedPartition, usize),
    ) -> Result<(), Violation> {
        let epoch = copy.epoch();
        let before = self.epochs.insert((partition, member), epoch).unwrap_or_default();
        if epoch < before {
            return Err(Violation::EpochBack { partition, member, before, after: epoch });
        }
        if copy.may_write().is_ok() {
            let one = *self.primaries.entry((partition, epoch)).or_insert(member);
            if one != member {
                return Err(Violation::TwoPrimaries { partition, epoch, one, other: member });
            }
            let in_sync = copy.assignment().in_sync.len();
            if in_sync < min_in_sync {
                return Err(Violation::TooFewInSync { partition, in_sync, min_in_sync });
            }
        }
        Ok(())
    }

    /// The control group has decided an entry. `lives` says whether a member's memory is still there.
    pub(crate) fn decided(
        &mut self,
        (before, after): (&Grid, &Grid),
        entry: &Entry,
        lives: impl Fn(MemberId) -> bool,
    ) -> Result<(), Violation> {
        if let Entry::Asked(GridCommand::Propose { partition, proposal }) = entry
            && proposal.change.remove.is_some()
            && !lives(proposal.by)
        {
            self.removed_by_dead.insert(*partition);
        }
        for (partition, row) in after.rows() {
            let Some(old) = before.row(partition).filter(|old| *old != row) else { continue };
            let (old_assignment, assignment) = (&old.assignment, &row.assignment);
            if assignment.version < old_assignment.version || assignment.epoch < old_assignment.epoch {
                return Err(Violation::AssignmentBack { partition });
            }
            let (was, in_sync) = (old_assignment.in_sync.len(), assignment.in_sync.len());
            let min_in_sync = after.class(partition.class).map_or(0, |class| class.min_in_sync.into());
            let by_primary = matches!(entry, Entry::Asked(GridCommand::Propose { .. }));
            if by_primary && in_sync < was && in_sync < min_in_sync {
                return Err(Violation::TooFewInSync { partition, in_sync, min_in_sync });
            }
            if row.began != old.began {
                self.lives.entry(partition).or_default().extend(row.began);
            }
            if row.is_lost() && !old.is_lost() {
                self.losses += 1;
                // A removal that was on its way when the primary died may leave only dead ones in the set: one where one copy is
                // demanded, and two where two are.
                let inherent = self.removed_by_dead.contains(&partition);
                if !inherent && !self.may_lose {
                    let holders = old_assignment.in_sync.iter().copied().collect();
                    return Err(Violation::Lost { partition, holders });
                }
            }
        }
        Ok(())
    }

    /// A client was shown something, or has given up.
    pub(crate) fn ended(&mut self, partition: PartitionId, key: Key, told: Told) -> Result<(), Violation> {
        self.history.push(key, told);
        let shown = told.operation.answer.map(|answer| answer.shown);
        let (version, value) = match shown {
            Some(Shown::Found(Some((value, version))) | Shown::Sum(value, version)) => (version, Some(value)),
            Some(Shown::Written(version)) => (version, None),
            Some(Shown::Found(None) | Shown::Mismatch(_) | Shown::Counted(_) | Shown::Removed(_)) | None => {
                return Ok(());
            }
        };
        let known = self.versions.entry((partition, version)).or_insert((key, value));
        known.1 = known.1.or(value);
        let is_other = known.0 != key || value.is_some_and(|value| known.1 != Some(value));
        if is_other { Err(Violation::VersionReused { partition, version }) } else { Ok(()) }
    }

    /// Judges the history of every key.
    pub(crate) fn histories(&self, partition_of: impl Fn(Key) -> PartitionId) -> Result<(), Violation> {
        for (key, operations) in self.history.keys() {
            let lives = self.lives.get(&partition_of(key)).map_or(&[][..], Vec::as_slice);
            // Each of them begins without an entry.
            for life in 0..lives.len().max(1) {
                let (from, to) =
                    (lives.get(life).copied().filter(|_| life > 0), lives.get(life + 1).copied());
                let is_of = |told: &&Told| is_between(told, from, to);
                let mut history: Vec<Told> = operations.iter().filter(is_of).copied().collect();
                history.extend(unanswered(operations, &history, to));
                judge_one(key, from, &history)?;
            }
        }
        Ok(())
    }
}

/// Whether an operation may have taken effect in these reigns: one that was never answered may in any.
fn is_between(told: &Told, from: Option<Epoch>, to: Option<Epoch>) -> bool {
    told.epoch.is_none_or(|epoch| from.is_none_or(|from| epoch >= from) && to.is_none_or(|to| epoch < to))
}

/// Writes that were asked for in a life of a partition and answered in a later one, which knows nothing of what they had done before.
fn unanswered<'a>(
    operations: &'a [Told],
    history: &[Told],
    to: Option<Epoch>,
) -> impl Iterator<Item = Told> + use<'a> {
    let answers = history.iter().filter_map(|told| told.operation.answer);
    let last = answers.map(|answer| answer.at).max();
    let is_later = move |told: &&Told| to.is_some_and(|to| told.epoch.is_some_and(|epoch| epoch >= to));
    let asked = move |told: &&Told| last.is_some_and(|last| told.operation.asked < last);
    let later = operations.iter().filter(is_later).filter(asked);
    later
        .filter(|told| told.operation.action != Action::Get)
        .map(|told| Told { operation: Operation { answer: None, ..told.operation }, epoch: None })
}

fn judge_one(key: Key, began: Option<Epoch>, history: &[Told]) -> Result<(), Violation> {
    let operations: Vec<Operation> = history.iter().map(|told| told.operation).collect();
    match linearizability::judge(&operations) {
        Finding::Linearizable => Ok(()),
        Finding::Undecided => Err(Violation::Undecided { key: key.0 }),
        Finding::Contradiction { explained } => {
            let answered = operations.iter().filter(|operation| operation.answer.is_some()).count();
            let line = |Told { operation, epoch }: &Told| {
                let epoch = epoch.map_or(0, |epoch| epoch.number);
                format!("\n  {operation} in epoch {epoch}")
            };
            let history = history.iter().map(line).collect();
            Err(Violation::NotLinearizable { key: key.0, began, explained, answered, history })
        }
    }
}

#[cfg(test)]
mod tests {
    use wattle_core::ids::ReplicationClass;

    use super::*;
    use crate::clock::Time;
    use crate::history::Answer;

    const KEY: Key = Key(1);
    const PARTITION: PartitionId = PartitionId { class: ReplicationClass(0), index: 0 };

    fn epoch(number: u64) -> Epoch {
        Epoch { generation: 1, number }
    }

    fn told(action: Action, (asked, at): (u64, u64), (shown, number): (Shown, u64)) -> Told {
        let answer = Some(Answer { at: Time(at), shown });
        Told { operation: Operation { action, asked: Time(asked), answer }, epoch: Some(epoch(number)) }
    }

    /// Of a partition that began anew in its fourth reign.
    fn check(told: &[Told], is_explained: bool) {
        let mut judge = Judge::default();
        judge.lives.insert(PARTITION, vec![epoch(1), epoch(4)]);
        for told in told {
            judge.ended(PARTITION, KEY, *told).unwrap();
        }
        assert_eq!(judge.histories(|_| PARTITION).is_ok(), is_explained);
    }

    #[test]
    fn what_is_answered_after_a_loss_may_have_taken_effect_before_it() {
        let swap = Action::CompareAndSet { expected: Version::NONE, value: 7 };
        let seen = told(Action::Get, (20, 30), (Shown::Found(Some((7, Version(5)))), 3));
        let refused = |asked| told(swap, (asked, 90), (Shown::Mismatch(Version(9)), 4));
        let other = told(Action::Put(8), (60, 70), (Shown::Written(Version(9)), 4));
        check(&[seen, other, refused(10)], true);
        check(&[seen, other, refused(50)], false);
        check(&[seen, other], false);
    }
}
