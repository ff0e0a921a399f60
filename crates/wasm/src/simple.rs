//! The calls of the world `simple-entry-processor`: one typed entry at a time. The answers become a reply frame
//! here, so that callers see one kind of reply.

use wasmtime::Store;
use wasmtime::component::{ComponentType, Func, Lift, Lower, TypedFunc};
use wattle_frame::FrameError;
use wattle_frame::guest::{EntryView, ReplyWriter, Request};

use crate::guest_state::GuestState;
use crate::limits::{MESSAGE_BYTES, REPLY_BYTES};
use crate::packed::Failure;
use crate::stop::{RequestError, Stop, cut};

pub(crate) const EXPORT: &str = "process-entry";

pub(crate) type Parameters<'a> = (Context<'a>, Entry<'a>, &'a [u8]);
pub(crate) type ResultOfEntry = (Result<Answer, Failure>,);

#[derive(Debug, Clone, Copy, ComponentType, Lower)]
#[component(record)]
pub(crate) struct Context<'a> {
    function: u32,
    #[component(name = "map-name")]
    map_name: &'a str,
    #[component(name = "now-ms")]
    now_ms: u64,
}

#[derive(Debug, Clone, Copy, ComponentType, Lower)]
#[component(record)]
pub(crate) struct Entry<'a> {
    key: &'a [u8],
    value: Option<&'a [u8]>,
    version: u64,
    #[component(name = "ttl-ms")]
    ttl_ms: Option<u64>,
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct TimedValue {
    value: Vec<u8>,
    #[component(name = "ttl-ms")]
    ttl_ms: u64,
}

#[derive(Debug, ComponentType, Lift)]
#[component(variant)]
pub(crate) enum Effect {
    #[component(name = "keep")]
    Keep,
    #[component(name = "put")]
    Put(Vec<u8>),
    #[component(name = "put-with-ttl")]
    PutWithTtl(TimedValue),
    #[component(name = "remove")]
    Remove,
    #[component(name = "other")]
    Other(u32),
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Answer {
    effect: Effect,
    response: Vec<u8>,
}

/// What went wrong in one of the calls.
pub(crate) enum SimpleError {
    Engine(wasmtime::Error),
    Stop(Stop),
}

impl From<FrameError> for SimpleError {
    fn from(error: FrameError) -> Self {
        Self::Stop(Stop::BadRequest(RequestError::Frame(error)))
    }
}

/// Calls the guest for each entry of the request, and leaves a reply frame in the buffer.
pub(crate) fn call_each(
    store: &mut Store<GuestState>,
    function: Func,
    request: &Request<'_>,
    buffer: &mut Vec<u8>,
) -> Result<(), SimpleError> {
    let context = Context { function: request.function(), map_name: request.map(), now_ms: request.now_ms() };
    let mut reply = ReplyWriter::new(buffer, request.len())?;
    let mut bytes = 0;
    for entry in request.entries() {
        let answer = call(store, function, context, &entry?).map_err(SimpleError::Engine)?;
        bytes += answer.as_ref().map_or(0, Answer::size);
        if bytes > REPLY_BYTES {
            return Err(SimpleError::Stop(Stop::ReplyTooLarge { limit: REPLY_BYTES }));
        }
        write(&mut reply, answer)?;
    }
    reply.finish()?;
    Ok(())
}

fn call(
    store: &mut Store<GuestState>,
    function: Func,
    context: Context<'_>,
    entry: &EntryView<'_>,
) -> wasmtime::Result<Result<Answer, Failure>> {
    let typed = Entry { key: entry.key, value: entry.value, version: entry.version, ttl_ms: entry.ttl_ms };
    // SAFETY: `Module::load` checked the export's type against these very types.
    let function = unsafe { TypedFunc::<Parameters<'_>, ResultOfEntry>::new_unchecked(function) };
    let (result,) = function.call(store, (context, typed, entry.argument))?;
    Ok(result)
}

fn write(reply: &mut ReplyWriter<'_>, answer: Result<Answer, Failure>) -> Result<(), SimpleError> {
    match answer {
        Err(failure) => reply.fail(failure.code, &cut(&failure.message, MESSAGE_BYTES))?,
        Ok(Answer { effect, response }) => match effect {
            Effect::Keep => reply.keep(&response)?,
            Effect::Put(value) => reply.put(&value, &response)?,
            Effect::PutWithTtl(timed) => reply.put_with_ttl(&timed.value, timed.ttl_ms, &response)?,
            Effect::Remove => reply.remove(&response)?,
            Effect::Other(code) => return Err(SimpleError::Stop(Stop::UnknownEffect { code })),
        },
    }
    Ok(())
}

impl Answer {
    fn size(&self) -> usize {
        let value = match &self.effect {
            Effect::Put(value) => value.len(),
            Effect::PutWithTtl(timed) => timed.value.len(),
            Effect::Keep | Effect::Remove | Effect::Other(_) => 0,
        };
        value + self.response.len()
    }
}
