//! Random scripts on several threads: what was accepted ran exactly once, and the keyed work of each thread in
//! its order.

use std::{
    collections::HashSet,
    sync::{Arc, mpsc},
    thread,
};

use proptest::{collection::vec, prelude::*};
use wattle_strand::{ComputePool, Cost, Depth, Group, Strand, Turn};

use crate::harness::{ONE, bounds, pool, receive};

const STRANDS: usize = 2;

/// (thread, its number)
type Ticket = (usize, usize);

#[derive(Clone, Copy, Debug)]
enum Action {
    /// try_run, and submit if the strand is busy.
    Keyed,
    /// The same with several operations at once.
    Batch(usize),
    Urgent,
    /// Slow work of so many turns.
    Slow(u8),
    /// A keyed step that submits urgent work to the other strand.
    Nested,
}

/// What ran on a strand.
#[derive(Default)]
struct Ran {
    keyed: Vec<Ticket>,
    other: Vec<Ticket>,
}

type TestStrand = Arc<Strand<Ran, ()>>;

fn action() -> impl Strategy<Value = (usize, Action)> {
    let action = prop_oneof![
        4 => Just(Action::Keyed),
        1 => (2_usize..80).prop_map(Action::Batch),
        1 => Just(Action::Urgent),
        2 => (1_u8..4).prop_map(Action::Slow),
        1 => Just(Action::Nested),
    ];
    (0..STRANDS, action)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn accepted_work_runs_once_and_keyed_work_in_order(
        scripts in vec(vec(action(), 1..60), 1..4),
        bound in 1_usize..100,
    ) {
        let pool: ComputePool<Ran, ()> = pool(2);
        let strands: Arc<[TestStrand; STRANDS]> =
            Arc::new([(); STRANDS].map(|()| pool.strand(Ran::default(), bounds(bound))));
        let (sender, delivered) = mpsc::channel();
        let threads: Vec<_> = scripts
            .into_iter()
            .enumerate()
            .map(|(thread, script)| {
                let (strands, sender) = (Arc::clone(&strands), sender.clone());
                thread::spawn(move || perform(thread, &script, &strands, &sender))
            })
            .collect();
        let accepted: HashSet<Ticket> =
            threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
        let tickets: Vec<Ticket> = accepted.iter().map(|_| receive(&delivered)).collect();
        prop_assert_eq!(&tickets.iter().copied().collect::<HashSet<_>>(), &accepted);
        pool.shutdown();
        drop(sender);
        let mut ran = Vec::new();
        for strand in strands.iter() {
            prop_assert_eq!(strand.depth(), Depth::default());
            let Ok(Ran { keyed, other }) = strand.try_run(std::mem::take) else { panic!("all is done") };
            for thread in 0..3 {
                prop_assert!(keyed.iter().filter(|ticket| ticket.0 == thread).is_sorted(), "{:?}", keyed);
            }
            ran.extend(keyed);
            ran.extend(other);
        }
        prop_assert_eq!(ran.len(), accepted.len());
        prop_assert_eq!(ran.into_iter().collect::<HashSet<_>>(), accepted);
        prop_assert!(delivered.try_recv().is_err(), "nothing is delivered twice");
    }
}

/// Performs the script of one thread; returns what was accepted.
fn perform(
    thread: usize,
    script: &[(usize, Action)],
    strands: &Arc<[TestStrand; STRANDS]>,
    sender: &mpsc::Sender<Ticket>,
) -> Vec<Ticket> {
    let mut accepted = Vec::new();
    for (number, (at, action)) in script.iter().enumerate() {
        let ticket = (thread, number);
        let tell = {
            let sender = sender.clone();
            move |()| sender.send(ticket).expect("the test receives")
        };
        let strand = &strands[*at];
        let keyed = move |ran: &mut Ran| ran.keyed.push(ticket);
        let is_accepted = match *action {
            Action::Keyed => submit_keyed(strand, ONE, keyed, tell),
            Action::Batch(operations) => submit_keyed(strand, Cost { operations, bytes: 0 }, keyed, tell),
            Action::Urgent => {
                strand.submit_urgent(move |ran| ran.other.push(ticket), tell);
                true
            }
            Action::Slow(turns) => submit_slow(strand, ticket, turns, tell),
            Action::Nested => {
                let inner_ticket = (thread, 1000 + number);
                let step = nested(ticket, inner_ticket, Arc::clone(&strands[1 - at]), sender.clone());
                let is_accepted = submit_keyed(strand, ONE, step, tell);
                accepted.extend(is_accepted.then_some(inner_ticket));
                is_accepted
            }
        };
        accepted.extend(is_accepted.then_some(ticket));
    }
    accepted
}

fn submit_keyed(
    strand: &TestStrand,
    cost: Cost,
    step: impl FnOnce(&mut Ran) + Send + 'static,
    tell: impl FnOnce(()) + Send + 'static,
) -> bool {
    match strand.try_run(step) {
        Ok(()) => {
            tell(());
            true
        }
        Err(step) => strand.submit(cost, step, tell).is_ok(),
    }
}

fn submit_slow(
    strand: &TestStrand,
    ticket: Ticket,
    mut turns: u8,
    tell: impl FnOnce(()) + Send + 'static,
) -> bool {
    let group = Group(u64::from(turns));
    let turn = move |(): &mut (), ran: &mut Ran| {
        turns -= 1;
        if turns > 0 {
            return Turn::Again;
        }
        ran.other.push(ticket);
        Turn::Done(())
    };
    strand.submit_slow(group, ONE, turn, tell).is_ok()
}

fn nested(
    ticket: Ticket,
    inner: Ticket,
    other: TestStrand,
    sender: mpsc::Sender<Ticket>,
) -> impl FnOnce(&mut Ran) + Send + 'static {
    move |ran| {
        ran.keyed.push(ticket);
        let tell = move |()| sender.send(inner).expect("the test receives");
        other.submit_urgent(move |ran| ran.other.push(inner), tell);
    }
}
