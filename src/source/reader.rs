//! Random access: any block of the stream, verified.
//!
//! Guarantees: opening is O(1); no byte leaves that does not match its
//! checksum; each block is decoded straight into the memory that it is handed
//! out in. Nothing is locked while decoding or reading, so any number of
//! threads may produce at the same time.

use std::ops::Range;
use std::sync::Arc;

use super::gzip::decoder;
use super::pool::{Decoders, Held, Lease, Share};
use super::tables::{Span, Tables, checksum_seed, damaged};
use super::{BlockInfo, BlockSink, BlockSource, Kind, ReadAt, SourceError, SpanPlace};
use crate::metrics::Metrics;
use crate::types::{BLOCK_BYTES, BlockNo, Region, SpanNo};

/// The stream of an indexed archive.
pub struct StreamSource {
    archive: Arc<dyn ReadAt>,
    tables: Tables,
    decoders: Share,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for StreamSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, len) = (self.tables.kind(), self.tables.stream_len());
        f.debug_struct("StreamSource")
            .field("kind", &kind)
            .field("len", &len)
            .finish()
    }
}

impl StreamSource {
    /// Opens the stream of `archive` by the tables that `find` locates inside
    /// of `region` (sections `SECTION_*` of module [`tables`](super::tables)).
    pub fn open(
        archive: Arc<dyn ReadAt>,
        region: Arc<dyn Region>,
        find: &dyn Fn(u32) -> Option<Range<usize>>,
        decoders: &Decoders,
        metrics: Arc<Metrics>,
    ) -> Result<Self, SourceError> {
        let tables = Tables::open(region, find)?;
        if let Some(wanted) = tables
            .archive_len()
            .checked_sub(archive.len())
            .filter(|n| *n > 0)
        {
            return Err(SourceError::Truncated {
                end: archive.len(),
                wanted,
            });
        }
        Ok(Self {
            archive,
            tables,
            decoders: decoders.share(),
            metrics,
        })
    }

    /// How the stream is stored.
    pub fn kind(&self) -> Kind {
        self.tables.kind()
    }

    /// gzip members, 0 for a plain archive.
    pub fn members(&self) -> u64 {
        self.tables.members()
    }

    /// The block with this number.
    pub fn block(&self, no: BlockNo) -> Result<BlockInfo, SourceError> {
        let block = self.tables.span_of(no)?.block(no)?;
        self.tables.intact()?;
        Ok(block)
    }

    /// Reads blocks of an uncompressed archive, which can start anywhere.
    fn produce_plain(
        &self,
        span: &Span,
        wanted: BlockNo,
        sink: &mut BlockSink<'_>,
    ) -> Result<(), SourceError> {
        let fill = &mut |block: &BlockInfo, out: &mut [u8]| {
            let at = (span.archive_bit / 8).checked_add(block.start - span.start);
            self.archive
                .read_exact_at(at.ok_or(damaged("place of a span in the archive"))?, out)
        };
        self.produce_from(span, wanted, fill, sink)
    }

    /// Decodes blocks, from a decoder that stands before them in the span or
    /// from its checkpoint.
    fn produce_gzip(
        &self,
        span: &Span,
        wanted: BlockNo,
        sink: &mut BlockSink<'_>,
    ) -> Result<(), SourceError> {
        let mut held = self.decoder_for(span, span.block(wanted)?)?;
        let decoder = held.decoder()?;
        let block_bytes = u64::from(BLOCK_BYTES);
        let ahead = decoder.position().checked_sub(span.start);
        let ahead = ahead
            .filter(|bytes| bytes % block_bytes == 0)
            .map(|bytes| bytes / block_bytes);
        let first = ahead.and_then(|n| u32::try_from(n).ok()?.checked_add(span.first_block));
        let first = BlockNo(first.ok_or(damaged("a decoder between two blocks"))?);
        let fill = &mut |_: &BlockInfo, out: &mut [u8]| decoder.fill(self.archive.as_ref(), out);
        self.produce_from(span, first, fill, sink)?;
        if decoder.position() < self.tables.stream_len() {
            held.keep();
        }
        Ok(())
    }

    /// A decoder that stands in `span`, at `wanted` or before it.
    fn decoder_for(&self, span: &Span, wanted: BlockInfo) -> Result<Held<'_>, SourceError> {
        match self.decoders.lease(span.start..=wanted.start)? {
            Lease::Standing(mut held) => {
                held.decoder()?.aim(span);
                self.metrics.counters.decoder_resumes.add(1);
                Ok(held)
            }
            Lease::Fresh(mut held) => {
                let archive = self.archive.as_ref();
                // Both are fetched at the same time if the disk has to be asked.
                self.tables.will_need_prelude(span);
                archive.will_need(decoder::first_read(span, wanted.end()));
                let prelude = self.tables.prelude(span)?;
                held.decoder()?
                    .restore(archive, span, wanted.end(), prelude)?;
                self.metrics.counters.checkpoint_restores.add(1);
                Ok(held)
            }
        }
    }

    /// Hands the blocks of `span` from `first` on to `sink`, each filled by
    /// `fill` and verified.
    fn produce_from(
        &self,
        span: &Span,
        first: BlockNo,
        fill: &mut Fill<'_>,
        sink: &mut BlockSink<'_>,
    ) -> Result<(), SourceError> {
        for no in first.0..span.end_block {
            let block = span.block(BlockNo(no))?;
            let mut bytes = self.decoders.budget().block(block.len);
            fill(&block, &mut bytes)?;
            self.metrics
                .counters
                .decoded_bytes
                .add(u64::from(block.len));
            self.verify(&block, &bytes)?;
            if sink(block, bytes.freeze()).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Fails unless `bytes` are those that were scanned at this offset.
    fn verify(&self, block: &BlockInfo, bytes: &[u8]) -> Result<(), SourceError> {
        let expected = self.tables.checksum(block.no)?;
        let found = crc32c::crc32c_append(checksum_seed(block.start), bytes);
        if found == expected {
            return Ok(());
        }
        self.tables.intact()?;
        self.metrics.counters.corrupt_blocks.add(1);
        Err(SourceError::Checksum {
            start: block.start,
            end: block.end(),
        })
    }
}

/// Fills the memory of a block.
type Fill<'a> = dyn FnMut(&BlockInfo, &mut [u8]) -> Result<(), SourceError> + 'a;

impl BlockSource for StreamSource {
    fn len(&self) -> u64 {
        self.tables.stream_len()
    }

    fn span_count(&self) -> u32 {
        self.tables.span_count()
    }

    fn block_at(&self, at: u64) -> Result<BlockInfo, SourceError> {
        let stream_len = self.tables.stream_len();
        if at >= stream_len {
            return Err(SourceError::OutOfRange {
                at,
                len: 1,
                stream_len,
            });
        }
        let span = self.tables.span_at(at)?;
        let index = u32::try_from((at - span.start) / u64::from(BLOCK_BYTES)).ok();
        let no = index.and_then(|index| span.first_block.checked_add(index));
        span.block(BlockNo(no.ok_or(damaged("number of blocks"))?))
    }

    fn blocks_of(&self, span: SpanNo) -> Result<Range<u32>, SourceError> {
        let span = self.tables.span(span)?;
        Ok(span.first_block..span.end_block)
    }

    fn place_of(&self, span: SpanNo) -> Result<SpanPlace, SourceError> {
        let span = self.tables.span(span)?;
        Ok(SpanPlace {
            stream: span.start,
            archive: span.archive_bit / 8,
        })
    }

    fn archive_len(&self) -> u64 {
        self.tables.archive_len()
    }

    fn intact(&self) -> Result<(), SourceError> {
        self.tables.intact()
    }

    fn produce(&self, wanted: BlockNo, sink: &mut BlockSink<'_>) -> Result<(), SourceError> {
        let span = self.tables.span_of(wanted)?;
        match self.tables.kind() {
            Kind::Plain => self.produce_plain(&span, wanted, sink),
            Kind::Gzip => self.produce_gzip(&span, wanted, sink),
        }
    }
}
