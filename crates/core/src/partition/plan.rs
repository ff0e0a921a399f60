//! Where the replicas of all partitions should be: as many on every node, those of a partition in different zones, and as few moved
//! as that takes.
//!
//! The plan starts from today's table and moves single replicas along augmenting paths of nodes, the shortest first, until no
//! node holds more than its ceiling or less than its floor. Hashing (rendezvous, say) needs no table, but at a few replicas a node it is far off
//! balance; ceilings without floors move nothing to a node that is new.

use std::collections::{BTreeMap, VecDeque};

use xxhash_rust::xxh3::xxh3_64;

use crate::ids::NodeId;

/// A node that may hold replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site {
    /// Which node.
    pub node: NodeId,
    /// What fails together; `None` is a zone of its own.
    pub zone: Option<u32>,
}

/// Plans the replicas of as many partitions as `today` has: for each the nodes that should hold it, the primary first. `today` is
/// the same, as it is; nodes in it that are not among the sites are gone.
#[must_use]
pub fn plan(sites: &[Site], copies: usize, today: &[Vec<NodeId>]) -> Vec<Vec<NodeId>> {
    if sites.is_empty() {
        return vec![Vec::new(); today.len()];
    }
    let mut plan = Plan::new(sites, copies, today);
    plan.fill();
    plan.level();
    plan.choose_primaries(today);
    plan.replicas()
}

#[derive(Debug)]
struct Plan<'a> {
    sites: &'a [Site],
    copies: usize,
    /// Of each site.
    zones: Vec<usize>,
    /// The most replicas of one partition in one zone.
    per_zone: usize,
    /// The least and the most replicas of each site.
    quotas: Vec<(usize, usize)>,
    /// The sites of each partition.
    holders: Vec<Vec<usize>>,
    /// The partitions of each site.
    held: Vec<Vec<usize>>,
    /// The primary of each partition.
    primaries: Vec<usize>,
}

impl<'a> Plan<'a> {
    fn new(sites: &'a [Site], copies: usize, today: &[Vec<NodeId>]) -> Self {
        let copies = copies.clamp(1, sites.len());
        let (zones, count) = number_zones(sites);
        let per_zone = per_zone(&zones, count, copies);
        let mut plan = Self {
            sites,
            copies,
            quotas: quotas(&zones, count, (today.len(), copies, per_zone)),
            zones,
            per_zone,
            holders: vec![Vec::new(); today.len()],
            held: vec![Vec::new(); sites.len()],
            primaries: Vec::new(),
        };
        let places: BTreeMap<NodeId, usize> =
            sites.iter().enumerate().map(|(place, site)| (site.node, place)).collect();
        for (partition, nodes) in today.iter().enumerate() {
            for site in nodes.iter().filter_map(|node| places.get(node).copied()) {
                if plan.holders[partition].len() < copies && plan.may_hold(partition, site, None) {
                    plan.add(partition, site);
                }
            }
        }
        plan
    }

    /// Whether a site may hold a partition, beside those that do, but for `instead`.
    fn may_hold(&self, partition: usize, site: usize, instead: Option<usize>) -> bool {
        let holders = &self.holders[partition];
        let zone = self.zones[site];
        let others = holders.iter().filter(|holder| Some(**holder) != instead);
        !holders.contains(&site) && others.filter(|other| self.zones[**other] == zone).count() < self.per_zone
    }

    fn add(&mut self, partition: usize, site: usize) {
        self.holders[partition].push(site);
        self.held[site].push(partition);
    }

    fn shift(&mut self, partition: usize, from: usize, to: usize) {
        let holder = self.holders[partition].iter_mut().find(|holder| **holder == from);
        *holder.expect("it moves from a site that holds it") = to;
        self.held[from].retain(|held| *held != partition);
        self.held[to].push(partition);
    }

    /// Gives every partition its copies: on the sites that have least, whatever their quota; they are levelled later.
    fn fill(&mut self) {
        for partition in 0..self.holders.len() {
            let seed = xxh3_64(&partition.to_le_bytes());
            while self.holders[partition].len() < self.copies {
                // Among equals by chance: partitions of a node then have their other copies everywhere, and when it goes, all others
                // can take a share.
                let chance = |site: usize| (seed ^ site as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let open = (0..self.sites.len()).filter(|site| self.may_hold(partition, *site, None));
                let want = |site: &usize| {
                    let above_floor =
                        self.held[*site].len().cast_signed() - self.quotas[*site].0.cast_signed();
                    (above_floor, chance(*site))
                };
                let Some(site) = open.min_by_key(want) else { break };
                self.add(partition, site);
            }
        }
    }

    /// Moves replicas from where there are too many to where there are too few.
    fn level(&mut self) {
        for site in 0..self.sites.len() {
            while self.held[site].len() > self.quotas[site].1 {
                let has_room = |plan: &Self, to: usize| plan.held[to].len() < plan.quotas[to].1;
                if !self.augment(&[site], has_room) {
                    break;
                }
            }
        }
        for site in 0..self.sites.len() {
            while self.held[site].len() < self.quotas[site].0 {
                let mut rich: Vec<usize> = (0..self.sites.len())
                    .filter(|from| self.held[*from].len() > self.quotas[*from].0)
                    .collect();
                rich.sort_by_key(|from| std::cmp::Reverse(self.held[*from].len()));
                if rich.is_empty() || !self.augment(&rich, |_, to| to == site) {
                    break;
                }
            }
        }
    }

    /// Moves one replica away from one of the sources, and others along a path of sites to one that is an end.
    fn augment(&mut self, sources: &[usize], is_end: impl Fn(&Self, usize) -> bool) -> bool {
        let sites = self.sites.len();
        let steps = |from: usize| {
            let held = self.held[from].iter();
            held.flat_map(move |partition| (0..sites).map(move |to| (*partition, to)))
        };
        let may_step = |from: usize, partition, to| self.may_hold(partition, to, Some(from));
        let found = shortest_path(sites, sources, steps, may_step, |to| is_end(self, to));
        found.is_some_and(|(before, end)| self.follow(&before, end))
    }

    /// Moves along a path, the last step first: each leaves a valid plan. Whether all of them could be made.
    fn follow(&mut self, before: &Path, end: usize) -> bool {
        let mut to = end;
        while let Some((from, partition)) = before[to] {
            // Two steps of the same partition may stand in each other's way.
            if !self.may_hold(partition, to, Some(from)) {
                return false;
            }
            self.shift(partition, from, to);
            to = from;
        }
        true
    }

    /// As many primaries on every site, and where they are today if that can be.
    fn choose_primaries(&mut self, today: &[Vec<NodeId>]) {
        let mut counts = vec![0; self.sites.len()];
        for (holders, nodes) in self.holders.iter().zip(today) {
            let now = |site: &&usize| nodes.first() == Some(&self.sites[**site].node);
            let least = || holders.iter().min_by_key(|site| counts[**site]);
            let primary = holders.iter().find(now).or_else(least).copied().unwrap_or_default();
            counts[primary] += 1;
            self.primaries.push(primary);
        }
        let (floor, ceiling) = (today.len() / self.sites.len(), today.len().div_ceil(self.sites.len()));
        for site in 0..self.sites.len() {
            while counts[site] > ceiling {
                let Some(end) = self.hand_on(&[site], |to| counts[to] < ceiling) else { break };
                counts[site] -= 1;
                counts[end.1] += 1;
            }
        }
        for site in 0..self.sites.len() {
            while counts[site] < floor {
                let rich: Vec<usize> = (0..counts.len()).filter(|from| counts[*from] > floor).collect();
                let Some((start, end)) = self.hand_on(&rich, |to| to == site) else { break };
                counts[start] -= 1;
                counts[end] += 1;
            }
        }
    }

    /// Makes another holder primary, of partitions along a path of sites; returns its start and its end.
    fn hand_on(&mut self, sources: &[usize], is_end: impl Fn(usize) -> bool) -> Option<(usize, usize)> {
        let mut of_site = vec![Vec::new(); self.sites.len()];
        for (partition, primary) in self.primaries.iter().enumerate() {
            of_site[*primary].push(partition);
        }
        let steps = |from: usize| {
            let partitions = of_site[from].iter();
            partitions.flat_map(|partition| self.holders[*partition].iter().map(|to| (*partition, *to)))
        };
        let (before, end) = shortest_path(self.sites.len(), sources, steps, |_, _, _| true, is_end)?;
        let mut place = end;
        while let Some((from, partition)) = before[place] {
            self.primaries[partition] = place;
            place = from;
        }
        Some((place, end))
    }

    fn replicas(&self) -> Vec<Vec<NodeId>> {
        let nodes = |(holders, primary): (&Vec<usize>, &usize)| {
            let backups = holders.iter().filter(|site| *site != primary);
            let first = holders.iter().find(|site| *site == primary);
            first.into_iter().chain(backups).map(|site| self.sites[*site].node).collect()
        };
        self.holders.iter().zip(&self.primaries).map(nodes).collect()
    }
}

/// For each site on a path the one before it, and the partition that leads from there to here.
type Path = Vec<Option<(usize, usize)>>;

/// The shortest path from one of the sources to an end, along steps (a partition and the site that it leads to) that may be taken.
fn shortest_path<I: Iterator<Item = (usize, usize)>>(
    sites: usize,
    sources: &[usize],
    steps: impl Fn(usize) -> I,
    may_step: impl Fn(usize, usize, usize) -> bool,
    is_end: impl Fn(usize) -> bool,
) -> Option<(Path, usize)> {
    let mut before: Path = vec![None; sites];
    let mut seen = vec![false; sites];
    let mut queue: VecDeque<usize> = sources.iter().copied().collect();
    sources.iter().for_each(|source| seen[*source] = true);
    while let Some(from) = queue.pop_front() {
        for (partition, to) in steps(from) {
            if seen[to] || !may_step(from, partition, to) {
                continue;
            }
            seen[to] = true;
            before[to] = Some((from, partition));
            if is_end(to) {
                return Some((before, to));
            }
            queue.push_back(to);
        }
    }
    None
}

/// The zone of each site, by number, and how many there are.
fn number_zones(sites: &[Site]) -> (Vec<usize>, usize) {
    let mut numbers = BTreeMap::new();
    let mut count = 0;
    let mut next = || {
        count += 1;
        count - 1
    };
    let zones = sites.iter().map(|site| match site.zone {
        Some(zone) => *numbers.entry(zone).or_insert_with(&mut next),
        None => next(),
    });
    let zones: Vec<usize> = zones.collect();
    (zones, count)
}

/// The most replicas of one partition in one zone: as few as that there is room for all, in zones that may be small.
fn per_zone(zones: &[usize], count: usize, copies: usize) -> usize {
    let sizes = sizes(zones, count);
    let room = |most: &usize| sizes.iter().map(|size| size.min(most)).sum::<usize>() >= copies;
    (1..copies).find(room).unwrap_or(copies)
}

/// How many sites each zone has.
fn sizes(zones: &[usize], count: usize) -> Vec<usize> {
    let mut sizes = vec![0; count];
    zones.iter().for_each(|zone| sizes[*zone] += 1);
    sizes
}

/// The least and the most replicas of each site: the same for all, but for zones that are too small for their share.
fn quotas(
    zones: &[usize],
    count: usize,
    (partitions, copies, per_zone): (usize, usize, usize),
) -> Vec<(usize, usize)> {
    let sites = sizes(zones, count);
    let most = |zone: usize| partitions * per_zone.min(sites[zone]);
    let mut open: Vec<usize> = (0..count).collect();
    let mut left = partitions * copies;
    loop {
        let width: usize = open.iter().map(|zone| sites[*zone]).sum();
        // What cannot take its share takes all that it can, and the others share the rest.
        let Some(small) = open.iter().position(|zone| most(*zone) * width < left * sites[*zone]) else {
            break;
        };
        left -= most(open.swap_remove(small));
    }
    let width: usize = open.iter().map(|zone| sites[*zone]).sum();
    let share = |zone: usize| if open.contains(&zone) { (left, width) } else { (most(zone), sites[zone]) };
    zones.iter().map(|zone| share(*zone)).map(|(left, width)| (left / width, left.div_ceil(width))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn sites(count: u64, zones: Option<u32>) -> Vec<Site> {
        let zone = |n: u64| zones.map(|zones| u32::try_from(n).unwrap() % zones);
        (0..count).map(|n| Site { node: NodeId(n), zone: zone(n) }).collect()
    }

    fn counts(sites: &[Site], held: impl Iterator<Item = NodeId>) -> Vec<usize> {
        let mut counts: BTreeMap<NodeId, usize> = sites.iter().map(|site| (site.node, 0)).collect();
        held.for_each(|node| *counts.get_mut(&node).unwrap() += 1);
        counts.into_values().collect()
    }

    fn spread(counts: &[usize]) -> usize {
        counts.iter().max().unwrap() - counts.iter().min().unwrap()
    }

    /// Replicas that are somewhere new.
    fn moved(before: &[Vec<NodeId>], after: &[Vec<NodeId>]) -> usize {
        let new = |(before, after): (&Vec<NodeId>, &Vec<NodeId>)| {
            after.iter().filter(|node| !before.contains(node)).count()
        };
        before.iter().zip(after).map(new).sum()
    }

    fn check(sites: &[Site], copies: usize, plan: &[Vec<NodeId>]) {
        let zones: BTreeMap<NodeId, Option<u32>> = sites.iter().map(|site| (site.node, site.zone)).collect();
        let different: BTreeSet<u32> = sites.iter().filter_map(|site| site.zone).collect();
        for replicas in plan {
            assert_eq!(replicas.len(), copies.min(sites.len()));
            assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), replicas.len(), "no node twice");
            if !different.is_empty() {
                let used: BTreeSet<_> = replicas.iter().filter_map(|node| zones[node]).collect();
                assert_eq!(used.len(), copies.min(different.len()).min(sites.len()), "zones are kept apart");
            }
        }
    }

    proptest! {
        #[test]
        fn nodes_hold_as_many_and_little_moves(
            partitions in 1_usize..400,
            copies in 1_usize..4,
            nodes in 1_u64..30,
            gone in proptest::collection::btree_set(0_u64..30, 0..4),
            come in 0_u64..4,
        ) {
            let before = sites(nodes, None);
            let first = plan(&before, copies, &vec![Vec::new(); partitions]);
            check(&before, copies, &first);
            prop_assert!(spread(&counts(&before, first.iter().flatten().copied())) <= 1);
            prop_assert!(spread(&counts(&before, first.iter().map(|replicas| replicas[0]))) <= 1);

            let after: Vec<Site> =
                sites(nodes + come, None).into_iter().filter(|site| !gone.contains(&site.node.0)).collect();
            prop_assume!(!after.is_empty());
            let second = plan(&after, copies, &first);
            check(&after, copies, &second);
            prop_assert!(spread(&counts(&after, second.iter().flatten().copied())) <= 1);
            prop_assert!(spread(&counts(&after, second.iter().map(|replicas| replicas[0]))) <= 1);
            // Who went must be replaced, and who came filled: no plan moves less.
            let filled: usize = counts(&after, second.iter().flatten().copied()).into_iter().zip(&after)
                .filter(|(_, site)| site.node.0 >= nodes).map(|(count, _)| count).sum();
            let total = partitions * copies.min(after.len());
            let kept: usize = first.iter().flatten().filter(|node| after.iter().any(|site| site.node == **node)).count();
            let least = filled.max(total - kept);
            prop_assert!(moved(&first, &second) <= least + least / 20 + after.len(), "{} of {least}", moved(&first, &second));
            prop_assert_eq!(&plan(&after, copies, &second), &second, "a plan that is carried out stays");
        }

        #[test]
        fn zones_are_kept_apart_whatever_their_sizes(
            partitions in 1_usize..300,
            copies in 1_usize..4,
            sizes in proptest::collection::vec(1_usize..6, 1..5),
        ) {
            let zones = sizes.iter().enumerate().flat_map(|(zone, size)| std::iter::repeat_n(zone, *size));
            let sites: Vec<Site> = zones.enumerate()
                .map(|(n, zone)| Site { node: NodeId(n as u64), zone: u32::try_from(zone).ok() }).collect();
            let planned = plan(&sites, copies, &vec![Vec::new(); partitions]);
            check(&sites, copies, &planned);
            // Within a zone, at least, nodes hold as many.
            let held = counts(&sites, planned.iter().flatten().copied());
            let mut start = 0;
            for size in sizes {
                prop_assert!(spread(&held[start..start + size]) <= 1, "{held:?}");
                start += size;
            }
        }
    }

    #[test]
    fn a_zone_takes_more_than_its_share_where_others_have_too_few_nodes() {
        let zones = [0, 1, 1, 1];
        let sites: Vec<Site> =
            (0..).zip(zones).map(|(n, zone)| Site { node: NodeId(n), zone: Some(zone) }).collect();
        for replicas in plan(&sites, 4, &vec![Vec::new(); 9]) {
            assert_eq!(replicas.len(), 4);
        }
    }

    #[test]
    fn a_grid_without_nodes_has_no_replicas() {
        assert_eq!(plan(&[], 2, &vec![vec![NodeId(1)]; 3]), vec![Vec::<NodeId>::new(); 3]);
    }

    #[test]
    fn a_primary_stays_where_it_is_while_its_node_does() {
        let sites = sites(4, None);
        let first = plan(&sites, 2, &vec![Vec::new(); 271]);
        let second = plan(&sites[..3], 2, &first);
        let stays = |(before, after): &(&Vec<NodeId>, &Vec<NodeId>)| before[0] == after[0];
        let stayed = first.iter().zip(&second).filter(stays).count();
        let could = first.iter().filter(|replicas| replicas[0] != NodeId(3)).count();
        assert!(stayed * 20 >= could * 19, "{stayed} of {could}");
    }
}
