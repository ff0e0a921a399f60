//! The public API of Wattle, generated from `proto/wattle/v1`, and what nodes say to each other, from `proto/wattle/internal/v1`.

/// Package `wattle.v1`.
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::excessive_nesting,
    clippy::too_many_lines,
    missing_debug_implementations,
    unused_qualifications,
    reason = "generated code"
)]
#[rustfmt::skip]
pub mod v1 {
    tonic::include_proto!("wattle.v1");
}

/// Package `wattle.internal.v1`: for nodes alone.
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::excessive_nesting,
    clippy::too_many_lines,
    missing_debug_implementations,
    unused_qualifications,
    reason = "generated code"
)]
#[rustfmt::skip]
pub mod internal {
    tonic::include_proto!("wattle.internal.v1");
}

/// The encoded file descriptors of `wattle.v1`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/wattle.v1.bin"));
