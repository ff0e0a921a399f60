//! `wattle grid partitions`.

use clap::Args;
use serde_json::{Value, json};
use wattle_client::api::{ListPartitionsResponse, Partition, PartitionState};

use crate::cli::output;
use crate::cli::remote::{Format, Remote};

/// Partitions that lack copies or are out of reach, lost ones first
#[derive(Debug, Args)]
pub(super) struct Partitions {
    /// Also those that have all their copies
    #[arg(long)]
    all: bool,
}

impl Partitions {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        let ListPartitionsResponse { mut partitions, outdated, .. } =
            remote.connect().await?.partitions().await?;
        if outdated {
            eprintln!("warning: {}", super::OUTDATED);
        }
        let count = partitions.len();
        let unreachable = partitions.iter().any(|partition| partition.state() == PartitionState::Unreachable);
        if !self.all {
            partitions.retain(|partition| partition.state() != PartitionState::Ok);
        }
        sort(&mut partitions);
        match remote.output {
            Format::Json => output::json(&Value::from(partitions.iter().map(as_json).collect::<Vec<_>>()))?,
            Format::Table if partitions.is_empty() => {
                output::line(&format!("all {count} partitions have their copies"))?;
            }
            Format::Table => {
                let columns = ["class", "partition", "state", "primary", "in sync", "wanted", "epoch"];
                output::table(&columns, partitions.iter().map(row))?;
            }
        }
        if unreachable {
            eprintln!("hint: {}", super::UNREACHABLE);
        }
        Ok(())
    }
}

/// The worst first.
fn sort(partitions: &mut [Partition]) {
    let urgency = |state| match state {
        PartitionState::Lost => 0,
        PartitionState::Unreachable => 1,
        PartitionState::UnderReplicated => 2,
        PartitionState::NotBegun => 3,
        PartitionState::Unspecified => 4,
        PartitionState::Ok => 5,
    };
    partitions.sort_by_key(|partition| (urgency(partition.state()), partition.class, partition.index));
}

fn state(partition: &Partition) -> &'static str {
    match partition.state() {
        PartitionState::Ok => "ok",
        PartitionState::UnderReplicated => "under-replicated",
        PartitionState::Lost => "lost",
        PartitionState::Unreachable => "unreachable",
        PartitionState::NotBegun => "not begun",
        PartitionState::Unspecified => "unknown",
    }
}

fn as_json(partition: &Partition) -> Value {
    let epoch = partition.epoch.unwrap_or_default();
    json!({
        "class": partition.class,
        "partition": partition.index,
        "state": state(partition).replace(['-', ' '], "_"),
        "primary": partition.primary,
        "in_sync": partition.in_sync,
        "wanted": partition.wanted,
        "epoch": { "generation": epoch.generation, "number": epoch.number },
    })
}

fn row(partition: &Partition) -> Vec<String> {
    let nodes = |nodes: &[u64]| match nodes {
        [] => "-".to_owned(),
        nodes => nodes.iter().map(u64::to_string).collect::<Vec<_>>().join(" "),
    };
    let epoch = partition.epoch.unwrap_or_default();
    vec![
        partition.class.to_string(),
        partition.index.to_string(),
        state(partition).to_owned(),
        partition.primary.map_or("-".to_owned(), |primary| primary.to_string()),
        nodes(&partition.in_sync),
        nodes(&partition.wanted),
        format!("{}.{}", epoch.generation, epoch.number),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_come_first() {
        let partition =
            |index, state: PartitionState| Partition { index, state: state.into(), ..Partition::default() };
        let mut partitions = [
            partition(0, PartitionState::Ok),
            partition(1, PartitionState::NotBegun),
            partition(2, PartitionState::UnderReplicated),
            partition(3, PartitionState::Lost),
            partition(4, PartitionState::UnderReplicated),
            partition(5, PartitionState::Unreachable),
        ];
        sort(&mut partitions);
        assert_eq!(partitions.each_ref().map(|partition| partition.index), [3, 5, 2, 4, 1, 0]);
    }

    #[test]
    fn a_partition_without_copies_is_shown_with_dashes() {
        let lost = Partition {
            class: 1,
            index: 7,
            wanted: vec![2, 3],
            state: PartitionState::Lost.into(),
            epoch: Some(wattle_client::api::Epoch { generation: 1, number: 4 }),
            ..Partition::default()
        };
        assert_eq!(row(&lost), ["1", "7", "lost", "-", "-", "2 3", "1.4"]);
        let shown = r#"{"class":1,"epoch":{"generation":1,"number":4},"in_sync":[],"partition":7,"primary":null,"state":"lost","wanted":[2,3]}"#;
        assert_eq!(as_json(&lost).to_string(), shown);
    }
}
