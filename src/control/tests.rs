use std::path::Path;

use tokio::time::timeout;
use wattle_control::GroupId;
use wattle_core::control::grid::{GridApplied, JoinNonce, Newcomer, NodeDescription};
use wattle_core::control::{Applied, Command};
use wattle_core::ids::{MapId, MemberId, NodeId};
use wattle_core::limits::{HEARTBEAT_TIME, LEASE_TERM, PROPOSE_TIME};
use wattle_core::map::MapOptions;
use wattle_core::name::Name;
use wattle_discovery::Discovery;
use wattle_peers::{Secret, Standing};

use super::*;
use crate::partition::tests::description;
use crate::peering::Inside;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn create(map: &str) -> GroupCommand {
    GroupCommand::Catalog(Command::CreateMap { name: name(map), options: MapOptions::default() })
}

fn arrival(partitions: u16) -> Arrival {
    Arrival {
        grid: Some(name("g")),
        partitions,
        others: Discovery::default(),
        description: description(),
        lease_term: LEASE_TERM,
        process: getrandom::u64().unwrap().into(),
    }
}

/// Of a node that nobody can reach.
pub(crate) async fn alone(
    directory: Option<&DataDirectory>,
    arrival: Arrival,
) -> Result<(Arc<Control>, MemberId, Arc<Links>), ArrivalError> {
    let inside = Inside::new(1, Newcomer::new(JoinNonce([1; 16]), None));
    let identity =
        wattle_peers::Identity { standing: Standing::Fresh { name: "g".to_owned() }, secret: Secret::none() };
    let links = Arc::new(Links::new(identity, inside.clone(), tokio::runtime::Handle::current()));
    inside.set_links(&links);
    let (control, me) = arrive(directory, arrival, (&links, &inside)).await?;
    Ok((control, me, links))
}

/// A grid of one node, with a name and a number of partitions.
pub(crate) async fn founded(partitions: u16) -> (Arc<Control>, MemberId, Arc<Links>) {
    alone(None, arrival(partitions)).await.unwrap()
}

fn map_names(control: &Control) -> Vec<String> {
    control.read(|state| state.maps().map(|map| map.name.to_string()).collect())
}

/// Of a node that follows at once.
async fn begin(root: Option<&Path>, partitions: u16) -> (Arc<Control>, MemberId, Option<DataDirectory>) {
    let directory = root.map(|root| DataDirectory::open(root).unwrap());
    let (control, me, _) = alone(directory.as_ref(), arrival(partitions)).await.unwrap();
    let (followed, mut decided) = (Arc::clone(&control), control.watch());
    tokio::spawn(async move {
        loop {
            let version = decided.borrow_and_update().version;
            followed.table_followed(version);
            followed.followed(version);
            if decided.changed().await.is_err() {
                return;
            }
        }
    });
    (control, me, directory)
}

#[tokio::test]
async fn what_was_proposed_is_there_after_a_restart_and_the_node_is_another_member() {
    let root = tempfile::tempdir().unwrap();
    let mut grid = None;
    for (restart, map) in ["a", "b", "c"].into_iter().enumerate() {
        let (control, me, _directory) = begin(Some(root.path()), 7 + restart as u16).await;
        assert_eq!(me, MemberId { node: NodeId(1), incarnation: restart as u64 + 1 });
        let decided = control.decided();
        let found = decided.grid().unwrap();
        assert_eq!(*grid.get_or_insert(found.id()), found.id());
        assert_eq!(found.rows().count(), 7, "as it was created");
        let applied = control.propose(create(map)).await.unwrap();
        let GroupApplied::Catalog(Applied::Map(map)) = applied else { panic!("{applied:?}") };
        assert_eq!(map.id, MapId(restart as u64 + 1));
        control.shutdown().await;
    }
    let (control, ..) = begin(Some(root.path()), 7).await;
    assert_eq!(map_names(&control), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_node_without_a_directory_creates_a_grid_each_time() {
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (control, me, _) = begin(None, 7).await;
        assert_eq!(me, MemberId { node: NodeId(1), incarnation: 1 });
        ids.push(control.decided().grid().unwrap().id());
    }
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_refused_command_changes_nothing() {
    let (control, ..) = begin(None, 7).await;
    control.propose(create("a")).await.unwrap();
    let before = control.decided();
    let refused = control.propose(create("a")).await.unwrap_err();
    let expected = Refusal::MapExists { name: name("a") };
    assert!(matches!(&refused, NotDecided::Refused(GroupRefusal::Catalog(refusal)) if *refusal == expected));
    assert!(control.decided().is_same(&before));
}

#[tokio::test]
async fn an_answer_waits_until_the_node_has_followed() {
    let (control, ..) = founded(7).await;
    let mut proposed = std::pin::pin!(control.propose(create("a")));
    let mut decided = control.watch();
    let is_there = |decided: &Decided| decided.state.catalog().map("a").is_some();
    let version = tokio::select! {
        proposed = &mut proposed => panic!("{proposed:?}"),
        version = decided.wait_for(is_there) => version.unwrap().version,
    };
    assert!(futures_util::FutureExt::now_or_never(&mut proposed).is_none());
    control.table_followed(version);
    proposed.await.unwrap();
}

#[tokio::test]
async fn who_catches_up_has_followed_what_was_decided_before() {
    let (control, ..) = founded(7).await;
    let (proposes, mut decided) = (Arc::clone(&control), control.watch());
    let proposed = tokio::spawn(async move { proposes.propose(create("a")).await });
    let is_there = |decided: &Decided| decided.state.catalog().map("a").is_some();
    let version = decided.wait_for(is_there).await.unwrap().version;
    let mut caught_up = std::pin::pin!(control.catch_up());
    assert!(timeout(HEARTBEAT_TIME, &mut caught_up).await.is_err(), "it has followed nothing");
    control.table_followed(version);
    caught_up.await.unwrap();
    proposed.await.unwrap().unwrap();
}

/// Or the leader could not even have others take over while it compiles.
#[tokio::test]
async fn only_what_is_about_functions_waits_until_those_are_followed() {
    let (control, me, _) = founded(7).await;
    let (followed, mut decided) = (Arc::clone(&control), control.watch());
    tokio::spawn(async move {
        while decided.changed().await.is_ok() {
            let version = decided.borrow_and_update().version;
            followed.table_followed(version);
        }
    });
    let drain = GroupCommand::Grid(GridCommand::Drain { node: me.node });
    let drained = timeout(PROPOSE_TIME, control.propose(drain)).await;
    assert!(matches!(drained, Ok(Ok(GroupApplied::Grid(GridApplied::Node(_))))));
    let created = timeout(PROPOSE_TIME, control.propose(create("a"))).await;
    assert!(matches!(created, Ok(Ok(GroupApplied::Catalog(Applied::Map(_))))));
    let deleted = GroupCommand::Catalog(Command::DeleteFunction { name: name("f") });
    let mut deleted = std::pin::pin!(control.propose(deleted));
    assert!(timeout(HEARTBEAT_TIME, &mut deleted).await.is_err());
    control.followed(ControlVersion(control.decided_position().version));
    assert!(matches!(deleted.await, Err(NotDecided::Refused(_))));
}

#[tokio::test]
async fn many_proposals_at_a_time_are_all_decided() {
    let (control, ..) = begin(None, 7).await;
    let propose = |number: u64| {
        let control = Arc::clone(&control);
        tokio::spawn(async move { control.propose(create(&format!("m{number}"))).await })
    };
    let proposals: Vec<_> = (0..200).map(propose).collect();
    for proposal in proposals {
        proposal.await.unwrap().unwrap();
    }
    assert_eq!(map_names(&control).len(), 200);
}

#[tokio::test]
async fn a_description_that_is_too_long_founds_nothing() {
    let root = tempfile::tempdir().unwrap();
    let directory = DataDirectory::open(root.path()).unwrap();
    let description = NodeDescription { host: "h".repeat(10_000), ..description() };
    let error = alone(Some(&directory), Arrival { description, ..arrival(7) }).await.unwrap_err();
    assert!(matches!(error, ArrivalError::Refused(_)), "{error}");
    assert!(directory.is_new());
}

#[tokio::test]
async fn a_group_is_built_to_the_end_also_if_nobody_waits_for_it() {
    let (control, ..) = begin(None, 7).await;
    let mut decided = control.watch();
    let generation = |decided: &Decided| decided.state.grid().map(|grid| grid.generation());
    tokio::select! {
        // First: whoever has asked for it goes as soon as its state is known.
        biased;
        known = decided.wait_for(|decided| generation(decided) == Some(2)) => drop(known.unwrap()),
        built = control.rebuild(2) => panic!("{built:?}"),
    }
    control.propose(create("a")).await.unwrap();
    assert_eq!(control.group_id().generation, 2);
    control.rebuild(3).await.unwrap();
    assert_eq!(generation(&decided.borrow()), Some(3));
    assert_eq!(map_names(&control), ["a"]);
    let again = control.rebuild(3).await.unwrap_err();
    assert!(matches!(again, NotRebuilt::Changed), "{again}");
}

#[tokio::test]
async fn a_group_is_built_beyond_one_that_was_only_heard_of() {
    let root = tempfile::tempdir().unwrap();
    let (control, me, directory) = begin(Some(root.path()), 7).await;
    control.propose(create("a")).await.unwrap();
    let heard = GroupId { generation: 2, founder: NodeId(9), ..control.group_id() };
    control.succeed(heard).await;
    assert_eq!((control.group_id(), control.known().generation), (heard, 1));
    assert_eq!(control.electorates(), Some(vec![[NodeId(9)].into()]), "whoever has built it");
    let refused = control.rebuild(2).await.unwrap_err();
    assert!(matches!(refused, NotRebuilt::Changed), "{refused}");
    control.rebuild(3).await.unwrap();
    assert_eq!(control.group_id(), GroupId { generation: 3, founder: me.node, ..heard });
    control.propose(create("b")).await.unwrap();
    control.shutdown().await;
    drop((control, directory));
    let (control, ..) = begin(Some(root.path()), 7).await;
    assert_eq!(control.known().generation, 3);
    assert_eq!(map_names(&control), ["a", "b"]);
}
