//! Work as the queues hold it: one allocation per item, which first works on the state and later, when the
//! strand has been given back, delivers its reply.

/// Whose slow work it is. One group takes at most half of a [`crate::ComputePool`], so that one function
/// leaves room for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Group(pub u64);

/// How a turn of slow work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn<R> {
    /// The work is complete, with this reply.
    Done(R),
    /// There is more to do: the work is first in line for another turn, after short work had its chance.
    Again,
}

/// Hands the reply to whoever waits for it.
pub(crate) trait Deliver: Send {
    fn deliver(self: Box<Self>);
}

pub(crate) trait ShortWork<P>: Deliver {
    fn step(&mut self, state: &mut P);
}

pub(crate) trait SlowWork<P, W>: Deliver {
    fn turn(&mut self, worker: &mut W, state: &mut P) -> Turn<()>;
}

/// `run` is a closure, in an `Option` when it is called only once.
pub(crate) struct Work<F, R, D> {
    run: F,
    reply: Option<R>,
    deliver: D,
}

impl<F, R, D> Work<F, R, D> {
    pub(crate) fn new(run: F, deliver: D) -> Self {
        Self { run, reply: None, deliver }
    }
}

impl<F, R, D> Deliver for Work<F, R, D>
where
    F: Send,
    R: Send,
    D: FnOnce(R) + Send,
{
    fn deliver(self: Box<Self>) {
        if let Some(reply) = self.reply {
            (self.deliver)(reply);
        }
    }
}

impl<P, F, R, D> ShortWork<P> for Work<Option<F>, R, D>
where
    F: FnOnce(&mut P) -> R + Send,
    R: Send,
    D: FnOnce(R) + Send,
{
    fn step(&mut self, state: &mut P) {
        self.reply = self.run.take().map(|step| step(state));
    }
}

impl<P, W, F, R, D> SlowWork<P, W> for Work<F, R, D>
where
    F: FnMut(&mut W, &mut P) -> Turn<R> + Send,
    R: Send,
    D: FnOnce(R) + Send,
{
    fn turn(&mut self, worker: &mut W, state: &mut P) -> Turn<()> {
        match (self.run)(worker, state) {
            Turn::Done(reply) => {
                self.reply = Some(reply);
                Turn::Done(())
            }
            Turn::Again => Turn::Again,
        }
    }
}
