//! `wattle grid drain`.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use wattle_client::Client;
use wattle_client::api::{Member, NodeState};

use super::confirm::is_meant;
use crate::cli::exit::Usage;
use crate::cli::output;
use crate::cli::progress::Progress;
use crate::cli::remote::{Format, Remote};

/// How often to look how far it is.
const LOOK: Duration = Duration::from_millis(500);
/// So often at the most until some node says that the drain has begun: it may have been called off before the first look.
const LOOKS: u32 = 20;

/// Have others take what a node holds; then it leaves, and its process ends
#[derive(Debug, Args)]
pub(super) struct Drain {
    /// Its number, as `wattle grid members` shows it
    node: u64,
    /// Let it stay after all
    #[arg(long)]
    cancel: bool,
    /// Do not ask, also if partitions are lost that it may have something of
    #[arg(long, conflicts_with = "cancel")]
    yes: bool,
    /// Do not wait until it has left
    #[arg(long, conflicts_with = "cancel")]
    no_wait: bool,
}

impl Drain {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        let client = remote.connect().await?;
        let lost = client.status().await?.partitions.unwrap_or_default().lost;
        if lost > 0 && !self.cancel {
            eprintln!(
                "warning: {lost} partitions are lost, and what node {node} may still have of them goes with it: `wattle grid recover-lost` \
                 tells and recovers them",
                node = self.node
            );
            if !self.yes && !is_meant("Is it to leave nevertheless?")? {
                return Err(Usage(format!("node {} stays", self.node)).into());
            }
        }
        client.drain_node(self.node, self.cancel).await?;
        let state = if self.cancel {
            "stays"
        } else if self.no_wait {
            "draining"
        } else {
            self.wait(&client).await?
        };
        match remote.output {
            Format::Json => {
                output::json(&json!({ "node": self.node, "state": state, "lost_partitions": lost }))
            }
            Format::Table => output::line(&match state {
                "left" => format!("node {} has left the grid", self.node),
                "draining" => {
                    format!("node {} is being drained: `wattle grid members` shows how far it is", self.node)
                }
                _ => format!("node {} stays", self.node),
            }),
        }?;
        Ok(())
    }

    /// Until it has left, or somebody has called it off.
    async fn wait(&self, client: &Client) -> anyhow::Result<&'static str> {
        let mut progress: Option<(u64, Progress)> = None;
        let mut unheard = 0;
        loop {
            let members = client.status().await?.members;
            let Some(member) = members.iter().find(|member| member.node == self.node) else {
                return Ok("left");
            };
            match member.state() {
                NodeState::Draining => {}
                _ if progress.is_some() || unheard == LOOKS => return Ok("stays"),
                // The node that was asked has not heard of it yet.
                _ => {
                    unheard += 1;
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
            }
            let left = held(member);
            let (all, progress) =
                progress.get_or_insert_with(|| (left, Progress::begin(Some(left), "partitions moved")));
            let moved = all.saturating_sub(left);
            progress.advance(moved, moved);
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn held(member: &Member) -> u64 {
    u64::from(member.primary_partitions) + u64::from(member.backup_partitions)
}
