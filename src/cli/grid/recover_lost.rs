//! `wattle grid recover-lost`.

use clap::Args;
use serde_json::json;
use wattle_client::Client;
use wattle_client::api::{PartitionName, PartitionState};

use super::confirm::is_meant;
use crate::cli::exit::Usage;
use crate::cli::output;
use crate::cli::remote::{Format, Remote};

/// Let lost partitions go on, empty: what was in them is gone for good
#[derive(Debug, Args)]
pub(super) struct RecoverLost {
    /// Those to go on, as `wattle grid partitions` shows them: INDEX, or CLASS/INDEX
    #[arg(required_unless_present = "all", conflicts_with = "all", value_parser = partition)]
    partitions: Vec<PartitionName>,
    /// All that are lost
    #[arg(long)]
    all: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl RecoverLost {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        let client = remote.connect().await?;
        let partitions = if self.all { lost(&client).await? } else { self.partitions.clone() };
        let count = partitions.len();
        let question =
            format!("Are {count} lost partitions to go on empty? What was in them is gone for good.");
        if count > 0 && !self.yes && !is_meant(&question)? {
            return Err(Usage("nothing was recovered".to_owned()).into());
        }
        if count > 0 {
            client.recover_lost(partitions).await?;
        }
        match remote.output {
            Format::Json => output::json(&json!({ "recovered_partitions": count })),
            Format::Table if count == 0 => output::line("no partition is lost"),
            Format::Table => output::line(&format!("{count} partitions go on, empty")),
        }?;
        Ok(())
    }
}

async fn lost(client: &Client) -> anyhow::Result<Vec<PartitionName>> {
    let partitions = client.partitions().await?.partitions;
    let lost = partitions.iter().filter(|partition| partition.state() == PartitionState::Lost);
    Ok(lost.map(|partition| PartitionName { class: partition.class, index: partition.index }).collect())
}

fn partition(text: &str) -> Result<PartitionName, &'static str> {
    let (class, index) = text.split_once('/').unwrap_or(("0", text));
    let number =
        |text: &str| text.parse().map_err(|_| "INDEX or CLASS/INDEX is expected, such as 17 or 0/17");
    Ok(PartitionName { class: number(class)?, index: number(index)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_named_by_its_index_and_its_class_if_need_be() {
        assert_eq!(partition("17"), Ok(PartitionName { class: 0, index: 17 }));
        assert_eq!(partition("2/17"), Ok(PartitionName { class: 2, index: 17 }));
        for text in ["", "/", "1/", "a", "1/2/3", "-1"] {
            assert!(partition(text).is_err(), "{text:?}");
        }
    }
}
