//! Uncompressed offset to bytes: where the content of files comes from.
//!
//! Guarantees: this module knows no tar. Every byte that a [`BlockSource`]
//! hands out was checked against a checksum made when the archive was scanned;
//! a byte that cannot be vouched for is an error, never a guess. A source need
//! not be a local file: everything below it is [`ReadAt`].

use std::io;
use std::ops::{ControlFlow, Range};

use crate::budget::Block;
use crate::types::{BlockNo, SpanNo};

mod deflate;
mod direct;
mod file;
mod gzip;
mod joined;
mod kind;
mod pool;
mod reader;
pub mod scan;
pub mod tables;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use direct::DirectReader;
pub use file::ArchiveFile;
pub use joined::Joined;
pub use kind::Kind;
pub use pool::Decoders;
pub(crate) use pool::KEPT_MAX;

pub use reader::StreamSource;

/// Bytes by offset. Implementations are shared between threads, and a call may
/// block on a disk or a decoder.
pub trait ReadAt: Send + Sync {
    /// Length in bytes of what can be read.
    fn len(&self) -> u64;

    /// Whether there is nothing to read.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` with the bytes from `at`; a range that is not wholly inside
    /// is [`SourceError::OutOfRange`].
    fn read_exact_at(&self, at: u64, buf: &mut [u8]) -> Result<(), SourceError>;

    /// Like [`read_exact_at`](Self::read_exact_at) where that takes neither
    /// disk nor decoder; otherwise leaves `buf` in any state and answers
    /// `Ok(false)`.
    fn try_read_exact_at(&self, _at: u64, _buf: &mut [u8]) -> Result<bool, SourceError> {
        Ok(false)
    }

    /// Says that `range` will be read soon, so that it is on its way meanwhile.
    /// Only a hint.
    fn will_need(&self, _range: Range<u64>) {}

    /// Says that `range` will not be read again soon, so that whoever caches it
    /// may let go. Only a hint.
    fn forget(&self, _range: Range<u64>) {}
}

/// One block: a piece of a span, at most [`crate::types::BLOCK_BYTES`] long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockInfo {
    /// Its number in the stream.
    pub no: BlockNo,
    /// The span that it is part of; blocks never cross spans.
    pub span: SpanNo,
    /// Where in the uncompressed stream it starts.
    pub start: u64,
    /// How many bytes it has, never 0.
    pub len: u32,
}

impl BlockInfo {
    /// The first stream offset behind it.
    pub fn end(&self) -> u64 {
        self.start + u64::from(self.len)
    }
}

/// Where a span starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanPlace {
    /// Offset in the uncompressed stream.
    pub stream: u64,
    /// Offset in the archive.
    pub archive: u64,
}

/// A stream that is produced in verified blocks, from the start of a span or
/// wherever a kept decoder stands.
pub trait BlockSource: Send + Sync {
    /// Length of the uncompressed stream in bytes.
    fn len(&self) -> u64;

    /// Whether the stream is empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many spans there are.
    fn span_count(&self) -> u32;

    /// The block that holds stream offset `at`.
    fn block_at(&self, at: u64) -> Result<BlockInfo, SourceError>;

    /// The numbers of the blocks of a span.
    fn blocks_of(&self, span: SpanNo) -> Result<Range<u32>, SourceError>;

    /// Where a span starts.
    fn place_of(&self, span: SpanNo) -> Result<SpanPlace, SourceError>;

    /// How long the archive is that the stream is made from.
    fn archive_len(&self) -> u64;

    /// Fails if what was said of places so far, by the two above, may be wrong.
    /// Produced blocks are verified, and right all the same.
    fn intact(&self) -> Result<(), SourceError>;

    /// Produces verified blocks of the span that `wanted` is in, in order: from
    /// `wanted`, or from an earlier block of that span if decoding has to start
    /// there, until the span ends or `sink` breaks. All that is decoded is
    /// handed over. On an early break the decoder is kept, so that a later call
    /// that wants the next block goes on without decoding anything again.
    fn produce(&self, wanted: BlockNo, sink: &mut BlockSink<'_>) -> Result<(), SourceError>;
}

/// What receives produced blocks; breaks when it has enough.
pub type BlockSink<'a> = dyn FnMut(BlockInfo, Block) -> ControlFlow<()> + 'a;

/// Why bytes could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The archive could not be read.
    #[error("cannot read {len} bytes of the archive at offset {at}: {cause}")]
    Io {
        /// Offset in the archive file.
        at: u64,
        /// How many bytes were asked for.
        len: usize,
        /// What the system said.
        cause: io::Error,
    },
    /// The archive ended before a byte that its index knows of.
    #[error(
        "the archive ends at offset {end}, where {wanted} bytes more are known to be: it was truncated or replaced; index it again"
    )]
    Truncated {
        /// Where it ends now.
        end: u64,
        /// How many bytes are missing at least.
        wanted: u64,
    },
    /// The compressed data cannot be decoded.
    #[error(
        "damaged compressed data at archive offset {at} ({what}): the archive was changed or its disk is failing; compare it with the original"
    )]
    Inflate {
        /// Offset in the archive file, near the damage.
        at: u64,
        /// What the decoder said.
        what: &'static str,
    },
    /// The decoded bytes are not those that were indexed.
    #[error(
        "stream bytes {start}..{end} do not match their checksum: the archive or its index was changed; index it again"
    )]
    Checksum {
        /// First byte of the block.
        start: u64,
        /// First byte behind it.
        end: u64,
    },
    /// The tables that lead to the bytes contradict themselves.
    #[error("the index is damaged ({what}): make it again with `distrofs index --force`")]
    Tables {
        /// What was found.
        what: &'static str,
    },
    /// One of several streams that were joined could not be read; places are
    /// its own.
    #[error("{}: {cause}", part_name(*part))]
    Part {
        /// Which, from 0: an image, then the patches on top of it.
        part: u32,
        /// Why.
        cause: Box<SourceError>,
    },
    /// A range outside of the stream was asked for.
    #[error("bytes {at}..{} are outside of a stream of {stream_len} bytes", at.saturating_add(*len))]
    OutOfRange {
        /// First byte asked for.
        at: u64,
        /// How many.
        len: u64,
        /// Length of the stream.
        stream_len: u64,
    },
}

/// What a part of a joined stream is to whoever made it.
fn part_name(part: u32) -> String {
    match part {
        0 => "the image".to_owned(),
        part => format!("patch {part} of the image"),
    }
}
