//! What the leader of the control group does for the grid: it looks at what is decided and at who lives, and proposes what is next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use wattle_core::control::GroupCommand;
use wattle_core::control::grid::Reconciler;
use wattle_core::ids::MemberId;
use wattle_core::membership::Presence;

use crate::control::Control;

/// How long to wait before what was not decided is proposed again.
const PAUSE: Duration = Duration::from_millis(500);

/// Leads a grid of this node alone until it is dropped. Says when there was nothing left to do for the first time.
pub(crate) async fn lead(control: Arc<Control>, me: MemberId, settled: oneshot::Sender<()>) {
    let mut settled = Some(settled);
    let presence = BTreeMap::from([(me, Presence::Alive)]);
    let mut reconciler = Reconciler::default();
    let mut decided = control.watch();
    loop {
        let state = Arc::clone(&decided.borrow_and_update().state);
        let next = state.grid().and_then(|grid| reconciler.next(grid, &presence));
        match next {
            Some(command) => {
                if let Err(error) = control.propose(GroupCommand::Grid(command)).await {
                    tracing::warn!(%error, "what the grid needs is not decided");
                    tokio::time::sleep(PAUSE).await;
                }
            }
            None => {
                if let Some(settled) = settled.take() {
                    // Who has gone does not wait.
                    settled.send(()).ok();
                }
                if decided.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}
