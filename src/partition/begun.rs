//! What partitions know of a call on many entries that is repeated: asked before it runs if the caller does not say it, for what
//! one export has begun no other may go on with. The first attempt of a call asks nobody.

use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use wattle_core::ids::{ModuleExport, PartitionId, RequestId};
use wattle_core::partition::{Admission, Answer, Completion, PartRefusal, Recorded, Refusal};
use wattle_strand::Turn;

use super::partitions::Partitions;
use super::shard::Shard;
use super::ticket::NoReply;
use crate::failure::Failure;
use crate::request::SCANS;

/// What earlier attempts of a call have done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Begun {
    /// Nothing that is known.
    No,
    /// Something, or it is forgotten what, or a partition cannot say.
    Somehow,
    /// Something, by this.
    By(Arc<ModuleExport>),
}

impl Begun {
    fn of(admission: Admission<'_>) -> Self {
        match admission {
            Admission::Fresh => Self::No,
            Admission::InDoubt => Self::Somehow,
            Admission::Known(Completion::Sweep { export, .. }) => Self::By(Arc::clone(export)),
            Admission::Known(Completion::Refused { export, .. }) => {
                export.as_ref().map_or(Self::No, |export| Self::By(Arc::clone(export)))
            }
            Admission::Known(Completion::Results(results)) => match results.iter().find_map(export) {
                Some(export) => Self::By(Arc::clone(export)),
                None if results.iter().any(|result| matches!(result, Recorded::Applied(_))) => Self::Somehow,
                None => Self::No,
            },
        }
    }
}

fn export(result: &Recorded) -> Option<&Arc<ModuleExport>> {
    match result {
        Recorded::Applied(Answer::Processed { export, .. }) => Some(export),
        Recorded::Applied(_) | Recorded::Refused(_) | Recorded::Again => None,
    }
}

impl Partitions {
    /// What the partitions know of the earlier attempts of a call. One that does not serve holds nobody up: it refuses its own part of
    /// the call, and what was begun there no other export goes on with.
    pub(crate) async fn begun(
        &self,
        id: Option<RequestId>,
        partitions: impl Iterator<Item = PartitionId>,
    ) -> Begun {
        let mut begun = Begun::No;
        let Some(id) = id.filter(|id| id.repeated) else { return begun };
        // All at once: each may wait for other nodes.
        let mut asked: FuturesUnordered<_> =
            partitions.map(|partition| self.begun_in(partition, id)).collect();
        while let Some(known) = asked.next().await {
            match known {
                Ok(Begun::No) => {}
                Ok(Begun::Somehow) | Err(_) => begun = Begun::Somehow,
                Ok(Begun::By(export)) => return Begun::By(export),
            }
        }
        begun
    }

    /// What a partition knows of a call: behind its turns where it takes some.
    async fn begun_in(&self, partition: PartitionId, id: RequestId) -> Result<Begun, NoReply> {
        let ask = move |shard: &mut Shard| (!shard.is_taking_turns(&id)).then(|| known(shard, &id));
        match self.run(partition, 0, ask).await? {
            Some(known) => Ok(known),
            None => self.ask_behind(partition, move |shard| known(shard, &id)).await,
        }
    }

    async fn ask_behind<T: Send + 'static>(
        &self,
        partition: PartitionId,
        ask: impl Fn(&mut Shard) -> T + Send + 'static,
    ) -> Result<T, NoReply> {
        match self.strand(partition).try_run_alone(|shard| shard.serve(&ask)) {
            Ok(served) => {
                let (answer, gate) = served?;
                self.pass(partition, gate).await?;
                Ok(answer)
            }
            Err(_) => self.run_slow(partition, (SCANS, 0), move |_, shard| Turn::Done(ask(shard))).await,
        }
    }

    /// What the refusal of an attempt says of a call as a whole: an earlier attempt may have begun, or wait for its first turn, or
    /// still be on its way, for which the refusal is kept. Where that cannot be done, nobody knows.
    pub(crate) async fn refuse(
        &self,
        id: Option<RequestId>,
        failure: Failure,
        partitions: impl Iterator<Item = PartitionId>,
    ) -> Failure {
        let Some(id) = id.filter(|id| id.repeated) else { return failure };
        let refusal = failure.kept();
        for partition in partitions {
            let refusal = refusal.clone();
            let ask = move |shard: &mut Shard| match (known(shard, &id), &refusal) {
                (Begun::No, Some(refusal)) => keep(shard, &id, refusal).map(|()| Begun::No),
                (begun, _) => Ok(begun),
            };
            match self.ask_behind(partition, ask).await {
                Ok(Ok(Begun::No)) => {}
                Ok(Ok(Begun::Somehow | Begun::By(_))) | Err(_) => return Failure::HalfWay(Box::new(failure)),
                Ok(Err(unkept)) => return unkept.into(),
            }
        }
        failure
    }
}

fn known(shard: &mut Shard, id: &RequestId) -> Begun {
    shard.with(|partition, _| Begun::of(partition.admit(id)))
}

/// Keeps the refusal of a call that has not begun here, unless it was refused before.
fn keep(shard: &mut Shard, id: &RequestId, refusal: &Refusal) -> Result<(), PartRefusal> {
    shard.with(|partition, moment| {
        if partition.admit(id) != Admission::Fresh {
            return Ok(());
        }
        partition.reserve(id, moment.room(), Completion::bytes(0) + refusal.payload() as u64)?;
        let refusal = refusal.clone();
        partition.complete(id, Completion::Refused { export: None, processed: 0, failed: 0, refusal });
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use futures_util::FutureExt;
    use prometheus_client::registry::Registry;
    use wattle_core::ids::{ClientId, GridTime, ReplicationClass};
    use wattle_proto::v1;
    use wattle_strand::Group;

    use super::*;
    use crate::functions::{Catalog, FunctionMetrics};

    fn partition(index: u16) -> PartitionId {
        PartitionId { class: ReplicationClass::default(), index }
    }

    fn id(sequence: u64) -> RequestId {
        let client = ClientId { issued: GridTime(1), random: 7 };
        RequestId { client, sequence, oldest_pending: 0, repeated: true }
    }

    #[tokio::test]
    async fn a_repetition_is_not_refused_before_the_attempts_that_wait() {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let others = 1..=u16::try_from(threads).unwrap();
        let (catalog, _tripped) = Catalog::new(FunctionMetrics::register(&mut Registry::default()));
        let partitions = &Partitions::alone(*others.end() + 1, &catalog);
        let gone = |sequence| {
            partitions.refuse(
                Some(id(sequence)),
                Failure::MapNotFound { name: "m".to_owned() },
                partitions.ids(),
            )
        };
        let outcome = |refused: Failure| refused.facts().outcome;
        assert_eq!(outcome(gone(3).await), v1::Outcome::NotApplied);
        // All compute threads are busy, in other partitions.
        let (entered, leave) = (Arc::new(Barrier::new(threads + 1)), Arc::new(Barrier::new(threads + 1)));
        let mut busy = Vec::new();
        for index in others {
            let (entered, leave) = (Arc::clone(&entered), Arc::clone(&leave));
            let wait = move |_: &mut _, _: &mut _| {
                entered.wait();
                leave.wait();
                Turn::Done(())
            };
            busy.push(Box::pin(partitions.run_slow(partition(index), (Group(index.into()), 0), wait)));
            assert!(busy.last_mut().unwrap().as_mut().now_or_never().is_none());
        }
        entered.wait();
        let attempt = |_: &mut _, shard: &mut Shard| {
            let done = Recorded::Applied(Answer::Cleared { removed: 1 });
            let done = Completion::Results([done].into_iter().collect());
            shard.with(|partition, _| partition.complete(&id(1), done));
            Turn::Done(())
        };
        let mut attempt = Box::pin(partitions.run_slow(partition(0), (SCANS, 0), attempt));
        assert!(attempt.as_mut().now_or_never().is_none());
        let (mut refused, mut another) = (Box::pin(gone(1)), Box::pin(gone(2)));
        assert!(refused.as_mut().now_or_never().is_none() && another.as_mut().now_or_never().is_none());
        leave.wait();
        assert_eq!(outcome(refused.await), v1::Outcome::InDoubt);
        assert_eq!(outcome(another.await), v1::Outcome::NotApplied);
    }
}
