//! [`Dialler`]: keeps one link of this node open, for as long as the other is a member.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tracing::debug;
use wattle_core::ids::MemberId;
use wattle_core::limits::{PEER_RETRY_MAX, PEER_RETRY_MIN};
use wattle_proto::internal as wire;
use wire::link_response::Body as Heard;

use crate::dial::{Open, dial, hear, out_of_place};
use crate::error::LinkError;
use crate::handler::{Event, Handler};
use crate::hello::{self, draw_nonce};
use crate::shared::Shared;
use crate::traffic::Traffic;

/// Of one link.
pub(crate) struct Dialler<T, H> {
    pub(crate) shared: Arc<Shared<H>>,
    pub(crate) to: MemberId,
    pub(crate) traffic: Arc<T>,
}

impl<T: Traffic, H: Handler> Dialler<T, H> {
    /// Keeps the link open until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        tokio::select! {
            // First: what is to stop sends nothing more.
            biased;
            () = stop.cancelled() => debug!(to = ?self.to, purpose = ?self.traffic.purpose(), "link given up"),
            () = self.keep() => {}
        }
        self.traffic.close();
    }

    async fn keep(&self) {
        let mut pause = PEER_RETRY_MIN;
        let mut directory = self.shared.directory.subscribe();
        loop {
            let address =
                directory.borrow_and_update().address(self.to, self.traffic.purpose()).map(str::to_owned);
            let Some(address) = address else { return };
            self.traffic.open();
            let (to, purpose) = (self.to, self.traffic.purpose());
            let ended = match self.open(&address).await {
                Ok(open) => {
                    let since = Instant::now();
                    self.shared.counters.opened.add(1);
                    self.shared.handler.notice(Event::Opened { to, purpose });
                    let error = self.carry(open).await;
                    // A link that breaks at once, again and again, is not to do so ever faster.
                    if since.elapsed() >= PEER_RETRY_MAX {
                        pause = PEER_RETRY_MIN;
                    }
                    Event::Closed { to, purpose, error }
                }
                Err(error) => {
                    self.shared.counters.failed.add(1);
                    Event::Failed { to, purpose, error }
                }
            };
            self.traffic.close();
            self.shared.handler.notice(ended);
            let elsewhere = directory.wait_for(|now| now.address(to, purpose) != Some(&address));
            match timeout(jittered(pause), elsewhere).await {
                Ok(_) => pause = PEER_RETRY_MIN,
                Err(_) => pause = (pause * 2).min(PEER_RETRY_MAX),
            }
        }
    }

    async fn open(&self, address: &str) -> Result<Open, LinkError> {
        let own = self.shared.identity();
        let (to, purpose) = (self.to, self.traffic.purpose());
        let nonce = draw_nonce()?;
        let hello = hello::hello(&own, to, purpose, &nonce).map_err(LinkError::Denied)?;
        let read = |challenge: &_| {
            hello::answer_challenge(&own, (to, purpose), nonce, challenge).map(|transcript| (transcript, ()))
        };
        dial(address, &own.secret, hello, read).await.map(|(open, ())| open)
    }

    /// Sends what waits and takes what comes, until one of both is over.
    async fn carry(&self, open: Open) -> LinkError {
        let Open { said, mut heard } = open;
        let sending = async {
            // First a place, then a batch: what waits meanwhile goes with it. That there will be no place any more is
            // heard, too, and then with the reason.
            while let Ok(place) = said.reserve().await {
                let body = Some(self.traffic.next().await);
                place.send(wire::LinkRequest { body });
            }
            std::future::pending().await
        };
        tokio::select! {
            Err(error) = self.listen(&mut heard) => error,
            error = sending => error,
        }
    }

    /// Takes what comes, until it is the end.
    async fn listen(&self, heard: &mut Streaming<wire::LinkResponse>) -> Result<Infallible, LinkError> {
        loop {
            match hear(heard).await? {
                Heard::Answer(answer) => self.traffic.receive(answer)?,
                Heard::Challenge(_) | Heard::Welcome(_) | Heard::Refusal(_) => return Err(out_of_place()),
            }
        }
    }
}

/// Something between half of the time and all of it, so that nodes that lost the same peer do not come back to it at once.
fn jittered(pause: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX);
    pause / 2 + (pause / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_jittered_by_half() {
        for _ in 0..100 {
            let pause = jittered(PEER_RETRY_MAX);
            assert!((PEER_RETRY_MAX / 2..=PEER_RETRY_MAX).contains(&pause), "{pause:?}");
        }
    }
}
