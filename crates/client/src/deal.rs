//! Deals operations to the members that decide about their keys.

use std::sync::Arc;

use crate::routes::{Member, Primaries, owner};

/// Operations that go to the same place.
#[derive(Debug)]
pub(crate) struct Share<'t> {
    /// `None`: any node, which sends them on.
    pub(crate) owner: Option<&'t Arc<Member>>,
    /// Where they stand among all of them, in order.
    pub(crate) places: Vec<u32>,
}

/// The shares of those that `may_be_asked`, and of any node if something is left for one. Whatever is about one key is in one share.
pub(crate) fn deal<'t, 'k>(
    entries: impl Iterator<Item = (&'t Primaries, &'k [u8])>,
    may_be_asked: impl Fn(&Arc<Member>) -> bool,
) -> Vec<Share<'t>> {
    let mut shares: Vec<Share<'t>> = Vec::new();
    for (place, (primaries, key)) in (0..).zip(entries) {
        let owner = owner(primaries, key);
        let is_its = |share: &&mut Share<'_>| share.owner.map(Arc::as_ptr) == owner.map(Arc::as_ptr);
        match shares.iter_mut().find(is_its) {
            Some(share) => share.places.push(place),
            None => shares.push(Share { owner, places: vec![place] }),
        }
    }
    let goes_straight = |share: &Share<'_>| share.owner.is_some_and(&may_be_asked);
    let (mut shares, others): (Vec<_>, Vec<_>) = shares.into_iter().partition(goes_straight);
    let mut places: Vec<u32> = others.into_iter().flat_map(|share| share.places).collect();
    if !places.is_empty() {
        places.sort_unstable();
        shares.push(Share { owner: None, places });
    }
    shares
}
