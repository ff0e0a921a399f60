//! [`Incoming`]: the links that others open.

use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::warn;
use wattle_core::ids::MemberId;
use wattle_core::limits::{PEER_CALLS, PEER_HELLO_TIME, STRANGER_TIME};
use wattle_proto::internal as wire;
use wire::link_request::Body as Heard;
use wire::link_response::Body as Said;
use wire::peer_service_server::PeerService;

use crate::call::{Answer, Call, CallRefusal};
use crate::codec::{check_answer, decode, decode_call, encode_answer};
use crate::error::LinkError;
use crate::gate::Gate;
use crate::handler::{Event, Handler};
use crate::hello::{Side, Transcript, answer_hello, draw_nonce};
use crate::identity::{NOBODY, Purpose};
use crate::refusal::Refusal;
use crate::shared::{Session, Shared};

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
        let (_, extensions, heard) = request.into_parts();
        let gate = extensions.get::<Gate>().cloned().unwrap_or_default();
        let (said, says) = mpsc::channel(PEER_CALLS);
        let mut link = Link { shared: Arc::clone(&self.0), heard, said };
        self.0.tasks.spawn(async move {
            match link.open().await {
                Ok(transcript) if transcript.purpose == Purpose::Stranger => {
                    gate.open_to_stranger();
                    link.answer_stranger().await;
                }
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
    /// Finds out who is there, if it does not take too long.
    async fn open(&mut self) -> Result<Transcript, LinkError> {
        let shared = Arc::clone(&self.shared);
        let place = shared.hellos.begin();
        tokio::select! {
            () = shared.stop.cancelled() => Err(LinkError::Denied(Refusal::Stopping)),
            () = place.displaced() => Err(LinkError::Denied(Refusal::Busy)),
            greeted = timeout(PEER_HELLO_TIME, self.greet()) => {
                greeted.unwrap_or_else(|_| Err(malformed(&"nothing for too long")))
            }
        }
    }

    async fn greet(&mut self) -> Result<Transcript, LinkError> {
        let shared = Arc::clone(&self.shared);
        let own = shared.identity();
        let Heard::Hello(hello) = hear(&mut self.heard).await? else {
            return Err(malformed(&"no hello"));
        };
        let members = shared.directory.borrow().clone();
        let answered = answer_hello(&own, &members, &hello, draw_nonce()?);
        let (transcript, challenge) = answered.map_err(LinkError::Denied)?;
        say(&self.said, Said::Challenge(challenge)).await?;
        let Heard::Proof(proof) = hear(&mut self.heard).await? else {
            return Err(malformed(&"no proof"));
        };
        if !transcript.is_proved(&own.secret, Side::Dialled, &proof) {
            let refusal = Refusal::OtherSecret { asked: transcript.dialler, here: transcript.answerer };
            return Err(LinkError::Denied(refusal));
        }
        say(&self.said, Said::Welcome(transcript.prove(&own.secret, Side::Answered))).await?;
        Ok(transcript)
    }

    /// Serves a link whose other end is known.
    async fn keep(mut self, transcript: &Transcript) {
        let shared = Arc::clone(&self.shared);
        let (from, purpose) = (transcript.dialler, transcript.purpose);
        let denied = |error| Event::Denied { error };
        let Some(session) = shared.sessions.begin(from, purpose) else {
            return self.end(LinkError::Denied(Refusal::Replaced), denied);
        };
        let mut over = pin!(over(&shared, &session, (from, purpose)));
        // First what ends it: nothing is heard of who is no member any more.
        let turn = tokio::select! {
            biased;
            refusal = &mut over => return self.end(LinkError::Denied(refusal), denied),
            turn = session.turn() => turn,
        };
        shared.counters.admitted.add(1);
        shared.handler.notice(Event::Admitted { from, purpose });
        let error = tokio::select! {
            biased;
            refusal = &mut over => LinkError::Denied(refusal),
            error = self.serve(from, purpose) => error,
        };
        self.end(error, |error| Event::Left { from, purpose, error });
        drop(turn);
    }

    async fn serve(&mut self, from: MemberId, purpose: Purpose) -> LinkError {
        let served = match purpose {
            Purpose::Replication => self.serve_messages(from).await,
            Purpose::Calls | Purpose::Heartbeats | Purpose::Control => {
                self.serve_calls((from, purpose)).await
            }
            // They have no session: see `answer_stranger`.
            Purpose::Stranger => Ok(()),
        };
        served.err().unwrap_or(LinkError::Ended)
    }

    async fn serve_messages(&mut self, from: MemberId) -> Result<(), LinkError> {
        let counters = &self.shared.counters;
        loop {
            let Heard::Batch(batch) = hear(&mut self.heard).await? else {
                return Err(malformed(&"no batch"));
            };
            counters.received_batches.add(1);
            counters.received_bytes.add(batch.encoded_len());
            let mut messages = Vec::with_capacity(batch.messages.len());
            for message in batch.messages {
                let counts = self.shared.reigns.know(&message);
                match decode(message).map_err(|error| malformed(&error))? {
                    Some(message) if counts => messages.push(message),
                    Some(_) | None => counters.skipped.add(1),
                }
            }
            counters.received_messages.add(messages.len());
            if !messages.is_empty() {
                self.shared.handler.receive(from, messages).await;
            }
        }
    }

    async fn serve_calls(&mut self, (from, purpose): (MemberId, Purpose)) -> Result<(), LinkError> {
        let mut answers = FuturesUnordered::new();
        loop {
            // First a place for the answer, then the call: so who does not take its answers is not heard any more.
            let place = tokio::select! {
                place = self.said.clone().reserve_owned() => place.map_err(|_| LinkError::Ended)?,
                Some(()) = answers.next() => continue,
            };
            let heard = tokio::select! {
                heard = hear(&mut self.heard) => heard?,
                Some(()) = answers.next() => continue,
            };
            let (id, call) = call_in(heard, purpose)?;
            let (counters, handler) = (&self.shared.counters, &self.shared.handler);
            counters.answers.add(1);
            answers.push(async move {
                let answer = encode_answer(id, answer(handler, from, call).await);
                counters.say(purpose, answer.encoded_len());
                place.send(Ok(wire::LinkResponse { body: Some(Said::Answer(answer)) }));
            });
        }
    }

    /// Hears one question of somebody who has the secret and need not be a member, and answers it.
    async fn answer_stranger(mut self) {
        let shared = Arc::clone(&self.shared);
        let answered = tokio::select! {
            () = shared.stop.cancelled() => Err(LinkError::Denied(Refusal::Stopping)),
            answered = self.serve_stranger() => answered,
        };
        if let Err(error) = answered {
            self.end(error, |error| Event::Denied { error });
        }
    }

    async fn serve_stranger(&mut self) -> Result<(), LinkError> {
        let shared = Arc::clone(&self.shared);
        let _place = shared.strangers.try_acquire().map_err(|_| LinkError::Denied(Refusal::Busy))?;
        let heard = timeout(PEER_HELLO_TIME, hear(&mut self.heard)).await;
        let heard = heard.map_err(|_| malformed(&"nothing for too long"))??;
        let (id, call) = call_in(heard, Purpose::Stranger)?;
        shared.counters.strangers.add(1);
        let answer = timeout(STRANGER_TIME, answer(&shared.handler, NOBODY, call)).await;
        let answer = answer.unwrap_or(Answer::Refused(CallRefusal::Late));
        say(&self.said, Said::Answer(encode_answer(id, answer))).await
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

/// A call that is made on links of this purpose; `None` is one that only newer nodes know.
fn call_in(heard: Heard, purpose: Purpose) -> Result<(u64, Option<Call>), LinkError> {
    let Heard::Call(wire::Call { id, body }) = heard else {
        return Err(malformed(&"no call"));
    };
    let call = decode_call(body).map_err(|error| malformed(&error))?;
    if call.as_ref().is_some_and(|call| call.purpose() != purpose) {
        return Err(malformed(&"a call that the link is not for"));
    }
    Ok((id, call))
}

/// The answer to a call; `None` is one that only newer nodes know.
async fn answer<H: Handler>(handler: &H, from: MemberId, call: Option<Call>) -> Answer {
    let answer = match call {
        None => Err(CallRefusal::Unknown),
        Some(Call::Control(request)) => handler.control(from.node, request).await.map(Answer::Control),
        Some(Call::Propose(proposal)) => handler.propose(from, proposal).await.map(Answer::Propose),
        Some(Call::Heartbeat(heartbeat)) => handler.heartbeat(from, heartbeat).await.map(Answer::Heartbeat),
        Some(Call::AskHeartbeat) => handler.ask_heartbeat(from).await.map(Answer::AskHeartbeat),
        Some(Call::Follow(follow)) => handler.follow(from, follow).await.map(Answer::Follow),
        Some(Call::Ask(ask)) => handler.ask(ask).await.map(Answer::Ask),
        Some(Call::AskPosition) => handler.decided_position(from).await.map(Answer::AskPosition),
        Some(Call::Join(proposal)) => handler.join(proposal).await.map(Answer::Join),
    };
    let answer = answer.unwrap_or_else(Answer::Refused);
    match check_answer(&answer) {
        Ok(()) => answer,
        Err(error) => {
            warn!(to = ?from, %error, "an answer is not sent");
            Answer::Refused(CallRefusal::TooLarge { bytes: answer.len() as u64 })
        }
    }
}

/// Waits until a link is not to be served any more.
async fn over<H>(shared: &Shared<H>, session: &Session<'_>, (from, purpose): (MemberId, Purpose)) -> Refusal {
    let mut members = shared.directory.subscribe();
    let expelled = async {
        loop {
            if let Err(refusal) = members.borrow_and_update().check(from, purpose) {
                return refusal;
            }
            if members.changed().await.is_err() {
                return Refusal::Stopping;
            }
        }
    };
    tokio::select! {
        () = shared.stop.cancelled() => Refusal::Stopping,
        () = session.replaced() => Refusal::Replaced,
        refusal = expelled => refusal,
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
