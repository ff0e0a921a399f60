//! Replication classes: how many copies of its entries a map has, and how many must be in sync.

use std::collections::BTreeSet;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::GridSpec;

/// A grid has no more of different numbers, `standard` included.
const MOST: usize = 4;

/// A name for how many copies there are, which GridMaps can give instead of numbers.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("self.name != 'standard' && self.name != 'durable'").message("every grid has the classes standard and durable: give another name"),
    validation = Rule::new("!has(self.minInSync) || self.minInSync <= self.backups + 1").message("minInSync counts the primary's copy too, and may be at most backups + 1")
)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationClass {
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// How many copies an entry has beside the first; with 0 it is lost with its node.
    #[schemars(range(min = 0, max = 6))]
    pub backups: i32,
    /// How many copies, the first too, must be in sync for a write. One more than half the backups by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 7))]
    pub min_in_sync: Option<i32>,
}

/// The numbers of a class. To a grid, classes with the same numbers are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Replication {
    pub(crate) backups: u32,
    pub(crate) min_in_sync: u32,
}

impl Replication {
    const STANDARD: Self = Self { backups: 1, min_in_sync: 1 };
    const DURABLE: Self = Self { backups: 2, min_in_sync: 2 };

    /// As a specification says it. The schema has checked the numbers.
    pub(crate) fn specified(backups: i32, min_in_sync: Option<i32>) -> Self {
        let number = |number| u32::try_from(number).unwrap_or_default();
        Self::new(number(backups), min_in_sync.map(number).unwrap_or_default())
    }

    /// As a grid takes it: of no number, one more than half the backups must be in sync.
    pub(crate) fn new(backups: u32, min_in_sync: u32) -> Self {
        let default = backups / 2 + 1;
        Self { backups, min_in_sync: if min_in_sync == 0 { default } else { min_in_sync } }
    }

    pub(crate) fn copies(self) -> u32 {
        self.backups + 1
    }
}

impl GridSpec {
    /// All classes by name: those that every grid has, then its own.
    pub(crate) fn all_classes(&self) -> impl Iterator<Item = (&str, Replication)> {
        let common = [("standard", Replication::STANDARD), ("durable", Replication::DURABLE)];
        common.into_iter().chain(self.own_classes())
    }

    fn own_classes(&self) -> impl Iterator<Item = (&str, Replication)> {
        let numbers = |class: &ReplicationClass| Replication::specified(class.backups, class.min_in_sync);
        self.classes.iter().map(move |class| (class.name.as_str(), numbers(class)))
    }

    /// Classes of its own that have more copies than there are nodes.
    pub(crate) fn classes_short_of_nodes(&self) -> Vec<(&str, Replication)> {
        self.own_classes().filter(|(_, class)| class.copies() > self.nodes()).collect()
    }

    /// How many classes the grid would have, if these are more than it may: its own, and that which every grid makes when it is founded.
    pub(crate) fn too_many_classes(&self) -> Option<usize> {
        let own = self.own_classes().map(|(_, class)| class);
        let different: BTreeSet<Replication> = own.chain([Replication::STANDARD]).collect();
        Some(different.len()).filter(|count| *count > MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(size: i32, classes: &[(&str, i32, Option<i32>)]) -> GridSpec {
        let class = |&(name, backups, min_in_sync): &(&str, i32, Option<i32>)| ReplicationClass {
            name: name.to_owned(),
            backups,
            min_in_sync,
        };
        GridSpec { size, classes: classes.iter().map(class).collect(), ..GridSpec::default() }
    }

    #[test]
    fn a_grid_has_two_classes_and_its_own() {
        let grid = spec(3, &[("gold", 4, None), ("fast", 0, None), ("strict", 1, Some(2))]);
        let numbers = |(name, class): (&str, Replication)| {
            (name.to_owned(), class.backups, class.min_in_sync, class.copies())
        };
        let expected = [
            ("standard", 1, 1, 2),
            ("durable", 2, 2, 3),
            ("gold", 4, 3, 5),
            ("fast", 0, 1, 1),
            ("strict", 1, 2, 2),
        ];
        let expected = expected.map(|(name, backups, sync, copies)| (name.to_owned(), backups, sync, copies));
        assert_eq!(grid.all_classes().map(numbers).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn classes_with_more_copies_than_nodes_are_named() {
        let classes = [("gold", 4, None), ("fast", 0, None)];
        let short = |size| spec(size, &classes).classes_short_of_nodes().len();
        assert_eq!([short(1), short(4), short(5)], [1, 1, 0]);
        assert_eq!(spec(1, &[]).classes_short_of_nodes(), []);
    }

    #[test]
    fn classes_of_the_same_numbers_are_one() {
        let four = [("a", 0, None), ("b", 2, None), ("c", 3, None), ("d", 4, None)];
        assert_eq!(spec(3, &four).too_many_classes(), Some(5));
        assert_eq!(spec(3, &four[..3]).too_many_classes(), None);
        let same = [("a", 0, None), ("b", 2, None), ("c", 2, Some(2)), ("d", 1, None)];
        assert_eq!(spec(3, &same).too_many_classes(), None);
    }
}
