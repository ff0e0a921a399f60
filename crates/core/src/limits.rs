//! Every bound of the system, named, with its unit. Relations between them are asserted when this file compiles.

use std::time::Duration;

use crate::ids::GridTime;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// A key, in bytes.
pub const KEY_BYTES: usize = 64 * KIB;
/// A value, in bytes, unless the node is configured otherwise.
pub const VALUE_BYTES: usize = MIB;
/// What `value_bytes` may be configured to at the most.
pub const VALUE_BYTES_MAX: usize = 4 * MIB;
/// All keys, values and arguments of one batch, in bytes.
pub const BATCH_BYTES: usize = 8 * MIB;
/// Operations or keys in one batch, pipeline message or `InvokeKeys`.
pub const BATCH_OPERATIONS: usize = 65_536;
/// Names of maps and functions that the operations of one batch or pipeline message use.
pub const NAMES: usize = 1024;
/// A gRPC message as it is decoded, in bytes: a batch and its framing.
pub const MESSAGE_BYTES: usize = BATCH_BYTES + 4 * MIB;
/// Values and responses in the answer to one batch, in bytes: operations that have not run by then are refused.
pub const ANSWER_BYTES: usize = BATCH_BYTES;
/// A module as uploaded, in bytes.
pub const MODULE_BYTES: usize = 16 * MIB;
/// The argument of an invocation, in bytes.
pub const ARGUMENT_BYTES: usize = MIB;
/// The response of an entry processor for one entry, in bytes.
pub const RESPONSE_BYTES: usize = MIB;
/// The name of a map or a function, in bytes.
pub const NAME_BYTES: usize = 128;
/// Maps in a grid.
pub const MAPS: usize = 4096;
/// Functions in a grid.
pub const FUNCTIONS: usize = 4096;
/// Uploaded versions that a function keeps; the oldest inactive one makes room for a new one.
pub const FUNCTION_VERSIONS: usize = 32;
/// Uploads that wait for the compiler, or are worked on.
pub const UPLOADS: usize = 32;

/// Proposals to the control group that wait at its leader until they are decided.
pub const CONTROL_PROPOSALS: usize = 1024;
/// What copies on a node ask the control group for and waits for its turn; they ask again for what finds no room.
pub const COPY_PROPOSALS: usize = 4096;
/// Of that, what is being decided.
pub const COPY_PROPOSALS_AT_ONCE: usize = 256;
/// How long a node tries to have something decided.
pub const PROPOSE_TIME: Duration = Duration::from_secs(8);
/// Proposals that share an entry of the control log, and so the disk's and the network's time.
pub const CONTROL_BATCH: usize = 256;
/// Commands that share an entry of the control log, in bytes; a larger one has an entry of its own.
pub const CONTROL_BATCH_BYTES: usize = MIB;
/// Pages of the control log that are held in memory, in bytes.
pub const CONTROL_LOG_CACHE_BYTES: usize = 4 * MIB;
/// A control command, in bytes.
pub const CONTROL_COMMAND_BYTES: usize = 4 * MIB;
/// Decisions that the control group remembers, so that a proposal that is repeated is not decided again.
pub const CONTROL_DECISIONS: usize = 1024;
/// Partitions that remembered decisions name: past it the oldest are forgotten, but never the last.
pub const CONTROL_DECIDED_PARTITIONS: usize = 65_536;
/// Entries of the control log between two snapshots of the control state.
pub const CONTROL_LOG_ENTRIES: u64 = 256;
/// Entries of the control log between two snapshots of the control state, in bytes.
pub const CONTROL_LOG_BYTES: usize = 16 * MIB;
/// Entries of the control log that are kept beside a snapshot, for voters that are just behind it.
pub const CONTROL_LOG_KEPT: u64 = 64;
/// Writes to the control log that wait for the disk, and that share one of its transactions.
pub const CONTROL_WRITES: usize = 64;
/// A snapshot of the control state, in bytes.
pub const CONTROL_SNAPSHOT_BYTES: usize = 256 * MIB;
/// A piece of a snapshot of the control state as a voter sends it to another, in bytes.
pub const CONTROL_PIECE_BYTES: usize = MIB;
/// How often a piece of a snapshot is sent before the whole snapshot is begun again.
pub const CONTROL_PIECE_ATTEMPTS: usize = 3;
/// A message between voters, in bytes: the entries of a request, or one entry if it is larger, and their framing.
pub const CONTROL_MESSAGE_BYTES: usize = CONTROL_COMMAND_BYTES + 2 * MIB;

/// Partitions of a replication class, unless the grid is created with another number.
pub const PARTITIONS: u16 = 271;
/// Partitions of a replication class at the most.
pub const PARTITIONS_MAX: u16 = 4096;

/// How often the control group of a grid can be built anew.
pub const GENERATIONS: u32 = 1 << 20;
/// More than a control group ever raises a version: those of the one that is built after it begin so much higher.
pub const GENERATION_VERSIONS: u64 = 1 << 40;
/// More numbers than a control group ever gives to nodes or to maps.
pub const GENERATION_NUMBERS: u64 = 1_000_000_000;

/// Nodes of a grid, arbiters too.
pub const NODES: usize = 1024;
/// Replication classes of a grid.
pub const CLASSES: usize = 4;
/// Backups of a replication class.
pub const BACKUPS_MAX: u8 = 6;
/// Each text that a node says about itself (an address, its zone, its host, its version), in bytes.
pub const NODE_TEXT_BYTES: usize = 262;
/// Decisions about partitions in one control command.
pub const DECISIONS: usize = 1024;
/// Partitions of a class that are brought to where they should be at the same time.
pub const MOVES: usize = 64;
/// One of them that has not got any further for so long leaves its place to another.
pub const MOVE_PATIENCE: Duration = Duration::from_secs(60);
/// A member without a disk that has been silent for so long does not come back: who resumes a process later finds it dismissed.
pub const DISMISSAL_TIME: Duration = Duration::from_secs(600);
/// Members that vote in the control group.
pub const VOTERS: usize = 5;

/// What waits in a link to another node, in bytes.
pub const PEER_QUEUE_BYTES: usize = 64 * MIB;
/// What waits in a link to another node, in messages.
pub const PEER_QUEUE_MESSAGES: usize = 128 * 1024;
/// Messages to another node that travel together, in bytes; a larger one travels alone. The records of a log keep what they came
/// with in memory: more of it would weigh more than they do.
pub const PEER_BATCH_BYTES: usize = 256 * KIB;
/// A gRPC message between nodes as it is decoded, in bytes: a largest record, which one turn of a guest has made, and its results.
pub const PEER_MESSAGE_BYTES: usize = 128 * MIB;
/// What a stranger may say before it has proved to be a peer, in bytes.
pub const PEER_HELLO_BYTES: usize = 4 * KIB;
/// Links that are being opened by others at the same time.
pub const PEER_HELLOS: usize = 128;
/// How long the opening of a link may take, without the connection.
pub const PEER_HELLO_TIME: Duration = Duration::from_secs(3);
/// How long a connection to another node may take.
pub const PEER_CONNECT_TIME: Duration = Duration::from_secs(2);
/// After a first failure a link is tried again so soon, after each further one twice as late.
pub const PEER_RETRY_MIN: Duration = Duration::from_millis(50);
/// The longest pause between two attempts to open a link.
pub const PEER_RETRY_MAX: Duration = Duration::from_secs(1);
/// A link that is silent for this long is asked whether the other is there, from both ends.
pub const PEER_KEEP_ALIVE: Duration = Duration::from_secs(1);
/// After this long without an answer the other is not there.
pub const PEER_KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Calls of one node that another works on at the same time; the rest waits.
pub const PEER_CALLS: usize = 64;
/// A request or an answer between nodes, in bytes.
pub const PEER_CALL_BYTES: usize = 8 * MIB;
/// Nodes that are no members and are answered at the same time; the rest comes again.
pub const STRANGERS: usize = 32;
/// What one of them may say, in bytes: that it wants to join, and what it says about itself.
pub const STRANGER_BYTES: usize = 16 * KIB;
/// How long an answer to one of them may take: joining has to be decided.
pub const STRANGER_TIME: Duration = Duration::from_secs(10);
/// Changes of the control state in one answer to a node that follows it.
pub const FOLLOW_CHANGES: usize = CONTROL_DECISIONS;
/// How long a node that follows the control state is left without an answer when there is nothing new.
pub const FOLLOW_TIME: Duration = Duration::from_secs(5);
/// A secret that the nodes of a grid share has at least so many bytes.
pub const SECRET_BYTES_MIN: usize = 16;

/// Keys and values that wait in the inbox of one partition, in bytes.
pub const INBOX_BYTES: usize = 64 * MIB;
/// Operations that wait in the inbox of one partition.
pub const INBOX_OPERATIONS: usize = 65_536;
/// Connections of clients, if the process may have as many files, and the memory that entries may take is as large as what all of
/// them may send unread.
pub const CONNECTIONS: usize = 10_000;
/// Connections of clients, however little memory a node has.
pub const CONNECTIONS_MIN: usize = 64;
/// What a connection may send before the node has read it, in bytes. Half of that is what h2 lets small messages take that wait to be
/// read, 256 bytes each, before it cuts the connection off: a pipeline may be 8,192 messages ahead of its answers.
pub const CONNECTION_BYTES: u32 = 4 * MIB as u32;
/// Connections for metrics and probes, where they have an address of their own.
pub const PROBE_CONNECTIONS: usize = 64;
/// Of the files that the process may have open, one in so many is not for connections: modules, data, the compiler.
pub const FILES_RESERVED_SHARE: u64 = 4;
/// Calls of one connection at the same time.
pub const CONNECTION_CALLS: u32 = 1024;
/// What another node may send of an answer before the client has read what came before it, in bytes. As many answers as a connection has
/// calls may wait so.
pub const UNREAD_BYTES: u32 = 64 * KIB as u32;
/// The same of all answers on a connection. Half of that is what h2 lets small messages take, as of [`CONNECTION_BYTES`].
pub const CONNECTION_UNREAD_BYTES: u32 = 4 * UNREAD_BYTES * CONNECTION_CALLS;
/// How long a new connection may take to say which protocol it speaks.
pub const FIRST_BYTES_TIME: Duration = Duration::from_secs(5);
/// All requests and answers in flight may take the memory that entries may take, divided by this.
pub const IN_FLIGHT_SHARE: u64 = 4;
/// What requests and answers in flight may take, however little memory a node has, in bytes.
pub const IN_FLIGHT_BYTES_MIN: usize = 64 * MIB;
/// What a call takes from its first byte to the last of its answer, whatever it sends, in bytes.
pub const CALL_BYTES: usize = 8 * KIB;
/// A shorter piece of an answer is within what its call takes, in bytes.
pub const PIECE_BYTES: usize = KIB;
/// What a request in flight takes beside its operations, in bytes.
pub const REQUEST_BYTES: usize = KIB;
/// What an operation in flight takes beside its key and its value, in bytes.
pub const OPERATION_BYTES: usize = 256;
/// Entries that a scan or a whole-map call takes in one turn of a partition.
pub const SCAN_ENTRIES: usize = 256;
/// Bytes of keys and values that a scan or a whole-map call takes in one turn of a partition.
pub const SCAN_BYTES: usize = 256 * KIB;
/// Entries and results that are copied to another node in one turn of a partition, in bytes. A last one may go over it.
pub const CHUNK_BYTES: usize = SCAN_BYTES;
/// Keys that a call may touch in one partition and still run on the caller's thread.
pub const SHORT_KEYS: usize = 64;
/// Bytes that a call may touch in one partition and still run on the caller's thread.
pub const SHORT_BYTES: usize = 64 * KIB;
/// Keys whose entries are asked of the memory together: about as many cache lines as a core
/// can wait for at a time.
pub const PREFETCHED_KEYS: usize = 16;
/// What a turn of a whole-map call should take; it gets fewer entries if it takes longer.
pub const TURN_TIME: Duration = Duration::from_millis(20);
/// How long the turns of a whole-map call follow one another while other slow work of the partition waits.
pub const TURNS_TIME: Duration = Duration::from_millis(100);
/// Invocations of quick functions that a call may make in one partition and still run on the caller's thread.
pub const LIGHT_INVOCATIONS: usize = 4;
/// What an invocation may take on the average to count as quick.
pub const LIGHT_TIME: Duration = Duration::from_micros(50);
/// Entries that one turn frees of a map that was cleared or deleted.
pub const FREE_ENTRIES: usize = 4096;
/// Entries that one turn expires.
pub const EXPIRE_ENTRIES: usize = 256;

/// Entries that an eviction compares.
pub const EVICTION_SAMPLES: usize = 8;
/// Entries that one write may evict before it is refused.
pub const EVICTIONS_PER_WRITE: usize = 64;

/// Committed changes that a partition keeps for the watchers of a map, with what they cost in memory, in bytes.
pub const WATCH_TAIL_BYTES: usize = 256 * KIB;
/// How long the changes of a map are kept after its last watcher left, so that it can go on where it stood.
pub const WATCH_LINGER: Duration = Duration::from_secs(120);
/// Watch streams of a node.
pub const WATCHES: usize = 1024;

/// Results that a partition keeps for one client whose answers it may ask for again.
pub const COMPLETIONS_PER_CLIENT: usize = 4096;
/// Bytes of results that a partition keeps for one client.
pub const COMPLETION_BYTES_PER_CLIENT: usize = 16 * MIB;
/// What the results may take of what only takes entries away, past the memory limit, in bytes: removals go on when a node is full.
pub const RECORD_RESERVE_BYTES: usize = 16 * MIB;
/// How old a client id may be, in grid time, before its requests are in doubt.
pub const CLIENT_ID_LIFE: Duration = Duration::from_secs(15 * 60);
/// By how much the age past which client ids are not served rises at a time: looking for older ones goes through all.
pub const HORIZON_STEP: Duration = Duration::from_secs(60);
/// How often a client asks for a new id.
pub const CLIENT_ID_RENEWAL: Duration = Duration::from_secs(5 * 60);
/// How far ahead of grid time a client id may be dated: the difference of the nodes' clocks.
pub const CLIENT_ID_AHEAD: Duration = Duration::from_secs(60);

/// CPU time that a function may take for one entry, unless it asks for another.
pub const CPU_BUDGET: Duration = Duration::from_millis(10);
/// CPU time that a function may ask for.
pub const CPU_BUDGET_MAX: Duration = Duration::from_millis(100);
/// Linear memory of a guest instance, in bytes, unless its function asks for another.
pub const GUEST_MEMORY_BYTES: usize = 16 * MIB;
/// Linear memory that a function may ask for, in bytes.
pub const GUEST_MEMORY_BYTES_MAX: usize = 64 * MIB;
/// Stops of a function within [`BREAKER_WINDOW`] that suspend it.
pub const BREAKER_STOPS: usize = 5;
/// See [`BREAKER_STOPS`].
pub const BREAKER_WINDOW: Duration = Duration::from_secs(10);

/// Why a function is suspended, in words, in bytes.
pub const SUSPENSION_REASON_BYTES: usize = 256;

/// How long a time to live may be: a hundred years, so that sums of times cannot overflow.
pub const TTL_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// The beginning of the year 2200: whoever says that it is later is wrong, and versions begin where grid time does.
pub const GRID_TIME_MAX: GridTime = GridTime(7_258_118_400_000);
/// Until grid time here agrees with the grid's, it runs faster or slower by one part in so many.
pub const SLEW_PART: u64 = 200;
/// How long a call waits for its turn when the client sets no deadline.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Unanswered messages of one pipeline.
pub const PIPELINE_MESSAGES: usize = 256;

/// How much of what other copies lack a node sends in a second, by default: copies are made while others are served.
pub const COPY_BYTES_PER_SECOND: u64 = 64 * MIB as u64;
/// How little may be configured.
pub const COPY_BYTES_PER_SECOND_MIN: u64 = MIB as u64;
/// How long a lease counts for who granted it, from when it heard the wish, by default: its term. For who holds it, it counts a twentieth
/// less, from when it asked: by so much clocks may differ in speed.
pub const LEASE_TERM: Duration = Duration::from_millis(2000);
/// How short a term may be configured.
pub const LEASE_TERM_MIN: Duration = Duration::from_millis(200);
/// How long a term may be configured.
pub const LEASE_TERM_MAX: Duration = Duration::from_secs(10);
/// A lease is wished for so many times while it lasts, at least.
pub const LEASE_RENEWALS: u32 = 4;
/// What the records of all partitions of a node may take that some copy may still miss; past it writes are refused. One record more
/// may come to it for each thread.
pub const REPLICATION_BYTES: usize = 64 * MIB;
/// What a replica was sent is sent again after this long without an answer.
pub const RESEND_TIME: Duration = Duration::from_millis(250);
/// Messages of reigns that a node's table does not know yet, and that wait for it; the rest is sent again.
pub const EARLY_MESSAGES: usize = 4096;
/// What they carry, in bytes.
pub const EARLY_BYTES: usize = 8 * MIB;
/// A replica that owes an answer for this long is to leave the in-sync set.
pub const REPLICA_PATIENCE: Duration = Duration::from_secs(5);

/// How often a member tells the control group's leader that it lives.
pub const HEARTBEAT_TIME: Duration = Duration::from_millis(500);
/// A member that was not heard of for this long is taken for dead.
pub const SESSION_TIME: Duration = Duration::from_secs(3);
/// Of all members, more than so many per cent that fall silent together are asked once more: the leader may be to blame.
pub const LAPSE_PERCENT: usize = 30;
/// How long they have for their answer.
pub const LAPSE_CHECK_TIME: Duration = Duration::from_secs(1);
/// A member that was not heard of for this long is replaced.
pub const SILENCE_TIME: Duration = Duration::from_secs(10);
/// A leader that no majority has answered for this long proves nothing to anybody.
pub const MAJORITY_TIME: Duration = Duration::from_secs(1);
/// A member serves partitions that have no backups for this long after it sent a heartbeat that was answered: they may begin anew elsewhere
/// once it was silent for [`SILENCE_TIME`].
pub const FENCE_TIME: Duration = Duration::from_millis(2500);
/// A partition without backups that begins anew is served after this: by then who held it before has noticed.
pub const FENCED_TIME: Duration = Duration::from_secs(3);
/// A member that has left so many wishes for a lease unanswered, one in each [`HEARTBEAT_TIME`], is to leave the in-sync set. Those
/// that are sent in between, where leases are short, do not count.
pub const LEASE_WISHES: u32 = 10;
/// How long a member may take to say about itself what the others do not know.
pub const REPORT_TIME: Duration = Duration::from_secs(2);

const _: () = {
    assert!(VALUE_BYTES <= VALUE_BYTES_MAX);
    assert!(KEY_BYTES + VALUE_BYTES_MAX <= BATCH_BYTES, "a largest entry fits a batch");
    assert!(BATCH_BYTES < MESSAGE_BYTES, "a largest batch fits a message");
    assert!(ARGUMENT_BYTES + KEY_BYTES <= BATCH_BYTES);
    assert!(BATCH_BYTES <= INBOX_BYTES, "a largest batch fits an inbox");
    assert!(BATCH_OPERATIONS <= INBOX_OPERATIONS);
    let largest = REQUEST_BYTES + BATCH_OPERATIONS * OPERATION_BYTES + BATCH_BYTES;
    assert!(
        largest <= IN_FLIGHT_BYTES_MIN / 2,
        "a largest batch is taken by a node that has nothing else to do"
    );
    assert!(CONTROL_BATCH_BYTES <= CONTROL_COMMAND_BYTES);
    assert!(CONTROL_PIECE_BYTES < CONTROL_MESSAGE_BYTES && CONTROL_MESSAGE_BYTES <= MESSAGE_BYTES);
    assert!(CONTROL_PROPOSALS <= CONTROL_DECISIONS, "what waits is remembered once it is decided");
    assert!(CONTROL_COMMAND_BYTES <= CONTROL_LOG_BYTES);
    assert!(
        CLASSES * PARTITIONS_MAX as usize <= CONTROL_DECIDED_PARTITIONS
            && DECISIONS <= CONTROL_DECIDED_PARTITIONS
    );
    assert!(MODULE_BYTES <= IN_FLIGHT_BYTES_MIN / 2);
    assert!(
        GUEST_MEMORY_BYTES_MAX + BATCH_BYTES + COMPLETION_BYTES_PER_CLIENT <= PEER_MESSAGE_BYTES,
        "a largest record fits a message between nodes"
    );
    assert!(PEER_BATCH_BYTES <= EARLY_BYTES);
    assert!(CHUNK_BYTES <= PEER_BATCH_BYTES && PEER_BATCH_BYTES <= PEER_QUEUE_BYTES);
    assert!(PEER_CALL_BYTES <= PEER_QUEUE_BYTES && PEER_HELLO_BYTES >= 4 * NAME_BYTES);
    assert!(CONTROL_MESSAGE_BYTES <= PEER_CALL_BYTES && CONTROL_PIECE_BYTES <= PEER_CALL_BYTES);
    // As JSON a byte of a text may take six.
    assert!(STRANGER_BYTES >= 5 * 6 * NODE_TEXT_BYTES + 4 * KIB, "whoever wants to join can say so");
    assert!(NODES * (NODE_TEXT_BYTES + 64) <= PEER_CALL_BYTES, "all members fit an answer");
    assert!(PEER_RETRY_MIN.as_millis() <= PEER_RETRY_MAX.as_millis());
    assert!(PIECE_BYTES < CALL_BYTES && CALL_BYTES <= SHORT_BYTES);
    assert!(CONNECTIONS_MIN <= CONNECTIONS);
    assert!(CONNECTION_UNREAD_BYTES <= i32::MAX as u32, "HTTP/2 has no larger windows");
    assert!(WATCHES <= CONNECTION_CALLS as usize, "a connection takes all watches");
    assert!(SHORT_BYTES <= SCAN_BYTES && SHORT_KEYS <= SCAN_ENTRIES);
    assert!(PARTITIONS <= PARTITIONS_MAX);
    assert!(GENERATION_VERSIONS < u64::MAX / GENERATIONS as u64 && GENERATION_NUMBERS < GENERATION_VERSIONS);
    assert!(MOVES <= DECISIONS && VOTERS % 2 == 1);
    assert!(FENCE_TIME.as_millis() * 11 / 10 < FENCED_TIME.as_millis(), "clocks may differ in speed");
    // Twice over, for clocks that differ in speed and answers on their way.
    assert!((FENCE_TIME.as_millis() + MAJORITY_TIME.as_millis()) * 2 < SILENCE_TIME.as_millis());
    assert!(HEARTBEAT_TIME.as_millis() * 4 <= SESSION_TIME.as_millis(), "some heartbeats may be lost");
    assert!(HEARTBEAT_TIME.as_millis() * 2 <= LAPSE_CHECK_TIME.as_millis());
    assert!(HEARTBEAT_TIME.as_millis() * LEASE_WISHES as u128 == REPLICA_PATIENCE.as_millis());
    let (shortest, term, longest) =
        (LEASE_TERM_MIN.as_millis(), LEASE_TERM.as_millis(), LEASE_TERM_MAX.as_millis());
    assert!(shortest <= term && term <= longest);
    assert!(shortest / 20 >= 5, "a twentieth is more than clocks of milliseconds are wrong by");
    assert!(
        HEARTBEAT_TIME.as_millis() * LEASE_RENEWALS as u128 <= term,
        "heartbeats renew leases by default"
    );
    assert!(term < SESSION_TIME.as_millis(), "who is dead by its silence reads no more, by default");
    assert!(longest <= SILENCE_TIME.as_millis(), "nobody waits for the leases of who is replaced");
    assert!(SESSION_TIME.as_millis() + LAPSE_CHECK_TIME.as_millis() < SILENCE_TIME.as_millis());
    assert!(CPU_BUDGET.as_nanos() <= CPU_BUDGET_MAX.as_nanos());
    assert!(GUEST_MEMORY_BYTES <= GUEST_MEMORY_BYTES_MAX);
    assert!(RESPONSE_BYTES < COMPLETION_BYTES_PER_CLIENT, "a largest response can be kept");
    assert!(CLIENT_ID_RENEWAL.as_secs() * 2 < CLIENT_ID_LIFE.as_secs());
};
