//! Entries that are written all the time while something happens to a grid, and must be there afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use wattle_client::{Client, Options};

const MAP: &str = "written";
/// Keys that are read at once.
const BATCH: usize = 500;
/// Between two writes: what happens to the grid needs the machine, too.
const PACE: Duration = Duration::from_millis(2);

/// A client of pods at these addresses, and of all that they know.
pub(crate) async fn connect(hosts: &[String]) -> Client {
    let mut endpoints = hosts.iter().map(|host| format!("http://{host}:7117"));
    let first = Options::new(endpoints.next().expect("there are pods"));
    Client::connect(endpoints.fold(first, Options::endpoint)).await.unwrap()
}

/// The grid's id, which must never be another, and how many of its members answer.
pub(crate) async fn members(client: &Client) -> (Vec<u8>, usize) {
    let status = client.status().await.unwrap();
    (status.grid_id.to_vec(), status.members.iter().filter(|member| member.report.is_some()).count())
}

/// Writes keys one after the other until it is told to stop.
pub(crate) struct Writer {
    stops: Arc<AtomicBool>,
    written: JoinHandle<u64>,
}

impl Writer {
    pub(crate) fn start(client: &Client) -> Self {
        let (stops, map) = (Arc::new(AtomicBool::new(false)), client.raw_map(MAP));
        let told = Arc::clone(&stops);
        let written = tokio::spawn(async move {
            let mut number = 0;
            let mut pace = interval(PACE);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while !told.load(Ordering::Relaxed) {
                map.put(number.to_string(), number.to_string()).await.expect("it is acknowledged in the end");
                number += 1;
                pace.tick().await;
            }
            number
        });
        Self { stops, written }
    }

    /// Stops, and finds everything that was acknowledged.
    pub(crate) async fn check(self, client: &Client) {
        self.stops.store(true, Ordering::Relaxed);
        let written = self.written.await.unwrap();
        assert!(written > 0);
        let keys: Vec<String> = (0..written).map(|number| number.to_string()).collect();
        for keys in keys.chunks(BATCH) {
            let found = client.raw_map(MAP).get_many(keys.iter().cloned()).await.unwrap();
            for (key, found) in keys.iter().zip(found) {
                assert_eq!(found.expect("nothing is lost").value, *key, "of {written}");
            }
        }
    }
}
