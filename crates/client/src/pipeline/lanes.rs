//! [`Lanes`]: the streams of a pipeline, one to each member that is asked and one to any node, and what goes by which.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use wattle_frame::pipeline::Operations;

use super::batch::Batch;
use super::driver::Driver;
use super::order::Order;
use super::state::{InFlight, Lane};
use super::together::{Reply, Waiter};
use crate::call::Caller;
use crate::deal::deal;
use crate::error::Error;
use crate::failure::Failure;
use crate::request_ids::AwaitedRequest;
use crate::routes::{Member, Primaries, Table};

#[derive(Debug)]
pub(super) struct Lanes {
    caller: Arc<Caller>,
    any: Driven,
    /// Held to look one up, and to send what was dealt: never across an await.
    straight: Mutex<Straight>,
    order: Arc<Order>,
    /// Rises behind every end of a rest.
    changes: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Straight {
    lanes: Vec<(Arc<Member>, Driven)>,
    /// By what the batches in flight were dealt.
    seen: Changes,
}

/// By how many changes of the routes, and of the lanes, batches are dealt.
type Changes = (u64, u64);

/// A lane, and the task that keeps its stream open.
#[derive(Debug)]
struct Driven {
    lane: Arc<Lane>,
    driver: JoinHandle<()>,
}

/// A batch on its way to the lanes.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) batch: Batch,
    pub(super) deadline: Instant,
    /// Until it is sent.
    pub(super) waiter: Option<Waiter>,
    /// One for each share: whoever has a share knows it as a request of its own, and where it is sent next it is still that one.
    pub(super) requests: Vec<AwaitedRequest>,
}

/// Operations of a batch that go to one place.
#[derive(Debug)]
struct Dealt {
    owner: Option<Arc<Member>>,
    batch: Batch,
    places: Vec<u32>,
}

/// What became of an attempt to send a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Yes,
    /// It is to be dealt otherwise by now.
    Stale,
    /// It would overtake what is in flight.
    Behind,
}

impl Lanes {
    pub(super) fn open(caller: Arc<Caller>, window: usize) -> Self {
        let (order, changes): (Arc<Order>, Arc<AtomicU64>) = Default::default();
        let lane = Arc::new(Lane::to_any(window, &order));
        let driver = Driver {
            caller: Arc::clone(&caller),
            lane: Arc::clone(&lane),
            to: None,
            changes: Arc::clone(&changes),
        };
        let any = Driven { lane, driver: tokio::spawn(driver.run()) };
        Self { caller, any, straight: Mutex::default(), order, changes }
    }

    /// Sends each operation to who decides about it, as far as that is known, behind all that is about the same key.
    pub(super) async fn send(&self, mut submission: Submission) -> Result<(), Error> {
        loop {
            let mut freed = pin!(self.order.freed());
            // From here on no end is missed.
            freed.as_mut().enable();
            // First the count, then what it counts.
            let changes = self.changes();
            let shares = self.deal(&self.caller.routes().table(), &submission.batch)?;
            while submission.requests.len() < shares.len() {
                submission.requests.push(self.caller.begin_request().await?);
            }
            match self.try_send(changes, shares, &mut submission) {
                Sent::Yes => return Ok(()),
                Sent::Stale => continue,
                Sent::Behind => {}
            }
            let waited = timeout_at(submission.deadline, freed).await;
            waited.map_err(|_| Failure::timed_out(self.caller.timeout()))?;
        }
    }

    fn deal(&self, table: &Table, batch: &Batch) -> Result<Vec<Dealt>, Error> {
        let whole = |owner| {
            let places = (0..).take(batch.len()).collect();
            vec![Dealt { owner, batch: batch.clone(), places }]
        };
        if !table.has_ways() {
            return Ok(whole(None));
        }
        let operations = Operations::parse(&batch.frame)?;
        let names = operations.names().collect::<Result<Vec<_>, _>>()?;
        let operations = operations.operations().collect::<Result<Vec<_>, _>>()?;
        let primaries: Vec<&Primaries> = names.iter().map(|name| table.primaries(name)).collect();
        let entries = operations.iter().map(|one| (primaries[usize::from(one.map().0)], one.key()));
        let straight = self.lock();
        let shares = deal(entries, |member| member.is_connected() && !straight.rests(member));
        drop(straight);
        if shares.len() <= 1 {
            return Ok(whole(shares.first().and_then(|share| share.owner.cloned())));
        }
        let dealt = shares.into_iter().map(|share| {
            let batch = Batch::packed(&names, share.places.len(), |frame| {
                share.places.iter().try_for_each(|place| frame.push(&operations[*place as usize]))
            })?;
            Ok(Dealt { owner: share.owner.cloned(), batch, places: share.places })
        });
        dealt.collect()
    }

    /// Sends the shares of a batch, if they are still right and nothing has to be waited for.
    fn try_send(&self, changes: Changes, mut shares: Vec<Dealt>, submission: &mut Submission) -> Sent {
        let mut straight = self.lock();
        let now = self.changes();
        if straight.seen != now {
            // What is in flight may be about keys that have another way by now.
            straight.seen = now;
            let table = self.caller.routes().table();
            straight.lanes.retain(|(member, driven)| table.has(member) || !driven.lane.is_idle());
            let lanes = straight.lanes.iter().map(|(_, driven)| driven);
            lanes.chain([&self.any]).for_each(|driven| driven.lane.hold_all());
        }
        if now != changes {
            return Sent::Stale;
        }
        if !self.order.is_free(&submission.batch) {
            return Sent::Behind;
        }
        let Some(waiter) = submission.waiter.take() else { return Sent::Yes };
        let places = shares.iter_mut().map(|share| std::mem::take(&mut share.places)).collect();
        let replies = Reply::each(waiter, submission.batch.len(), places);
        let requests = submission.requests.drain(..shares.len());
        for ((Dealt { owner, batch, .. }, request), reply) in shares.into_iter().zip(requests).zip(replies) {
            let lane = match &owner {
                None => &self.any.lane,
                Some(member) => straight.lane_to(member, || self.open_lane(member)),
            };
            let in_flight = InFlight::new(batch, request, submission.deadline, self.caller.retry());
            lane.send(in_flight.answering(reply));
        }
        Sent::Yes
    }

    fn open_lane(&self, member: &Arc<Member>) -> Driven {
        let lane = Arc::new(Lane::straight(&self.any.lane));
        let driver = Driver {
            caller: Arc::clone(&self.caller),
            lane: Arc::clone(&lane),
            to: Some(Arc::clone(member)),
            changes: Arc::clone(&self.changes),
        };
        Driven { lane, driver: tokio::spawn(driver.run()) }
    }

    fn changes(&self) -> Changes {
        (self.caller.routes().changes(), self.changes.load(Ordering::Acquire))
    }

    /// Ends all streams, and waits until they have ended.
    pub(super) async fn close(&mut self) {
        let straight = std::mem::take(&mut self.lock().lanes);
        for mut driven in straight.into_iter().map(|(_, driven)| driven) {
            driven.end().await;
        }
        self.any.end().await;
    }

    /// Nothing panics while it is held, and it is whole at every step.
    fn lock(&self) -> MutexGuard<'_, Straight> {
        self.straight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Straight {
    fn find(&self, member: &Arc<Member>) -> Option<&Driven> {
        let is_it = |(other, _): &&(Arc<Member>, Driven)| Arc::ptr_eq(other, member);
        self.lanes.iter().find(is_it).map(|(_, driven)| driven)
    }

    fn rests(&self, member: &Arc<Member>) -> bool {
        self.find(member).is_some_and(|driven| driven.lane.is_resting())
    }

    fn lane_to(&mut self, member: &Arc<Member>, open: impl FnOnce() -> Driven) -> &Arc<Lane> {
        let place = self.lanes.iter().position(|(other, _)| Arc::ptr_eq(other, member));
        let place = place.unwrap_or_else(|| {
            self.lanes.push((Arc::clone(member), open()));
            self.lanes.len() - 1
        });
        &self.lanes[place].1.lane
    }
}

impl Driven {
    async fn end(&mut self) {
        self.driver.abort();
        // Nothing is lost when it was cancelled, and its panic would have been reported.
        drop((&mut self.driver).await);
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.driver.abort();
        self.lane.close();
    }
}
