//! [`Incoming`]: the links that others open.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use wattle_core::ids::MemberId;
use wattle_core::limits::{PEER_CALL_BYTES, PEER_CALLS, PEER_HELLO_TIME};
use wattle_proto::internal as wire;
use wire::link_request::Body as Heard;
use wire::link_response::Body as Said;
use wire::peer_service_server::PeerService;

use crate::codec::decode;
use crate::directory::DirectoryWatch;
use crate::error::LinkError;
use crate::gate::Gate;
use crate::handler::{Event, Handler};
use crate::hello::{Side, Transcript, answer_hello, draw_nonce};
use crate::identity::Purpose;
use crate::message::PeerMessage;
use crate::refusal::Refusal;
use crate::shared::Shared;

type Answers = mpsc::Sender<Result<wire::LinkResponse, Status>>;

/// Answers links.
#[derive(Debug)]
pub(crate) struct Incoming<H>(pub(crate) Arc<Shared<H>>);

#[tonic::async_trait]
impl<H: Handler> PeerService for Incoming<H> {
    type LinkStream = ReceiverStream<Result<wire::LinkResponse, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<wire::LinkRequest>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let Ok(place) = Arc::clone(&self.0.hellos).try_acquire_owned() else {
            return Err(Status::resource_exhausted("too many links are being opened: try again"));
        };
        let (_, extensions, heard) = request.into_parts();
        let gate = extensions.get::<Gate>().cloned().unwrap_or_default();
        let (said, says) = mpsc::channel(PEER_CALLS);
        let link = Link { shared: Arc::clone(&self.0), heard, said };
        self.0.tasks.spawn(async move {
            let mut link = link;
            let stop = link.shared.stop.clone();
            let greeted = stop.run_until_cancelled(timeout(PEER_HELLO_TIME, link.greet())).await;
            drop(place);
            let stopping = Err(LinkError::Denied(Refusal::Stopping));
            match greeted.map_or(stopping, |greeted| greeted.unwrap_or_else(|_| Err(malformed(&"too slow"))))
            {
                Ok(transcript) => {
                    gate.open();
                    link.keep(&transcript).await;
                }
                Err(error) => link.end(error, |error| Event::Denied { error }),
            }
        });
        Ok(Response::new(ReceiverStream::new(says)))
    }
}

/// One link that another opens.
struct Link<H> {
    shared: Arc<Shared<H>>,
    heard: Streaming<wire::LinkRequest>,
    said: Answers,
}

impl<H: Handler> Link<H> {
    /// Finds out who is there.
    async fn greet(&mut self) -> Result<Transcript, LinkError> {
        let shared = Arc::clone(&self.shared);
        let own = &shared.identity;
        let Heard::Hello(hello) = hear(&mut self.heard).await? else {
            return Err(malformed(&"no hello"));
        };
        let members = shared.directory.borrow().clone();
        let answered = answer_hello(own, &members, &hello, draw_nonce()?);
        let (transcript, challenge) = answered.map_err(LinkError::Denied)?;
        say(&self.said, Said::Challenge(challenge)).await?;
        let Heard::Proof(proof) = hear(&mut self.heard).await? else {
            return Err(malformed(&"no proof"));
        };
        if !transcript.is_proved(&own.secret, Side::Dialled, &proof) {
            let refusal = Refusal::OtherSecret { asked: transcript.dialler, here: own.member };
            return Err(LinkError::Denied(refusal));
        }
        say(&self.said, Said::Welcome(transcript.prove(&own.secret, Side::Answered))).await?;
        Ok(transcript)
    }

    /// Serves a link whose other end is known.
    async fn keep(mut self, transcript: &Transcript) {
        let shared = Arc::clone(&self.shared);
        let (from, purpose) = (transcript.dialler, transcript.purpose);
        let session = shared.sessions.begin((from, purpose));
        shared.counters.admitted.add(1);
        shared.handler.notice(Event::Admitted { from, purpose });
        let mut members = shared.directory.subscribe();
        let error = tokio::select! {
            () = shared.stop.cancelled() => LinkError::Denied(Refusal::Stopping),
            () = session.replaced() => LinkError::Denied(Refusal::Replaced),
            refusal = expelled(&mut members, from) => LinkError::Denied(refusal),
            error = self.serve(from, purpose) => error,
        };
        drop(session);
        self.end(error, |error| Event::Left { from, purpose, error });
    }

    async fn serve(&mut self, from: MemberId, purpose: Purpose) -> LinkError {
        let served = match purpose {
            Purpose::Replication => self.serve_messages(from).await,
            Purpose::Calls => self.serve_calls(from).await,
        };
        served.err().unwrap_or(LinkError::Ended)
    }

    async fn serve_messages(&mut self, from: MemberId) -> Result<(), LinkError> {
        let counters = &self.shared.counters;
        loop {
            let Heard::Batch(batch) = hear(&mut self.heard).await? else {
                return Err(malformed(&"no batch"));
            };
            let mut messages = Vec::with_capacity(batch.messages.len());
            for message in batch.messages {
                match decode(message).map_err(|error| malformed(&error))? {
                    Some(message) => messages.push(message),
                    None => counters.skipped.add(1),
                }
            }
            counters.received_batches.add(1);
            counters.received_messages.add(messages.len());
            counters.received_bytes.add(messages.iter().map(PeerMessage::weight).sum());
            self.shared.handler.receive(from, messages).await;
        }
    }

    async fn serve_calls(&mut self, from: MemberId) -> Result<(), LinkError> {
        let mut answers = FuturesUnordered::new();
        loop {
            let heard = tokio::select! {
                heard = hear(&mut self.heard), if answers.len() < PEER_CALLS => heard?,
                Some(answered) = answers.next() => {
                    let () = answered?;
                    continue;
                }
            };
            let Heard::Call(wire::Call { id, request }) = heard else {
                return Err(malformed(&"no call"));
            };
            if request.len() > PEER_CALL_BYTES {
                return Err(malformed(&"a call that is too large"));
            }
            self.shared.counters.answers.add(1);
            let (shared, said) = (&self.shared, &self.said);
            answers.push(async move {
                let answer = shared.handler.answer(from, request).await;
                say(said, Said::Answer(wire::Answer { id, answer })).await
            });
        }
    }

    /// Says why, if the other may not know, and if it still listens: it learns nothing worse than that the link is closed.
    fn end(self, error: LinkError, event: impl FnOnce(LinkError) -> Event) {
        if let LinkError::Denied(refusal) = &error {
            self.shared.counters.denied.add(1);
            let body = Some(Said::Refusal(refusal.clone().encode()));
            drop(self.said.try_send(Ok(wire::LinkResponse { body })));
        }
        self.shared.handler.notice(event(error));
    }
}

/// Waits until somebody is no member any more.
async fn expelled(members: &mut DirectoryWatch, member: MemberId) -> Refusal {
    loop {
        if let Err(refusal) = members.borrow_and_update().check(member) {
            return refusal;
        }
        if members.changed().await.is_err() {
            return Refusal::Stopping;
        }
    }
}

async fn hear(heard: &mut Streaming<wire::LinkRequest>) -> Result<Heard, LinkError> {
    let request = heard.message().await?.ok_or(LinkError::Ended)?;
    request.body.ok_or_else(|| malformed(&"a request of a kind that is not known here"))
}

async fn say(said: &Answers, body: Said) -> Result<(), LinkError> {
    said.send(Ok(wire::LinkResponse { body: Some(body) })).await.map_err(|_| LinkError::Ended)
}

fn malformed(problem: &impl ToString) -> LinkError {
    LinkError::Denied(Refusal::malformed(problem))
}
