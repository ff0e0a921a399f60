//! Clocks on walls that are wrong by an hour.

use super::*;

const HOUR: u64 = 3_600_000;

fn ahead(now: GridTime) -> GridTime {
    GridTime(now.0 + HOUR)
}

fn back(now: GridTime) -> GridTime {
    GridTime(now.0 - HOUR)
}

/// A pair whose entries live for half an hour unless they say otherwise, with one.
async fn pair_with_entry() -> (Pair, Version) {
    let mut pair = Pair::new();
    pair.map.options.ttl = Some(Duration::from_secs(1800));
    let mut put = Box::pin(pair.put(0, b"v"));
    assert!(put.as_mut().now_or_never().is_none());
    pair.deliver();
    let version = put.await.unwrap();
    (pair, version)
}

/// What there is after all that is due was done.
fn ticked(pair: &Pair, node: usize) -> u64 {
    pair.nodes[node].strand(ID).try_run(Shard::tick).map_err(|_| ()).unwrap();
    pair.deliver();
    pair.held(node)
}

async fn check_jump(told: fn(GridTime) -> GridTime) {
    let (mut pair, first) = pair_with_entry().await;
    // The clock on the wall of who leads has jumped: all are told so.
    for node in &pair.nodes {
        node.clock().follow(told(node.clock().now()));
    }
    assert_eq!(ticked(&pair, 0), 1);
    let mut put = Box::pin(pair.put(0, b"w"));
    assert!(put.as_mut().now_or_never().is_none());
    pair.deliver();
    let second = put.await.unwrap();
    pair.decide(1);
    pair.deliver();
    assert_eq!(ticked(&pair, 1), 1, "whoever takes over keeps it");
    let mut put = Box::pin(pair.put(1, b"x"));
    assert!(put.as_mut().now_or_never().is_none());
    pair.deliver();
    let third = put.await.unwrap();
    assert!(first < second && second < third, "no version comes again");
    let mut get = Box::pin(pair.get(1));
    assert!(get.as_mut().now_or_never().is_none());
    pair.deliver();
    assert_eq!(get.await, Ok(Some(b"x".to_vec())));
}

#[tokio::test]
async fn a_wall_clock_that_jumps_an_hour_ahead_makes_nothing_expire() {
    check_jump(ahead).await;
}

#[tokio::test]
async fn a_wall_clock_that_jumps_an_hour_back_gives_no_version_twice() {
    check_jump(back).await;
}

#[tokio::test]
async fn a_node_that_knows_only_its_wall_clock_serves_nothing_and_takes_the_time_of_its_grid() {
    let pair = Pair::by_wall();
    assert_eq!(pair.put(0, b"v").await, Err(NoReply::NoGridTime));
    assert_eq!(pair.get(0).await, Err(NoReply::NoGridTime));
    let clock = pair.nodes[0].clock();
    let of_grid = back(clock.now());
    clock.begin_with(of_grid);
    assert!(clock.now().0.abs_diff(of_grid.0) < 60_000);
    let mut put = Box::pin(pair.put(0, b"v"));
    assert!(put.as_mut().now_or_never().is_none());
    pair.deliver();
    put.await.unwrap();
}
