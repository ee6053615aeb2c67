//! Decoding that is marked as work on an image, by whichever thread.
//!
//! A span may be decoded for a reader, or ahead of all readers, when there is no
//! request that would be marked.

use std::ops::Range;
use std::sync::Arc;

use crate::source::{BlockInfo, BlockSink, BlockSource, SourceError, SpanPlace};
use crate::sys::breadcrumbs::Crumb;
use crate::types::{BlockNo, SpanNo};

/// A source whose work is marked.
pub(super) struct Marked {
    pub(super) source: Arc<dyn BlockSource>,
    pub(super) crumb: Crumb,
}

impl BlockSource for Marked {
    fn len(&self) -> u64 {
        self.source.len()
    }

    fn span_count(&self) -> u32 {
        self.source.span_count()
    }

    fn block_at(&self, at: u64) -> Result<BlockInfo, SourceError> {
        self.source.block_at(at)
    }

    fn blocks_of(&self, span: SpanNo) -> Result<Range<u32>, SourceError> {
        self.source.blocks_of(span)
    }

    fn place_of(&self, span: SpanNo) -> Result<SpanPlace, SourceError> {
        self.source.place_of(span)
    }

    fn archive_len(&self) -> u64 {
        self.source.archive_len()
    }

    fn intact(&self) -> Result<(), SourceError> {
        self.source.intact()
    }

    fn produce(&self, wanted: BlockNo, sink: &mut BlockSink<'_>) -> Result<(), SourceError> {
        let _open = self.crumb.open();
        self.source.produce(wanted, sink)
    }
}
