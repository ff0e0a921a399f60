//! A partition whose set is lost goes on with a copy that nobody counted on any more.

use super::*;

impl Grid {
    /// All copies are in sync, and hold something.
    fn in_sync() -> Self {
        let mut grid = Self::new();
        grid.heal();
        grid.add(1, None);
        grid.heal();
        assert_eq!(grid.control.in_sync.len(), 3);
        grid
    }

    fn leaves(&mut self, node: usize) {
        let me = self.nodes[node].me;
        self.control.in_sync.remove(&me);
        self.control.wanted.remove(&me);
        self.control.version += 1;
        self.publish();
    }

    /// The last that was counted on loses its memory.
    fn lose(&mut self, node: usize) {
        let me = self.nodes[node].me;
        self.control.forget(me);
        assert!(self.control.is_lost());
        self.nodes[node] = newcomer(me.reborn(), &self.control);
        self.network.clear();
        self.publish();
    }

    /// As the control group decides it.
    fn recover(&mut self, node: usize) {
        let me = self.nodes[node].me;
        self.control.in_sync = BTreeSet::from([me]);
        self.control.primary = Some(me);
        self.control.epoch = self.control.epoch.next();
        self.control.version += 1;
        self.publish();
    }

    fn offer(&self, node: usize) -> Option<Offer> {
        self.nodes[node].copy.offer()
    }

    fn sum(&mut self, node: usize) -> Vec<u8> {
        self.entries(node).remove(&[1][..]).expect("the key is there").0
    }
}

#[test]
fn the_best_copy_serves_what_it_held_and_the_others_follow_it() {
    let mut grid = Grid::in_sync();
    grid.leaves(2);
    grid.add(1, None);
    grid.come_to_rest();
    let held = grid.entries(1);
    grid.leaves(1);
    grid.add(1, None);
    assert_eq!(grid.sum(0), b"3");
    grid.lose(0);
    let [best, behind] = [1, 2].map(|node| grid.offer(node).expect("it was given something"));
    assert!(best.last > behind.last, "{best:?} {behind:?}");
    assert_eq!((best.entries, grid.offer(0)), (1, None));
    grid.recover(1);
    assert_eq!((grid.entries(1), grid.nodes[1].copy.may_write()), (held, Ok(())));
    grid.add(1, None);
    assert_eq!(grid.sum(1), b"3", "it goes on from 2");
    grid.heal();
    assert_eq!(grid.control.in_sync.len(), 3);
    let entries = grid.entries(1);
    assert_eq!([0, 2].map(|node| grid.entries(node)), [entries.clone(), entries]);
}

#[test]
fn who_was_being_brought_in_sync_serves_what_it_held_before() {
    let mut grid = Grid::in_sync();
    grid.leaves(2);
    grid.add(1, None);
    // The record, and not that it is committed.
    grid.deliver(0, false);
    grid.network.clear();
    assert_eq!((grid.sum(1), grid.sum(0)), (b"1".to_vec(), b"2".to_vec()));
    let before = grid.offer(1);
    grid.leaves(1);
    grid.add(1, None);
    let me = grid.nodes[1].me;
    grid.control.want(BTreeSet::from([grid.nodes[0].me, me]));
    grid.publish();
    grid.deliver(0, false);
    assert!(grid.nodes[1].copy.aside.is_some() && grid.entries(1).is_empty(), "it has begun anew");
    assert_eq!(grid.offer(1), before);
    grid.lose(0);
    grid.recover(1);
    assert!(grid.nodes[1].copy.aside.is_none());
    assert_eq!(grid.sum(1), b"2", "what it was sent may have been acknowledged");
    grid.add(1, None);
    assert_eq!(grid.sum(1), b"3");
    grid.heal();
    let entries = grid.entries(1);
    assert_eq!([0, 2].map(|node| grid.entries(node)), [entries.clone(), entries]);
}

#[test]
fn a_map_that_is_dropped_is_gone_from_what_is_kept_until_the_copy_is_in_sync() {
    let mut grid = Grid::in_sync();
    grid.leaves(2);
    grid.leaves(1);
    grid.control.want(BTreeSet::from([grid.nodes[0].me, grid.nodes[1].me]));
    grid.publish();
    grid.deliver(0, false);
    assert_eq!(grid.offer(1).map(|offer| offer.entries), Some(1));
    let map = grid.map.id;
    grid.nodes[1].copy.maintain(|partition| partition.drop_map(map));
    assert_eq!(grid.offer(1).map(|offer| offer.entries), Some(0));
}
