//! What can be asked of the control state, and why it refuses.

use serde::{Deserialize, Serialize};

use super::function::FunctionVersion;
use crate::ids::{GridTime, MapId};
use crate::limits::{FUNCTIONS, MAPS, SUSPENSION_REASON_BYTES};
use crate::map::{InvalidOptions, MapDescriptor, MapOptions, OptionsChange};
use crate::name::Name;

/// An older node has not said it.
fn is_unknown(at: &GridTime) -> bool {
    *at == GridTime::default()
}

/// A change of the control state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Makes a map.
    CreateMap {
        /// Its name, which no map has.
        name: Name,
        /// Its options.
        options: MapOptions,
    },
    /// Changes options of a map that can change live.
    UpdateMap {
        /// Which map.
        name: Name,
        /// What to change.
        change: OptionsChange,
    },
    /// Deletes a map for good.
    DeleteMap {
        /// Which map.
        name: Name,
        /// When, as far as the node knows that was asked.
        #[serde(default, skip_serializing_if = "is_unknown")]
        at: GridTime,
    },
    /// Adds a version to a function, which is made if it is not there. A version of the same module, export and options is found
    /// again instead, and stays suspended if it is.
    AddVersion {
        /// The function.
        name: Name,
        /// The version; its number is given by the state.
        version: Box<FunctionVersion>,
        /// Whether the name flips to it.
        promote: Promote,
    },
    /// Points a function to one of its versions. Lifts a suspension.
    Promote {
        /// The function.
        name: Name,
        /// The version's number; `None` is the newest.
        version: Option<u32>,
    },
    /// Points a function to the version that was active before. Lifts a suspension.
    Rollback {
        /// The function.
        name: Name,
    },
    /// Deletes a function and its versions.
    DeleteFunction {
        /// The function.
        name: Name,
    },
    /// Stops calls of a function, until a version is promoted.
    Suspend {
        /// The function.
        name: Name,
        /// The version that misbehaved: another one that has become active since is not suspended.
        version: u32,
        /// For people; at most [`SUSPENSION_REASON_BYTES`].
        because: String,
    },
}

impl Command {
    /// Whether it is about functions: to follow it, modules may have to be fetched and compiled.
    #[must_use]
    pub fn is_about_functions(&self) -> bool {
        match self {
            Self::CreateMap { .. } | Self::UpdateMap { .. } | Self::DeleteMap { .. } => false,
            Self::AddVersion { .. }
            | Self::Promote { .. }
            | Self::Rollback { .. }
            | Self::DeleteFunction { .. }
            | Self::Suspend { .. } => true,
        }
    }
}

/// Whether an upload becomes active at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Promote {
    /// It does.
    AtOnce,
    /// It waits for [`Command::Promote`].
    Later,
}

/// What a command has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Applied {
    /// The map as it is now.
    Map(MapDescriptor),
    /// This map is gone.
    MapDeleted(MapId),
    /// The function as it is now, and the number of the version that the command was about.
    Function(Name, u32),
    /// The function is gone.
    FunctionDeleted(Name),
    /// Nothing: the state was so already.
    Unchanged,
}

/// Why a command changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// The name is taken.
    #[error("there is a map {name} already")]
    MapExists {
        /// The name.
        name: Name,
    },
    /// No such map.
    #[error("there is no map {name}")]
    MapNotFound {
        /// The name.
        name: Name,
    },
    /// The grid has as many maps as it may.
    #[error("a grid has at most {MAPS} maps")]
    TooManyMaps,
    /// The options make no sense.
    #[error(transparent)]
    Options(#[from] InvalidOptions),
    /// No such function.
    #[error("there is no function {name}")]
    FunctionNotFound {
        /// The name.
        name: Name,
    },
    /// No such version.
    #[error("function {name} has no version {version}")]
    VersionNotFound {
        /// The function.
        name: Name,
        /// The number asked for.
        version: u32,
    },
    /// Nothing was active before.
    #[error("function {name} has no earlier active version to roll back to")]
    NothingToRollBack {
        /// The function.
        name: Name,
    },
    /// More is said about a suspension than is kept.
    #[error("the reason of a suspension has {bytes} bytes, at most {SUSPENSION_REASON_BYTES} are allowed")]
    ReasonTooLong {
        /// Bytes of the reason.
        bytes: usize,
    },
    /// The grid has as many functions as it may.
    #[error("a grid has at most {FUNCTIONS} functions")]
    TooManyFunctions,
}
