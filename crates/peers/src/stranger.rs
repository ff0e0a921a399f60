//! What a node asks at an address before it is a member, or without being one: one question on a link of its own, in bounded time.

use bytes::Bytes;
use tokio::time::timeout;
use wattle_core::limits::{PEER_HELLO_TIME, STRANGER_BYTES, STRANGER_TIME};
use wattle_proto::internal as wire;
use wire::link_request::Body as Said;
use wire::link_response::Body as Heard;

use crate::call::{Admission, Answer, Ask, Call, Situation};
use crate::codec::{decode_answer, encode_call};
use crate::dial::{dial, hear, out_of_place, say};
use crate::error::{AskError, LinkError};
use crate::handler::Handler;
use crate::hello::{answer_strange_challenge, draw_nonce, stranger_hello};
use crate::identity::Standing;
use crate::peers::Peers;
use crate::refusal::Refusal;

/// Beside what it carries, in bytes.
const QUESTION_OVERHEAD: usize = 64;

impl<H: Handler> Peers<H> {
    /// Asks whoever is at an address (`HOST:PORT`) who it is, and how things are there. It may be this node.
    ///
    /// # Errors
    /// There is no answer, or none in time, or nobody who has this grid's secret, or is in another grid than the one looked for.
    pub async fn ask(&self, address: &str, ask: Ask) -> Result<(Standing, Situation), AskError> {
        match self.question(address, Call::Ask(ask)).await? {
            (standing, Answer::Ask(situation)) => Ok((standing, situation)),
            _ => Err(AskError::OtherKind),
        }
    }

    /// Has somebody at an address see to it that this node becomes a member, by a proposal in the control group's format, and says in
    /// which grid. To be asked again with the same proposal if there is no answer.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn join(&self, address: &str, proposal: Bytes) -> Result<(Standing, Admission), AskError> {
        let bytes = proposal.len();
        if bytes + QUESTION_OVERHEAD > STRANGER_BYTES {
            return Err(AskError::TooLarge { bytes });
        }
        match self.question(address, Call::Join(proposal)).await? {
            (standing, Answer::Join(admission)) => Ok((standing, admission)),
            _ => Err(AskError::OtherKind),
        }
    }

    async fn question(&self, address: &str, call: Call) -> Result<(Standing, Answer), AskError> {
        let answered = tokio::select! {
            () = self.shared.stop.cancelled() => Err(LinkError::Denied(Refusal::Stopping)),
            answered = self.exchange(address, call) => answered,
        };
        match answered? {
            (_, Answer::Refused(refusal)) => Err(refusal.into()),
            answered => Ok(answered),
        }
    }

    async fn exchange(&self, address: &str, call: Call) -> Result<(Standing, Answer), LinkError> {
        let own = self.shared.identity();
        let nonce = draw_nonce()?;
        let read = |challenge: &_| answer_strange_challenge(&own, nonce, challenge);
        let (mut open, standing) = dial(address, &own.secret, stranger_hello(&own, &nonce), read).await?;
        self.shared.counters.calls.add(1);
        say(&open.said, Said::Call(encode_call(0, call))).await;
        // A little longer than the other takes at the most, for then it says so.
        let heard = timeout(STRANGER_TIME + PEER_HELLO_TIME, hear(&mut open.heard)).await;
        let heard = heard.map_err(|_| LinkError::Timeout { address: address.to_owned() })?;
        let Heard::Answer(answer) = heard? else { return Err(out_of_place()) };
        let answer = decode_answer(answer.body);
        Ok((standing, answer.map_err(|error| LinkError::Denied(Refusal::malformed(&error)))?))
    }
}
