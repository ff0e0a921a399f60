//! `wattle grid recover-control`.

use clap::Args;
use serde_json::{Value, json};
use wattle_client::api::{ControlMember, ControlPosition, SurveyControlResponse};

use super::confirm::is_meant;
use crate::cli::exit::Usage;
use crate::cli::output;
use crate::cli::remote::{Format, Remote};

/// Build a lost control group anew from what the nodes know that are left: what it had decided beyond that is gone
#[derive(Debug, Args)]
pub(super) struct RecoverControl {
    /// Show what is left, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl RecoverControl {
    pub(super) async fn run(&self, remote: &Remote) -> anyhow::Result<()> {
        let client = remote.connect().await?;
        let survey = client.survey_control().await?;
        let position = newest(&survey);
        if remote.output == Format::Table {
            let columns = ["node", "name", "address", "votes", "answers", "generation", "version"];
            output::table(&columns, survey.members.iter().map(row))?;
        }
        let mut generation = None;
        if !self.dry_run {
            if !self.yes && !is_meant(&question(&survey, position))? {
                return Err(Usage("nothing was changed".to_owned()).into());
            }
            generation = Some(client.recover_control(survey.newest, position).await?);
        }
        match (remote.output, generation) {
            (Format::Json, _) => output::json(&as_json(&survey, generation))?,
            (Format::Table, Some(generation)) => output::line(&format!(
                "the control group is built anew in generation {generation}, from what node {} knew",
                survey.newest
            ))?,
            (Format::Table, None) => {}
        }
        Ok(())
    }
}

/// What the node knows that knows most.
fn newest(survey: &SurveyControlResponse) -> ControlPosition {
    let newest = survey.members.iter().find(|member| member.node == survey.newest);
    newest.and_then(|newest| newest.position).unwrap_or_default()
}

fn question(survey: &SurveyControlResponse, position: ControlPosition) -> String {
    let ControlPosition { generation, version } = position;
    let mut question = format!(
        "The control group would go on from what node {} knows (generation {generation}, version {version}). What it had decided beyond \
         that is gone: nodes, maps and functions, and acknowledged writes of partitions that had moved since. ",
        survey.newest
    );
    let silent = survey.members.iter().filter(|member| !member.answers).map(|member| member.node.to_string());
    let silent = silent.collect::<Vec<_>>().join(", ");
    let group = survey.members.iter().filter_map(|member| member.group).max_by_key(|group| group.generation);
    if let Some(group) = group.filter(|group| group.generation > generation) {
        question += &format!(
            "Node {} had built one already (generation {}), of which nobody who answers knows more. ",
            group.founder, group.generation
        );
    }
    if !silent.is_empty() {
        question += &format!(
            "Nodes that do not answer ({silent}) must be dead: if enough of them live and only cannot be reached, there are two grids. "
        );
    }
    question + "Go on?"
}

fn as_json(survey: &SurveyControlResponse, generation: Option<u32>) -> Value {
    let member = |member: &ControlMember| {
        let position = member.position;
        let position = position.map(|at| json!({ "generation": at.generation, "version": at.version }));
        let group =
            member.group.map(|group| json!({ "generation": group.generation, "founder": group.founder }));
        json!({
            "node": member.node,
            "name": member.name,
            "address": member.address,
            "votes": member.votes,
            "answers": member.answers,
            "position": position,
            "group": group,
        })
    };
    json!({
        "members": survey.members.iter().map(member).collect::<Vec<_>>(),
        "newest": survey.newest,
        "new_generation": generation,
    })
}

fn row(member: &ControlMember) -> Vec<String> {
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let known = |known: Option<u64>| known.map_or("-".to_owned(), |known| known.to_string());
    vec![
        member.node.to_string(),
        member.name.clone(),
        member.address.clone(),
        yes(member.votes),
        yes(member.answers),
        known(member.position.map(|position| position.generation.into())),
        known(member.position.map(|position| position.version)),
    ]
}

#[cfg(test)]
mod tests {
    use wattle_client::api::ControlGroup;

    use super::*;

    #[test]
    fn what_is_taken_and_who_is_silent_is_said() {
        let member = |node, position: Option<ControlPosition>| ControlMember {
            node,
            name: format!("host-{node}"),
            address: format!("10.0.0.{node}:7117"),
            votes: true,
            answers: position.is_some(),
            position,
            group: position.map(|position| ControlGroup { generation: position.generation + 1, founder: 1 }),
        };
        let position = ControlPosition { generation: 1, version: 40 };
        let members = vec![member(1, None), member(2, Some(position)), member(3, None)];
        let survey = SurveyControlResponse { members, newest: 2, voters: vec![1, 2, 3], electorates: vec![] };
        assert_eq!(newest(&survey), position);
        let said = question(&survey, position);
        assert!(said.contains("what node 2 knows (generation 1, version 40)"), "{said}");
        assert!(said.contains("do not answer (1, 3) must be dead"), "{said}");
        assert!(said.contains("Node 1 had built one already (generation 2)"), "{said}");
        assert_eq!(row(&survey.members[0]), ["1", "host-1", "10.0.0.1:7117", "yes", "no", "-", "-"]);
        assert_eq!(row(&survey.members[1])[5..], ["1", "40"]);
        let shown = as_json(&survey, Some(2));
        assert_eq!((&shown["newest"], &shown["new_generation"]), (&json!(2), &json!(2)));
        assert_eq!(shown["members"][1]["position"], json!({ "generation": 1, "version": 40 }));
        assert_eq!(shown["members"][1]["group"], json!({ "generation": 2, "founder": 1 }));
    }
}
