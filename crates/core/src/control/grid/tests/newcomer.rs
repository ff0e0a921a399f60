//! Who founds a grid.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use super::fixture::ID;

fn process(number: u8) -> JoinNonce {
    JoinNonce([number; 16])
}

/// A process without a grid, which has promised it to that one, or to 0: nobody.
fn fresh(number: u8, promised: u8) -> Found {
    Found::Fresh { process: process(number), promised: (promised > 0).then(|| process(promised)) }
}

/// What process 1, of which so many are expected, makes of what it has found.
fn check(expect: usize, found: &[Found], expected: Step) {
    assert_eq!(Newcomer::new(process(1), Some(expect)).decide(found), expected, "{found:?}");
}

#[test]
fn who_finds_a_grid_joins_it() {
    let (grid, other) = (Found::Node { grid: ID }, GridId([8; 16]));
    check(1, &[grid], Step::Join(ID));
    check(3, &[Found::Nobody, fresh(2, 2), grid, grid], Step::Join(ID));
    assert_eq!(Newcomer::new(process(1), None).decide(&[Found::Nobody, grid]), Step::Join(ID));
    let different = Waiting::DifferentGrids { one: ID, other };
    check(1, &[grid, Found::Node { grid: other }], Step::Wait(different));
}

#[test]
fn who_was_not_told_to_found_a_grid_waits() {
    for found in [&[Found::Nobody][..], &[fresh(1, 0)], &[fresh(1, 0), fresh(2, 1)]] {
        let step = Newcomer::new(process(1), None).decide(found);
        assert_eq!(step, Step::Wait(Waiting::NotAsked));
    }
}

#[test]
fn who_does_not_know_waits() {
    check(1, &[], Step::Wait(Waiting::NoAddress));
    let silent = Waiting::Silent { silent: 1, addresses: 3 };
    check(2, &[fresh(1, 0), fresh(2, 1), Found::Nobody], Step::Wait(silent));
    check(3, &[fresh(1, 0), fresh(2, 1)], Step::Wait(Waiting::TooFew { found: 2, expected: 3 }));
    let four = [fresh(1, 0), fresh(2, 1), fresh(3, 1), fresh(4, 1)];
    check(2, &four, Step::Wait(Waiting::TooMany { found: 4, expected: 2 }));
    check(3, &four, Step::Found);
    check(2, &four[..3], Step::Found);
}

#[test]
fn a_process_counts_once_and_also_if_it_has_not_found_itself() {
    check(2, &[fresh(2, 1)], Step::Found);
    let twice = [fresh(1, 0), fresh(1, 0), fresh(2, 1), fresh(2, 1)];
    check(2, &twice, Step::Found);
    check(3, &twice, Step::Wait(Waiting::TooFew { found: 2, expected: 3 }));
    check(1, &[fresh(1, 0)], Step::Found);
}

#[test]
fn the_first_process_founds_once_all_have_promised_it() {
    let other = |number| Step::Wait(Waiting::Other { process: process(number) });
    check(3, &[fresh(1, 0), fresh(2, 0), fresh(3, 1)], Step::Court);
    check(3, &[fresh(1, 0), fresh(2, 1), fresh(3, 1)], Step::Found);
    check(3, &[fresh(1, 0), fresh(2, 1), fresh(3, 3)], other(3));
    check(3, &[fresh(0, 0), fresh(1, 0), fresh(2, 0)], other(0));
    // Who starts later is not before it.
    check(3, &[fresh(0, 1), fresh(2, 1), fresh(3, 1)], Step::Found);
}

#[test]
fn who_is_told_founds_with_whoever_is_there_and_not_beside_a_grid() {
    let told = |told, found: &[Found]| {
        let mut newcomer = Newcomer::new(process(5), None);
        newcomer.tell(Some(told));
        newcomer.decide(found)
    };
    use Told::{IfAllAnswer, WhoeverAnswers};
    for how in [IfAllAnswer, WhoeverAnswers] {
        assert_eq!(told(how, &[]), Step::Found);
        // Others would come first.
        assert_eq!(told(how, &[fresh(1, 0), fresh(2, 0)]), Step::Court);
        assert_eq!(told(how, &[fresh(1, 5), fresh(2, 5)]), Step::Found);
        let other = Step::Wait(Waiting::Other { process: process(2) });
        assert_eq!(told(how, &[fresh(1, 5), fresh(2, 2)]), other, "who may have founded one out of sight");
        let grid = GridId([7; 16]);
        assert_eq!(told(how, &[Found::Node { grid }, Found::Nobody]), Step::Join(grid));
    }
    let silent = Step::Wait(Waiting::Silent { silent: 1, addresses: 2 });
    assert_eq!(told(IfAllAnswer, &[fresh(1, 5), Found::Nobody]), silent);
    assert_eq!(told(WhoeverAnswers, &[fresh(1, 5), Found::Nobody]), Step::Found);
    let mut newcomer = Newcomer::new(process(5), None);
    newcomer.tell(Some(WhoeverAnswers));
    newcomer.tell(None);
    assert_eq!(newcomer.decide(&[fresh(1, 5)]), Step::Wait(Waiting::NotAsked), "it does not stick");
}

#[test]
fn a_promise_is_given_once() {
    let mut one = Newcomer::new(process(1), Some(3));
    assert_eq!(one.answer(process(2), false), None);
    assert_eq!(one.answer(process(2), true), Some(process(2)));
    assert_eq!([one.answer(process(3), true), one.answer(process(1), true)], [Some(process(2)); 2]);
    let found = [fresh(2, 1), fresh(3, 1)];
    assert_eq!(one.decide(&found), Step::Wait(Waiting::Other { process: process(2) }));
    let mut courts = Newcomer::new(process(1), Some(3));
    assert_eq!(courts.decide(&[fresh(2, 0), fresh(3, 0)]), Step::Court);
    assert_eq!(courts.answer(process(2), true), Some(process(1)), "it has promised itself");
}

/// Processes that find one another late, in part and again, or not at all.
struct Town {
    newcomers: Vec<Newcomer>,
    /// In which grid each is.
    grids: Vec<Option<GridId>>,
    /// What each knows of the addresses that it knows.
    found: Vec<BTreeMap<usize, Found>>,
    courting: Vec<bool>,
    seed: u64,
}

impl Town {
    fn new(seed: u64, processes: usize, expect: usize) -> Self {
        let newcomer = |number: usize| Newcomer::new(process(u8::try_from(number).unwrap()), Some(expect));
        Self {
            newcomers: (1..=processes).map(newcomer).collect(),
            grids: vec![None; processes],
            found: vec![BTreeMap::new(); processes],
            courting: vec![false; processes],
            seed,
        }
    }

    /// SplitMix64.
    fn random(&mut self, below: usize) -> usize {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % below as u64).unwrap()
    }

    fn ask(&mut self, from: usize, to: usize) {
        let (asks, courts) = (process(u8::try_from(from + 1).unwrap()), self.courting[from]);
        let answer = match self.grids[to] {
            Some(grid) => Found::Node { grid },
            None => {
                let promised = self.newcomers[to].answer(asks, courts);
                Found::Fresh { process: process(u8::try_from(to + 1).unwrap()), promised }
            }
        };
        self.found[from].insert(to, answer);
    }

    fn decide(&mut self, one: usize) {
        if self.grids[one].is_some() {
            return;
        }
        let found: Vec<Found> = self.found[one].values().copied().collect();
        match self.newcomers[one].decide(&found) {
            Step::Join(grid) => self.grids[one] = Some(grid),
            Step::Found => self.grids[one] = Some(GridId([u8::try_from(one + 1).unwrap(); 16])),
            Step::Court => self.courting[one] = true,
            Step::Wait(_) => {}
        }
    }

    /// Whatever may happen.
    fn go_on(&mut self) {
        let (one, other) = (self.random(self.newcomers.len()), self.random(self.newcomers.len()));
        match self.random(8) {
            0 => drop(self.found[one].insert(other, Found::Nobody)),
            1 => drop(self.found[one].remove(&other)),
            2..=4 => self.ask(one, other),
            _ => self.decide(one),
        }
    }

    /// Everybody finds everybody.
    fn settle(&mut self) {
        for _ in 0..3 {
            for one in (0..self.newcomers.len()).rev() {
                (0..self.newcomers.len()).for_each(|other| self.ask(one, other));
                self.decide(one);
            }
        }
    }

    fn check(&self) {
        let founded: BTreeSet<_> = self.grids.iter().flatten().collect();
        assert!(founded.len() <= 1, "seed {}: {founded:?}", self.seed);
    }
}

#[test]
fn however_late_they_find_one_another_one_grid_is_founded_at_the_most() {
    let mut founded = 0;
    for seed in 0..2000 {
        let mut town = Town::new(seed, 3 + usize::try_from(seed % 3).unwrap(), 3);
        for _ in 0..300 {
            town.go_on();
            town.check();
        }
        founded += usize::from(town.grids.iter().any(Option::is_some));
        town.settle();
        town.check();
        let promised: BTreeSet<_> =
            town.newcomers.iter_mut().filter_map(|one| one.answer(process(9), false)).collect();
        assert!(promised.len() > 1 || town.grids.iter().all(Option::is_some), "seed {seed}: {promised:?}");
    }
    assert!(founded > 1000, "most find one another: {founded}");
}

#[test]
fn those_who_find_one_another_are_all_in_one_grid_soon() {
    for (processes, expect) in [(1, 1), (2, 2), (3, 2), (3, 3), (5, 3)] {
        let mut town = Town::new(0, processes, expect);
        town.settle();
        assert_eq!(town.grids, vec![Some(GridId([1; 16])); processes]);
    }
}

#[test]
fn where_grids_are_claimed_a_promise_to_who_is_gone_is_void() {
    let promised = |newcomer: Newcomer, to| {
        let mut newcomer = newcomer;
        newcomer.answer(process(to), true);
        newcomer
    };
    let plain = Newcomer::new(process(1), Some(2));
    let gone = Step::Wait(Waiting::Other { process: process(9) });
    assert_eq!(promised(plain.clone(), 9).decide(&[fresh(2, 9)]), gone);
    let mut claims = promised(plain.clone().with_claims(), 9);
    assert_eq!(claims.decide(&[fresh(2, 9)]), Step::Court);
    assert_eq!(claims.decide(&[fresh(2, 1)]), Step::Found);
    let there = Step::Wait(Waiting::Other { process: process(2) });
    assert_eq!(promised(plain.with_claims(), 2).decide(&[fresh(2, 2)]), there);
}
