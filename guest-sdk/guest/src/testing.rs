//! A map in memory for tests of functions: plain `cargo test`, no Wasm, no grid.
//!
//! Calls go through the same frames as in a grid, so that formats are tested too.

use std::collections::BTreeMap;
use std::time::Duration;

use wattle_frame::guest::{Effect, EntrySlot, Reply, RequestHeader, RequestWriter};

use crate::call;
use crate::context::{GridTime, millis};
use crate::failure::Failure;
use crate::format::{Decode, Encode, Format};
use crate::function::{Function, Processor};

/// When a map's clock begins: 2024-01-01T00:00:00Z.
const FIRST_NOW: GridTime = GridTime::from_millis(1_704_067_200_000);

/// A map in memory, with a clock that a test sets.
///
/// ```
/// use std::time::Duration;
/// use wattle_guest::{Entry, entry_processor, format::Json, testing::TestMap};
///
/// /// Notes a visit; without another one within a minute all are forgotten.
/// #[entry_processor]
/// fn visit(visits: &mut Entry<u32>) -> u32 {
///     let count = visits.get().copied().unwrap_or(0) + 1;
///     visits.set_with_ttl(count, Duration::from_secs(60));
///     count
/// }
///
/// let mut map = TestMap::new(Json);
/// assert_eq!(map.invoke::<visit, u32>("alice", &()), Ok(1));
/// map.advance(Duration::from_secs(59));
/// assert_eq!(map.invoke::<visit, u32>("alice", &()), Ok(2));
/// map.advance(Duration::from_secs(60));
/// assert_eq!(map.get::<u32>("alice"), None);
/// ```
#[derive(Clone, Debug)]
pub struct TestMap<F> {
    format: F,
    name: String,
    entries: BTreeMap<Vec<u8>, Stored>,
    now: GridTime,
    ttl: Option<Duration>,
    version: u64,
}

#[derive(Clone, Debug)]
struct Stored {
    value: Vec<u8>,
    version: u64,
    expires: Option<GridTime>,
}

impl<F: Format> TestMap<F> {
    /// An empty map, called `test`, whose values are in a format and live for ever.
    pub fn new(format: F) -> Self {
        let entries = BTreeMap::new();
        Self { format, name: "test".to_owned(), entries, now: FIRST_NOW, ttl: None, version: 0 }
    }

    /// Gives the map a name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Sets how long a value lives that is put without a time to live of its own.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// The format of the values.
    pub fn format(&self) -> F {
        self.format
    }

    /// The time that functions see.
    pub fn now(&self) -> GridTime {
        self.now
    }

    /// Lets time pass.
    pub fn advance(&mut self, duration: Duration) {
        self.now = self.now + duration;
    }

    /// Puts a value.
    ///
    /// # Panics
    /// When the format has no form for it.
    pub fn put<V: ?Sized>(&mut self, key: impl AsRef<[u8]>, value: &V)
    where
        F: Encode<V>,
    {
        let value = encoded::<F, V>(value);
        self.put_bytes(key, value);
    }

    /// Puts a value's bytes, whatever they are.
    pub fn put_bytes(&mut self, key: impl AsRef<[u8]>, value: impl Into<Vec<u8>>) {
        self.store(key.as_ref(), value.into(), self.ttl);
    }

    /// The value of a key; `None` when it has none.
    ///
    /// # Panics
    /// When it is not a `V`.
    pub fn get<V>(&self, key: impl AsRef<[u8]>) -> Option<V>
    where
        F: for<'a> Decode<'a, V>,
    {
        self.get_bytes(key).map(|value| match F::decode(value) {
            Ok(value) => value,
            Err(error) => panic!("the value is not what the test takes: {error}"),
        })
    }

    /// The bytes of the value of a key; `None` when it has none.
    pub fn get_bytes(&self, key: impl AsRef<[u8]>) -> Option<&[u8]> {
        self.live(key.as_ref()).map(|stored| &*stored.value)
    }

    /// What is left of an entry's time to live; `None` when it has no entry, or one that lives for ever.
    pub fn ttl(&self, key: impl AsRef<[u8]>) -> Option<Duration> {
        self.live(key.as_ref())?.expires.map(|expires| expires.since(self.now))
    }

    /// The version of an entry, which rises with every change; 0 when there is none.
    pub fn version(&self, key: impl AsRef<[u8]>) -> u64 {
        self.live(key.as_ref()).map_or(0, |stored| stored.version)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.values().filter(|stored| self.is_live(stored)).count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Runs a function on one key, as `wattle invoke --key` does.
    ///
    /// # Errors
    /// The function's failure; then nothing has changed.
    ///
    /// # Panics
    /// When the response is not an `R`, or the function panics.
    pub fn invoke<P, R>(&mut self, key: impl AsRef<[u8]>, argument: &impl WrittenAs<F>) -> Result<R, Failure>
    where
        P: Processor<Format = F>,
        F: for<'a> Decode<'a, R>,
    {
        let keys = [key.as_ref().to_vec()];
        let mut answers = self.run(P::FUNCTION, &keys, &written(argument))?;
        let (_, answer) = answers.pop().expect("one answer for one key");
        answer.map(|response| read::<F, R>(&response))
    }

    /// Runs a function on all entries, as `wattle invoke --all` does, and gives the answers by key.
    ///
    /// # Errors
    /// A failure of the whole batch. A failure of one entry is that entry's answer.
    ///
    /// # Panics
    /// When a response is not an `R`, or the function panics.
    pub fn invoke_all<P, R>(&mut self, argument: &impl WrittenAs<F>) -> Result<AnswersByKey<R>, Failure>
    where
        P: Processor<Format = F>,
        F: for<'a> Decode<'a, R>,
    {
        let live = self.entries.iter().filter(|(_, stored)| self.is_live(stored));
        let keys: Vec<Vec<u8>> = live.map(|(key, _)| key.clone()).collect();
        let answers = self.run(P::FUNCTION, &keys, &written(argument))?;
        Ok(answers
            .into_iter()
            .map(|(key, answer)| (key, answer.map(|response| read::<F, R>(&response))))
            .collect())
    }

    /// Runs the function on a batch of keys and carries out what it left.
    fn run(&mut self, function: Function, keys: &[Vec<u8>], argument: &[u8]) -> Result<RawAnswers, Failure> {
        let mut frame = Vec::new();
        let mut reply = Vec::new();
        self.write_request(keys, argument, &mut frame)?;
        call::process(&[function], &frame, &mut reply)?;
        let reply = Reply::parse(&reply, keys.len())?;
        Ok(keys
            .iter()
            .zip(reply.answers())
            .map(|(key, answer)| {
                let answer = match self.carry_out(key, &answer.effect) {
                    Ok(()) => Ok(answer.response.to_vec()),
                    Err(failure) => Err(failure),
                };
                (key.clone(), answer)
            })
            .collect())
    }

    fn write_request(&self, keys: &[Vec<u8>], argument: &[u8], frame: &mut Vec<u8>) -> Result<(), Failure> {
        let now_ms = self.now.as_millis();
        let header = RequestHeader { function: 0, now_ms, map: &self.name, argument, capacity: keys.len() };
        let mut writer = RequestWriter::new(frame, &header)?;
        for key in keys {
            let stored = self.live(key);
            writer.push(&EntrySlot {
                key,
                value: stored.map(|stored| &*stored.value),
                version: stored.map_or(0, |stored| stored.version),
                ttl_ms: stored
                    .and_then(|stored| stored.expires)
                    .map(|expires| millis(expires.since(self.now))),
                argument: None,
            })?;
        }
        writer.finish();
        Ok(())
    }

    fn carry_out(&mut self, key: &[u8], effect: &Effect<'_>) -> Result<(), Failure> {
        match *effect {
            Effect::Keep => {}
            Effect::Put(value) => self.store(key, value.to_vec(), self.ttl),
            Effect::PutWithTtl(value, ttl_ms) => {
                self.store(key, value.to_vec(), Some(Duration::from_millis(ttl_ms)));
            }
            Effect::Remove => {
                self.entries.remove(key);
            }
            Effect::Fail { code, message } => {
                return Err(Failure::new(code, String::from_utf8_lossy(message)));
            }
        }
        Ok(())
    }

    fn store(&mut self, key: &[u8], value: Vec<u8>, ttl: Option<Duration>) {
        self.version += 1;
        let expires = ttl.map(|ttl| self.now + ttl);
        self.entries.insert(key.to_vec(), Stored { value, version: self.version, expires });
    }

    fn live(&self, key: &[u8]) -> Option<&Stored> {
        self.entries.get(key).filter(|stored| self.is_live(stored))
    }

    fn is_live(&self, stored: &Stored) -> bool {
        stored.expires.is_none_or(|expires| expires > self.now)
    }
}

/// What a function answered for each key.
pub type AnswersByKey<R> = BTreeMap<Vec<u8>, Result<R, Failure>>;

type RawAnswers = Vec<(Vec<u8>, Result<Vec<u8>, Failure>)>;

/// A type that a format can write: the other way round of [`Encode`], for arguments of any type.
pub trait WrittenAs<F> {
    /// Appends the bytes.
    ///
    /// # Panics
    /// When the format has no form for the value.
    fn write(&self, out: &mut Vec<u8>);
}

impl<F: Encode<T>, T> WrittenAs<F> for T {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend(encoded::<F, T>(self));
    }
}

fn encoded<F: Encode<V>, V: ?Sized>(value: &V) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Err(error) = F::encode(value, &mut bytes) {
        panic!("the value has no form in {}: {error}", F::NAME);
    }
    bytes
}

/// An argument as a caller sends it: nothing is no bytes.
fn written<F: Format>(argument: &impl WrittenAs<F>) -> Vec<u8> {
    let mut bytes = Vec::new();
    argument.write(&mut bytes);
    if bytes == F::NOTHING { Vec::new() } else { bytes }
}

fn read<F: for<'a> Decode<'a, R>, R>(response: &[u8]) -> R {
    let response = if response.is_empty() { F::NOTHING } else { response };
    match F::decode(response) {
        Ok(response) => response,
        Err(error) => panic!("the response is not what the test takes: {error}"),
    }
}
