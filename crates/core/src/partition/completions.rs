//! Completion records: the results of applied requests, kept until their client no longer asks for them.
//!
//! Only two things drop a record: its client's watermark (the oldest answer the client still waits for) and the partition's
//! horizon (the age past which client ids are not served). What either has dropped is in doubt for ever, and never run again.
//! The scheme is that of RIFL (Lee et al., SOSP 2015), without its leases.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use super::operation::{Answer, Refusal};
use crate::ids::{ClientId, GridTime, ModuleHash, RequestId, Slot};
use crate::limits::{COMPLETION_BYTES_PER_CLIENT, COMPLETIONS_PER_CLIENT};

/// The result of one operation, as a retry gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// It took effect.
    Applied(Answer),
    /// It was refused beside others that took effect.
    Refused(Refusal),
    /// It only read, or did not get to run: a retry does it.
    Again,
}

/// What a request has done in this partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completion {
    /// All of it: a result for each operation, in the order asked.
    Results(SmallVec<[Recorded; 1]>),
    /// A call over the whole partition, up to a slot.
    Sweep {
        /// The module that runs.
        module: Arc<ModuleHash>,
        /// Entries below this slot are done.
        next: Slot,
        /// The slot count it started with.
        end: Slot,
        /// Entries that the function ran on.
        processed: u64,
        /// Entries that it refused.
        failed: u64,
        /// Nothing is left to do.
        complete: bool,
    },
}

/// Whether a request may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission<'a> {
    /// It has not run here.
    Fresh,
    /// It has: this is what it did.
    Known(&'a Completion),
    /// Its result is forgotten: it may have run.
    InDoubt,
}

#[derive(Debug, Default)]
struct Client {
    watermark: u64,
    /// By rising sequence: most come at the end and go from the front.
    results: VecDeque<(u64, Completion)>,
    bytes: u64,
}

/// The completion records of one partition.
#[derive(Debug)]
pub(super) struct Completions {
    clients: HashMap<ClientId, Client, FixedState>,
    horizon: GridTime,
    bytes: u64,
}

const CLIENT_BYTES: u64 = (size_of::<ClientId>() + size_of::<Client>()) as u64;

fn cost(completion: &Completion) -> u64 {
    let payload = match completion {
        Completion::Sweep { .. } => 0,
        Completion::Results(results) => {
            results.iter().map(Recorded::payload).sum::<usize>() + results.len() * size_of::<Recorded>()
        }
    };
    (size_of::<(u64, Completion)>() + payload) as u64
}

impl Completion {
    /// What the record of so many results takes at the most, in bytes, over the values and responses that they carry.
    #[must_use]
    pub fn bytes(results: usize) -> u64 {
        CLIENT_BYTES + (size_of::<(u64, Self)>() + results * size_of::<Recorded>()) as u64
    }
}

impl Recorded {
    /// Bytes of values and responses that it carries.
    pub(super) fn payload(&self) -> usize {
        match self {
            Self::Applied(answer) => answer.payload(),
            Self::Refused(_) | Self::Again => 0,
        }
    }
}

impl Completions {
    pub(super) fn new(seed: u64) -> Self {
        Self { clients: HashMap::with_hasher(FixedState::with_seed(seed)), horizon: GridTime(0), bytes: 0 }
    }

    /// What has become of a request. Drops the results that its client has acknowledged with it.
    pub(super) fn admit(&mut self, id: &RequestId) -> Admission<'_> {
        if id.client.issued < self.horizon {
            return Admission::InDoubt;
        }
        let Some(client) = self.clients.get_mut(&id.client) else {
            // Records and watermarks of this client can only have been dropped by the horizon.
            return if id.sequence < id.oldest_pending { Admission::InDoubt } else { Admission::Fresh };
        };
        self.bytes -= client.acknowledge(id.oldest_pending);
        if id.sequence < client.watermark {
            return Admission::InDoubt;
        }
        match client.find(id.sequence) {
            Ok(found) => Admission::Known(&client.results[found].1),
            Err(_) => Admission::Fresh,
        }
    }

    /// Whether another result can be kept for a client: those that are kept are within their bounds.
    pub(super) fn has_room(&self, client: &ClientId) -> bool {
        self.clients.get(client).is_none_or(|client| {
            client.results.len() < COMPLETIONS_PER_CLIENT
                && client.bytes <= COMPLETION_BYTES_PER_CLIENT as u64
        })
    }

    /// Keeps a result, or replaces the earlier state of a call that goes on.
    pub(super) fn keep(&mut self, id: &RequestId, completion: Completion) {
        let added = cost(&completion);
        let client = self.clients.entry(id.client).or_insert_with(|| {
            self.bytes += CLIENT_BYTES;
            Client::default()
        });
        self.bytes -= client.acknowledge(id.oldest_pending);
        if id.sequence < client.watermark {
            // It took several turns, and its client has stopped waiting for it in between.
            return;
        }
        match client.find(id.sequence) {
            Ok(found) => {
                let replaced = std::mem::replace(&mut client.results[found].1, completion);
                client.bytes -= cost(&replaced);
                self.bytes -= cost(&replaced);
            }
            Err(place) => client.results.insert(place, (id.sequence, completion)),
        }
        client.bytes += added;
        self.bytes += added;
    }

    /// Forgets the clients whose ids were issued before `horizon`. It never goes back.
    pub(super) fn raise_horizon(&mut self, horizon: GridTime) {
        if horizon <= self.horizon {
            return;
        }
        self.horizon = horizon;
        let bytes = &mut self.bytes;
        self.clients.retain(|id, client| {
            let kept = id.issued >= horizon;
            if !kept {
                *bytes -= client.bytes + CLIENT_BYTES;
            }
            kept
        });
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn check_invariants(&self) {
        let mut bytes = 0;
        for (id, client) in &self.clients {
            assert!(id.issued >= self.horizon, "clients before the horizon are forgotten");
            assert!(
                client.results.iter().is_sorted_by(|a, b| a.0 < b.0),
                "results are in order, each sequence once"
            );
            assert!(
                client.results.iter().all(|(sequence, _)| *sequence >= client.watermark),
                "acknowledged results are gone"
            );
            let held: u64 = client.results.iter().map(|(_, completion)| cost(completion)).sum();
            assert_eq!(held, client.bytes, "bytes are those of the results");
            bytes += held + CLIENT_BYTES;
        }
        assert_eq!(bytes, self.bytes);
    }
}

impl Client {
    /// Drops the results below `oldest_pending` and returns the bytes that they held.
    fn acknowledge(&mut self, oldest_pending: u64) -> u64 {
        if oldest_pending <= self.watermark {
            return 0;
        }
        self.watermark = oldest_pending;
        let mut freed = 0;
        while let Some((_, completion)) =
            self.results.pop_front_if(|(sequence, _)| *sequence < oldest_pending)
        {
            freed += cost(&completion);
        }
        self.bytes -= freed;
        freed
    }

    /// The place of a result, or where it would be.
    fn find(&self, sequence: u64) -> Result<usize, usize> {
        match self.results.back() {
            Some((last, _)) if sequence <= *last => {
                self.results.binary_search_by_key(&sequence, |(sequence, _)| *sequence)
            }
            Some(_) | None => Err(self.results.len()),
        }
    }
}
