//! What partitions know of a call on many entries that comes again: asked before it runs if the caller does not say it, for what
//! one export has begun no other may go on with.

use std::sync::Arc;

use wattle_core::ids::{ModuleExport, RequestId};
use wattle_core::partition::{Admission, Answer, Completion, Recorded};
use wattle_strand::Turn;

use super::partitions::{Partitions, Shard, Worker};
use crate::failure::Failure;
use crate::request::SCANS;

/// What earlier attempts of a call have done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Begun {
    /// Nothing that is known.
    No,
    /// Something, or it is forgotten what.
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
            Admission::Known(Completion::Results(results)) => {
                results.iter().find_map(export).map_or(Self::Somehow, |export| Self::By(Arc::clone(export)))
            }
        }
    }

    /// What the refusal of a repetition says of the call as a whole.
    pub(crate) fn refuse(&self, failure: impl Into<Failure>) -> Failure {
        match self {
            Self::No => failure.into(),
            Self::Somehow | Self::By(_) => Failure::HalfWay(Box::new(failure.into())),
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
    /// What all partitions know of a call.
    pub(crate) async fn begun_anywhere(&self, id: Option<RequestId>) -> Result<Begun, Failure> {
        self.begun(id, 0..self.count()).await
    }

    /// What the partitions know of a call: behind its turns where it takes some.
    pub(crate) async fn begun(
        &self,
        id: Option<RequestId>,
        partitions: impl Iterator<Item = u16>,
    ) -> Result<Begun, Failure> {
        let mut begun = Begun::No;
        let Some(id) = id else { return Ok(begun) };
        let of = move |shard: &mut Shard| shard.with(|partition, _| Begun::of(partition.admit(&id)));
        let ask = move |shard: &mut Shard| (!shard.is_taking_turns(&id)).then(|| of(shard));
        let ask_behind = move |_: &mut Worker, shard: &mut Shard| Turn::Done(of(shard));
        for index in partitions {
            let known = match self.run(index, 0, ask).await? {
                Some(known) => known,
                None => self.run_slow(index, (SCANS, 0), ask_behind).await?,
            };
            match known {
                Begun::No => {}
                Begun::Somehow => begun = Begun::Somehow,
                Begun::By(_) => return Ok(known),
            }
        }
        Ok(begun)
    }
}
