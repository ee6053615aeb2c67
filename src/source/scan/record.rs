//! The recording side of a scan: turns chunks and marks into tables.
//!
//! Guarantees: tables are written as they grow, never held; what this side
//! keeps is one record and one checksum of each sort.

use std::io::{self, BufWriter, Write};

use flate2::Crc;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

use super::super::gzip::window::WindowPacker;
use super::super::tables::{SpanRecord, checksum_seed};
use super::ScanOutput;
use super::error::ArchiveError;
use super::feed::{Chunk, MemberEnd, What};
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

pub(super) struct Recorder<'o> {
    spans: BufWriter<&'o mut (dyn Write + Send)>,
    windows: BufWriter<&'o mut (dyn Write + Send)>,
    checksums: BufWriter<&'o mut (dyn Write + Send)>,
    packer: WindowPacker,
    recorded: Recorded,
    span_start: u64,
    /// The block in the making: how long it is, and its checksum so far.
    block_len: u32,
    block_sum: u32,
    /// Of the member in the making: its checksum, and its length modulo 2^32.
    member: Crc,
}

impl<'o> Recorder<'o> {
    pub(super) fn new(out: ScanOutput<'o>) -> io::Result<Self> {
        Ok(Self {
            spans: BufWriter::with_capacity(WRITE_BYTES, out.spans),
            windows: BufWriter::with_capacity(WRITE_BYTES, out.windows),
            checksums: BufWriter::with_capacity(WRITE_BYTES, out.checksums),
            packer: WindowPacker::new()?,
            recorded: Recorded::default(),
            span_start: 0,
            block_len: 0,
            block_sum: 0,
            member: Crc::new(),
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
            match &mark.what {
                What::Span {
                    archive_bit,
                    header,
                    window,
                } => self.span(*archive_bit, header, window)?,
                What::Member(end) => self.member(*end)?,
            }
        }
        self.bytes(&bytes[done..])
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
        self.member.update(bytes);
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

    /// Records that a span starts here.
    fn span(&mut self, archive_bit: u64, header: &[u8], window: &[u8]) -> Result<(), RecordError> {
        self.end_span()?;
        let frame = match window {
            [] => &[],
            _ => self.packer.pack(window)?,
        };
        // A frame is hardly longer than a window, and a header shorter.
        let len = |bytes: &[u8]| U32::new(u32::try_from(bytes.len()).unwrap_or(0));
        let record = SpanRecord {
            stream_start: U64::new(self.recorded.stream_len),
            archive_bit: U64::new(archive_bit),
            window_offset: U64::new(self.recorded.windows_bytes),
            window_len: len(frame),
            first_block: U32::new(self.recorded.blocks),
            header_len: len(header),
            reserved: U32::new(0),
        };
        for part in [header, frame] {
            self.windows.write_all(part)?;
            self.recorded.windows_bytes += part.len() as u64;
        }
        self.spans.write_all(record.as_bytes())?;
        let spans = self.recorded.spans.checked_add(1);
        self.recorded.spans = spans.ok_or_else(|| self.too_large("more than 2^32 spans"))?;
        Ok(())
    }

    /// Checks a member against its trailer.
    fn member(&mut self, end: MemberEnd) -> Result<(), RecordError> {
        let (crc32, len) = (self.member.sum(), self.member.amount());
        self.member.reset();
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
