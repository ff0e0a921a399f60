//! What goes over the links that this node opens: [`Replication`], messages without answers, and [`Calls`].

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use prost::Message;
use tokio::sync::oneshot;
use wattle_core::limits::{PEER_BATCH_BYTES, PEER_CALL_BYTES, PEER_MESSAGE_BYTES};
use wattle_proto::internal as wire;
use wire::link_request::Body;

use crate::call::{Answer, Call};
use crate::codec::{decode_answer, encode, encode_call};
use crate::counters::Counters;
use crate::error::{CallError, LinkError, SendError};
use crate::identity::Purpose;
use crate::message::{PeerMessage, together};
use crate::queue::{Queue, Queued};
use crate::refusal::Refusal;
use crate::reigns::Reigns;

/// What a link carries.
pub(crate) trait Traffic: Send + Sync + 'static {
    fn purpose(&self) -> Purpose;

    /// Waits for what is to be sent next.
    fn next(&self) -> impl Future<Output = Body> + Send;

    /// Something has come back.
    fn receive(&self, answer: wire::Answer) -> Result<(), LinkError>;

    /// The link is being opened: takes things in.
    fn open(&self);

    /// The link is down: throws away what waits.
    fn close(&self);
}

#[derive(Debug)]
pub(crate) struct Replication {
    queue: Queue<PeerMessage>,
    counters: Arc<Counters>,
    reigns: Arc<Reigns>,
}

impl Replication {
    pub(crate) fn new(counters: Arc<Counters>, reigns: Arc<Reigns>) -> Self {
        Self { queue: Queue::new(), counters, reigns }
    }

    /// Takes a message, or as many pieces of a long one as there is room for.
    pub(crate) fn send(&self, message: PeerMessage) -> Result<(), SendError> {
        let weight = message.weight();
        if weight <= PEER_BATCH_BYTES {
            return self.push(message, weight);
        }
        for piece in message.into_pieces() {
            let weight = piece.weight();
            self.push(piece, weight)?;
        }
        Ok(())
    }

    fn push(&self, message: PeerMessage, weight: usize) -> Result<(), SendError> {
        let pushed = if weight > PEER_MESSAGE_BYTES {
            Err(SendError::TooLarge { bytes: weight })
        } else {
            self.queue.push(message, weight).map_err(SendError::from)
        };
        if pushed.is_err() {
            self.counters.refused.add(1);
        }
        pushed
    }

    pub(crate) fn queued(&self) -> Queued {
        self.queue.queued()
    }
}

impl Traffic for Replication {
    fn purpose(&self) -> Purpose {
        Purpose::Replication
    }

    async fn next(&self) -> Body {
        let messages = together(self.queue.take(PEER_BATCH_BYTES).await);
        let mut batch = wire::Batch { messages: messages.into_iter().map(encode).collect() };
        batch.messages.iter_mut().for_each(|message| self.reigns.sign(message));
        let chunks = batch.messages.iter().filter(|message| is_chunk(message));
        self.counters.sent_batches.add(1);
        self.counters.sent_messages.add(batch.messages.len());
        self.counters.sent_bytes.add(batch.encoded_len());
        self.counters.sent_chunk_bytes.add(chunks.map(wire::PeerMessage::encoded_len).sum());
        Body::Batch(batch)
    }

    fn receive(&self, _: wire::Answer) -> Result<(), LinkError> {
        Err(LinkError::Denied(Refusal::malformed(&"an answer to no call")))
    }

    fn open(&self) {
        self.queue.open();
    }

    fn close(&self) {
        self.counters.dropped.add(self.queue.close());
    }
}

fn is_chunk(message: &wire::PeerMessage) -> bool {
    use wire::partition_message::Body as Kind;
    let Some(wire::peer_message::Body::Partition(message)) = &message.body else { return false };
    matches!(message.body, Some(Kind::Chunk(_)))
}

#[derive(Debug)]
pub(crate) struct Calls {
    purpose: Purpose,
    queue: Queue<(u64, Call)>,
    /// Who waits for which answer. Held to look one up, and never across an await.
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    next_id: AtomicU64,
    counters: Arc<Counters>,
}

/// Somebody waits for an answer.
struct Waiting<'a> {
    calls: &'a Calls,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.calls.waiting.lock().remove(&self.id);
    }
}

impl Calls {
    pub(crate) fn new(purpose: Purpose, counters: Arc<Counters>) -> Self {
        let (queue, waiting, next_id) = (Queue::new(), Mutex::default(), AtomicU64::new(0));
        Self { purpose, queue, waiting, next_id, counters }
    }

    /// Sends a call and waits for its answer; when dropped before, the answer is not waited for.
    pub(crate) async fn call(&self, call: Call) -> Result<Answer, CallError> {
        if call.len() > PEER_CALL_BYTES {
            return Err(SendError::TooLarge { bytes: call.len() }.into());
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().insert(id, sender);
        let _waiting = Waiting { calls: self, id };
        let weight = call.weight();
        self.queue.push((id, call), weight).map_err(SendError::from)?;
        match answer.await {
            Ok(Answer::Refused(refusal)) => Err(refusal.into()),
            Ok(answer) => Ok(answer),
            Err(_) => Err(CallError::Broken),
        }
    }

    #[cfg(test)]
    pub(crate) fn unanswered(&self) -> usize {
        self.waiting.lock().len()
    }
}

impl Traffic for Calls {
    fn purpose(&self) -> Purpose {
        self.purpose
    }

    async fn next(&self) -> Body {
        loop {
            // One at a time: whatever it weighs, the first is taken.
            for (id, call) in self.queue.take(0).await {
                if self.waiting.lock().contains_key(&id) {
                    let call = encode_call(id, call);
                    self.counters.calls.add(1);
                    self.counters.say(self.purpose, call.encoded_len());
                    return Body::Call(call);
                }
            }
        }
    }

    fn receive(&self, answer: wire::Answer) -> Result<(), LinkError> {
        let decoded = decode_answer(answer.body);
        let decoded = decoded.map_err(|error| LinkError::Denied(Refusal::malformed(&error)))?;
        // Without anybody who waits it is the answer to a call that was given up, or comes twice.
        if let Some(waiting) = self.waiting.lock().remove(&answer.id) {
            drop(waiting.send(decoded));
        }
        Ok(())
    }

    fn open(&self) {
        self.queue.open();
    }

    fn close(&self) {
        self.counters.dropped.add(self.queue.close());
        self.waiting.lock().clear();
    }
}
