//! An API server that is not reached, is slow or breaks its streams: what was told holds, and what has changed is heard of.

use std::time::Duration;

use wattle_api_server::{Break, Outage, Refusal};

use crate::kubernetes::Patience;
use crate::{Claim, LookupError};

use super::cluster::{Asked, Cluster, eventually, goes_at_once, is_at, stays_at};

const HOUR: Duration = Duration::from_secs(3600);
/// What is asked to follow the slices.
const PATH: &str = "/endpointslices";

#[tokio::test]
async fn an_outage_of_minutes_changes_nothing_and_what_came_about_meanwhile_is_told_after_it() {
    let cluster = Cluster::start().await;
    cluster.set("a", &[("10.0.0.1", "west")]).await;
    cluster.set("b", &[("10.0.0.2", "east")]).await;
    let nodes = cluster.watched().await;
    is_at(&nodes, &["10.0.0.1", "10.0.0.2"]).await;
    cluster.has_streamed(1).await;
    // From here on no change reaches this node, though the test still makes some.
    cluster.server.faults().break_watches(Break::Silent);
    cluster.set("a", &[("10.0.0.1", "west"), ("10.0.0.3", "west")]).await;
    cluster.delete("b").await;
    cluster.cut_off(Outage::Refused).await;
    let newcomer = cluster.watched().await;
    for outage in [Outage::Refused, Outage::Reset] {
        cluster.cut_off(outage).await;
        // Longer than the pauses between attempts.
        stays_at(&nodes, &["10.0.0.1", "10.0.0.2"], Duration::from_secs(65)).await;
        let error = newcomer.addresses().await.unwrap_err();
        assert!(matches!(error, LookupError::NoApiServer { .. }), "{error:?}");
        assert!(matches!(newcomer.claim("one").await, Err(LookupError::NoApiServer { .. })));
    }
    cluster.reconnect().await;
    is_at(&nodes, &["10.0.0.1", "10.0.0.3"]).await;
    is_at(&newcomer, &["10.0.0.1", "10.0.0.3"]).await;
    assert_eq!(cluster.lists(), 2, "the one goes on from where it was, the other lists");
    assert_eq!(newcomer.claim("one").await.unwrap(), Claim::Own);
}

#[tokio::test]
async fn what_history_has_forgotten_since_the_stream_broke_is_listed() {
    let cluster = Cluster::start().await;
    cluster.set("a", &[("10.0.0.1", "west")]).await;
    cluster.set("b", &[("10.0.0.2", "east")]).await;
    let nodes = cluster.watched().await;
    is_at(&nodes, &["10.0.0.1", "10.0.0.2"]).await;
    cluster.has_streamed(1).await;
    let known = cluster.server.resource_version();
    cluster.server.faults().break_watches(Break::Silent);
    cluster.set("a", &[("10.0.0.1", "west"), ("10.0.0.3", "west")]).await;
    cluster.delete("b").await;
    cluster.server.compact();
    cluster.server.forget_requests();
    cluster.cut_off(Outage::Refused).await;
    cluster.reconnect().await;
    // What was told holds until the list is complete.
    goes_at_once(&nodes, &["10.0.0.1", "10.0.0.2"], &["10.0.0.1", "10.0.0.3"]).await;
    // A stream from before what is remembered begins with 410, and ends.
    cluster.has_streamed(2).await;
    let now = cluster.server.resource_version();
    let expected = [Asked::Stream { from: known }, Asked::List, Asked::Stream { from: now }];
    assert!(known < now);
    assert_eq!(cluster.asked(), expected);
}

#[tokio::test]
async fn streams_that_break_are_resumed() {
    let cluster = Cluster::start().await;
    cluster.set("a", &[("10.0.0.1", "west")]).await;
    let nodes = cluster.watched().await;
    is_at(&nodes, &["10.0.0.1"]).await;
    for (number, how) in [Break::Close, Break::MidLine, Break::MidLine].into_iter().enumerate() {
        cluster.has_streamed(number + 1).await;
        cluster.server.faults().break_watches(how);
        let host = format!("10.0.9.{number}");
        cluster.set("a", &[(&host, "west")]).await;
        is_at(&nodes, &[&host]).await;
    }
    cluster.has_streamed(4).await;
    assert_eq!(cluster.lists(), 1);
}

#[tokio::test]
async fn a_stream_that_is_silent_for_longer_than_it_may_last_is_given_up() {
    let cluster = Cluster::start().await;
    cluster.set("a", &[("10.0.0.1", "west")]).await;
    let nodes = cluster.watched_with(Patience { stream_seconds: 10, ..Patience::default() }).await;
    is_at(&nodes, &["10.0.0.1"]).await;
    cluster.has_streamed(1).await;
    cluster.server.faults().break_watches(Break::Silent);
    cluster.set("a", &[("10.0.0.2", "west")]).await;
    stays_at(&nodes, &["10.0.0.1"], Duration::from_secs(1)).await;
    is_at(&nodes, &["10.0.0.2"]).await;
    assert_eq!(cluster.lists(), 1, "it goes on from where it was");
}

#[tokio::test]
async fn a_quiet_stream_is_ended_in_time_and_resumed() {
    let cluster = Cluster::start().await;
    cluster.set("a", &[("10.0.0.1", "west")]).await;
    let nodes = cluster.watched_with(Patience { stream_seconds: 1, ..Patience::default() }).await;
    cluster.has_streamed(4).await;
    is_at(&nodes, &["10.0.0.1"]).await;
    assert_eq!(cluster.lists(), 1);
}

#[tokio::test]
async fn a_stream_that_is_asked_for_and_does_not_begin_is_given_up() {
    let cluster = Cluster::start().await;
    cluster.set("a", &[("10.0.0.1", "west")]).await;
    let patience = Patience { changes: Duration::from_secs(10), ..Patience::default() };
    let nodes = cluster.watched_with(patience).await;
    is_at(&nodes, &["10.0.0.1"]).await;
    cluster.has_streamed(1).await;
    let faults = cluster.server.faults();
    faults.only_on_paths_with(PATH);
    faults.delay_answers(HOUR);
    faults.break_watches(Break::Close);
    eventually(|| faults.late_answers() > 0).await;
    faults.delay_answers(Duration::ZERO);
    cluster.set("a", &[("10.0.0.2", "west")]).await;
    is_at(&nodes, &["10.0.0.2"]).await;
    assert_eq!(cluster.lists(), 2, "it began anew");
}

#[tokio::test]
async fn streams_that_are_refused_again_and_again_are_given_up() {
    let cluster = Cluster::start().await;
    cluster.set("a", &[("10.0.0.1", "west")]).await;
    // Longer than most pauses between attempts.
    let patience = Patience { changes: Duration::from_secs(40), ..Patience::default() };
    let nodes = cluster.watched_with(patience).await;
    is_at(&nodes, &["10.0.0.1"]).await;
    cluster.has_streamed(1).await;
    let faults = cluster.server.faults();
    faults.only_on_paths_with(PATH);
    faults.refuse_all(Refusal::Unavailable);
    faults.break_watches(Break::Close);
    eventually(|| cluster.lists() >= 2).await;
    is_at(&nodes, &["10.0.0.1"]).await;
    faults.refuse_nothing();
    cluster.set("a", &[("10.0.0.2", "west")]).await;
    is_at(&nodes, &["10.0.0.2"]).await;
}

#[tokio::test]
async fn a_list_that_is_not_answered_is_given_up() {
    let cluster = Cluster::start().await;
    cluster.set("a", &[("10.0.0.1", "west")]).await;
    let faults = cluster.server.faults();
    faults.only_on_paths_with(PATH);
    faults.delay_answers(HOUR);
    let patience = Patience { list: Duration::from_secs(2), ..Patience::default() };
    let nodes = cluster.watched_with(patience).await;
    let error = nodes.addresses().await.unwrap_err();
    assert!(matches!(error, LookupError::NoApiServer { .. }), "{error:?}");
    // The first one is still held back when the next comes.
    eventually(|| faults.late_answers() >= 2).await;
    faults.delay_answers(Duration::ZERO);
    is_at(&nodes, &["10.0.0.1"]).await;
}

#[tokio::test]
async fn a_slow_server_is_waited_for() {
    let cluster = Cluster::start().await;
    cluster.set("a", &[("10.0.0.1", "west")]).await;
    let faults = cluster.server.faults();
    faults.only_on_paths_with(PATH);
    // Longer than who looks for others waits.
    faults.delay_answers(Duration::from_secs(7));
    let nodes = cluster.watched().await;
    let error = nodes.addresses().await.unwrap_err();
    assert!(matches!(error, LookupError::NoApiServer { .. }), "{error:?}");
    is_at(&nodes, &["10.0.0.1"]).await;
    cluster.has_streamed(1).await;
    faults.break_watches(Break::Close);
    // The change is as late as the stream on which it is told.
    cluster.set("a", &[("10.0.0.2", "west")]).await;
    is_at(&nodes, &["10.0.0.2"]).await;
    assert_eq!((cluster.lists(), faults.late_answers()), (1, 4), "nothing was asked for twice");
}
