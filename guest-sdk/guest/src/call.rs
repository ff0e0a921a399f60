//! One batch: a request frame in, a reply frame out. The same for a module in a grid and for a test without one.

use std::fmt::Display;

use wattle_frame::guest::{Change, EntryView, ReplyWriter, Request};

use crate::context::{Context, GridTime};
use crate::entry::{Entry, Left};
use crate::failure::Failure;
use crate::format::{Decode, Encode};
use crate::function::Function;

/// What the macro's code reads: one entry and its argument, still as bytes.
#[derive(Debug)]
pub struct Call<'a> {
    context: Context<'a>,
    view: EntryView<'a>,
}

impl<'a> Call<'a> {
    #[inline]
    pub fn entry<F: Decode<'a, V>, V>(&self) -> Result<Entry<'a, V>, Failure> {
        let value = match self.view.value.map(F::decode).transpose() {
            Ok(value) => value,
            Err(error) => return Err(unreadable(Failure::UNREADABLE_VALUE, "value", F::NAME, &error)),
        };
        Ok(Entry::new(self.context, &self.view, value))
    }

    #[inline]
    pub fn argument<F: Decode<'a, A>, A>(&self) -> Result<A, Failure> {
        let bytes = if self.view.argument.is_empty() { F::NOTHING } else { self.view.argument };
        F::decode(bytes)
            .map_err(|error| unreadable(Failure::UNREADABLE_ARGUMENT, "argument", F::NAME, &error))
    }
}

/// What the macro's code writes: the answer to one entry after the other.
#[derive(Debug)]
pub struct Answers<'b> {
    reply: ReplyWriter<'b>,
}

impl Answers<'_> {
    /// Writes the response, straight into the frame. To answer nothing takes no bytes.
    #[inline]
    pub fn respond<F: Encode<R>, R: ?Sized>(&mut self, response: &R) -> Result<(), Failure> {
        let sink = self.reply.begin_response();
        let start = sink.len();
        F::encode(response, sink).map_err(|error| unwritable("response", F::NAME, &error))?;
        if sink.get(start..) == Some(F::NOTHING) {
            sink.truncate(start);
        }
        Ok(())
    }

    /// Ends the answer of a function that only reads.
    #[inline]
    pub fn keep(&mut self) -> Result<(), Failure> {
        Ok(self.reply.end(Change::Keep)?)
    }

    /// Writes what the function left in the entry, and ends the answer.
    #[inline]
    pub fn conclude<F: Encode<V>, V>(&mut self, entry: &Entry<'_, V>) -> Result<(), Failure> {
        let change = match entry.left() {
            Left::Nothing(change) => change,
            Left::Stored(bytes, change) => {
                self.reply.begin_value().extend_from_slice(bytes);
                change
            }
            Left::Value(value, change) => {
                F::encode(value, self.reply.begin_value())
                    .map_err(|error| unwritable("value", F::NAME, &error))?;
                change
            }
        };
        Ok(self.reply.end(change)?)
    }
}

// Out of line: the text would otherwise be built anew in the code of every function.
#[cold]
#[inline(never)]
fn unreadable(code: u32, part: &str, format: &str, error: &dyn Display) -> Failure {
    Failure::new(code, format!("the {part} is not the {format} that the function takes: {error}"))
}

#[cold]
#[inline(never)]
fn unwritable(part: &str, format: &str, error: &dyn Display) -> Failure {
    Failure::new(Failure::UNWRITABLE_ANSWER, format!("the {part} cannot be written as {format}: {error}"))
}

#[cold]
#[inline(never)]
fn no_such_function(place: u32) -> Failure {
    Failure::new(Failure::PROTOCOL, format!("the module has no function {place}"))
}

/// Runs one of the functions on every entry of a request. A failure of one entry is that entry's answer; an error
/// is one of the whole batch.
pub(crate) fn process(functions: &[Function], frame: &[u8], reply: &mut Vec<u8>) -> Result<(), Failure> {
    let request = Request::parse(frame)?;
    let function =
        functions.get(request.function() as usize).ok_or_else(|| no_such_function(request.function()))?;
    let context = Context { map: request.map(), now: GridTime::from_millis(request.now_ms()) };
    let mut answers = Answers { reply: ReplyWriter::new(reply, request.len())? };
    for view in request.entries() {
        let call = Call { context, view: view? };
        if let Err(failure) = function.run(&call, &mut answers) {
            answers.reply.fail(failure.code(), failure.message())?;
        }
    }
    answers.reply.finish()?;
    Ok(())
}
