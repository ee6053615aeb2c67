//! Several streams end to end, as one.
//!
//! Guarantees: offsets, spans and blocks are numbered through, part by part; a
//! block or a span never holds bytes of two parts, so each is produced and
//! verified by its own part, as if that were alone. An error of a part says
//! which; places in it are that part's own. Numbers that do not fit are refused
//! when joining, so that arithmetic cannot overflow later.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use super::tables::damaged;
use super::{BlockInfo, BlockSink, BlockSource, SourceError, SpanPlace};
use crate::types::{BlockNo, SpanNo};

/// The stream of all parts, in order.
pub struct Joined {
    parts: Box<[Part]>,
    len: u64,
    span_count: u32,
    block_count: u32,
    archive_len: u64,
}

struct Part {
    source: Arc<dyn BlockSource>,
    /// Its bytes in the joined stream, its spans and its blocks.
    bytes: Range<u64>,
    spans: Range<u32>,
    blocks: Range<u32>,
    /// How much of archives is before its own.
    archive_start: u64,
}

impl std::fmt::Debug for Joined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Joined")
            .field("parts", &self.parts.len())
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl Joined {
    /// Joins `sources` in this order; fails if together they have more bytes,
    /// spans or blocks than can be numbered.
    pub fn new(sources: Vec<Arc<dyn BlockSource>>) -> Result<Self, SourceError> {
        let mut joined = Self {
            parts: Box::default(),
            len: 0,
            span_count: 0,
            block_count: 0,
            archive_len: 0,
        };
        let mut parts = Vec::with_capacity(sources.len());
        for (number, source) in (0..).zip(sources) {
            let part = joined.append(source);
            parts.push(part.map_err(|cause| of_part(number, cause))?);
        }
        joined.parts = parts.into();
        Ok(joined)
    }

    fn append(&mut self, source: Arc<dyn BlockSource>) -> Result<Part, SourceError> {
        let too_large = damaged("more than one stream can hold");
        let blocks = match source.span_count().checked_sub(1) {
            Some(last) => source.blocks_of(SpanNo(last))?.end,
            None => 0,
        };
        source.intact()?;
        let (len, span_count, block_count, archive_len) = (
            self.len.checked_add(source.len()),
            self.span_count.checked_add(source.span_count()),
            self.block_count.checked_add(blocks),
            self.archive_len.checked_add(source.archive_len()),
        );
        let (Some(len), Some(span_count), Some(block_count), Some(archive_len)) =
            (len, span_count, block_count, archive_len)
        else {
            return Err(too_large);
        };
        let part = Part {
            source,
            bytes: self.len..len,
            spans: self.span_count..span_count,
            blocks: self.block_count..block_count,
            archive_start: self.archive_len,
        };
        self.archive_len = archive_len;
        (self.len, self.span_count, self.block_count) = (len, span_count, block_count);
        Ok(part)
    }

    /// The last part with `property`, which is true of all up to a certain one:
    /// of parts that start at the same place the one that is not empty.
    fn last_with(&self, property: impl Fn(&Part) -> bool) -> Option<(u32, &Part)> {
        let number = self.parts.partition_point(property).checked_sub(1)?;
        Some((u32::try_from(number).ok()?, self.parts.get(number)?))
    }
}

impl Part {
    /// A block of this part as one of all. One that is not within the part
    /// would be taken for another part's.
    fn outward(&self, block: BlockInfo) -> Result<BlockInfo, SourceError> {
        let outward = || {
            let start = self.bytes.start.checked_add(block.start)?;
            let end = start.checked_add(block.len.into())?;
            let no = self.blocks.start.checked_add(block.no.0)?;
            let span = self.spans.start.checked_add(block.span.0)?;
            let is_inside =
                end <= self.bytes.end && self.blocks.contains(&no) && self.spans.contains(&span);
            is_inside.then_some(BlockInfo {
                no: BlockNo(no),
                span: SpanNo(span),
                start,
                len: block.len,
            })
        };
        outward().ok_or(damaged("a block outside of its stream"))
    }

    fn block_at(&self, at: u64) -> Result<BlockInfo, SourceError> {
        self.outward(self.source.block_at(at - self.bytes.start)?)
    }

    fn blocks_of(&self, span: SpanNo) -> Result<Range<u32>, SourceError> {
        let own = self.source.blocks_of(SpanNo(span.0 - self.spans.start))?;
        let first = self.blocks.start;
        let range = first.checked_add(own.start).zip(first.checked_add(own.end));
        let range = range.filter(|(_, end)| *end <= self.blocks.end);
        let (start, end) = range.ok_or(damaged("a block outside of its stream"))?;
        Ok(start..end)
    }

    fn place_of(&self, span: SpanNo) -> Result<SpanPlace, SourceError> {
        let own = self.source.place_of(SpanNo(span.0 - self.spans.start))?;
        let outward = || {
            Some(SpanPlace {
                stream: self.bytes.start.checked_add(own.stream)?,
                archive: self.archive_start.checked_add(own.archive)?,
            })
        };
        outward().ok_or(damaged("a span outside of its stream"))
    }

    fn produce(&self, wanted: BlockNo, sink: &mut BlockSink<'_>) -> Result<(), SourceError> {
        let mut bad = None;
        let own = BlockNo(wanted.0 - self.blocks.start);
        self.source
            .produce(own, &mut |block, bytes| match self.outward(block) {
                Ok(block) => sink(block, bytes),
                Err(error) => {
                    bad = Some(error);
                    ControlFlow::Break(())
                }
            })?;
        bad.map_or(Ok(()), Err)
    }
}

fn of_part(part: u32, cause: SourceError) -> SourceError {
    SourceError::Part {
        part,
        cause: Box::new(cause),
    }
}

impl BlockSource for Joined {
    fn len(&self) -> u64 {
        self.len
    }

    fn span_count(&self) -> u32 {
        self.span_count
    }

    fn block_at(&self, at: u64) -> Result<BlockInfo, SourceError> {
        let found = self.last_with(|part| part.bytes.start <= at);
        let found = found.filter(|_| at < self.len);
        let (number, part) = found.ok_or(SourceError::OutOfRange {
            at,
            len: 1,
            stream_len: self.len,
        })?;
        part.block_at(at).map_err(|cause| of_part(number, cause))
    }

    fn blocks_of(&self, span: SpanNo) -> Result<Range<u32>, SourceError> {
        let found = self.last_with(|part| part.spans.start <= span.0);
        let found = found.filter(|_| span.0 < self.span_count);
        let (number, part) = found.ok_or(damaged("a span behind the last one"))?;
        part.blocks_of(span).map_err(|cause| of_part(number, cause))
    }

    fn place_of(&self, span: SpanNo) -> Result<SpanPlace, SourceError> {
        let found = self.last_with(|part| part.spans.start <= span.0);
        let found = found.filter(|_| span.0 < self.span_count);
        let (number, part) = found.ok_or(damaged("a span behind the last one"))?;
        part.place_of(span).map_err(|cause| of_part(number, cause))
    }

    fn archive_len(&self) -> u64 {
        self.archive_len
    }

    fn intact(&self) -> Result<(), SourceError> {
        let intact = |(number, part): (u32, &Part)| {
            let intact = part.source.intact();
            intact.map_err(|cause| of_part(number, cause))
        };
        (0..).zip(&self.parts).try_for_each(intact)
    }

    fn produce(&self, wanted: BlockNo, sink: &mut BlockSink<'_>) -> Result<(), SourceError> {
        let found = self.last_with(|part| part.blocks.start <= wanted.0);
        let found = found.filter(|_| wanted.0 < self.block_count);
        let (number, part) = found.ok_or(damaged("a block behind the last one"))?;
        part.produce(wanted, sink)
            .map_err(|cause| of_part(number, cause))
    }
}

#[cfg(test)]
mod tests;
