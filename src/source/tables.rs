#![doc = include_str!("FORMAT.md")]
//!
//! # This module
//!
//! Guarantees: opening is O(1); every access checks its bounds and answers
//! [`SourceError::Tables`] where the tables contradict themselves; nothing here
//! does I/O but to touch the pages of the region.

use std::ops::Range;
use std::sync::Arc;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{BlockInfo, Kind, SourceError};
use crate::types::{BLOCK_BYTES, BlockNo, Region, SpanNo};

/// Section SOURCE_META: one record.
pub const SECTION_META: u32 = 0x201;
/// Section SPANS: a record for each span.
pub const SECTION_SPANS: u32 = 0x202;
/// Section WINDOWS: their frames.
pub const SECTION_WINDOWS: u32 = 0x203;
/// Section CHECKSUMS: one for each block.
pub const SECTION_CHECKSUMS: u32 = 0x204;

/// `garbage_at` where there is none.
pub(crate) const NO_GARBAGE: u64 = u64::MAX;

/// The record of section [`SECTION_META`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct MetaRecord {
    pub(crate) kind: U32,
    pub(crate) block_bytes: U32,
    pub(crate) stream_len: U64,
    pub(crate) archive_len: U64,
    pub(crate) span_count: U32,
    pub(crate) block_count: U32,
    pub(crate) member_count: U64,
    pub(crate) longest_span: U64,
    pub(crate) garbage_at: U64,
    pub(crate) span_bytes: U64,
}
const _: () = assert!(size_of::<MetaRecord>() == 64);

/// A record of section [`SECTION_SPANS`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct SpanRecord {
    pub(crate) stream_start: U64,
    pub(crate) archive_bit: U64,
    pub(crate) window_offset: U64,
    pub(crate) window_len: U32,
    pub(crate) first_block: U32,
    pub(crate) header_len: U32,
    pub(crate) reserved: U32,
}
const _: () = assert!(size_of::<SpanRecord>() == 40);
const _: () = assert!(std::mem::offset_of!(SpanRecord, window_len) == 24);

/// The checksum of the block that starts at stream offset `start`, to be
/// continued over its bytes with `crc32c_append`.
pub(crate) fn checksum_seed(start: u64) -> u32 {
    crc32c::crc32c(&start.to_le_bytes())
}

/// A span whose record agrees with its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) no: SpanNo,
    /// First stream offset of it, and the first behind it.
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Number of its first block, and of the first behind it.
    pub(crate) first_block: u32,
    pub(crate) end_block: u32,
    /// Where its code starts in the archive, in bits.
    pub(crate) archive_bit: u64,
    /// No byte of the archive from here on is needed to decode it.
    pub(crate) archive_end: u64,
    /// Where in WINDOWS its block's header is, how long that is, and how long the
    /// frame behind it.
    pub(crate) window_offset: u64,
    pub(crate) header_len: u32,
    pub(crate) window_len: u32,
}

/// What decoding a span needs besides its code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prelude<'a> {
    /// The header of the deflate block in which it starts; empty where it starts
    /// with a block.
    pub(crate) header: &'a [u8],
    /// The frame of its window; empty if it needs none.
    pub(crate) frame: &'a [u8],
}

impl Span {
    /// The block with this number, which must be one of the span's.
    pub(crate) fn block(&self, no: BlockNo) -> Result<BlockInfo, SourceError> {
        let index =
            no.0.checked_sub(self.first_block)
                .filter(|_| no.0 < self.end_block);
        let index = index.ok_or(damaged("a block outside of its span"))?;
        let start = self.start + u64::from(index) * u64::from(BLOCK_BYTES);
        let len = u32::try_from(self.end - start)
            .unwrap_or(BLOCK_BYTES)
            .min(BLOCK_BYTES);
        Ok(BlockInfo {
            no,
            span: self.no,
            start,
            len,
        })
    }
}

/// The opened tables.
pub(crate) struct Tables {
    region: Arc<dyn Region>,
    kind: Kind,
    stream_len: u64,
    archive_len: u64,
    span_count: u32,
    block_count: u32,
    member_count: u64,
    spans: Range<usize>,
    windows: Range<usize>,
    checksums: Range<usize>,
}

impl Tables {
    /// Opens the tables whose sections `find` locates inside of `region`.
    pub(crate) fn open(
        region: Arc<dyn Region>,
        find: &dyn Fn(u32) -> Option<Range<usize>>,
    ) -> Result<Self, SourceError> {
        let bytes = region.bytes();
        let section = |id, what| {
            let range = find(id).ok_or(damaged(what))?;
            bytes.get(range.clone()).map(|_| range).ok_or(damaged(what))
        };
        let meta = section(SECTION_META, "no section SOURCE_META")?;
        let spans = section(SECTION_SPANS, "no section SPANS")?;
        let windows = section(SECTION_WINDOWS, "no section WINDOWS")?;
        let checksums = section(SECTION_CHECKSUMS, "no section CHECKSUMS")?;
        let meta = MetaRecord::read_from_bytes(&bytes[meta])
            .map_err(|_| damaged("size of SOURCE_META"))?;
        let kind = Kind::from_number(meta.kind.get()).ok_or(damaged("kind of source"))?;
        let (span_count, block_count) = (meta.span_count.get(), meta.block_count.get());
        if meta.block_bytes.get() != BLOCK_BYTES {
            return Err(damaged("size of blocks"));
        }
        if spans.len() as u64 != u64::from(span_count) * size_of::<SpanRecord>() as u64 {
            return Err(damaged("size of SPANS"));
        }
        if checksums.len() as u64 != u64::from(block_count) * size_of::<U32>() as u64 {
            return Err(damaged("size of CHECKSUMS"));
        }
        let stream_len = meta.stream_len.get();
        let blocks_bytes = u64::from(block_count) * u64::from(BLOCK_BYTES);
        let has_spans = span_count > 0;
        if stream_len > blocks_bytes || has_spans != (stream_len > 0) || span_count > block_count {
            return Err(damaged("length of the stream"));
        }
        let archive_len = meta.archive_len.get();
        Ok(Self {
            kind,
            stream_len,
            archive_len,
            span_count,
            block_count,
            member_count: meta.member_count.get(),
            spans,
            windows,
            checksums,
            region,
        })
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn members(&self) -> u64 {
        self.member_count
    }

    pub(crate) fn stream_len(&self) -> u64 {
        self.stream_len
    }

    pub(crate) fn archive_len(&self) -> u64 {
        self.archive_len
    }

    pub(crate) fn span_count(&self) -> u32 {
        self.span_count
    }

    /// Fails if the region lost bytes that were read from it.
    pub(crate) fn intact(&self) -> Result<(), SourceError> {
        match self.region.intact() {
            true => Ok(()),
            false => Err(damaged("its file was truncated while in use")),
        }
    }

    /// The span that holds stream offset `at`, which must be inside.
    pub(crate) fn span_at(&self, at: u64) -> Result<Span, SourceError> {
        let span = self.span(self.last_with(|record| record.stream_start.get() <= at)?)?;
        match (span.start..span.end).contains(&at) {
            true => Ok(span),
            false => Err(damaged("order of spans")),
        }
    }

    /// The span that block `no` is part of.
    pub(crate) fn span_of(&self, no: BlockNo) -> Result<Span, SourceError> {
        if no.0 >= self.block_count {
            return Err(damaged("a block behind the last one"));
        }
        let span = self.span(self.last_with(|record| record.first_block.get() <= no.0)?)?;
        match (span.first_block..span.end_block).contains(&no.0) {
            true => Ok(span),
            false => Err(damaged("order of blocks")),
        }
    }

    /// Span `no`, checked against its neighbour.
    pub(crate) fn span(&self, no: SpanNo) -> Result<Span, SourceError> {
        let record = self.record(no.0)?;
        let (end, end_block, archive_end) = if no.0 + 1 < self.span_count {
            let next = self.record(no.0 + 1)?;
            let archive_end = next.archive_bit.get().div_ceil(8);
            (next.stream_start.get(), next.first_block.get(), archive_end)
        } else {
            (self.stream_len, self.block_count, self.archive_len)
        };
        let (start, first_block) = (record.stream_start.get(), record.first_block.get());
        let len = end
            .checked_sub(start)
            .filter(|len| *len > 0 && end <= self.stream_len);
        let len = len.ok_or(damaged("order of spans"))?;
        let blocks = end_block.checked_sub(first_block).map(u64::from);
        if blocks != Some(len.div_ceil(u64::from(BLOCK_BYTES))) || end_block > self.block_count {
            return Err(damaged("number of blocks in a span"));
        }
        let archive_bit = record.archive_bit.get();
        if archive_bit / 8 >= archive_end || archive_end > self.archive_len {
            return Err(damaged("place of a span in the archive"));
        }
        Ok(Span {
            no,
            start,
            end,
            first_block,
            end_block,
            archive_bit,
            archive_end,
            window_offset: record.window_offset.get(),
            header_len: record.header_len.get(),
            window_len: record.window_len.get(),
        })
    }

    /// Where in WINDOWS the prelude of a span is.
    fn prelude_place(&self, span: &Span) -> Option<Range<usize>> {
        let start = usize::try_from(span.window_offset).ok()?;
        let len = span.header_len.checked_add(span.window_len)?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        (end <= self.windows.len()).then_some(start..end)
    }

    /// Says that the prelude of a span will be needed soon.
    pub(crate) fn will_need_prelude(&self, span: &Span) {
        if let Some(place) = self.prelude_place(span).filter(|place| !place.is_empty()) {
            let first = self.windows.start;
            self.region
                .will_need(first + place.start..first + place.end);
        }
    }

    /// The prelude of a span.
    pub(crate) fn prelude(&self, span: &Span) -> Result<Prelude<'_>, SourceError> {
        let place = self.prelude_place(span);
        let bytes = place.and_then(|place| self.section(&self.windows).get(place));
        let parts = bytes.and_then(|bytes| bytes.split_at_checked(span.header_len as usize));
        let (header, frame) = parts.ok_or(damaged("place of a window"))?;
        Ok(Prelude { header, frame })
    }

    /// The checksum of a block.
    pub(crate) fn checksum(&self, no: BlockNo) -> Result<u32, SourceError> {
        let table = <[U32]>::ref_from_bytes(self.section(&self.checksums));
        let table = table.map_err(|_| damaged("size of CHECKSUMS"))?;
        table
            .get(no.0 as usize)
            .map(|sum| sum.get())
            .ok_or(damaged("number of checksums"))
    }

    /// The last span whose record has `property`, which is true of all up to a
    /// certain one in tables that are in order.
    fn last_with(&self, property: impl Fn(&SpanRecord) -> bool) -> Result<SpanNo, SourceError> {
        let behind = self.records()?.partition_point(property);
        let no = behind
            .checked_sub(1)
            .ok_or(damaged("start of the first span"))?;
        u32::try_from(no)
            .map(SpanNo)
            .map_err(|_| damaged("number of spans"))
    }

    fn records(&self) -> Result<&[SpanRecord], SourceError> {
        <[SpanRecord]>::ref_from_bytes(self.section(&self.spans))
            .map_err(|_| damaged("size of SPANS"))
    }

    fn record(&self, no: u32) -> Result<&SpanRecord, SourceError> {
        self.records()?
            .get(no as usize)
            .ok_or(damaged("number of spans"))
    }

    /// The bytes of a section whose range was checked on opening.
    fn section(&self, range: &Range<usize>) -> &[u8] {
        self.region.bytes().get(range.clone()).unwrap_or(&[])
    }
}

/// The error for tables that contradict themselves.
pub(crate) fn damaged(what: &'static str) -> SourceError {
    SourceError::Tables { what }
}
