//! [`Successor`]: the group that has taken the place of this one, as soon as a voter of it was heard.

use tokio::sync::watch;

use crate::identity::GroupId;

/// Noted by who hears of it. Clones know the same.
#[derive(Debug, Clone)]
pub(crate) struct Successor {
    own: GroupId,
    heard: watch::Sender<Option<GroupId>>,
}

impl Successor {
    pub(crate) fn of(own: GroupId) -> Self {
        Self { own, heard: watch::Sender::new(None) }
    }

    /// Another voter is of this group.
    pub(crate) fn note(&self, group: GroupId) {
        self.heard.send_if_modified(|heard| {
            let is_newer = group.succeeds(&heard.unwrap_or(self.own));
            if is_newer {
                *heard = Some(group);
            }
            is_newer
        });
    }

    pub(crate) fn get(&self) -> Option<GroupId> {
        *self.heard.borrow()
    }

    /// Waits until there is one.
    pub(crate) async fn wait(&self) -> GroupId {
        let mut heard = self.heard.subscribe();
        let found = heard.wait_for(Option::is_some).await;
        found.ok().and_then(|group| *group).expect("this value keeps the sender")
    }
}
