//! Real nodes under load and faults: a short run of what `cargo xtask chaos` does for as long as one likes.

use std::time::Duration;

use wattle_chaos::Plan;

use crate::harness::examples::example;

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_die_pause_and_are_cut_off_keep_what_they_acknowledged() {
    // The leader pauses and is killed, a link is cut in one direction, a primary is killed.
    let (seed, time) = (1, Duration::from_secs(30));
    let node = env!("CARGO_BIN_EXE_wattle").into();
    let plan = Plan { node, counter: example("counter"), nodes: 3, time, seed };
    let report = wattle_chaos::run(&plan).await;
    assert!(report.violations.is_empty(), "{report}");
    assert!(report.shown > 500 && report.uploads > 1 && !report.gaps.is_empty(), "there was load: {report}");
}
