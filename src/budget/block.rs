//! The memory of decoded blocks, used again and again.
//!
//! Blocks come and go by the thousand. Left to the allocator, the small things
//! allocated between them break up the memory that they give back, and a cache
//! of 24 MB ends up taking 40. So every block is a whole piece of
//! [`BLOCK_BYTES`], however short the last one of a span is, and pieces that
//! nobody holds wait here for the next block instead of going back.
//!
//! Guarantees: at most as many pieces wait as the budget has room for blocks;
//! the lock is held to take or return one piece, nothing else.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use crate::types::BLOCK_BYTES;

/// Pieces of memory that wait for a block.
#[derive(Debug)]
pub(super) struct FreeBlocks {
    pieces: Mutex<Vec<Box<[u8]>>>,
    pieces_max: usize,
}

impl FreeBlocks {
    /// Keeps at most `bytes_max` of memory waiting.
    pub(super) fn new(bytes_max: u64) -> Self {
        let pieces_max = usize::try_from(bytes_max / u64::from(BLOCK_BYTES)).unwrap_or(usize::MAX);
        Self {
            pieces: Mutex::default(),
            pieces_max,
        }
    }

    /// Memory for a block of `len` bytes, at most [`BLOCK_BYTES`].
    pub(super) fn take(self: &Arc<Self>, len: u32) -> BlockMut {
        let waiting = self
            .pieces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let piece = waiting.unwrap_or_else(|| vec![0; BLOCK_BYTES as usize].into_boxed_slice());
        BlockMut(Memory {
            piece,
            len: len.min(BLOCK_BYTES) as usize,
            home: Arc::clone(self),
        })
    }

    fn put(&self, piece: Box<[u8]>) {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        if pieces.len() < self.pieces_max {
            pieces.push(piece);
        }
    }

    /// Gives back to the system what waits.
    pub(super) fn release(&self) {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        *pieces = Vec::new();
    }

    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.pieces.lock().unwrap().len()
    }
}

#[derive(Debug)]
struct Memory {
    piece: Box<[u8]>,
    len: usize,
    home: Arc<FreeBlocks>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.home.put(std::mem::take(&mut self.piece));
    }
}

/// A block that is being filled. Holds what an earlier block held until then.
#[derive(Debug)]
pub struct BlockMut(Memory);

impl BlockMut {
    /// The block is filled; from now on it can be shared.
    pub fn freeze(self) -> Block {
        Block(Arc::new(self.0))
    }
}

impl Deref for BlockMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.piece[..self.0.len]
    }
}

impl DerefMut for BlockMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0.piece[..self.0.len]
    }
}

/// The bytes of a decoded block; cheap to clone.
#[derive(Clone)]
pub struct Block(Arc<Memory>);

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.piece[..self.0.len]
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_when_the_last_holder_is_gone() {
        let free = Arc::new(FreeBlocks::new(2 * u64::from(BLOCK_BYTES)));
        let mut block = free.take(5);
        block.copy_from_slice(b"bytes");
        let block = block.freeze();
        let second = block.clone();
        drop(block);
        assert_eq!((&*second, free.waiting()), (&b"bytes"[..], 0));
        drop(second);
        assert_eq!(free.waiting(), 1);
        assert_eq!(free.take(BLOCK_BYTES).len(), BLOCK_BYTES as usize);
    }

    #[test]
    fn no_more_waits_than_the_budget_has_room_for() {
        let free = Arc::new(FreeBlocks::new(2 * u64::from(BLOCK_BYTES)));
        let held: Vec<_> = (0..5).map(|_| free.take(1)).collect();
        drop(held);
        assert_eq!(free.waiting(), 2);
        free.release();
        assert_eq!(free.waiting(), 0);
    }
}
