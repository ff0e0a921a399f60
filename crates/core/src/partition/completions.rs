//! Completion records: the results of requests that were applied, or told so much that they must not be, kept until their client no longer asks for them.
//!
//! Only two things drop a record: its client's watermark (the oldest answer the client still waits for) and the partition's
//! horizon (the age past which client ids are not served). What either has dropped is in doubt for ever, and never run again.
//! The scheme is that of RIFL (Lee et al., SOSP 2015), without its leases and without records of what was refused the first time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::operation::{Answer, PartRefusal, Refusal};
use crate::ids::{ClientId, GridTime, ModuleExport, RequestId, Slot};
use crate::limits::{COMPLETION_BYTES_PER_CLIENT, COMPLETIONS_PER_CLIENT};

/// The result of one operation, as a retry gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recorded {
    /// It took effect.
    Applied(Answer),
    /// It was refused beside others that took effect, or in a repetition.
    Refused(Refusal),
    /// It only read, or was not refused for good: a retry does it.
    Again,
}

/// What a request has done in this partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Completion {
    /// All of it: a result for each operation, in the order asked.
    Results(SmallVec<[Recorded; 1]>),
    /// A call over the whole partition, up to a slot.
    Sweep {
        /// What runs.
        export: Arc<ModuleExport>,
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
    /// A repetition of a call over the whole partition was refused.
    Refused {
        /// What had begun, if anything had.
        export: Option<Arc<ModuleExport>>,
        /// Entries that its function ran on.
        processed: u64,
        /// Entries that it refused.
        failed: u64,
        /// Why the rest was not done.
        refusal: Refusal,
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
    /// What the results hold beside their places, in bytes.
    payload: u64,
}

/// The completion records of one partition.
#[derive(Debug)]
pub(super) struct Completions {
    clients: HashMap<ClientId, Client, FixedState>,
    /// Places that the table of clients has had since it was made anew: those of forgotten ones may not be free again.
    places: usize,
    horizon: GridTime,
    /// Of clients and table.
    bytes: u64,
}

/// A client in the table, with its byte of control.
const CLIENT_BYTES: u64 = (size_of::<(ClientId, Client)>() + 1) as u64;
/// The place of a result.
const RESULT_BYTES: u64 = size_of::<(u64, Completion)>() as u64;
/// Places that are made for the first result of a client.
const FIRST_RESULTS: usize = 4;

/// What a result holds beside its place.
fn payload(completion: &Completion) -> u64 {
    match completion {
        // What runs is shared by all partitions.
        Completion::Sweep { .. } => 0,
        Completion::Refused { refusal, .. } => refusal.payload() as u64,
        Completion::Results(results) => {
            let beside = if results.spilled() { results.capacity() * size_of::<Recorded>() } else { 0 };
            (results.iter().map(Recorded::payload).sum::<usize>() + beside) as u64
        }
    }
}

/// What a table with so many usable places takes: a power of two of them, of which an eighth stays empty.
fn table_bytes(places: usize) -> u64 {
    let all = if places < 4 { places.next_multiple_of(4) } else { (places * 8 / 7).next_power_of_two() };
    all as u64 * CLIENT_BYTES
}

impl Completion {
    /// What the record of so many results takes at the most, in bytes, over the values and responses that they carry.
    #[must_use]
    pub fn bytes(results: usize) -> u64 {
        let results = results.next_power_of_two() * size_of::<Recorded>();
        FIRST_RESULTS as u64 * RESULT_BYTES + results as u64
    }
}

impl Recorded {
    /// Bytes of values, responses and explanations that it carries.
    pub(super) fn payload(&self) -> usize {
        match self {
            Self::Applied(answer) => answer.payload(),
            Self::Refused(refusal) => refusal.payload(),
            Self::Again => 0,
        }
    }
}

impl Completions {
    pub(super) fn new(seed: u64) -> Self {
        let clients = HashMap::with_hasher(FixedState::with_seed(seed));
        Self { clients, places: 0, horizon: GridTime(0), bytes: 0 }
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

    /// Makes a place for another result of a client, if all that is kept for it is within its bounds, and the place and `record`
    /// bytes are within `headroom`.
    pub(super) fn reserve(&mut self, id: &ClientId, record: u64, headroom: u64) -> Result<(), PartRefusal> {
        let fits = |growth: u64| {
            let needed = record + growth;
            if needed <= headroom { Ok(()) } else { Err(PartRefusal::NodeFull { needed, headroom }) }
        };
        let Some(client) = self.clients.get_mut(id) else {
            if self.clients.len() < self.clients.capacity() {
                return fits(0);
            }
            fits(table_bytes(self.places).max(4 * CLIENT_BYTES))?;
            self.clients.reserve(1);
            self.count_places(self.clients.capacity().max(self.places));
            return Ok(());
        };
        let (results, bytes) = (client.results.len(), client.bytes());
        if results >= COMPLETIONS_PER_CLIENT || bytes > COMPLETION_BYTES_PER_CLIENT as u64 {
            return Err(PartRefusal::TooManyPending);
        }
        let places = client.results.capacity();
        let growth = if results < places { 0 } else { places.max(FIRST_RESULTS) };
        fits(growth as u64 * RESULT_BYTES)?;
        client.results.reserve_exact(growth);
        self.bytes += growth as u64 * RESULT_BYTES;
        Ok(())
    }

    /// Keeps a result, or replaces the earlier state of a call that goes on, and returns that.
    pub(super) fn replace(&mut self, id: &RequestId, completion: Completion) -> Option<Completion> {
        self.with_client(id.client, |client| {
            client.acknowledge(id.oldest_pending);
            // Below the watermark: it took several turns, and its client has stopped waiting for it in between.
            (id.sequence >= client.watermark).then(|| client.replace(id.sequence, completion)).flatten()
        })
    }

    /// What a request has done.
    pub(super) fn of_request(&self, id: &RequestId) -> Option<Completion> {
        let client = self.clients.get(&id.client)?;
        client.find(id.sequence).ok().map(|found| client.results[found].1.clone())
    }

    /// Puts an earlier state of a request back, or none.
    pub(super) fn restore(&mut self, client: &ClientId, sequence: u64, before: Option<Completion>) {
        if !self.clients.contains_key(client) {
            // The horizon has forgotten it.
            return;
        }
        self.with_client(*client, |client| match before {
            // Whom nobody waits for any more is not asked for either.
            Some(before) if sequence >= client.watermark => drop(client.replace(sequence, before)),
            Some(_) => {}
            None => {
                if let Ok(found) = client.find(sequence) {
                    let gone = client.results.remove(found);
                    client.payload -= gone.map_or(0, |(_, completion)| payload(&completion));
                }
            }
        });
    }

    /// All clients of which something is known.
    pub(super) fn clients(&self) -> Vec<ClientId> {
        self.clients.keys().copied().collect()
    }

    /// What is known of a client: its watermark, and the results that it may ask for.
    pub(super) fn of_client(&self, id: &ClientId) -> Option<(u64, Vec<(u64, Completion)>)> {
        let client = self.clients.get(id)?;
        Some((client.watermark, client.results.iter().cloned().collect()))
    }

    /// Takes over what another copy knows of a client, in place of what is known here.
    pub(super) fn set_client(&mut self, id: ClientId, watermark: u64, results: Vec<(u64, Completion)>) {
        self.with_client(id, |client| {
            let payload = results.iter().map(|(_, completion)| payload(completion)).sum();
            *client = Client { watermark, results: results.into(), payload };
        });
    }

    fn with_client<R>(&mut self, id: ClientId, change: impl FnOnce(&mut Client) -> R) -> R {
        let client = self.clients.entry(id).or_default();
        let before = client.bytes();
        let result = change(client);
        self.bytes = self.bytes - before + client.bytes();
        // As a rule nothing: the place was reserved.
        self.count_places(self.clients.capacity().max(self.places));
        result
    }

    pub(super) fn horizon(&self) -> GridTime {
        self.horizon
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
                *bytes -= client.bytes();
            }
            kept
        });
        if self.clients.len() * 4 < self.places {
            self.clients.shrink_to(self.clients.len() * 2);
            self.count_places(self.clients.capacity());
        }
    }

    fn count_places(&mut self, places: usize) {
        if places == self.places {
            return;
        }
        self.bytes = self.bytes - table_bytes(self.places) + table_bytes(places);
        self.places = places;
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
            let held: u64 = client.results.iter().map(|(_, completion)| payload(completion)).sum();
            assert_eq!(held, client.payload, "bytes are those of the results");
            bytes += client.bytes();
        }
        assert!(self.clients.capacity() <= self.places, "the table is counted as large as it is");
        assert_eq!(bytes + table_bytes(self.places), self.bytes);
    }
}

impl Client {
    /// What it holds beside its place in the table.
    fn bytes(&self) -> u64 {
        self.results.capacity() as u64 * RESULT_BYTES + self.payload
    }

    fn replace(&mut self, sequence: u64, completion: Completion) -> Option<Completion> {
        self.payload += payload(&completion);
        match self.find(sequence) {
            Ok(found) => {
                let replaced = std::mem::replace(&mut self.results[found].1, completion);
                self.payload -= payload(&replaced);
                Some(replaced)
            }
            Err(place) => {
                self.results.insert(place, (sequence, completion));
                None
            }
        }
    }

    /// Drops the results below `oldest_pending` and returns the bytes that they held.
    fn acknowledge(&mut self, oldest_pending: u64) -> u64 {
        if oldest_pending <= self.watermark {
            return 0;
        }
        self.watermark = oldest_pending;
        let before = self.bytes();
        while let Some((_, completion)) =
            self.results.pop_front_if(|(sequence, _)| *sequence < oldest_pending)
        {
            self.payload -= payload(&completion);
        }
        let places = self.results.capacity();
        if places > FIRST_RESULTS && self.results.len() < places / 4 {
            self.results.shrink_to(FIRST_RESULTS.max(self.results.len() * 2));
        }
        before - self.bytes()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Version;

    const ISSUED: GridTime = GridTime(1000);

    fn id(client: u64, sequence: u64, oldest_pending: u64) -> RequestId {
        let client = ClientId { issued: ISSUED, random: client };
        RequestId { client, sequence, oldest_pending, repeated: false }
    }

    fn keep(all: &mut Completions, id: &RequestId) {
        let answer = Answer::Put { version: Version(7), previous: None };
        all.replace(id, Completion::Results(SmallVec::from_buf([Recorded::Applied(answer)])));
    }

    #[test]
    fn a_client_with_one_result_counts_all_that_was_made_for_it() {
        let mut all = Completions::new(42);
        (0..1000).for_each(|client| keep(&mut all, &id(client, 1, 1)));
        all.check_invariants();
        let places: usize = all.clients.values().map(|client| client.results.capacity()).sum();
        let table = all.clients.capacity() * size_of::<(ClientId, Client)>();
        let held = places * size_of::<(u64, Completion)>() + table;
        assert!(all.bytes() >= held as u64, "{} of {held}", all.bytes());
        assert!(all.bytes() < held as u64 * 5 / 4, "{} of {held}", all.bytes());
    }

    #[test]
    fn places_of_acknowledged_results_are_given_back() {
        let mut all = Completions::new(42);
        (1..=1000).for_each(|sequence| keep(&mut all, &id(1, sequence, 1)));
        assert!(all.bytes() > 1000 * RESULT_BYTES);
        all.admit(&id(1, 1001, 995));
        all.check_invariants();
        let client = all.clients.values().next().unwrap();
        assert_eq!((client.results.len(), client.results.capacity()), (6, 12));
        assert!(all.bytes() < 20 * RESULT_BYTES, "{}", all.bytes());
        for sequence in 1001..1100 {
            keep(&mut all, &id(1, sequence, sequence));
            let capacity = all.clients.values().next().unwrap().results.capacity();
            assert_eq!(capacity, FIRST_RESULTS, "one at a time needs no other");
        }
        all.check_invariants();
    }

    #[test]
    fn the_table_of_forgotten_clients_is_given_back() {
        let mut all = Completions::new(42);
        (0..10_000).for_each(|client| keep(&mut all, &id(client, 1, 1)));
        let later = GridTime(2000);
        let newer = RequestId { client: ClientId { issued: later, random: 1 }, ..id(1, 1, 1) };
        keep(&mut all, &newer);
        all.raise_horizon(later);
        all.check_invariants();
        assert_eq!(all.clients.len(), 1);
        assert!(all.clients.capacity() < 8, "{}", all.clients.capacity());
        all.raise_horizon(GridTime(3000));
        assert_eq!((all.bytes(), all.clients.capacity()), (0, 0));
    }

    #[test]
    fn a_place_is_made_before_a_result_is_kept() {
        let mut all = Completions::new(42);
        for sequence in 1..100 {
            for client in 0..100 {
                let id = id(client, sequence, 1);
                let before = all.bytes();
                let Err(PartRefusal::NodeFull { needed, .. }) = all.reserve(&id.client, 1, 0) else {
                    panic!()
                };
                assert_eq!(all.bytes(), before);
                all.reserve(&id.client, 1, needed).unwrap();
                assert!(all.bytes() < before + needed, "{sequence} of {client}");
                let before = all.bytes();
                keep(&mut all, &id);
                assert!(all.bytes() <= before + Completion::bytes(1), "{sequence} of {client}");
            }
            all.check_invariants();
        }
    }
}
