//! The bounds of this crate, each named, with its unit. What an operator or a function may set comes in as
//! an argument; what stands here is the ceiling.

use std::time::Duration;

/// Bytes of an uploaded module.
pub const MODULE_BYTES: usize = 16 << 20;
/// Linear memory of one instance, when its function does not say otherwise.
pub const DEFAULT_MEMORY_BYTES: usize = 16 << 20;
/// Linear memory of one instance, at most. Address space alone is reserved for it.
pub const MAX_MEMORY_BYTES: usize = 64 << 20;
/// CPU time for one entry, when its function does not say otherwise.
pub const DEFAULT_CPU_BUDGET: Duration = Duration::from_millis(10);
/// The wall clock may show this many times the CPU budget: an honest guest may be descheduled.
pub const WALL_CAP_FACTOR: u32 = 10;
/// A value that a guest puts.
pub const VALUE_BYTES: usize = 1 << 20;
/// A response to one entry.
pub const RESPONSE_BYTES: usize = 1 << 20;
/// A whole reply frame.
pub const REPLY_BYTES: usize = 8 << 20;

/// Bytes of an artifact that the compiler's child may hand back.
pub(crate) const ARTIFACT_BYTES: u64 = 512 << 20;
/// Bytes kept of what the compiler's child writes to its standard error.
pub(crate) const CHILD_STDERR_BYTES: u64 = 64 << 10;

/// Structure of a module, all its nested modules and components together.
pub(crate) const TYPES: u64 = 20_000;
pub(crate) const FUNCTIONS: u64 = 50_000;
pub(crate) const IMPORTS: u64 = 2_000;
pub(crate) const EXPORTS: u64 = 10_000;
pub(crate) const GLOBALS: u64 = 10_000;
pub(crate) const DATA_SEGMENTS: u64 = 20_000;
pub(crate) const ELEMENT_SEGMENTS: u64 = 10_000;
pub(crate) const NESTED_MODULES: u64 = 32;
/// Structure of one function. Cranelift's time grows faster than these do.
pub(crate) const FUNCTION_BYTES: u64 = 512 << 10;
pub(crate) const LOCALS: u64 = 10_000;
pub(crate) const BLOCK_NESTING: u64 = 1_000;

/// Functions that one module may offer.
pub const MANIFEST_FUNCTIONS: usize = 64;
/// Bytes of a function's name.
pub const NAME_BYTES: usize = 128;
/// CPU time for instantiating a module and asking for its manifest.
pub(crate) const LOAD_BUDGET: Duration = Duration::from_millis(100);
/// Bytes of a manifest that cross to the host.
pub(crate) const MANIFEST_BYTES: usize = 64 << 10;

/// Stack of a guest. The threads that run guests have at least four times as much.
pub(crate) const GUEST_STACK_BYTES: usize = 512 << 10;
/// Core instances, memories and tables of one component: a module, the shims and the adapters around it.
pub(crate) const CORE_INSTANCES: u32 = 16;
pub(crate) const MEMORIES: u32 = 2;
pub(crate) const TABLES: u32 = 8;
pub(crate) const TABLE_ELEMENTS: usize = 20_000;
/// Host resources (streams, pollables) that one instance may hold.
pub(crate) const RESOURCES: usize = 64;
/// Random bytes that one call may ask for.
pub(crate) const RANDOM_BYTES: u64 = 64 << 10;

/// Bytes of a log line; the rest is cut off.
pub const LOG_LINE_BYTES: usize = 4 << 10;
/// Log lines of one module that are passed on each second; the rest is counted.
pub const LOG_LINES_PER_SECOND: u32 = 100;
/// Bytes of a trap's or a failure's message; the rest is cut off.
pub const MESSAGE_BYTES: usize = 4 << 10;
/// Frames of a trap's backtrace.
pub(crate) const BACKTRACE_FRAMES: usize = 16;

/// How often running guests are interrupted to look at their clock.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// How long the ticker goes on after the last call, so that a busy node does not wake it for each one.
pub(crate) const TICKER_LINGER: Duration = Duration::from_millis(200);

const _: () = assert!(DEFAULT_MEMORY_BYTES <= MAX_MEMORY_BYTES);
const _: () = assert!(VALUE_BYTES + RESPONSE_BYTES <= REPLY_BYTES);
const _: () = assert!(REPLY_BYTES <= DEFAULT_MEMORY_BYTES);
