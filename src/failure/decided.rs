//! What is said to programs of what the control group has refused, or not decided.

use tonic::Code;
use wattle_control::ProposeError;
use wattle_core::control::grid::{GridRefusal, Waiting};
use wattle_core::control::{self, GroupRefusal};
use wattle_proto::v1;

use super::{FAILOVER_PAUSE, Facts, overloaded, unfit};
use crate::control::{NotDecided, NotRebuilt};

pub(super) fn not_rebuilt_facts(why: &NotRebuilt) -> Facts<'_> {
    match why {
        NotRebuilt::Lives { .. } => unfit("CONTROL_LIVES"),
        NotRebuilt::Twice { .. } => unfit("BUILT_TWICE"),
        NotRebuilt::Changed => unfit("SURVIVORS_CHANGED"),
        NotRebuilt::Refused(_) => unfit("TOO_MANY_GENERATIONS"),
        NotRebuilt::NoVoter => Facts::new(Code::Unavailable, "DATA_DIRECTORY"),
        NotRebuilt::Build(_) => Facts::new(Code::Internal, "DATA_DIRECTORY"),
    }
}

pub(super) fn not_created_facts(why: &Waiting) -> Facts<'_> {
    let reason = match why {
        Waiting::Silent { .. } => "ADDRESSES_SILENT",
        Waiting::Claimed | Waiting::Unclaimed => "GRID_NOT_CLAIMED",
        Waiting::NoAddress
        | Waiting::NotAsked
        | Waiting::TooFew { .. }
        | Waiting::TooMany { .. }
        | Waiting::Other { .. }
        | Waiting::DifferentGrids { .. } => "GRID_NOT_CREATED",
    };
    Facts::new(Code::FailedPrecondition, reason)
}

pub(super) fn control_facts(error: &NotDecided) -> Facts<'_> {
    use control::Refusal as R;
    let in_doubt = |reason| Facts { outcome: v1::Outcome::InDoubt, ..Facts::new(Code::Unavailable, reason) };
    let refusal = match error {
        NotDecided::Refused(GroupRefusal::Catalog(refusal)) => refusal,
        NotDecided::Refused(GroupRefusal::ExportTooLong { .. }) => {
            return Facts::new(Code::InvalidArgument, "TOO_LARGE").field("export");
        }
        NotDecided::Refused(GroupRefusal::Grid(GridRefusal::Class(_))) => {
            return Facts::new(Code::InvalidArgument, "INVALID_ARGUMENT").field("options.replication");
        }
        NotDecided::Refused(GroupRefusal::Grid(GridRefusal::TooManyClasses)) => {
            return Facts::new(Code::ResourceExhausted, "TOO_MANY_CLASSES");
        }
        NotDecided::Refused(GroupRefusal::Grid(GridRefusal::NodeNotFound { node })) => {
            return Facts::new(Code::NotFound, "NODE_NOT_FOUND").with("node", &node.0);
        }
        NotDecided::Refused(
            GroupRefusal::NoGrid
            | GroupRefusal::GridExists { .. }
            | GroupRefusal::ClassNotFound { .. }
            | GroupRefusal::Grid(_),
        ) => return Facts::new(Code::FailedPrecondition, "REFUSED_BY_GRID"),
        NotDecided::NotProposed(ProposeError::TooLarge { .. }) => {
            return Facts::new(Code::InvalidArgument, "TOO_LARGE");
        }
        NotDecided::NotProposed(_) => return overloaded(),
        NotDecided::Behind => {
            return Facts { retry_after: Some(FAILOVER_PAUSE), ..Facts::new(Code::Unavailable, "BEHIND") };
        }
        NotDecided::Disk(_) => return Facts::new(Code::Unavailable, "DATA_DIRECTORY"),
        NotDecided::DiskFailed => return in_doubt("DATA_DIRECTORY"),
        NotDecided::InDoubt(_) => return in_doubt("NOT_DECIDED"),
    };
    match refusal {
        R::MapExists { name } => Facts::new(Code::AlreadyExists, "MAP_EXISTS").with("map", name),
        R::MapNotFound { name } => Facts::new(Code::NotFound, "MAP_NOT_FOUND").with("map", name),
        R::ReasonTooLong { .. } => Facts::new(Code::InvalidArgument, "TOO_LARGE").field("because"),
        R::TooManyMaps | R::TooManyFunctions => Facts::new(Code::ResourceExhausted, "TOO_MANY"),
        R::Options(_) => Facts::new(Code::InvalidArgument, "INVALID_ARGUMENT").field("options"),
        R::FunctionNotFound { name } => {
            Facts::new(Code::NotFound, "FUNCTION_NOT_FOUND").with("function", name)
        }
        R::VersionNotFound { .. } => Facts::new(Code::NotFound, "VERSION_NOT_FOUND").field("version"),
        R::NothingToRollBack { .. } => Facts::new(Code::FailedPrecondition, "NOTHING_TO_ROLL_BACK"),
    }
}
