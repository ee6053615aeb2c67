//! Tests of the cache over a source that counts what it decodes.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::source::BlockSink;
use crate::source::SpanPlace;
use crate::types::BLOCK_BYTES;

pub(super) const SPAN_BLOCKS: u32 = 10;

/// A stream of known bytes whose decoder cannot be kept: each call starts at
/// the span's first block.
pub(super) struct Counting {
    len: u64,
    decoded_blocks: AtomicU64,
    fail_in: Option<SpanNo>,
    is_damaged: AtomicBool,
    budget: MemoryBudget,
}

impl Counting {
    pub(super) fn decoded(&self) -> u64 {
        self.decoded_blocks.load(Ordering::Relaxed)
    }
}

fn byte(at: u64) -> u8 {
    (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

fn number(n: u64) -> u32 {
    u32::try_from(n).unwrap()
}

impl BlockSource for Counting {
    fn len(&self) -> u64 {
        self.len
    }

    fn span_count(&self) -> u32 {
        number(self.len.div_ceil(u64::from(BLOCK_BYTES * SPAN_BLOCKS)))
    }

    fn block_at(&self, at: u64) -> Result<BlockInfo, SourceError> {
        if at >= self.len {
            return Err(SourceError::OutOfRange {
                at,
                len: 1,
                stream_len: self.len,
            });
        }
        let no = number(at / u64::from(BLOCK_BYTES));
        let start = u64::from(no) * u64::from(BLOCK_BYTES);
        let len = number(u64::from(BLOCK_BYTES).min(self.len - start));
        Ok(BlockInfo {
            no: BlockNo(no),
            span: SpanNo(no / SPAN_BLOCKS),
            start,
            len,
        })
    }

    fn blocks_of(&self, span: SpanNo) -> Result<Range<u32>, SourceError> {
        let all = number(self.len.div_ceil(u64::from(BLOCK_BYTES)));
        Ok(span.0 * SPAN_BLOCKS..all.min((span.0 + 1) * SPAN_BLOCKS))
    }

    fn place_of(&self, span: SpanNo) -> Result<SpanPlace, SourceError> {
        let at = u64::from(span.0 * SPAN_BLOCKS) * u64::from(BLOCK_BYTES);
        Ok(SpanPlace {
            stream: at,
            archive: at,
        })
    }

    fn archive_len(&self) -> u64 {
        self.len
    }

    fn intact(&self) -> Result<(), SourceError> {
        match self.is_damaged.load(Ordering::Relaxed) {
            true => Err(SourceError::Tables { what: "all of it" }),
            false => Ok(()),
        }
    }

    fn produce(&self, wanted: BlockNo, sink: &mut BlockSink<'_>) -> Result<(), SourceError> {
        let span = SpanNo(wanted.0 / SPAN_BLOCKS);
        for no in self.blocks_of(span)? {
            if self.fail_in == Some(span) {
                return Err(SourceError::Inflate {
                    at: 0,
                    what: "made to fail",
                });
            }
            self.decoded_blocks.fetch_add(1, Ordering::Relaxed);
            let info = self.block_at(u64::from(no) * u64::from(BLOCK_BYTES))?;
            let mut bytes = self.budget.block(info.len);
            let expected: Vec<u8> = (info.start..info.end()).map(byte).collect();
            bytes.copy_from_slice(&expected);
            std::thread::yield_now();
            if sink(info, bytes.freeze()).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }
}

pub(super) fn reader(
    len: u64,
    total_budget: u64,
    fail_in: Option<SpanNo>,
) -> (Arc<CachedReader>, Arc<Counting>) {
    let source = Arc::new(Counting {
        len,
        decoded_blocks: AtomicU64::new(0),
        fail_in,
        is_damaged: AtomicBool::new(false),
        budget: MemoryBudget::new(total_budget),
    });
    let metrics = Arc::new(Metrics::default());
    let cache = BlockCache::new(&MemoryBudget::new(total_budget), Arc::clone(&metrics)).unwrap();
    let blocks: Arc<dyn BlockSource> = Arc::clone(&source) as _;
    (
        CachedReader::new(ImageId(0), blocks, Arc::new(cache), None, metrics),
        source,
    )
}

pub(super) fn assert_reads(reader: &CachedReader, at: u64, len: usize) {
    let mut buf = vec![0; len];
    reader.read_exact_at(at, &mut buf).unwrap();
    let expected: Vec<u8> = (at..at + len as u64).map(byte).collect();
    assert!(buf == expected, "bytes {at}..{}", at + len as u64);
}

pub(super) const MIB: u64 = 1024 * 1024;

#[test]
fn any_range_reads_right_and_ranges_outside_are_refused() {
    let (reader, _) = reader(3 * MIB + 777, 64 * MIB, None);
    for (at, len) in [
        (0, 1),
        (0, 2_000_000),
        (163_839, 2),
        (3 * MIB, 777),
        (16_384, 16_384),
        (5, 0),
    ] {
        assert_reads(&reader, at, len);
    }
    for (at, len) in [(3 * MIB + 777, 1), (0, 3_146_506), (u64::MAX, 2)] {
        let result = reader.read_exact_at(at, &mut vec![0; len]);
        assert!(
            matches!(result, Err(SourceError::OutOfRange { .. })),
            "{at}+{len}: {result:?}"
        );
    }
}

#[test]
fn a_cached_range_needs_no_decoder() {
    let (reader, source) = reader(2 * MIB, 64 * MIB, None);
    let mut buf = vec![0; 100_000];
    assert!(!reader.try_read_exact_at(0, &mut buf).unwrap());
    assert_reads(&reader, 0, 100_000);
    let before = source.decoded_blocks.load(Ordering::Relaxed);
    assert!(reader.try_read_exact_at(0, &mut buf).unwrap());
    assert!(buf.iter().enumerate().all(|(i, b)| *b == byte(i as u64)));
    assert_eq!(source.decoded_blocks.load(Ordering::Relaxed), before);
}

#[test]
fn many_readers_of_one_range_decode_it_once() {
    let (reader, source) = reader(MIB, 64 * MIB, None);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_reads(&reader, 0, 163_840));
        }
    });
    assert_eq!(
        source.decoded_blocks.load(Ordering::Relaxed),
        u64::from(SPAN_BLOCKS)
    );
}

#[test]
fn readers_make_progress_in_a_cache_too_small_for_a_span() {
    let (reader, _) = reader(2 * MIB, 128 * 1024, None);
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let reader = &reader;
            scope.spawn(move || {
                for i in 0..40 {
                    assert_reads(
                        reader,
                        (thread * 250_007 + i * 61_001) % (MIB * 3 / 2),
                        100_000,
                    );
                }
            });
        }
    });
    assert!(reader.cache.used_bytes() <= 128 * 1024 / 64 * 24);
}

/// A flight that fails must wake its waiters with an answer of their own: they
/// would otherwise wait for ever for a block that never comes.
#[test]
fn a_failing_span_fails_every_reader_and_no_other_span() {
    let (reader, _) = reader(MIB, 64 * MIB, Some(SpanNo(1)));
    let in_span_1 = u64::from(BLOCK_BYTES * SPAN_BLOCKS);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let result = reader.read_exact_at(in_span_1 + 100, &mut [0; 50]);
                assert!(
                    matches!(result, Err(SourceError::Inflate { .. })),
                    "{result:?}"
                );
            });
        }
    });
    assert_reads(&reader, 0, 1000);
    assert_reads(&reader, in_span_1 * 2, 1000);
}

/// Where a block is might be wrong then, and the bytes those of another one.
#[test]
fn nothing_is_read_by_places_that_may_be_wrong() {
    let (reader, source) = reader(MIB, 64 * MIB, None);
    let mut buf = vec![0; 100_000];
    for cached in [false, true] {
        source.is_damaged.store(true, Ordering::Relaxed);
        assert!(reader.read_exact_at(0, &mut buf).is_err());
        if cached {
            assert!(reader.try_read_exact_at(0, &mut buf).is_err());
        }
        source.is_damaged.store(false, Ordering::Relaxed);
        assert_reads(&reader, 0, 100_000);
    }
}

#[test]
fn what_is_decoded_ahead_is_there_for_the_reader() {
    let source = Arc::new(Counting {
        len: 4 * MIB,
        decoded_blocks: AtomicU64::new(0),
        fail_in: None,
        is_damaged: AtomicBool::new(false),
        budget: MemoryBudget::new(64 * MIB),
    });
    let metrics = Arc::new(Metrics::default());
    let cache = BlockCache::new(&MemoryBudget::new(64 * MIB), Arc::clone(&metrics)).unwrap();
    let prefetcher = Prefetcher::start().unwrap();
    let blocks: Arc<dyn BlockSource> = Arc::clone(&source) as _;
    let reader = CachedReader::new(
        ImageId(0),
        blocks,
        Arc::new(cache),
        Some(prefetcher),
        Arc::clone(&metrics),
    );
    for i in 0..40 {
        assert_reads(&reader, i * 8192, 8192);
    }
    let next_span = u64::from(BLOCK_BYTES * SPAN_BLOCKS) * 2;
    let arrived = (0..3000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        reader.try_read_exact_at(next_span, &mut [0; 4096]).unwrap()
    });
    assert!(arrived, "the span behind the reader was not decoded");
    assert!(metrics.counters.prefetched_spans.get() > 0);
}
