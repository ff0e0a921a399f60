//! [`TableWatch`]: keeps the routes as the grid says they are, and connections to the members that are wanted. A member is connected when
//! it has said at its own address that it is the one: until then, and when that breaks, calls go by way of others, and wait for nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};
use wattle_proto::v1;
use wattle_proto::v1::grid_service_client::GridServiceClient;

use crate::endpoints::{Endpoints, prepare};
use crate::failure::Failure;
use crate::options::Options;
use crate::retry::{Backoff, RetryPolicy, random};
use crate::routes::{Member, Routes};

/// Longer than the table of a grid with 500 nodes and 4096 partitions.
const TABLE_BYTES: usize = 1 << 20;
/// Between two attempts to watch the table, or to connect to a member.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Tables, as nodes say them. Who has more to say waits until what was said is taken.
type News = mpsc::Sender<v1::WatchTableResponse>;

#[derive(Debug)]
pub(crate) struct TableWatch {
    endpoints: Arc<Endpoints>,
    routes: Arc<Routes>,
    options: Options,
}

/// A member that is kept connected while it is wanted, and a connection that is to be one to it.
struct Kept {
    member: Arc<Member>,
    grid_id: Bytes,
    endpoint: Endpoint,
    /// How many connections to have.
    connections: usize,
    news: News,
}

impl TableWatch {
    pub(crate) fn new(endpoints: Arc<Endpoints>, routes: Arc<Routes>, options: Options) -> Self {
        Self { endpoints, routes, options }
    }

    /// Ends when it is aborted, with everything that it has begun.
    pub(crate) async fn run(self) {
        self.routes.used().await;
        let (news, mut told) = mpsc::channel(1);
        let mut watching = JoinSet::new();
        watching.spawn(watch(Arc::clone(&self.endpoints), Arc::clone(&self.routes), news.clone()));
        let mut kept: Vec<(Arc<Member>, AbortHandle)> = Vec::new();
        while let Some(table) = told.recv().await {
            if !self.routes.is_news(&table) {
                continue;
            }
            let grid_id = table.grid_id.clone();
            let members = self.routes.take(table);
            kept.retain(|(member, keeping)| {
                let is_there = members.iter().any(|other| Arc::ptr_eq(member, other));
                if !is_there {
                    keeping.abort();
                }
                is_there
            });
            for member in &members {
                let is_kept = kept.iter().any(|(other, _)| Arc::ptr_eq(member, other));
                let Ok(endpoint) = prepare(&format!("http://{}", member.address), &self.options) else {
                    continue;
                };
                if !is_kept {
                    let connections = self.options.connections.div_ceil(members.len());
                    let (grid_id, news) = (grid_id.clone(), news.clone());
                    let keeping = Kept { member: Arc::clone(member), grid_id, endpoint, connections, news };
                    kept.push((Arc::clone(member), watching.spawn(keeping.run())));
                }
            }
            // Who was let go of has ended, or is about to.
            while watching.try_join_next().is_some() {}
        }
    }
}

/// The pauses of something that goes on for ever.
fn pauses() -> Backoff {
    RetryPolicy::new(FIRST_PAUSE, LONGEST_PAUSE).backoff()
}

/// Watches the table by whichever way there is.
async fn watch(endpoints: Arc<Endpoints>, routes: Arc<Routes>, news: News) {
    let mut backoff = pauses();
    loop {
        let given = endpoints.sound();
        let channel = given.map(|connection| connection.channel()).or_else(|| routes.anywhere());
        let channel = channel.unwrap_or_else(|| endpoints.next().channel());
        let mut heard = false;
        let ended = listen(channel, &mut heard, &news).await;
        if let Some(given) = given {
            given.note(ended.as_ref().err().map(Failure::from).as_ref());
        }
        if heard {
            backoff = pauses();
        }
        tokio::time::sleep(backoff.pause(None, random())).await;
    }
}

async fn listen(channel: Channel, heard: &mut bool, news: &News) -> Result<(), Status> {
    let mut tables = open(channel).await?;
    while let Some(table) = tables.message().await? {
        *heard = true;
        if news.send(table).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn open(channel: Channel) -> Result<Streaming<v1::WatchTableResponse>, Status> {
    let mut grid = GridServiceClient::new(channel).max_decoding_message_size(TABLE_BYTES);
    Ok(grid.watch_table(v1::WatchTableRequest {}).await?.into_inner())
}

impl Kept {
    async fn run(self) {
        let mut backoff = pauses();
        loop {
            self.member.wanted().await;
            let was_it = self.connect().await;
            self.member.connect(Vec::new());
            if was_it {
                backoff = pauses();
            }
            tokio::time::sleep(backoff.pause(None, random())).await;
        }
    }

    /// Connects, and stays connected while the stream of tables goes on; whether it was the member that is meant.
    async fn connect(&self) -> bool {
        let Ok(channel) = self.endpoint.connect().await else { return false };
        let first = timeout(LONGEST_PAUSE, async {
            let mut tables = open(channel.clone()).await.ok()?;
            Some((tables.message().await.ok()??, tables))
        });
        let Ok(Some((table, mut tables))) = first.await else { return false };
        let who = (&table.grid_id, table.node, table.incarnation);
        if who != (&self.grid_id, self.member.node, self.member.incarnation) {
            return false;
        }
        let more = std::iter::repeat_with(|| self.endpoint.connect_lazy()).take(self.connections - 1);
        self.member.connect(std::iter::once(channel).chain(more).collect());
        let mut next = Some(table);
        while let Some(table) = next {
            if self.news.send(table).await.is_err() {
                break;
            }
            next = tables.message().await.ok().flatten();
        }
        true
    }
}
