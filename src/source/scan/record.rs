//! The recording side of a scan: turns chunks and marks into tables.
//!
//! Guarantees: tables are written as they grow, never held; what this side
//! keeps is one window and one checksum of each sort.

use std::io::{self, BufWriter, Write};

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

use super::super::ReadAt;
use super::super::gzip::Checkpoint;
use super::super::gzip::window::WindowPacker;
use super::super::tables::{SpanRecord, checksum_seed};
use super::ScanOutput;
use super::error::ArchiveError;
use super::feed::{Chunk, MemberEnd, What};
use crate::sys::inflate::WINDOW_BYTES;
use crate::types::BLOCK_BYTES;

/// Records are small, so they are gathered before they are written.
const WRITE_BYTES: usize = 16 * 1024;

/// Why recording failed.
#[derive(Debug)]
pub(super) enum RecordError {
    Archive(ArchiveError),
    Write(io::Error),
}

impl From<io::Error> for RecordError {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

impl From<ArchiveError> for RecordError {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

/// What was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Recorded {
    pub(super) stream_len: u64,
    pub(super) spans: u32,
    pub(super) blocks: u32,
    pub(super) longest_span: u64,
    pub(super) windows_bytes: u64,
}

pub(super) struct Recorder<'a, 'o> {
    archive: &'a dyn ReadAt,
    spans: BufWriter<&'o mut (dyn Write + Send)>,
    windows: BufWriter<&'o mut (dyn Write + Send)>,
    checksums: BufWriter<&'o mut (dyn Write + Send)>,
    packer: WindowPacker,
    recorded: Recorded,
    span_start: u64,
    /// The block in the making: how long it is, and its checksum so far.
    block_len: u32,
    block_sum: u32,
    member_crc: crc32fast::Hasher,
    member_len: u64,
    /// The last bytes of all chunks before this one, up to a window of them.
    tail: Vec<u8>,
    /// Where a window is put together that is in the tail and in a chunk.
    joined: Vec<u8>,
}

impl<'a, 'o> Recorder<'a, 'o> {
    pub(super) fn new(archive: &'a dyn ReadAt, out: ScanOutput<'o>) -> io::Result<Self> {
        Ok(Self {
            archive,
            spans: BufWriter::with_capacity(WRITE_BYTES, out.spans),
            windows: BufWriter::with_capacity(WRITE_BYTES, out.windows),
            checksums: BufWriter::with_capacity(WRITE_BYTES, out.checksums),
            packer: WindowPacker::new()?,
            recorded: Recorded::default(),
            span_start: 0,
            block_len: 0,
            block_sum: 0,
            member_crc: crc32fast::Hasher::new(),
            member_len: 0,
            tail: Vec::with_capacity(WINDOW_BYTES),
            joined: Vec::with_capacity(WINDOW_BYTES),
        })
    }

    /// Stream offset behind all that was recorded.
    pub(super) fn stream_at(&self) -> u64 {
        self.recorded.stream_len
    }

    pub(super) fn chunk(&mut self, chunk: &Chunk) -> Result<(), RecordError> {
        let bytes = chunk.bytes();
        let mut done = 0;
        for mark in &chunk.marks {
            self.bytes(&bytes[done..mark.place])?;
            done = mark.place;
            match mark.what {
                What::Span { checkpoint, window } => {
                    self.span(checkpoint, window, &bytes[..done])?;
                }
                What::Member(end) => self.member(end)?,
            }
        }
        self.bytes(&bytes[done..])?;
        join_tail(&mut self.tail, bytes);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Recorded, RecordError> {
        self.end_span()?;
        for table in [&mut self.spans, &mut self.windows, &mut self.checksums] {
            table.flush()?;
        }
        Ok(self.recorded)
    }

    /// Records bytes that are all of one span.
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), RecordError> {
        self.member_crc.update(bytes);
        self.member_len = self.member_len.wrapping_add(bytes.len() as u64);
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.block_len == 0 {
                self.block_sum = checksum_seed(self.recorded.stream_len);
            }
            let room = (BLOCK_BYTES - self.block_len) as usize;
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.block_sum = crc32c::crc32c_append(self.block_sum, now);
            // At most a block, so it fits.
            self.block_len += u32::try_from(now.len()).unwrap_or(BLOCK_BYTES);
            self.recorded.stream_len += now.len() as u64;
            if self.block_len == BLOCK_BYTES {
                self.end_block()?;
            }
            rest = later;
        }
        Ok(())
    }

    fn end_block(&mut self) -> Result<(), RecordError> {
        if self.block_len > 0 {
            self.checksums
                .write_all(U32::new(self.block_sum).as_bytes())?;
            let blocks = self.recorded.blocks.checked_add(1);
            self.recorded.blocks = blocks.ok_or_else(|| self.too_large("more than 2^32 blocks"))?;
            self.block_len = 0;
        }
        Ok(())
    }

    fn end_span(&mut self) -> Result<(), RecordError> {
        let len = self.recorded.stream_len - self.span_start;
        self.recorded.longest_span = self.recorded.longest_span.max(len);
        self.span_start = self.recorded.stream_len;
        self.end_block()
    }

    /// Records that a span starts here; `before` is what its chunk holds in
    /// front of it.
    fn span(
        &mut self,
        checkpoint: Checkpoint,
        window: usize,
        before: &[u8],
    ) -> Result<(), RecordError> {
        self.end_span()?;
        let mut frame: &[u8] = &[];
        if window > 0 {
            let bytes = last_bytes(&self.tail, before, window, &mut self.joined);
            frame = self.packer.pack(self.archive, checkpoint, bytes)?;
        }
        let record = SpanRecord {
            stream_start: U64::new(self.recorded.stream_len),
            archive_bit: U64::new(checkpoint.archive_bit),
            window_offset: U64::new(self.recorded.windows_bytes),
            // A frame is hardly longer than a window, so it fits.
            window_len: U32::new(u32::try_from(frame.len()).unwrap_or(0)),
            first_block: U32::new(self.recorded.blocks),
            header_bits: U32::new(checkpoint.header_bits),
            reserved: U32::new(0),
        };
        self.windows.write_all(frame)?;
        self.recorded.windows_bytes += frame.len() as u64;
        self.spans.write_all(record.as_bytes())?;
        let spans = self.recorded.spans.checked_add(1);
        self.recorded.spans = spans.ok_or_else(|| self.too_large("more than 2^32 spans"))?;
        Ok(())
    }

    /// Checks a member against its trailer.
    fn member(&mut self, end: MemberEnd) -> Result<(), RecordError> {
        let crc32 = std::mem::take(&mut self.member_crc).finalize();
        let [a, b, c, d, ..] = std::mem::take(&mut self.member_len).to_le_bytes();
        let len = u32::from_le_bytes([a, b, c, d]);
        for (what, stored, found) in [("CRC-32", end.crc32, crc32), ("length", end.len, len)] {
            if stored != found {
                let MemberEnd {
                    member_at,
                    trailer_at,
                    ..
                } = end;
                let error = ArchiveError::Checksum {
                    member_at,
                    trailer_at,
                    what,
                    stored,
                    found,
                };
                return Err(error.into());
            }
        }
        Ok(())
    }

    fn too_large(&self, what: &'static str) -> RecordError {
        ArchiveError::TooLarge {
            stream_at: self.recorded.stream_len,
            what,
        }
        .into()
    }
}

/// Keeps in `tail` the last bytes of it and `bytes`, up to a window of them.
fn join_tail(tail: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[bytes.len().saturating_sub(WINDOW_BYTES)..];
    let excess = (tail.len() + bytes.len()).saturating_sub(WINDOW_BYTES);
    tail.drain(..excess.min(tail.len()));
    tail.extend_from_slice(bytes);
}

/// The last `len` bytes of `tail` followed by `bytes`, joined in `joined` if
/// they are in both.
fn last_bytes<'a>(
    tail: &'a [u8],
    bytes: &'a [u8],
    len: usize,
    joined: &'a mut Vec<u8>,
) -> &'a [u8] {
    match len.checked_sub(bytes.len()) {
        None | Some(0) => &bytes[bytes.len() - len..],
        Some(missing) => {
            joined.clear();
            joined.extend_from_slice(&tail[tail.len().saturating_sub(missing)..]);
            joined.extend_from_slice(bytes);
            joined
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_joined_from_the_tail_and_the_chunk() {
        let stream: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let (mut tail, mut joined) = (Vec::new(), Vec::new());
        let mut at = 0;
        for len in [1, 0, 70_000, 10, 32_768, 32_767, 100_000] {
            let chunk = &stream[at..at + len];
            for place in [0, len / 2, len] {
                let window = WINDOW_BYTES.min(at + place);
                let expected = &stream[at + place - window..at + place];
                assert_eq!(
                    last_bytes(&tail, &chunk[..place], window, &mut joined),
                    expected
                );
            }
            join_tail(&mut tail, chunk);
            at += len;
            assert_eq!(tail, &stream[at - WINDOW_BYTES.min(at)..at]);
        }
    }
}
