//! A grid of several nodes, as its own commands tell of it: its members, where its copies are, and when all are where they should be.

use crate::failure::Failure;
use crate::json::Json;
use crate::node::Caller;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long the copies of a grid may take to get any further.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long they may take in all.
const LONGEST: Duration = Duration::from_secs(1800);
/// How often to look.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) node: u64,
    pub(crate) address: String,
    pub(crate) leads: bool,
    votes: bool,
    /// What its entries take in memory; `None` if it does not answer.
    pub(crate) bytes_held: Option<f64>,
}

impl Member {
    fn pick(member: &Json) -> Option<Self> {
        let is = |name: &str| member.get(name).map(|value| *value == Json::Bool(true));
        Some(Self {
            node: member.get("node")?.number()? as u64,
            address: member.get("address")?.text()?.to_owned(),
            leads: is("leads")?,
            votes: is("votes")?,
            bytes_held: member.get("bytes_held")?.number(),
        })
    }
}

pub(crate) fn members(caller: &Caller) -> Result<Vec<Member>, Failure> {
    let listed = caller.value(&["grid", "members"])?;
    let members = listed.items().iter().map(Member::pick).collect::<Option<_>>();
    members.ok_or_else(|| Failure::NotSettled { state: format!("{listed:?}") })
}

/// Who holds which partition.
#[derive(Debug)]
struct Table {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    class: u64,
    ok: bool,
    primary: Option<u64>,
    in_sync: BTreeSet<u64>,
    wanted: BTreeSet<u64>,
}

impl Row {
    fn pick(partition: &Json) -> Option<Self> {
        let nodes = |name: &str| {
            let nodes = partition.get(name)?.items().iter();
            nodes.map(|node| node.number().map(|node| node as u64)).collect::<Option<_>>()
        };
        Some(Self {
            class: partition.get("class")?.number()? as u64,
            ok: partition.get("state")?.text()? == "ok",
            primary: partition.get("primary")?.number().map(|node| node as u64),
            in_sync: nodes("in_sync")?,
            wanted: nodes("wanted")?,
        })
    }
}

impl Table {
    fn ask(caller: &Caller) -> Result<Self, Failure> {
        let listed = caller.value(&["grid", "partitions", "--all"])?;
        Self::pick(&listed).ok_or_else(|| Failure::NotSettled { state: format!("{listed:?}") })
    }

    fn pick(listed: &Json) -> Option<Self> {
        Some(Self { rows: listed.items().iter().map(Row::pick).collect::<Option<_>>()? })
    }

    fn holders(&self) -> usize {
        self.rows.iter().flat_map(|row| &row.in_sync).collect::<BTreeSet<_>>().len()
    }

    /// Partitions whose copies are where they should be, and nowhere else.
    fn at_rest(&self) -> usize {
        self.rows.iter().filter(|row| row.ok && row.in_sync == row.wanted).count()
    }

    /// Whether so many nodes hold as many copies of each class, and decide about as many partitions.
    fn is_level(&self, nodes: usize) -> bool {
        let classes: BTreeSet<u64> = self.rows.iter().map(|row| row.class).collect();
        classes.into_iter().all(|class| {
            let rows = || self.rows.iter().filter(|row| row.class == class);
            are_level(rows().flat_map(|row| row.in_sync.iter().copied()), nodes)
                && are_level(rows().filter_map(|row| row.primary), nodes)
        })
    }
}

/// Whether so many nodes are named, and no one more than once oftener than another.
fn are_level(named: impl Iterator<Item = u64>, nodes: usize) -> bool {
    let mut counts = BTreeMap::<u64, usize>::new();
    named.for_each(|node| *counts.entry(node).or_default() += 1);
    let (least, most) = (counts.values().min(), counts.values().max());
    counts.len() == nodes && least.zip(most).is_some_and(|(least, most)| most - least <= 1)
}

/// How many nodes of a grid vote.
fn voters(nodes: usize) -> usize {
    match nodes {
        0..=2 => 1,
        3 | 4 => 3,
        _ => 5,
    }
}

/// Waits until so many nodes answer, share all copies between them, and vote as they should: then any of them may die. Tells how far they
/// are when that has changed, and gives up when it has not for long.
pub(crate) fn settle(
    caller: &Caller,
    nodes: usize,
    mut tell: impl FnMut(Duration, &str),
) -> Result<(), Failure> {
    let start = Instant::now();
    let (mut told, mut changed) = (String::new(), start);
    loop {
        let table = Table::ask(caller)?;
        let (at_rest, all) = (table.at_rest(), table.rows.len());
        let state =
            format!("{} nodes hold copies, {at_rest} of {all} partitions have theirs", table.holders());
        if state != told {
            tell(start.elapsed(), &state);
            (told, changed) = (state, Instant::now());
        }
        if at_rest == all && table.is_level(nodes) && is_sound(&members(caller)?, nodes) {
            return Ok(());
        }
        if changed.elapsed() > PATIENCE || start.elapsed() > LONGEST {
            return Err(Failure::NotSettled { state: told });
        }
        std::thread::sleep(LOOK);
    }
}

fn is_sound(members: &[Member], nodes: usize) -> bool {
    let count = |is: fn(&Member) -> bool| members.iter().filter(|member| is(member)).count();
    count(|member| member.bytes_held.is_some()) == nodes
        && count(|member| member.votes) == voters(nodes)
        && count(|member| member.leads) == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &str) -> Table {
        Table::pick(&Json::parse(rows).expect("valid")).expect("partitions")
    }

    fn row(class: u64, primary: u64, in_sync: &str, wanted: &str) -> String {
        format!(
            r#"{{"class": {class}, "partition": 0, "state": "ok", "primary": {primary},
                "in_sync": {in_sync}, "wanted": {wanted}, "epoch": {{"generation": 1, "number": 2}}}}"#
        )
    }

    #[test]
    fn copies_are_at_rest_where_they_are_wanted() {
        let moving = row(0, 1, "[1, 2]", "[1, 3]");
        let table = table(&format!("[{}, {moving}]", row(0, 2, "[2, 1]", "[1, 2]")));
        assert_eq!((table.at_rest(), table.rows.len(), table.holders()), (1, 2, 2));
    }

    #[test]
    fn each_class_is_level_by_itself() {
        let first = [row(0, 1, "[1, 2]", "[]"), row(0, 2, "[2, 3]", "[]"), row(0, 3, "[3, 1]", "[]")];
        let level = table(&format!("[{}]", first.join(",")));
        assert!(level.is_level(3) && !level.is_level(4));
        let other = [row(1, 1, "[1]", "[]"), row(1, 1, "[1]", "[]"), row(1, 2, "[2]", "[]")];
        assert!(!table(&format!("[{}, {}]", first.join(","), other.join(","))).is_level(3));
    }

    #[test]
    fn who_is_first_too_often_is_not_level() {
        let rows = [row(0, 1, "[1, 2]", "[]"), row(0, 1, "[2, 1]", "[]")];
        assert!(!table(&format!("[{}]", rows.join(","))).is_level(2));
    }

    #[test]
    fn a_member_that_is_silent_holds_nothing_that_is_known() {
        let member = |held: &str| {
            let text = format!(
                r#"{{"node": 3, "address": "h:1", "leads": false, "votes": true, "bytes_held": {held}}}"#
            );
            Member::pick(&Json::parse(&text).expect("valid")).expect("a member")
        };
        assert_eq!(member("null").bytes_held, None);
        assert_eq!((member("7").bytes_held, member("7").votes), (Some(7.0), true));
    }
}
