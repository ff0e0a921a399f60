//! `wattle grid recover-lost`.

use clap::Args;
use serde_json::{Value, json};
use wattle_client::api::{ListCopiesResponse, PartitionCopies, PartitionCopy, PartitionName, Recovery};

use super::confirm::is_meant;
use crate::cli::exit::Usage;
use crate::cli::output;
use crate::cli::remote::{Format, Remote};

/// Let lost partitions go on with the best copy that is left, or empty: what was written since is gone for good
#[derive(Debug, Args)]
pub(super) struct RecoverLost {
    /// Those to go on, as `wattle grid partitions` shows them: INDEX, or CLASS/INDEX
    #[arg(required_unless_present = "all", conflicts_with = "all", value_parser = partition)]
    partitions: Vec<PartitionName>,
    /// All that are lost
    #[arg(long)]
    all: bool,
    /// Let them begin empty, whatever copies are left
    #[arg(long)]
    empty: bool,
    /// Show what they would go on with, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl RecoverLost {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        let client = remote.connect().await?;
        let plan = Plan::new(client.copies(self.partitions.clone()).await?, self.empty);
        if remote.output == Format::Table {
            plan.show()?;
        }
        let acts = !self.dry_run && !plan.recoveries.is_empty();
        if acts && !self.yes && !is_meant(&plan.question())? {
            return Err(Usage("nothing was recovered".to_owned()).into());
        }
        if acts {
            client.recover_lost(plan.recoveries.clone()).await?;
        }
        match remote.output {
            Format::Json => output::json(&plan.as_json(acts))?,
            Format::Table if acts => output::line(&plan.done())?,
            Format::Table => {}
        }
        Ok(())
    }
}

/// What lost partitions are to go on with.
struct Plan {
    recoveries: Vec<Recovery>,
    /// Nodes that may have more, and do not answer.
    silent: Vec<u64>,
}

impl Plan {
    fn new(found: ListCopiesResponse, empty: bool) -> Self {
        let best = |of: PartitionCopies| Recovery {
            partition: of.partition,
            copy: of.copies.first().copied().filter(|_| !empty),
        };
        Self { recoveries: found.partitions.into_iter().map(best).collect(), silent: found.silent }
    }

    fn copies(&self) -> impl Iterator<Item = &PartitionCopy> {
        self.recoveries.iter().filter_map(|recovery| recovery.copy.as_ref())
    }

    /// How many go on with a copy, and how many with nothing.
    fn counts(&self) -> (usize, usize) {
        let with_copies = self.copies().count();
        (with_copies, self.recoveries.len() - with_copies)
    }

    fn show(&self) -> anyhow::Result<()> {
        if self.recoveries.is_empty() {
            output::line(
                "no partition is lost: what only nodes hold that are gone is lost once `wattle grid forget` has forgotten them",
            )?;
            return Ok(());
        }
        let columns = ["class", "partition", "goes on with", "entries", "last epoch", "last position"];
        output::table(&columns, self.recoveries.iter().map(row))?;
        Ok(())
    }

    fn question(&self) -> String {
        let (with_copies, empty) = self.counts();
        let mut question = String::new();
        if with_copies > 0 {
            question += &format!(
                "{with_copies} lost partitions would go on with an older copy: what was written to them since is gone for good, \
                 also what was acknowledged. "
            );
        }
        if empty > 0 {
            question +=
                &format!("{empty} lost partitions would begin empty: what was in them is gone for good. ");
        }
        if !self.silent.is_empty() {
            let silent = self.silent.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            question +=
                &format!("Nodes that do not answer ({silent}) may have better copies: those are given up. ");
        }
        question + "Go on?"
    }

    fn done(&self) -> String {
        let (with_copies, empty) = self.counts();
        let entries: u64 = self.copies().map(|copy| copy.entries).sum();
        format!("{with_copies} partitions go on with a copy ({entries} entries), {empty} begin empty")
    }

    fn as_json(&self, recovered: bool) -> Value {
        json!({
            "recovered": recovered,
            "partitions": self.recoveries.iter().map(as_json).collect::<Vec<_>>(),
            "silent_nodes": self.silent,
        })
    }
}

fn as_json(recovery: &Recovery) -> Value {
    let PartitionName { class, index } = recovery.partition.unwrap_or_default();
    let copy = recovery.copy.map(|copy| {
        let epoch = copy.epoch.unwrap_or_default();
        json!({
            "node": copy.node,
            "incarnation": copy.incarnation,
            "epoch": { "generation": epoch.generation, "number": epoch.number },
            "position": copy.position,
            "entries": copy.entries,
        })
    });
    json!({ "class": class, "partition": index, "copy": copy })
}

fn row(recovery: &Recovery) -> Vec<String> {
    let PartitionName { class, index } = recovery.partition.unwrap_or_default();
    let copy = match &recovery.copy {
        Some(copy) => {
            let epoch = copy.epoch.unwrap_or_default();
            [
                format!("node {}", copy.node),
                copy.entries.to_string(),
                format!("{}.{}", epoch.generation, epoch.number),
                copy.position.to_string(),
            ]
        }
        None => ["nothing", "0", "-", "-"].map(str::to_owned),
    };
    [class.to_string(), index.to_string()].into_iter().chain(copy).collect()
}

fn partition(text: &str) -> Result<PartitionName, &'static str> {
    let (class, index) = text.split_once('/').unwrap_or(("0", text));
    let number =
        |text: &str| text.parse().map_err(|_| "INDEX or CLASS/INDEX is expected, such as 17 or 0/17");
    Ok(PartitionName { class: number(class)?, index: number(index)? })
}

#[cfg(test)]
mod tests {
    use wattle_client::api::Epoch;

    use super::*;

    fn found() -> ListCopiesResponse {
        let name = |index| Some(PartitionName { class: 0, index });
        let copy = |node, position| PartitionCopy {
            node,
            incarnation: 1,
            epoch: Some(Epoch { generation: 1, number: 4 }),
            position,
            entries: 12,
        };
        let copies = vec![copy(3, 90), copy(2, 70)];
        ListCopiesResponse {
            partitions: vec![
                PartitionCopies { partition: name(7), copies },
                PartitionCopies { partition: name(9), copies: vec![] },
            ],
            silent: vec![5],
        }
    }

    #[test]
    fn a_partition_is_named_by_its_index_and_its_class_if_need_be() {
        assert_eq!(partition("17"), Ok(PartitionName { class: 0, index: 17 }));
        assert_eq!(partition("2/17"), Ok(PartitionName { class: 2, index: 17 }));
        for text in ["", "/", "1/", "a", "1/2/3", "-1"] {
            assert!(partition(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_best_copy_is_taken_and_what_is_lost_is_said() {
        let plan = Plan::new(found(), false);
        assert_eq!(
            plan.recoveries.iter().map(row).collect::<Vec<_>>(),
            [["0", "7", "node 3", "12", "1.4", "90"], ["0", "9", "nothing", "0", "-", "-"],]
        );
        let question = "1 lost partitions would go on with an older copy: what was written to them since is gone for good, also what \
            was acknowledged. 1 lost partitions would begin empty: what was in them is gone for good. Nodes that do not answer (5) may \
            have better copies: those are given up. Go on?";
        assert_eq!(plan.question(), question);
        assert_eq!(plan.done(), "1 partitions go on with a copy (12 entries), 1 begin empty");
        let copy =
            r#"{"entries":12,"epoch":{"generation":1,"number":4},"incarnation":1,"node":3,"position":90}"#;
        let shown = format!(
            r#"{{"partitions":[{{"class":0,"copy":{copy},"partition":7}},{{"class":0,"copy":null,"partition":9}}],"recovered":true,"silent_nodes":[5]}}"#
        );
        assert_eq!(plan.as_json(true).to_string(), shown);
    }

    #[test]
    fn copies_are_left_alone_if_the_partitions_are_to_begin_empty() {
        assert!(Plan::new(found(), true).copies().next().is_none());
    }
}
