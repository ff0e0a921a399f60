//! Opens a link: connects, and goes through the handshake as the one who dials.

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::codegen::http::uri::Authority;
use tonic::transport::{Channel, Endpoint};
use wattle_core::limits::{
    PEER_CALL_BYTES, PEER_CONNECT_TIME, PEER_HELLO_BYTES, PEER_HELLO_TIME, PEER_KEEP_ALIVE,
    PEER_KEEP_ALIVE_TIMEOUT,
};
use wattle_proto::internal as wire;
use wire::link_request::Body as Said;
use wire::link_response::Body as Heard;
use wire::peer_service_client::PeerServiceClient;

use crate::error::LinkError;
use crate::hello::{Side, Transcript};
use crate::identity::Secret;
use crate::refusal::Refusal;

/// A link that is open: what is said in it, and what is heard.
pub(crate) struct Open {
    pub(crate) said: mpsc::Sender<wire::LinkRequest>,
    pub(crate) heard: Streaming<wire::LinkResponse>,
}

/// Opens a link with whoever is at an address, if it takes not too long. `read` says what was said, from the other's challenge, and
/// what else there is to know.
pub(crate) async fn dial<T>(
    address: &str,
    secret: &Secret,
    hello: wire::Hello,
    read: impl FnOnce(&wire::Challenge) -> Result<(Transcript, T), Refusal>,
) -> Result<(Open, T), LinkError> {
    let late = |_| LinkError::Timeout { address: address.to_owned() };
    let endpoint = endpoint(address)?;
    let channel = timeout(PEER_CONNECT_TIME, endpoint.connect()).await.map_err(late)?;
    let channel = channel.map_err(|source| LinkError::Connect { address: address.to_owned(), source })?;
    timeout(PEER_HELLO_TIME, greet(channel, secret, hello, read)).await.map_err(late)?
}

async fn greet<T>(
    channel: Channel,
    secret: &Secret,
    hello: wire::Hello,
    read: impl FnOnce(&wire::Challenge) -> Result<(Transcript, T), Refusal>,
) -> Result<(Open, T), LinkError> {
    let mut client = PeerServiceClient::new(channel)
        .max_decoding_message_size(PEER_CALL_BYTES + PEER_HELLO_BYTES)
        .max_encoding_message_size(usize::MAX);
    let (said, says) = mpsc::channel(1);
    say(&said, Said::Hello(hello)).await;
    let mut heard = client.link(ReceiverStream::new(says)).await?.into_inner();
    let read = match hear(&mut heard).await? {
        Heard::Challenge(challenge) => read(&challenge),
        Heard::Welcome(_) | Heard::Answer(_) | Heard::Refusal(_) => return Err(out_of_place()),
    };
    let (transcript, known) = read.map_err(LinkError::Denied)?;
    say(&said, Said::Proof(transcript.prove(secret, Side::Dialled))).await;
    match hear(&mut heard).await? {
        Heard::Welcome(proof) if transcript.is_proved(secret, Side::Answered, &proof) => {
            Ok((Open { said, heard }, known))
        }
        Heard::Welcome(_) => {
            let Transcript { dialler: here, answerer: asked, .. } = transcript;
            Err(LinkError::Denied(Refusal::OtherSecret { asked, here }))
        }
        Heard::Challenge(_) | Heard::Answer(_) | Heard::Refusal(_) => Err(out_of_place()),
    }
}

/// Says something. That nobody listens any more is heard, with the reason for it.
pub(crate) async fn say(said: &mpsc::Sender<wire::LinkRequest>, body: Said) {
    drop(said.send(wire::LinkRequest { body: Some(body) }).await);
}

/// What the other says next. A refusal is an error.
pub(crate) async fn hear(heard: &mut Streaming<wire::LinkResponse>) -> Result<Heard, LinkError> {
    let body = heard.message().await?.ok_or(LinkError::Ended)?.body;
    match body {
        Some(Heard::Refusal(refusal)) => Err(LinkError::Refused(Refusal::decode(refusal))),
        Some(body @ (Heard::Challenge(_) | Heard::Welcome(_) | Heard::Answer(_))) => Ok(body),
        None => Err(out_of_place()),
    }
}

pub(crate) fn out_of_place() -> LinkError {
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
}
