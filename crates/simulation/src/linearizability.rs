//! Whether a history of one key can be explained by operations that ran one after the other, in an order that agrees with real
//! time: the search of Wing and Gong (1993) with Lowe's memory of states (2017), as in porcupine.
//!
//! An operation without an answer may have taken effect at any time after it was asked, or never. Versions rise with every write.

use std::collections::HashSet;

use wattle_core::ids::Version;

pub use crate::clock::Time;
pub use crate::history::{Answer, Operation};
pub use crate::letter::{Action, Shown};

/// States that are looked at before the search gives up.
const STATES: usize = 2_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// An order explains the history.
    Linearizable,
    /// None does.
    Contradiction {
        /// How many answers can be explained.
        explained: usize,
    },
    /// The search was given up.
    Undecided,
}

/// What the entry of a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    value: Option<i64>,
    /// Its version, if that is known; else one that it is behind.
    version: Version,
    known: bool,
}

/// The calls and returns of operations, in the order of time, in a list from which they are taken.
struct Events {
    /// The operation; and whether it is its call.
    events: Vec<(usize, bool)>,
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Where the return of an operation is.
    returns: Vec<Option<usize>>,
}

/// Judges a history that begins without an entry.
#[must_use]
pub fn judge(history: &[Operation]) -> Finding {
    let history: Vec<&Operation> = history
        .iter()
        .filter(|operation| operation.answer.is_some() || operation.action != Action::Get)
        .collect();
    let mut events = Events::new(&history);
    let mut open = history.iter().filter(|operation| operation.answer.is_some()).count();
    let (all, mut fewest) = (open, open);
    let mut state = State { value: None, version: Version::NONE, known: false };
    let mut done = vec![0_u64; history.len().div_ceil(64)];
    let mut seen: HashSet<(Vec<u64>, State)> = HashSet::new();
    // The calls that were taken, with the state before each.
    let mut taken: Vec<(usize, State)> = Vec::new();
    let mut at = events.first();
    // What was not answered is tried when nothing else explains what comes next: it may come at any time, so it would be tried first
    // at all times, in every order.
    let mut tries_unanswered = false;
    while open > 0 {
        let Some((operation, is_call)) = events.get(at) else {
            unreachable!("an operation that was answered has a return in the list");
        };
        let is_tried = is_call && history[operation].answer.is_none() == tries_unanswered;
        let after = if is_tried { history[operation].apply(state) } else { None };
        if let Some(after) = after {
            done[operation / 64] |= 1 << (operation % 64);
            if seen.insert((done.clone(), after)) {
                if seen.len() > STATES {
                    return Finding::Undecided;
                }
                taken.push((at, state));
                state = after;
                open -= usize::from(history[operation].answer.is_some());
                fewest = fewest.min(open);
                events.take(at);
                (at, tries_unanswered) = (events.first(), false);
                continue;
            }
            done[operation / 64] &= !(1 << (operation % 64));
        }
        if is_call {
            at = events.after(at);
            continue;
        }
        if !tries_unanswered {
            (at, tries_unanswered) = (events.first(), true);
            continue;
        }
        // A return whose call cannot be explained before it: the last call that was taken is to come later.
        let Some((last, before)) = taken.pop() else {
            return Finding::Contradiction { explained: all - fewest };
        };
        let (operation, _) = events.put_back(last);
        done[operation / 64] &= !(1 << (operation % 64));
        open += usize::from(history[operation].answer.is_some());
        state = before;
        (at, tries_unanswered) = (events.after(last), history[operation].answer.is_none());
    }
    Finding::Linearizable
}

impl Operation {
    /// The state after it, if it can have taken effect on this one and have shown what it did.
    fn apply(&self, state: State) -> Option<State> {
        let shown = self.answer.map(|answer| answer.shown);
        match (self.action, shown) {
            (Action::Get, Some(Shown::Found(None))) => state.value.is_none().then_some(state),
            (Action::Get, Some(Shown::Found(Some((value, version))))) => {
                (state.value == Some(value)).then_some(state)?.seen(version)
            }
            (Action::Put(value), Some(Shown::Written(version))) => state.written(value, version),
            (Action::Put(value), None) => Some(state.perhaps(Some(value))),
            (Action::CompareAndSet { expected, value }, Some(Shown::Written(version))) => {
                state.matching(expected)?.written(value, version)
            }
            (Action::CompareAndSet { expected, .. }, Some(Shown::Mismatch(found))) => {
                (expected != found).then_some(state)?.matching(found)
            }
            (Action::CompareAndSet { expected, value }, None) => {
                Some(state.matching(expected)?.perhaps(Some(value)))
            }
            (Action::Increment(delta), Some(Shown::Sum(sum, version))) => {
                (state.value.unwrap_or(0) + delta == sum).then_some(state)?.written(sum, version)
            }
            (Action::Increment(delta), Some(Shown::Counted(sum))) => {
                (state.value.unwrap_or(0) + delta == sum).then(|| state.perhaps(Some(sum)))
            }
            (Action::Increment(delta), None) => Some(state.perhaps(Some(state.value.unwrap_or(0) + delta))),
            (Action::Remove, Some(Shown::Removed(removed))) => {
                (state.value.is_some() == removed).then(|| state.perhaps(None))
            }
            (Action::Remove, None) => state.value.is_some().then(|| state.perhaps(None)),
            // An answer of another kind.
            (
                Action::Get
                | Action::Put(_)
                | Action::CompareAndSet { .. }
                | Action::Increment(_)
                | Action::Remove,
                _,
            ) => None,
        }
    }
}

impl State {
    /// The entry was shown with a version.
    fn seen(self, version: Version) -> Option<Self> {
        let fits = if self.known { version == self.version } else { version > self.version };
        fits.then_some(Self { version, known: true, ..self })
    }

    /// What is there has this version; none stands for no entry.
    fn matching(self, version: Version) -> Option<Self> {
        match self.value {
            None => (version == Version::NONE).then_some(self),
            Some(_) => self.seen(version),
        }
    }

    fn written(self, value: i64, version: Version) -> Option<Self> {
        (version > self.version).then_some(Self { value: Some(value), version, known: true })
    }

    /// Changed, and nobody was told how.
    fn perhaps(self, value: Option<i64>) -> Self {
        Self { value, known: false, ..self }
    }
}

impl Events {
    fn new(history: &[&Operation]) -> Self {
        let mut moments: Vec<(Time, bool, usize)> = Vec::new();
        for (place, operation) in history.iter().enumerate() {
            // At the same time calls come first: that allows more.
            moments.push((operation.asked, false, place));
            moments.extend(operation.answer.map(|answer| (answer.at, true, place)));
        }
        moments.sort_unstable();
        let mut returns = vec![None; history.len()];
        // 0 is the head of the list.
        let mut events = vec![(usize::MAX, false)];
        for (_, is_return, place) in moments {
            if is_return {
                returns[place] = Some(events.len());
            }
            events.push((place, !is_return));
        }
        let end = events.len();
        let next = (1..=end).map(|next| next % end).collect();
        let previous = (0..end).map(|at| (at + end - 1) % end).collect();
        Self { events, next, previous, returns }
    }

    fn first(&self) -> usize {
        self.next[0]
    }

    fn after(&self, at: usize) -> usize {
        self.next[at]
    }

    fn get(&self, at: usize) -> Option<(usize, bool)> {
        (at != 0).then(|| self.events[at])
    }

    /// Takes a call and its return out.
    fn take(&mut self, call: usize) {
        self.unlink(call);
        if let Some(end) = self.returns[self.events[call].0] {
            self.unlink(end);
        }
    }

    /// Puts them back where they were; what was taken after them is back already.
    fn put_back(&mut self, call: usize) -> (usize, bool) {
        if let Some(end) = self.returns[self.events[call].0] {
            self.link(end);
        }
        self.link(call);
        self.events[call]
    }

    fn unlink(&mut self, at: usize) {
        let (previous, next) = (self.previous[at], self.next[at]);
        self.next[previous] = next;
        self.previous[next] = previous;
    }

    fn link(&mut self, at: usize) {
        let (previous, next) = (self.previous[at], self.next[at]);
        self.next[previous] = at;
        self.previous[next] = at;
    }
}

#[cfg(test)]
mod tests;
