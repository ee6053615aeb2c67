//! What travels between the two threads of a scan: chunks of the stream, and
//! marks in them.
//!
//! Guarantees: there are never more than [`CHUNKS`] chunks, which go back and
//! forth; so the thread that is ahead waits. Either side ends when the other
//! hangs up.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::error::ArchiveError;

/// How many chunks there are: one that each side works on, two in between.
pub(super) const CHUNKS: usize = 4;
/// Bytes of the stream in a chunk, at most.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;
/// Marks in a chunk, at most: an archive of tiny members has more of them than
/// bytes.
const MARKS_MAX: usize = 512;

/// A piece of the stream.
pub(super) struct Chunk {
    buf: Box<[u8]>,
    len: usize,
    /// In the order of their places.
    pub(super) marks: Vec<Mark>,
}

impl Chunk {
    fn new() -> Self {
        let buf = vec![0; CHUNK_BYTES].into_boxed_slice();
        Self {
            buf,
            len: 0,
            marks: Vec::with_capacity(MARKS_MAX),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buf[..self.len]
    }
}

/// Something at a place between two bytes of a chunk.
#[derive(Debug)]
pub(super) struct Mark {
    /// How many bytes of the chunk are before it.
    pub(super) place: usize,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// A span starts; at least one byte follows.
    Span {
        /// The first bit of its code: byte of the archive times 8, plus bit.
        archive_bit: u64,
        /// The header of the block in which it starts; empty where a block does.
        header: Box<[u8]>,
        /// What came before and is referred to, with zeros in between; empty if
        /// nothing is.
        window: Box<[u8]>,
    },
    /// A gzip member ended.
    Member(MemberEnd),
}

/// What the trailer of a member says, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemberEnd {
    pub(super) member_at: u64,
    pub(super) trailer_at: u64,
    pub(super) crc32: u32,
    pub(super) len: u32,
}

/// Why the producing side ends early.
#[derive(Debug)]
pub(super) enum Halt {
    /// The other side hung up; it knows why.
    HungUp,
    /// The archive is at fault.
    Archive(ArchiveError),
}

impl<T: Into<ArchiveError>> From<T> for Halt {
    fn from(error: T) -> Self {
        Self::Archive(error.into())
    }
}

/// The producing side.
pub(super) struct Feed {
    full: SyncSender<Chunk>,
    empty: Receiver<Chunk>,
    current: Option<Chunk>,
}

/// The recording side.
pub(super) struct Drain {
    full: Receiver<Chunk>,
    empty: SyncSender<Chunk>,
}

/// Both sides, with all chunks made.
pub(super) fn pair() -> (Feed, Drain) {
    let (full, filled) = sync_channel(CHUNKS);
    let (emptied, empty) = sync_channel(CHUNKS);
    for _ in 0..CHUNKS {
        // Has room for all, and its receiver is alive.
        let _sent = emptied.send(Chunk::new());
    }
    let feed = Feed {
        full,
        empty,
        current: None,
    };
    (
        feed,
        Drain {
            full: filled,
            empty: emptied,
        },
    )
}

impl Feed {
    /// Room for the next bytes of the stream, never empty.
    pub(super) fn space(&mut self) -> Result<&mut [u8], Halt> {
        let chunk = self.current()?;
        Ok(&mut chunk.buf[chunk.len..])
    }

    /// Says that `n` bytes of the room are filled.
    pub(super) fn wrote(&mut self, n: usize) {
        if let Some(chunk) = &mut self.current {
            chunk.len = chunk.buf.len().min(chunk.len + n);
        }
    }

    /// Marks the place behind the bytes written so far.
    pub(super) fn mark(&mut self, what: What) -> Result<(), Halt> {
        let chunk = self.current()?;
        let place = chunk.len;
        chunk.marks.push(Mark { place, what });
        Ok(())
    }

    /// Hands over what is left.
    pub(super) fn finish(mut self) -> Result<(), Halt> {
        match self.current.take() {
            Some(chunk) => self.full.send(chunk).map_err(|_| Halt::HungUp),
            None => Ok(()),
        }
    }

    /// The chunk that is being filled, with room for a byte and a mark.
    fn current(&mut self) -> Result<&mut Chunk, Halt> {
        let is_full = |c: &mut Chunk| c.len == c.buf.len() || c.marks.len() >= MARKS_MAX;
        if let Some(chunk) = self.current.take_if(is_full) {
            self.full.send(chunk).map_err(|_| Halt::HungUp)?;
        }
        if self.current.is_none() {
            let mut chunk = self.empty.recv().map_err(|_| Halt::HungUp)?;
            chunk.len = 0;
            chunk.marks.clear();
            self.current = Some(chunk);
        }
        self.current.as_mut().ok_or(Halt::HungUp)
    }
}

impl Drain {
    /// The next chunk; `None` when the other side is done.
    pub(super) fn next(&self) -> Option<Chunk> {
        self.full.recv().ok()
    }

    /// Gives a chunk back.
    pub(super) fn done(&self, chunk: Chunk) {
        // The other side may be done already and need no more.
        let _unneeded = self.empty.send(chunk);
    }
}
