//! Everything that can be checked about an archive and its index.
//!
//! Guarantees: changes nothing. Every span is decoded from its own checkpoint,
//! never by going on from the one before, so that every window is proved to be
//! right; the archive is read once more for the checksums of its gzip members
//! and its SHA-256. Memory is bounded, and damage is reported as far as
//! 64 places, counted beyond.

use std::io;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use super::{Archive, Image, OpenedIndex, StoreError, digest};
use crate::budget::MemoryBudget;
use crate::metrics::Metrics;
use crate::source::scan::{ScanOptions, ScanOutput, ScanSummary, scan};
use crate::source::{BlockSource, SourceError, StreamSource};
use crate::types::{BlockNo, SpanNo};

/// Places of damage that are told.
const RANGES_MAX: usize = 64;

/// Threads that decode.
const READERS: u32 = 2;

/// What each of them may take for decoders.
const BUDGET_BYTES: u64 = 16 << 20;

/// Bytes of the stream that cannot be served, and why.
#[derive(Clone, Debug)]
pub struct Damaged {
    /// Where in the stream.
    pub range: Range<u64>,
    /// What was found.
    pub problem: String,
}

/// What came of decoding all blocks.
#[derive(Clone, Debug, Default)]
pub struct BlockReport {
    /// Blocks that match their checksum.
    pub right_blocks: u64,
    /// Bytes in them.
    pub right_bytes: u64,
    /// The first damaged places, in the order of the stream.
    pub damaged: Vec<Damaged>,
    /// All damaged places.
    pub damaged_ranges: u64,
    /// Bytes in them.
    pub damaged_bytes: u64,
}

impl BlockReport {
    fn add(&mut self, range: Range<u64>, problem: &SourceError) {
        self.damaged_ranges += 1;
        self.damaged_bytes += range.end.saturating_sub(range.start);
        if self.damaged.len() < RANGES_MAX {
            let problem = problem.to_string();
            self.damaged.push(Damaged { range, problem });
        }
    }

    fn join(mut self, other: Self) -> Self {
        self.right_blocks += other.right_blocks;
        self.right_bytes += other.right_bytes;
        self.damaged_ranges += other.damaged_ranges;
        self.damaged_bytes += other.damaged_bytes;
        self.damaged.extend(other.damaged);
        self.damaged.sort_by_key(|damaged| damaged.range.start);
        self.damaged.truncate(RANGES_MAX);
        self
    }
}

/// Decodes every block and compares it with its checksum. `progress` gets
/// numbers of bytes, as they are done.
pub fn verify_blocks(
    archive: &Archive,
    index: &OpenedIndex,
    metrics: &Arc<Metrics>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<BlockReport, StoreError> {
    // A decoder of its own for each: one that stands behind the span before
    // would be used instead of the checkpoint. As each thread leaves out every
    // other span, none ever stands where it goes on.
    let open = |_| {
        let budget = MemoryBudget::new(BUDGET_BYTES);
        Image::open(archive, index, &budget, metrics).map(|image| image.source)
    };
    let sources = (0..READERS).map(open).collect::<Result<Vec<_>, _>>()?;
    thread::scope(|scope| {
        let start = |(first, source): (u32, &Arc<StreamSource>)| {
            let source = Arc::clone(source);
            thread::Builder::new()
                .name("verify".to_owned())
                .spawn_scoped(scope, move || check_spans(&source, first, progress))
                .map_err(no_thread)
        };
        let threads = (0..).zip(&sources).map(start);
        let threads = threads.collect::<Result<Vec<_>, _>>()?;
        threads
            .into_iter()
            .try_fold(BlockReport::default(), |all, thread| {
                let one = thread.join();
                let one = one.map_err(|_| no_thread(io::Error::other("a thread panicked")))?;
                Ok(all.join(one))
            })
    })
}

/// Checks every span whose number leaves `first` when divided by [`READERS`].
fn check_spans(source: &StreamSource, first: u32, progress: &dyn Fn(u64)) -> BlockReport {
    let mut report = BlockReport::default();
    for span in (first..source.span_count()).step_by(READERS as usize) {
        if let Err(error) = check_span(source, SpanNo(span), &mut report, progress) {
            report.add(0..0, &error);
        }
    }
    report
}

/// Fails only if it is not known where the blocks of the span are.
fn check_span(
    source: &StreamSource,
    span: SpanNo,
    report: &mut BlockReport,
    progress: &dyn Fn(u64),
) -> Result<(), SourceError> {
    let blocks = source.blocks_of(span)?;
    let mut next = blocks.start;
    while next < blocks.end {
        let from = next;
        let produced = source.produce(BlockNo(from), &mut |block, bytes| {
            if block.no.0 >= from {
                next = block.no.0 + 1;
                report.right_blocks += 1;
                report.right_bytes += bytes.len() as u64;
                progress(bytes.len() as u64);
            }
            ControlFlow::Continue(())
        });
        let Err(error) = produced else {
            break;
        };
        if next >= blocks.end {
            return Err(error);
        }
        let bad = source.block(BlockNo(next))?;
        let is_its_own = matches!(error, SourceError::Checksum { start, .. } if start == bad.start);
        // What cannot be decoded hides all behind it in its span. Where the
        // stream is not compressed, the next block can be read.
        let is_hidden = !is_its_own && next == from && from > blocks.start;
        let end = if is_hidden {
            source.block(BlockNo(blocks.end - 1))?.end()
        } else {
            bad.end()
        };
        report.add(bad.start..end, &error);
        progress(end - bad.start);
        next = if is_hidden { blocks.end } else { next + 1 };
    }
    Ok(())
}

/// What came of reading the whole archive.
#[derive(Debug)]
pub struct ArchiveReport {
    /// Its gzip members, each checked against its CRC-32 and length; nothing
    /// for an archive that is not compressed.
    pub members: Option<Result<ScanSummary, StoreError>>,
    /// Its SHA-256.
    pub sha256: Result<[u8; 32], StoreError>,
}

/// Reads the whole archive. `compressed` says whether it has gzip members to
/// check. `progress` gets the number of bytes read so far.
pub fn verify_archive(
    archive: &Archive,
    compressed: bool,
    metrics: &Arc<Metrics>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<ArchiveReport, StoreError> {
    let len = archive.metadata().len();
    let failed = |cause| StoreError::Archive {
        path: archive.path().to_owned(),
        cause,
    };
    if !compressed {
        return Ok(ArchiveReport {
            members: None,
            sha256: digest::whole(archive.file(), len, progress).map_err(failed),
        });
    }
    let (marks, received) = sync_channel(4);
    thread::scope(|scope| {
        let digest = thread::Builder::new()
            .name("digest".to_owned())
            .spawn_scoped(scope, move || {
                digest::follow(archive.file(), len, &received, || true)
            })
            .map_err(no_thread)?;
        let members = members(archive, metrics, &|read| {
            let _later = marks.try_send(read);
            progress(read);
        });
        drop(marks);
        let sha256 = digest.join();
        let sha256 = sha256.unwrap_or_else(|_| Err(io::Error::other("the digest panicked")));
        Ok(ArchiveReport {
            members: Some(members),
            sha256: sha256.map_err(failed),
        })
    })
}

/// Decodes all gzip members; what a scan finds for an index goes nowhere.
fn members(
    archive: &Archive,
    metrics: &Arc<Metrics>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<ScanSummary, StoreError> {
    let out = ScanOutput {
        spans: &mut io::sink(),
        windows: &mut io::sink(),
        checksums: &mut io::sink(),
    };
    // The fewest checkpoints: nobody will use them.
    let options = ScanOptions {
        span_bytes: u64::MAX,
    };
    let source = archive.source(metrics)?;
    let mut nobody = |_: u64, _: &[u8]| Ok(ControlFlow::Break(()));
    scan(&source, &options, out, &mut nobody, progress).map_err(|cause| StoreError::Scan {
        path: archive.path().to_owned(),
        cause,
    })
}

fn no_thread(cause: io::Error) -> StoreError {
    StoreError::System {
        doing: "start a thread",
        cause,
    }
}
