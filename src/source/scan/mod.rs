//! Reads an archive once, from start to end, and makes the tables that random
//! access needs; hands the uncompressed stream to a consumer on the way.
//!
//! Two threads: one reads and decodes (`produce`), the calling one does
//! checksums, windows and the consumer's work (`record`); chunks go back and
//! forth between them (`feed`).
//!
//! Guarantees: the whole archive is read and every gzip member is checked
//! against its trailer, whatever the consumer does; memory is about 3 MB, for
//! any archive; tables are written out as they grow and never held.

mod error;
mod feed;
mod places;
mod produce;
mod record;

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::atomic::AtomicU64;
use std::thread;

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

use super::tables::{MetaRecord, NO_GARBAGE};
use super::{Kind, ReadAt, kind};
use crate::types::BLOCK_BYTES;
pub use error::{ArchiveError, ScanError};
use feed::{Drain, Halt};
use produce::{Produced, Watched};
use record::{RecordError, Recorded, Recorder};

/// How an archive is scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanOptions {
    /// Bytes of the stream between two checkpoints, at most. Less makes random
    /// reads faster and the index larger.
    pub span_bytes: u64,
}

impl ScanOptions {
    /// Shortest spans that make sense: two blocks.
    pub const SPAN_BYTES_MIN: u64 = 2 * BLOCK_BYTES as u64;
}

impl Default for ScanOptions {
    /// 256 KiB: windows take about 3 % of a gzip archive, and a random read
    /// decodes 56 KiB on average.
    fn default() -> Self {
        Self {
            span_bytes: 256 * 1024,
        }
    }
}

/// Where the sections go; the formats are those of module
/// [`tables`](super::tables).
pub struct ScanOutput<'a> {
    /// Section [`SECTION_SPANS`](super::tables::SECTION_SPANS).
    pub spans: &'a mut (dyn Write + Send),
    /// Section [`SECTION_WINDOWS`](super::tables::SECTION_WINDOWS).
    pub windows: &'a mut (dyn Write + Send),
    /// Section [`SECTION_CHECKSUMS`](super::tables::SECTION_CHECKSUMS).
    pub checksums: &'a mut (dyn Write + Send),
}

impl std::fmt::Debug for ScanOutput<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScanOutput").finish_non_exhaustive()
    }
}

/// What gets the stream: an offset and the bytes from there on, without gaps.
/// After a break it is not called any more, but the scan goes on.
pub type Consumer<'a, E> = dyn FnMut(u64, &[u8]) -> Result<ControlFlow<()>, E> + 'a;

/// What a scan found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanSummary {
    /// The kind of archive.
    pub kind: Kind,
    /// Bytes of the uncompressed stream.
    pub stream_len: u64,
    /// Bytes of the archive.
    pub archive_len: u64,
    /// Spans, and so possible starts of decoding.
    pub spans: u32,
    /// Blocks, and so checksums.
    pub blocks: u32,
    /// Bytes of all windows as they are stored.
    pub windows_bytes: u64,
    /// gzip members, 0 for a plain archive.
    pub members: u64,
    /// Bytes of the longest span: reading its end means decoding all of it.
    /// Much more than the span length asked for only in a crafted archive.
    pub longest_span: u64,
    /// Archive offset of bytes behind the last gzip member that are neither a
    /// member nor padding, and were ignored.
    pub garbage_at: Option<u64>,
    /// The span length that was asked for.
    pub span_bytes: u64,
}

impl ScanSummary {
    /// The content of section [`SECTION_META`](super::tables::SECTION_META).
    pub fn meta_section(&self) -> Vec<u8> {
        let record = MetaRecord {
            kind: U32::new(self.kind.number()),
            block_bytes: U32::new(BLOCK_BYTES),
            stream_len: U64::new(self.stream_len),
            archive_len: U64::new(self.archive_len),
            span_count: U32::new(self.spans),
            block_count: U32::new(self.blocks),
            member_count: U64::new(self.members),
            longest_span: U64::new(self.longest_span),
            garbage_at: U64::new(self.garbage_at.unwrap_or(NO_GARBAGE)),
            span_bytes: U64::new(self.span_bytes),
        };
        record.as_bytes().to_vec()
    }
}

/// Scans `archive`. `progress` is told, on another thread, how many bytes of it
/// are read; [`ReadAt::forget`] is called for what is not needed any more.
pub fn scan<E>(
    archive: &dyn ReadAt,
    options: &ScanOptions,
    out: ScanOutput<'_>,
    consumer: &mut Consumer<'_, E>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<ScanSummary, ScanError<E>> {
    let kind = sniff(archive)?;
    let span_bytes = match kind {
        Kind::Plain => produce::PLAIN_SPAN_BYTES,
        Kind::Gzip => options.span_bytes.max(ScanOptions::SPAN_BYTES_MIN),
    };
    let recorder = Recorder::new(out).map_err(ScanError::Start)?;
    let (feed, drain) = feed::pair();
    let watched = Watched {
        archive,
        progress,
        forgotten: AtomicU64::new(0),
    };
    let (recorded, produced) = thread::scope(|scope| {
        let produce = || match kind {
            Kind::Plain => produce::plain(&watched, feed),
            Kind::Gzip => produce::gzip(&watched, span_bytes, feed),
        };
        let producer = thread::Builder::new()
            .name("scan".to_owned())
            .spawn_scoped(scope, produce);
        let producer = producer.map_err(ScanError::Start)?;
        let recorded = record_all(drain, recorder, consumer);
        let produced = producer
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        join(recorded, produced)
    })?;
    Ok(ScanSummary {
        kind,
        stream_len: recorded.stream_len,
        archive_len: archive.len(),
        spans: recorded.spans,
        blocks: recorded.blocks,
        windows_bytes: recorded.windows_bytes,
        members: produced.members,
        longest_span: recorded.longest_span,
        garbage_at: produced.garbage_at,
        span_bytes,
    })
}

/// The kind of an archive, by its first bytes.
fn sniff(archive: &dyn ReadAt) -> Result<Kind, ArchiveError> {
    let mut head = [0; kind::HEAD_BYTES];
    let len = usize::try_from(archive.len()).map_or(head.len(), |len| len.min(head.len()));
    archive.read_exact_at(0, &mut head[..len])?;
    Ok(kind::of_head(&head[..len])?)
}

/// Records all chunks. Hangs up when it returns, so that the other side ends.
fn record_all<E>(
    drain: Drain,
    mut recorder: Recorder<'_>,
    consumer: &mut Consumer<'_, E>,
) -> Result<Recorded, ScanError<E>> {
    let mut wanted = true;
    while let Some(chunk) = drain.next() {
        let at = recorder.stream_at();
        recorder.chunk(&chunk)?;
        if wanted && !chunk.bytes().is_empty() {
            let flow = consumer(at, chunk.bytes()).map_err(ScanError::Consumer)?;
            wanted = flow.is_continue();
        }
        drain.done(chunk);
    }
    Ok(recorder.finish()?)
}

/// The outcome of both sides. A side that failed makes the other one hang up or
/// see an end; it is the one that knows why.
fn join<E>(
    recorded: Result<Recorded, ScanError<E>>,
    produced: Result<Produced, Halt>,
) -> Result<(Recorded, Produced), ScanError<E>> {
    match (recorded, produced) {
        (Ok(recorded), Ok(produced)) => Ok((recorded, produced)),
        (Err(error), _) => Err(error),
        (Ok(_), Err(Halt::Archive(error))) => Err(ScanError::Archive(error)),
        (Ok(_), Err(Halt::HungUp)) => Err(ScanError::Start(io::Error::other(
            "the scanning threads lost each other",
        ))),
    }
}

impl<E> From<RecordError> for ScanError<E> {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Archive(error) => Self::Archive(error),
            RecordError::Write(error) => Self::Write(error),
        }
    }
}
