//! A list in pieces of a fixed size: it grows and shrinks without being copied, and wastes less than a piece. A vector that grows
//! by a factor leaves a part of itself unused, and its allocator what it grew out of.

/// `T::default()` fills what is not in use.
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

    /// Takes the last item off.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        let item = std::mem::take(&mut self.pieces[self.len / PIECE][self.len % PIECE]);
        if self.len.is_multiple_of(PIECE) {
            self.pieces.pop();
        }
        if self.pieces.capacity() > 4 * (self.pieces.len() + PIECE) {
            self.pieces.shrink_to(2 * self.pieces.len());
        }
        Some(item)
    }

    /// What it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.pieces.len() * size_of::<[T; PIECE]>()
    }

    /// Frees at most about so many items, from the end; whether none is left. The list is not to be used any more.
    pub(super) fn free_some(&mut self, items: usize) -> bool {
        self.pieces.truncate(self.pieces.len().saturating_sub(items.div_ceil(PIECE)));
        self.pieces.is_empty()
    }
}
