//! A byte-bounded cache of decoded blocks, as a decorator of a block source.
//!
//! Guarantees: what is read through [`CachedReader`] is what its source
//! produces; the blocks kept never outgrow the budget; no span is decoded by
//! two threads at once (`flight`), and readers whose next reads can be told find
//! them decoded ahead (`sequence`, `prefetch`), also those of a start that was recorded
//! (`plan`). No lock is held across a
//! decode, and a reader makes progress however small the cache is: the leader
//! of a flight takes its bytes as they are produced, not from the cache.

mod flight;
pub mod lru;
mod plan;
pub(crate) mod prefetch;
pub(crate) mod sequence;

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::budget::{Block, Kind, MemoryBudget, Reservation};
use crate::metrics::Metrics;
use crate::profile::Step;
use crate::source::{BlockInfo, BlockSource, ReadAt, SourceError};
use crate::trace::{Outcome, watch};
use crate::types::{BLOCK_BYTES, BlockNo, SpanNo};
use flight::{Flights, Role};
use lru::ByteLru;
use plan::Waiting;
pub use prefetch::Prefetcher;
use sequence::Sequences;

/// What one cached block costs, however short it is: a whole piece of memory,
/// and 128 bytes of map node, list links and count.
pub(crate) const BLOCK_WEIGHT_BYTES: u64 = BLOCK_BYTES as u64 + BLOCK_OVERHEAD_BYTES;

/// What of that is not the block itself.
pub(crate) const BLOCK_OVERHEAD_BYTES: u64 = 128;

/// Names an image within the process; blocks of different images share one
/// cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ImageId(pub u32);

type Key = (ImageId, BlockNo);

/// The blocks, and which of them a plan brought that nobody has read yet.
struct Blocks {
    kept: ByteLru<Key, Block>,
    unread: HashSet<Key>,
}

impl Blocks {
    /// Keeps a block; how many others had to go.
    fn insert(&mut self, key: Key, bytes: Block) -> u64 {
        let mut evicted = 0;
        self.was_read(&key);
        let unread = &mut self.unread;
        self.kept
            .insert_with(key, bytes, BLOCK_WEIGHT_BYTES, |gone| {
                evicted += 1;
                unread.remove(&gone);
            });
        evicted
    }

    /// Whether a plan brought it, and nobody had read it.
    fn was_read(&mut self, key: &Key) -> bool {
        // Mostly there are no plans.
        !self.unread.is_empty() && self.unread.remove(key)
    }
}

/// The blocks of all images of a process.
pub struct BlockCache {
    blocks: Mutex<Blocks>,
    waiting: Waiting,
    metrics: Arc<Metrics>,
    _reserved: Reservation,
}

impl BlockCache {
    /// A cache that takes all that `budget` still has for blocks, or nothing if
    /// another cache took it.
    pub fn new(budget: &MemoryBudget, metrics: Arc<Metrics>) -> Option<Self> {
        let free = budget.limit_bytes(Kind::Blocks) - budget.used_bytes(Kind::Blocks);
        let reserved = budget
            .reserve(Kind::Blocks, free)
            .filter(|r| r.bytes() > 0)?;
        let blocks = Mutex::new(Blocks {
            kept: ByteLru::new(reserved.bytes()),
            unread: HashSet::new(),
        });
        Some(Self {
            blocks,
            waiting: Waiting::default(),
            metrics,
            _reserved: reserved,
        })
    }

    /// Bytes that are cached now.
    pub fn used_bytes(&self) -> u64 {
        self.blocks.lock().kept.used_bytes()
    }

    /// Keeps nothing any more, until something is read.
    pub fn clear(&self) {
        let mut blocks = self.blocks.lock();
        blocks.kept.clear();
        blocks.unread = HashSet::new();
    }

    /// A block, and whether a plan brought it and this is the first to read it.
    fn get(&self, image: ImageId, block: BlockNo) -> Option<(Block, bool)> {
        let mut blocks = self.blocks.lock();
        let key = (image, block);
        let bytes = blocks.kept.get(&key)?.clone();
        Some((bytes, blocks.was_read(&key)))
    }

    fn contains(&self, image: ImageId, block: BlockNo) -> bool {
        self.blocks.lock().kept.contains(&(image, block))
    }

    fn insert(&self, image: ImageId, block: BlockNo, bytes: Block) {
        let evicted = self.blocks.lock().insert((image, block), bytes);
        self.count_evicted(evicted);
    }

    /// Keeps a block for a plan.
    fn insert_planned(&self, image: ImageId, block: BlockNo, bytes: Block) {
        let key = (image, block);
        let mut blocks = self.blocks.lock();
        if blocks.kept.contains(&key) {
            return;
        }
        let evicted = blocks.insert(key, bytes);
        if blocks.kept.contains(&key) {
            blocks.unread.insert(key);
        }
        drop(blocks);
        self.count_evicted(evicted);
    }

    fn count_evicted(&self, evicted: u64) {
        if evicted > 0 {
            self.metrics.counters.cache_evicted_blocks.add(evicted);
        }
    }

    /// Whether a plan may bring so many blocks before some are read. What is more than
    /// there is ever room for comes by itself; it is shorter than it says.
    fn has_room_for_plan(&self, blocks: u64) -> bool {
        let cached = self.blocks.lock();
        let most = plan::unread_max(cached.kept.limit_bytes());
        cached.unread.len() as u64 + blocks.min(most) <= most
    }

    /// No longer counts what plans brought: it is kept as all that was read.
    fn forget_planned(&self) {
        self.blocks.lock().unread.clear();
    }
}

impl std::fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockCache")
            .field("used_bytes", &self.used_bytes())
            .finish_non_exhaustive()
    }
}

/// Reads an image's stream through the cache.
pub struct CachedReader {
    image: ImageId,
    source: Arc<dyn BlockSource>,
    cache: Arc<BlockCache>,
    flights: Flights,
    sequences: Mutex<Sequences>,
    prefetcher: Option<Prefetcher>,
    metrics: Arc<Metrics>,
}

impl CachedReader {
    /// A reader of `source` as `image`. With a `prefetcher`, sequential readers
    /// get their next spans decoded ahead.
    pub fn new(
        image: ImageId,
        source: Arc<dyn BlockSource>,
        cache: Arc<BlockCache>,
        prefetcher: Option<Prefetcher>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            image,
            source,
            cache,
            flights: Flights::default(),
            sequences: Mutex::default(),
            prefetcher: prefetcher.map(|p| p.for_reader(this.clone())),
            metrics,
        })
    }

    fn cached(&self, block: BlockNo) -> Option<Block> {
        let (bytes, was_planned) = self.cache.get(self.image, block)?;
        if was_planned {
            self.metrics.counters.profile_hit_blocks.add(1);
        }
        Some(bytes)
    }

    /// Copies the part of `at..` that block `info` holds to the front of `buf`;
    /// answers how many bytes that was.
    fn copy_block(info: &BlockInfo, bytes: &[u8], at: u64, buf: &mut [u8]) -> usize {
        let Some(skip) = at
            .checked_sub(info.start)
            .and_then(|n| usize::try_from(n).ok())
        else {
            return 0;
        };
        let Some(rest) = bytes.get(skip..) else {
            return 0;
        };
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        n
    }

    /// Fills the front of `buf` with bytes from `at`, which is in the uncached
    /// block `info`; answers how many bytes.
    fn read_missing(
        &self,
        info: BlockInfo,
        at: u64,
        buf: &mut [u8],
        outcome: &mut Outcome,
    ) -> Result<usize, SourceError> {
        let _waits = self.cache.waiting.begin();
        loop {
            match self.flights.join(info.span) {
                Role::Leader(lead) => {
                    if let Some(bytes) = self.cached(info.no) {
                        outcome.joined += 1;
                        return Ok(Self::copy_block(&info, &bytes, at, buf));
                    }
                    return self.decode(&lead, info, at, buf, outcome);
                }
                Role::Waiter(flight) => {
                    flight.wait_for(info.no);
                    if let Some(bytes) = self.cached(info.no) {
                        outcome.joined += 1;
                        return Ok(Self::copy_block(&info, &bytes, at, buf));
                    }
                    flight.wait_for_end();
                }
            }
        }
    }

    /// As leader: decodes from `info` to the last block of its span that `buf`
    /// needs and the cache has not.
    fn decode(
        &self,
        lead: &flight::Lead<'_>,
        info: BlockInfo,
        at: u64,
        buf: &mut [u8],
        outcome: &mut Outcome,
    ) -> Result<usize, SourceError> {
        let last = self.last_missing(info, at + buf.len() as u64)?;
        let mut filled = 0;
        self.source.produce(info.no, &mut |produced, bytes| {
            if produced.no >= info.no {
                outcome.misses += 1;
                filled +=
                    Self::copy_block(&produced, &bytes, at + filled as u64, &mut buf[filled..]);
            }
            self.cache.insert(self.image, produced.no, bytes);
            lead.produced(produced.no);
            if produced.no >= last {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        match filled {
            0 => Err(SourceError::Tables {
                what: "a span ends before its blocks",
            }),
            _ => Ok(filled),
        }
    }

    /// The last block before `end` in the span of `first` that is not cached.
    fn last_missing(&self, first: BlockInfo, end: u64) -> Result<BlockNo, SourceError> {
        let mut last = first;
        let mut next = first;
        while next.end() < end.min(self.source.len()) {
            next = self.source.block_at(next.end())?;
            if next.span != first.span {
                break;
            }
            if !self.cache.contains(self.image, next.no) {
                last = next;
            }
        }
        Ok(last.no)
    }

    /// Decodes what is missing of a span into the cache, unless somebody is at
    /// it already.
    fn decode_ahead(&self, span: SpanNo) -> Result<(), SourceError> {
        let blocks = self.source.blocks_of(span)?;
        let missing = |no: &u32| !self.cache.contains(self.image, BlockNo(*no));
        let Some(first) = blocks.clone().find(missing) else {
            return Ok(());
        };
        let Role::Leader(lead) = self.flights.join(span) else {
            return Ok(());
        };
        self.metrics.counters.prefetched_spans.add(1);
        self.source.produce(BlockNo(first), &mut |produced, bytes| {
            self.cache.insert(self.image, produced.no, bytes);
            lead.produced(produced.no);
            ControlFlow::Continue(())
        })
    }

    /// Decodes what is missing of a step's blocks into the cache, as far as there is
    /// room, unless somebody is at its span already.
    fn take_step(&self, step: &Step) -> Result<(), SourceError> {
        let blocks = self.source.blocks_of(step.span)?;
        let wanted = step.first.0.max(blocks.start)..blocks.end.min(step.last.0.saturating_add(1));
        let missing = |no: &u32| !self.cache.contains(self.image, BlockNo(*no));
        let (Some(first), Some(last)) = (wanted.clone().find(missing), wanted.rev().find(missing))
        else {
            return Ok(());
        };
        let Role::Leader(lead) = self.flights.join(step.span) else {
            return Ok(());
        };
        self.metrics.counters.profile_spans.add(1);
        self.source.produce(BlockNo(first), &mut |produced, bytes| {
            // What comes before was not read by the start.
            if produced.no.0 >= first {
                self.cache.insert_planned(self.image, produced.no, bytes);
                lead.produced(produced.no);
            }
            match produced.no.0 >= last {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })
    }

    /// Notes a read, and has the rest of its span and the next ones decoded if it
    /// tells that they will be read.
    fn note(&self, at: u64, len: usize) {
        let Some(prefetcher) = &self.prefetcher else {
            return;
        };
        let end = at + len as u64;
        let pattern = self.sequences.lock().record(at, end);
        let last = end.min(self.source.len()).saturating_sub(1);
        if let Some(pattern) = pattern
            && let Ok(info) = self.source.block_at(last)
        {
            prefetcher.ask(pattern, info.span, self.source.span_count());
        }
    }

    /// Fills `buf` from `at`, counting how the blocks were found.
    fn read_blocks(
        &self,
        at: u64,
        buf: &mut [u8],
        outcome: &mut Outcome,
    ) -> Result<(), SourceError> {
        let mut filled = 0;
        while filled < buf.len() {
            let from = at + filled as u64;
            let info = self.source.block_at(from)?;
            let rest = &mut buf[filled..];
            filled += match self.cached(info.no) {
                Some(bytes) => {
                    outcome.hits += 1;
                    Self::copy_block(&info, &bytes, from, rest)
                }
                None => self.read_missing(info, from, rest, outcome)?,
            };
        }
        Ok(())
    }

    fn count(&self, outcome: Outcome) {
        let counters = &self.metrics.counters;
        for (counter, blocks) in [
            (&counters.cache_hit_blocks, outcome.hits),
            (&counters.cache_joined_blocks, outcome.joined),
            (&counters.cache_miss_blocks, outcome.misses),
        ] {
            if blocks > 0 {
                counter.add(blocks.into());
            }
        }
    }

    fn check(&self, at: u64, len: usize) -> Result<(), SourceError> {
        let (len, stream_len) = (len as u64, self.source.len());
        match at.checked_add(len) {
            Some(end) if end <= stream_len => Ok(()),
            _ => Err(SourceError::OutOfRange {
                at,
                len,
                stream_len,
            }),
        }
    }
}

impl ReadAt for CachedReader {
    fn len(&self) -> u64 {
        self.source.len()
    }

    fn read_exact_at(&self, at: u64, buf: &mut [u8]) -> Result<(), SourceError> {
        self.check(at, buf.len())?;
        self.note(at, buf.len());
        let mut outcome = Outcome::default();
        let read = self.read_blocks(at, buf, &mut outcome);
        self.count(outcome);
        read?;
        watch::found(at, buf.len(), outcome);
        // Once for all the places: it is a system call.
        self.source.intact()
    }

    fn try_read_exact_at(&self, at: u64, buf: &mut [u8]) -> Result<bool, SourceError> {
        self.check(at, buf.len())?;
        let (mut filled, mut outcome) = (0, Outcome::default());
        while filled < buf.len() {
            let from = at + filled as u64;
            let info = self.source.block_at(from)?;
            let Some(bytes) = self.cached(info.no) else {
                return Ok(false);
            };
            filled += Self::copy_block(&info, &bytes, from, &mut buf[filled..]);
            outcome.hits += 1;
        }
        self.source.intact()?;
        self.count(outcome);
        watch::found(at, buf.len(), outcome);
        self.note(at, buf.len());
        Ok(true)
    }
}

impl std::fmt::Debug for CachedReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CachedReader")
            .field("image", &self.image)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
