//! [`Signals`]: what tells a node's process to end, and how it does.

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::{Node, NodeError, refused};
use crate::config::{Config, StopPolicy};

/// The exit code of a node that a second signal has cut short.
const SECOND_SIGNAL: i32 = 130;

/// SIGINT and SIGTERM. As long as this is there neither of them ends the process by itself, and none is missed.
#[derive(Debug)]
pub struct Signals {
    /// What waits for them runs here.
    runtime: Runtime,
    told: Told,
}

/// That the process is told to end.
#[derive(Debug)]
struct Told {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Listens from now on: first of all, for the system does not end the first process of a container if nobody listens.
    ///
    /// # Errors
    /// Signals cannot be listened to.
    pub fn listen() -> Result<Self, NodeError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(refused("a runtime"))?;
        let entered = runtime.enter();
        let listen = |kind| signal(kind).map_err(refused("signals"));
        let told =
            Told { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? };
        drop(entered);
        Ok(Self { runtime, told })
    }
}

impl Told {
    /// Waits until it is told so, once more.
    async fn again(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

impl Node {
    /// Starts a node and runs it until the process is told to end, or the node was drained, and stops it then, as its stop policy says. Also
    /// one that does not serve yet: it holds nothing. A second signal ends the process at once.
    ///
    /// # Errors
    /// [`NodeError`] says why it does not start, or that the grid does not count on it any more.
    pub fn run(config: &Config, signals: Signals) -> Result<(), NodeError> {
        let Signals { runtime, mut told } = signals;
        runtime.block_on(async {
            let (config, stop) = (config.clone(), CancellationToken::new());
            let stops = stop.clone();
            let mut starting = tokio::task::spawn_blocking(move || Self::start_unless(&config, stops));
            let mut is_told = false;
            let started = tokio::select! {
                started = &mut starting => started,
                () = told.again() => {
                    is_told = true;
                    info!("stopping before this node serves; a second signal ends at once");
                    stop.cancel();
                    ended(starting, &mut told).await
                }
            };
            match started.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())) {
                Err(NodeError::Stopped) if is_told => {
                    info!("stopped");
                    Ok(())
                }
                started => started?.run_until(told).await,
            }
        })
    }

    async fn run_until(self, mut told: Told) -> Result<(), NodeError> {
        let replaced = self.replaced.clone();
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = told.again() => {}
        }
        let policy = if self.stop.is_cancelled() { StopPolicy::LeaveNow } else { self.stop_policy };
        let stopping = match policy {
            StopPolicy::Drain => {
                info!(
                    "stopping: others take what is here, and calls in flight are finished; a second signal ends at once"
                );
                tokio::task::spawn_blocking(|| self.drain())
            }
            StopPolicy::LeaveNow => {
                info!("stopping: calls in flight are finished; a second signal ends at once");
                tokio::task::spawn_blocking(|| self.stop())
            }
        };
        if ended(stopping, &mut told).await.is_err() {
            error!("stopping panicked");
        }
        info!("stopped");
        if replaced.is_cancelled() { Err(NodeError::Replaced) } else { Ok(()) }
    }
}

/// Waits for something of which a second signal makes an end at once.
async fn ended<T>(stopping: JoinHandle<T>, told: &mut Told) -> Result<T, JoinError> {
    tokio::select! {
        ended = stopping => ended,
        () = told.again() => std::process::exit(SECOND_SIGNAL),
    }
}
