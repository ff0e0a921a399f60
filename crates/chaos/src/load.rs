//! [`Load`]: clients that ask for one thing after the other, and remember what they were told.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinSet;
use wattle_client::{Client, Error, MapOptions, PutOptions, RawMap};
use wattle_core::ids::Version;
use wattle_simulation::Random;
use wattle_simulation::linearizability::{Action, Shown, Time};

use crate::clock::Clock;
use crate::grid::Grid;
use crate::record::{HOT_KEYS, KEYS, Key, Records, Run, Told};
use crate::violation::Violation;

/// The maps, each of a replication class of its own: its backups, and how many copies a write needs.
pub(crate) const MAPS: [(&str, u32, u32); 2] = [("chaos", 1, 1), ("chaos-of-three", 2, 2)];
/// The function that adds.
pub(crate) const FUNCTION: &str = "add";
const CLIENTS: usize = 12;
/// Most clients wait for their answers; one in so many gives up soon, and is in doubt.
const IMPATIENT: usize = 4;
const PATIENCE: [Duration; 2] = [Duration::from_secs(30), Duration::from_millis(1500)];
/// The longest pause of a client.
const PAUSE_MILLISECONDS: u64 = 12;
/// Of a hundred operations so many are on hot keys.
const HOT_PERCENT: u64 = 60;
/// Answers after which a client has made progress, and how long that may take.
const PROGRESS: u64 = 20;
const PROGRESS_TIME: Duration = Duration::from_secs(60);
const LOOK_TIME: Duration = Duration::from_millis(50);

/// What is asked: every other key is in the other map.
pub(crate) struct Maps([RawMap; MAPS.len()]);

impl Maps {
    /// Makes them.
    pub(crate) async fn create(client: &Client) -> Result<(), Error> {
        for (name, backups, min_in_sync) in MAPS {
            let options = MapOptions::new().replication(backups, min_in_sync);
            client.maps().create(name, &options).await?;
        }
        Ok(())
    }

    pub(crate) fn new(client: &Client) -> Self {
        Self(MAPS.map(|(name, ..)| client.raw_map(name)))
    }

    fn of(&self, key: Key) -> &RawMap {
        &self.0[usize::from(key.place) % MAPS.len()]
    }
}

pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<Records>,
}

/// What clients share.
#[derive(Debug)]
struct Shared {
    clock: Clock,
    stops: AtomicBool,
    round: AtomicU64,
    /// All entries were lost in these rounds, at these times.
    lost: Mutex<Vec<(u64, Time)>>,
    /// Answers, by client.
    answered: [AtomicU64; CLIENTS],
    /// By hot key: when a write was acknowledged last, and the longest time without one.
    hot: [(AtomicU64, AtomicU64); HOT_KEYS as usize],
}

impl Shared {
    fn acknowledged(&self, key: Key, at: Time) {
        let current = key.round == self.round.load(Ordering::Relaxed);
        if let Some((last, longest)) = self.hot.get(usize::from(key.place)).filter(|_| current) {
            let before = last.fetch_max(at.0, Ordering::Relaxed);
            longest.fetch_max(at.0.saturating_sub(before), Ordering::Relaxed);
        }
    }
}

impl Load {
    pub(crate) fn start(grid: &Grid, clock: Clock, random: &mut Random) -> Self {
        let shared = Arc::new(Shared {
            clock,
            stops: AtomicBool::new(false),
            round: AtomicU64::new(0),
            lost: Mutex::default(),
            answered: Default::default(),
            hot: Default::default(),
        });
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let patience = PATIENCE[usize::from(number % IMPATIENT == IMPATIENT - 1)];
            let asking = Asking {
                number,
                maps: Maps::new(&grid.client(number, patience)),
                shared: Arc::clone(&shared),
                random: random.fork(),
                seen: HashMap::new(),
                written: 0,
                records: Records::default(),
            };
            clients.spawn(asking.run());
        }
        Self { shared, clients }
    }

    /// From now on other keys are used, and how long they are not written to is measured.
    pub(crate) fn begin_round(&self) -> u64 {
        let now = self.shared.clock.now().0;
        for (last, longest) in &self.shared.hot {
            last.store(now, Ordering::Relaxed);
            longest.store(0, Ordering::Relaxed);
        }
        self.shared.round.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// All entries are about to be lost.
    pub(crate) fn lose_all(&self) {
        let lost = (self.shared.round.load(Ordering::Relaxed), self.shared.clock.now());
        self.shared.lost.lock().push(lost);
    }

    /// The longest time without an acknowledged write to one of the hot keys, in this round.
    pub(crate) fn longest_gap(&self) -> Duration {
        let now = self.shared.clock.now().0;
        let gaps = self.shared.hot.iter().map(|(last, longest)| {
            longest.load(Ordering::Relaxed).max(now.saturating_sub(last.load(Ordering::Relaxed)))
        });
        Duration::from_micros(gaps.max().unwrap_or_default())
    }

    /// Waits until each client was answered some times more.
    pub(crate) async fn progress(&self) -> Result<(), Violation> {
        let answered = || self.shared.answered.each_ref().map(|answered| answered.load(Ordering::Relaxed));
        let (before, began) = (answered(), Instant::now());
        loop {
            let since = answered().iter().zip(before).map(|(now, before)| now - before).collect::<Vec<_>>();
            let Some(client) = since.iter().position(|answered| *answered < PROGRESS) else { return Ok(()) };
            if began.elapsed() > PROGRESS_TIME {
                let (answered, waited) = (since[client], began.elapsed());
                return Err(Violation::NoProgress { client, answered, waited });
            }
            tokio::time::sleep(LOOK_TIME).await;
        }
    }

    /// Ends it; returns what clients were told.
    pub(crate) async fn stop(mut self) -> Records {
        self.shared.stops.store(true, Ordering::Relaxed);
        let mut records = Records::default();
        while let Some(ended) = self.clients.join_next().await {
            records.append(ended.expect("a client does not panic"));
        }
        for (round, at) in self.shared.lost.lock().drain(..) {
            records.lose(round, at);
        }
        records
    }
}

/// A client.
struct Asking {
    number: usize,
    maps: Maps,
    shared: Arc<Shared>,
    random: Random,
    /// The versions that it has seen of hot keys, in this round.
    seen: HashMap<Key, Version>,
    written: u64,
    records: Records,
}

impl Asking {
    async fn run(mut self) -> Records {
        while !self.shared.stops.load(Ordering::Relaxed) {
            let key = self.key();
            let (action, by_function) = self.action(key);
            let asked = self.shared.clock.now();
            let result =
                if by_function { self.invoke(key, asked).await } else { ask(&self.maps, key, action).await };
            let at = self.shared.clock.now();
            let told = match result {
                Ok(shown) => Told::Shown(shown),
                Err(error) => self.records.told(action, &error),
            };
            self.records.note(key, action, asked, (at, told));
            if let Told::Shown(shown) = told {
                self.shown(key, (action, shown), at);
            }
            let pause = self.random.between(0, PAUSE_MILLISECONDS);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        self.records
    }

    fn key(&mut self) -> Key {
        let round = self.shared.round.load(Ordering::Relaxed);
        self.seen.retain(|key, _| key.round == round);
        let (from, to) =
            if self.random.per_mille(HOT_PERCENT * 10) { (0, HOT_KEYS) } else { (HOT_KEYS, KEYS) };
        let place = self.random.between(from.into(), to.into());
        Key { round, place: u16::try_from(place).expect("it is below a u16") }
    }

    /// What to ask for, and whether a function does it.
    fn action(&mut self, key: Key) -> (Action, bool) {
        self.written += 1;
        // All values differ, also after some increments.
        let value = self.written * CLIENTS as u64 + self.number as u64;
        let value = i64::try_from(value * 1000).expect("a run does not take so long");
        let expected = self.seen.get(&key).copied().unwrap_or(Version::NONE);
        match self.random.below(100) {
            0..25 => (Action::Get, false),
            25..45 => (Action::Put(value), false),
            45..65 => (Action::CompareAndSet { expected, value }, false),
            65..80 => (Action::Increment(1), false),
            80..92 => (Action::Increment(1), true),
            92.. => (Action::Remove, false),
        }
    }

    async fn invoke(&mut self, key: Key, asked: Time) -> Result<Shown, Error> {
        let invoked = self.maps.of(key).invoke(FUNCTION, key.to_string(), "").await?;
        self.records.runs.push(Run { key, module: invoked.module, asked, answered: self.shared.clock.now() });
        Ok(Shown::Counted(number(&invoked.response)?))
    }

    fn shown(&mut self, key: Key, (action, shown): (Action, Shown), at: Time) {
        self.shared.answered[self.number].fetch_add(1, Ordering::Relaxed);
        let version = match shown {
            Shown::Found(entry) => entry.map_or(Version::NONE, |(_, version)| version),
            Shown::Written(version) | Shown::Mismatch(version) | Shown::Sum(_, version) => version,
            Shown::Counted(_) | Shown::Removed(_) => Version::NONE,
        };
        self.seen.insert(key, version);
        let is_write = match shown {
            Shown::Found(_) | Shown::Mismatch(_) | Shown::Removed(false) => false,
            Shown::Written(_) | Shown::Sum(..) | Shown::Counted(_) | Shown::Removed(true) => true,
        };
        debug_assert!(action != Action::Get || !is_write, "a get shows what is there");
        if is_write {
            self.shared.acknowledged(key, at);
        }
    }
}

/// Asks the grid for something that no function does.
pub(crate) async fn ask(maps: &Maps, key: Key, action: Action) -> Result<Shown, Error> {
    let (map, name) = (maps.of(key), key.to_string());
    Ok(match action {
        Action::Get => match map.get(name).await? {
            None => Shown::Found(None),
            Some(found) => Shown::Found(Some((number(&found.value)?, Version(found.version)))),
        },
        Action::Put(value) => Shown::Written(Version(map.put(name, value.to_string()).await?)),
        Action::CompareAndSet { expected, value } => {
            let options = PutOptions::new().if_version(expected.0);
            Shown::Written(Version(map.put_with(name, value.to_string(), options).await?))
        }
        Action::Increment(delta) => {
            let sum = map.increment(name, delta).await?;
            Shown::Sum(sum.value, Version(sum.version))
        }
        Action::Remove => Shown::Removed(map.remove(name).await?),
    })
}

fn number(text: &[u8]) -> Result<i64, Error> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.ok_or(Error::MalformedAnswer { what: "what was written is a number" })
}
