//! What the reading layers tell about the read that their thread is at.
//!
//! A read goes through several layers, and each knows a part of what a record says: the
//! adapter the file and the time, the filesystem the place in the file, the cache the
//! place in the stream and what was cached. Who wants to know begins to watch; whoever
//! reads for that thread tells, at the cost of one look if nobody watches.

use std::cell::{Cell, RefCell};

use super::Outcome;

/// A piece of a read, as far as it lies together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// From where in the file.
    pub offset: u64,
    /// From where in the stream.
    pub stream: u64,
    /// How many bytes.
    pub len: usize,
    /// How its blocks were found.
    pub outcome: Outcome,
}

/// For how many pieces a thread keeps memory.
const PIECES_KEPT: usize = 64;

thread_local! {
    static IS_WATCHED: Cell<bool> = const { Cell::new(false) };
    static OFFSET: Cell<u64> = const { Cell::new(0) };
    static PIECES: RefCell<Vec<Piece>> = const { RefCell::new(Vec::new()) };
}

/// Begins to watch what this thread reads; what was seen before is forgotten.
pub(super) fn begin() {
    IS_WATCHED.set(true);
    PIECES.with_borrow_mut(Vec::clear);
}

/// Ends it, and hands what was seen to `with`.
pub(super) fn end(with: impl FnOnce(&[Piece])) {
    IS_WATCHED.set(false);
    PIECES.with_borrow_mut(|pieces| {
        with(pieces);
        pieces.clear();
        pieces.shrink_to(PIECES_KEPT);
    });
}

/// How many pieces are kept for this thread.
#[cfg(test)]
pub(super) fn kept() -> usize {
    PIECES.with_borrow(Vec::len)
}

/// Says which place in the file is read next.
pub fn at(offset: u64) {
    if IS_WATCHED.get() {
        OFFSET.set(offset);
    }
}

/// Says what was read of the stream, and how it was found.
pub fn found(stream: u64, len: usize, outcome: Outcome) {
    if IS_WATCHED.get() {
        let piece = Piece {
            offset: OFFSET.get(),
            stream,
            len,
            outcome,
        };
        PIECES.with_borrow_mut(|pieces| pieces.push(piece));
    }
}
