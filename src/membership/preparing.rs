//! A member has a session, a log and maybe a vote while it still fetches and compiles functions, but no partitions before it has said that
//! it is done with that.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::debug;
use wattle_core::control::GroupCommand;
use wattle_core::control::grid::{GridCommand, NodeDescription};
use wattle_core::ids::MemberId;

use crate::control::Control;

/// How long to wait before what was not decided is proposed again.
const PAUSE: Duration = Duration::from_millis(200);

/// Says that this member has prepared, until it is dropped: what was proposed before that may be decided behind it. Says when the grid
/// knows.
pub(crate) async fn tell_prepared(control: Arc<Control>, me: MemberId, told: oneshot::Sender<()>) {
    let mut told = Some(told);
    let mut decided = control.watch();
    loop {
        let state = Arc::clone(&decided.borrow_and_update().state);
        let node = state.grid().and_then(|grid| grid.node(me.node)).filter(|node| node.member == me);
        let prepares = node.filter(|node| node.description.prepares);
        if let Some(node) = prepares {
            let description = NodeDescription { prepares: false, ..node.description.clone() };
            let describe = GridCommand::Describe { member: me, description: Box::new(description) };
            if let Err(error) = control.propose(GroupCommand::Grid(describe)).await {
                debug!(%error, "the grid does not know yet that this node has prepared");
                tokio::time::sleep(PAUSE).await;
            }
            continue;
        }
        if let Some(told) = told.take() {
            // Who has gone does not wait.
            told.send(()).ok();
        }
        if decided.changed().await.is_err() {
            return;
        }
    }
}
