//! [`Dialler`]: keeps one link of this node open, for as long as the other is a member.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::codegen::http::uri::Authority;
use tonic::transport::{Channel, Endpoint};
use tracing::debug;
use wattle_core::ids::MemberId;
use wattle_core::limits::{
    PEER_CALL_BYTES, PEER_CONNECT_TIME, PEER_HELLO_BYTES, PEER_HELLO_TIME, PEER_KEEP_ALIVE,
    PEER_KEEP_ALIVE_TIMEOUT, PEER_RETRY_MAX, PEER_RETRY_MIN,
};
use wattle_proto::internal as wire;
use wire::link_request::Body as Said;
use wire::link_response::Body as Heard;
use wire::peer_service_client::PeerServiceClient;

use crate::error::LinkError;
use crate::handler::{Event, Handler};
use crate::hello::{self, Side, draw_nonce};
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::traffic::Traffic;

/// Of one link.
pub(crate) struct Dialler<T, H> {
    pub(crate) shared: Arc<Shared<H>>,
    pub(crate) to: MemberId,
    pub(crate) traffic: Arc<T>,
}

/// A link that is open: what is said in it, and what is heard.
struct Open {
    said: mpsc::Sender<wire::LinkRequest>,
    heard: Streaming<wire::LinkResponse>,
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
            let address = directory.borrow_and_update().address(self.to).map(str::to_owned);
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
            let elsewhere = directory.wait_for(|now| now.address(to) != Some(&address));
            match timeout(jittered(pause), elsewhere).await {
                Ok(_) => pause = PEER_RETRY_MIN,
                Err(_) => pause = (pause * 2).min(PEER_RETRY_MAX),
            }
        }
    }

    async fn open(&self, address: &str) -> Result<Open, LinkError> {
        let late = |_| LinkError::Timeout { address: address.to_owned() };
        let endpoint = endpoint(address)?;
        let channel = timeout(PEER_CONNECT_TIME, endpoint.connect()).await.map_err(late)?;
        let channel = channel.map_err(|source| LinkError::Connect { address: address.to_owned(), source })?;
        timeout(PEER_HELLO_TIME, self.greet(channel)).await.map_err(late)?
    }

    async fn greet(&self, channel: Channel) -> Result<Open, LinkError> {
        let own = &self.shared.identity;
        let mut client = PeerServiceClient::new(channel)
            .max_decoding_message_size(PEER_CALL_BYTES + PEER_HELLO_BYTES)
            .max_encoding_message_size(usize::MAX);
        let (said, says) = mpsc::channel(1);
        let nonce = draw_nonce()?;
        let purpose = self.traffic.purpose();
        let hello = hello::hello(own, self.to, purpose, &nonce);
        say(&said, Said::Hello(hello)).await;
        let mut heard = client.link(ReceiverStream::new(says)).await?.into_inner();
        let transcript = match hear(&mut heard).await? {
            Heard::Challenge(challenge) => {
                hello::answer_challenge(own, (self.to, purpose), nonce, &challenge)
            }
            Heard::Welcome(_) | Heard::Answer(_) | Heard::Refusal(_) => return Err(out_of_place()),
        };
        let transcript = transcript.map_err(LinkError::Denied)?;
        say(&said, Said::Proof(transcript.prove(&own.secret, Side::Dialled))).await;
        match hear(&mut heard).await? {
            Heard::Welcome(proof) if transcript.is_proved(&own.secret, Side::Answered, &proof) => {
                Ok(Open { said, heard })
            }
            Heard::Welcome(_) => {
                let refusal = Refusal::OtherSecret { asked: self.to, here: own.member };
                Err(LinkError::Denied(refusal))
            }
            Heard::Challenge(_) | Heard::Answer(_) | Heard::Refusal(_) => Err(out_of_place()),
        }
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

/// Says something. That nobody listens any more is heard, with the reason for it.
async fn say(said: &mpsc::Sender<wire::LinkRequest>, body: Said) {
    drop(said.send(wire::LinkRequest { body: Some(body) }).await);
}

/// What the other says next. A refusal is an error.
async fn hear(heard: &mut Streaming<wire::LinkResponse>) -> Result<Heard, LinkError> {
    let body = heard.message().await?.ok_or(LinkError::Ended)?.body;
    match body {
        Some(Heard::Refusal(refusal)) => Err(LinkError::Refused(Refusal::decode(refusal))),
        Some(body @ (Heard::Challenge(_) | Heard::Welcome(_) | Heard::Answer(_))) => Ok(body),
        None => Err(out_of_place()),
    }
}

fn out_of_place() -> LinkError {
    LinkError::Denied(Refusal::malformed(&"an answer that is out of place"))
}

fn endpoint(address: &str) -> Result<Endpoint, LinkError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    let endpoint = endpoint.map_err(|_| LinkError::Address { address: address.to_owned() })?;
    // The whole of it, without a path or the like.
    let authority = endpoint.uri().authority().map(Authority::as_str);
    if endpoint.uri().port().is_none() || authority != Some(address) {
        return Err(LinkError::Address { address: address.to_owned() });
    }
    Ok(endpoint
        .tcp_nodelay(true)
        .connect_timeout(PEER_CONNECT_TIME)
        .http2_keep_alive_interval(PEER_KEEP_ALIVE)
        .keep_alive_timeout(PEER_KEEP_ALIVE_TIMEOUT))
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
    fn an_address_has_a_host_and_a_port() {
        for address in ["127.0.0.1:7117", "[::1]:7117", "node-3.grid:7117"] {
            endpoint(address).unwrap();
        }
        for address in ["", "127.0.0.1", "a b:7117", ":", "\n", "a:7117/b", "a:7117?b"] {
            let refused = endpoint(address).map(|_| ());
            assert!(
                matches!(&refused, Err(LinkError::Address { address: named }) if named == address),
                "{address:?}: {refused:?}"
            );
        }
    }

    #[test]
    fn a_pause_is_jittered_by_half() {
        for _ in 0..100 {
            let pause = jittered(PEER_RETRY_MAX);
            assert!((PEER_RETRY_MAX / 2..=PEER_RETRY_MAX).contains(&pause), "{pause:?}");
        }
    }
}
