//! A node's configuration: as it is written ([`RawConfig`]), and as it is known to make sense ([`Config`]).

mod memory;
mod raw;
mod validated;

pub use raw::{DiscoveryKind, LogFormat, RawConfig, StopPolicy};
pub use validated::{Config, ConfigError};
