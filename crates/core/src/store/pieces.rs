//! A list in pieces of a fixed size: it grows without being copied, and wastes less than a piece. A vector that grows by a factor
//! leaves a part of itself unused, and its allocator what it grew out of.

/// `T::default()` fills what is not in use yet.
#[derive(Debug)]
pub(super) struct Pieces<T, const PIECE: usize> {
    /// Boxed: growing copies pointers, not items.
    pieces: Vec<Box<[T; PIECE]>>,
    len: usize,
}

impl<T, const PIECE: usize> Default for Pieces<T, PIECE> {
    fn default() -> Self {
        Self { pieces: Vec::new(), len: 0 }
    }
}

impl<T: Default, const PIECE: usize> Pieces<T, PIECE> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, index: usize) -> Option<&T> {
        Some(&self.pieces.get(index / PIECE)?[index % PIECE])
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        Some(&mut self.pieces.get_mut(index / PIECE)?[index % PIECE])
    }

    /// Adds an item, and returns its index.
    pub(super) fn push(&mut self, item: T) -> usize {
        if self.len == self.pieces.len() * PIECE {
            self.pieces.push(Box::new(std::array::from_fn(|_| T::default())));
        }
        let index = self.len;
        self.len += 1;
        self.pieces[index / PIECE][index % PIECE] = item;
        index
    }

    /// The items from an index on; what follows the last one in its piece, too.
    pub(super) fn from(&self, index: usize) -> impl Iterator<Item = (usize, &T)> {
        let (first, mut skip) = (index / PIECE, index % PIECE);
        let pieces = self.pieces.iter().enumerate().skip(first);
        pieces.flat_map(move |(piece, items)| {
            let skipped = std::mem::take(&mut skip);
            items.iter().enumerate().skip(skipped).map(move |(place, item)| (piece * PIECE + place, item))
        })
    }

    /// Frees at most about so many items, from the end; whether none is left. The list is not to be used any more.
    pub(super) fn free_some(&mut self, items: usize) -> bool {
        self.pieces.truncate(self.pieces.len().saturating_sub(items.div_ceil(PIECE)));
        self.pieces.is_empty()
    }
}
