//! Replaying a trace for real: blocks are decoded and kept, and it is measured how
//! long each read takes.
//!
//! Guarantees: with LRU and 16 KiB this is the cache that serves, its hits and misses
//! are what it counted. With anything else the steps are those of the simulation, with
//! real blocks: they live as long as the policy keeps their unit, so memory is bounded
//! by the cache. One reader at a time; the clock stands still between two reads. What
//! is decoded ahead is decoded on another thread by the cache that serves (figures then
//! vary), and as a part of the read that tells it otherwise.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use super::LabError;
use super::layout::Layout;
use super::policy::{self, Policy, Rule};
use super::replay::{Counts, Engine, Figures, OnProgress, Progress, Run, STEP_RECORDS, Setting};
use super::replay::{Supply, Touched};
use super::times::{Clocked, Times};
use crate::budget::{Block, MemoryBudget};
use crate::cache::{BlockCache, CachedReader, ImageId, Prefetcher};
use crate::metrics::Metrics;
use crate::source::{BlockSource, Decoders, ReadAt, SourceError};
use crate::trace::{Read, Trace, TracedImage};
use crate::types::BLOCK_BYTES;

/// What a real replay found.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Measured {
    /// The same as of a simulation.
    #[serde(flatten)]
    pub figures: Figures,
    /// How long the reads took, each piece by itself.
    pub times: Times,
}

/// The images of a trace, opened.
#[derive(Clone)]
pub struct Archives {
    sources: Vec<Arc<dyn BlockSource>>,
    decoders: Decoders,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Archives {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let images = self.sources.len();
        f.debug_struct("Archives").field("images", &images).finish()
    }
}

impl Archives {
    /// For `trace`: one source for each of its images, in their order, all of which
    /// share `decoders` and count in `metrics`. Those that are not what the trace was recorded of are
    /// refused.
    pub fn new(
        trace: &Trace,
        sources: Vec<Arc<dyn BlockSource>>,
        decoders: Decoders,
        metrics: Arc<Metrics>,
    ) -> Result<Self, LabError> {
        if sources.len() != trace.images().len() {
            return Err(LabError::NotReal {
                what: "some images of the trace without their archives",
            });
        }
        for ((image, traced), source) in (0..).zip(trace.images()).zip(&sources) {
            if let Some(what) = difference(traced, source.as_ref())? {
                return Err(LabError::OtherImage { image, what });
            }
        }
        Ok(Archives {
            sources,
            decoders,
            metrics,
        })
    }
}

/// In what a source is not what was traced.
fn difference(
    traced: &TracedImage,
    source: &dyn BlockSource,
) -> Result<Option<&'static str>, SourceError> {
    if source.len() != traced.stream_bytes {
        return Ok(Some("another length"));
    }
    if source.span_count() as usize != traced.spans.len() {
        return Ok(Some(
            "another number of spans: index it with the same `--span`",
        ));
    }
    for (no, span) in (0..).zip(&traced.spans) {
        let block = source.block_at(span.stream)?;
        if block.start != span.stream || block.span.0 != no {
            return Ok(Some("other spans: index it with the same `--span`"));
        }
    }
    Ok(None)
}

/// Replays `trace` with `setting`, whose spans must be those recorded.
pub fn replay(
    trace: &Trace,
    archives: &Archives,
    setting: Setting,
    progress: &OnProgress<'_>,
) -> Result<Measured, LabError> {
    if setting.span_bytes.is_some() {
        return Err(LabError::NotReal {
            what: "other spans than those of the index",
        });
    }
    let layout = Layout::new(trace, setting.cut())?;
    let job = Job {
        trace,
        layout: &layout,
        archives,
        setting,
        progress,
    };
    // None stands anywhere yet.
    archives.decoders.trim();
    let serves = setting.block_bytes == u64::from(BLOCK_BYTES);
    let (counts, clocked) = match setting.policy {
        Rule::Lru if serves => job.serve(),
        Rule::Lru => job.run::<policy::Lru>(),
        Rule::Fifo => job.run::<policy::Fifo>(),
        Rule::Sieve => job.run::<policy::Sieve>(),
        Rule::S3Fifo => job.run::<policy::S3Fifo>(),
        Rule::Arc => job.run::<policy::Arc>(),
        Rule::Opt => Err(LabError::NotReal {
            what: "OPT, which is a bound and no policy",
        }),
    }?;
    Ok(Measured {
        figures: Figures::new(setting, &layout, &counts),
        times: clocked.times(),
    })
}

/// One real replay.
struct Job<'a> {
    trace: &'a Trace,
    layout: &'a Layout,
    archives: &'a Archives,
    setting: Setting,
    progress: &'a OnProgress<'a>,
}

impl Job<'_> {
    /// Calls `read` for each record, and measures how long it takes.
    fn clock(
        &self,
        mut read: impl FnMut(&Read) -> Result<(), LabError>,
    ) -> Result<Clocked, LabError> {
        let (mut clocked, total) = (Clocked::new(), self.trace.totals().records);
        for (done, record) in (1..).zip(self.trace.records()) {
            if record.stream.is_some() && record.len > 0 {
                let begun = Instant::now();
                read(&record)?;
                clocked.add(begun.elapsed());
            }
            if done % STEP_RECORDS == 0 || done == total {
                (self.progress)(Progress { done, total });
            }
        }
        Ok(clocked)
    }

    /// With the steps of the simulation.
    fn run<P: Policy>(&self) -> Result<(Counts, Clocked), LabError> {
        let supply = Real {
            archives: self.archives,
            reply: Vec::new(),
        };
        let mut engine = Engine::<P, _>::new(self.layout, self.setting, supply);
        let clocked = self.clock(|read| engine.read(read))?;
        Ok((engine.finish(), clocked))
    }

    /// With the cache that serves.
    fn serve(&self) -> Result<(Counts, Clocked), LabError> {
        let metrics = &self.archives.metrics;
        let cache = Arc::new(cache_of(self.setting.cache_bytes, metrics)?);
        let ahead = match self.setting.decode_ahead {
            true => Some(Prefetcher::start().map_err(LabError::Thread)?),
            false => None,
        };
        let images = (0..).map(ImageId).zip(&self.archives.sources);
        let readers: Vec<_> = images
            .map(|(id, source)| {
                let ahead = ahead.as_ref().map(Prefetcher::handle);
                let (source, cache) = (Arc::clone(source), Arc::clone(&cache));
                CachedReader::new(id, source, cache, ahead, Arc::clone(metrics))
            })
            .collect();
        let before = Seen::now(metrics);
        let (mut counts, mut reply, mut open) = (Counts::default(), Vec::new(), None);
        let clocked = self.clock(|read| {
            let Some(reader) = readers.get(read.image as usize) else {
                return Ok(());
            };
            if !read.continues {
                counts.close(&mut open);
            }
            reply.resize(read.len as usize, 0);
            let misses = Seen::now(metrics).missed();
            reader.read_exact_at(read.stream.unwrap_or(0), &mut reply)?;
            counts.served_bytes += u64::from(read.len);
            *open.get_or_insert(true) &= Seen::now(metrics).missed() == misses;
            Ok(())
        })?;
        counts.close(&mut open);
        before.add_since(&Seen::now(metrics), &mut counts);
        Ok((counts, clocked))
    }
}

impl Counts {
    /// A read, all of whose pieces were found or not, has come to its end.
    fn close(&mut self, all_hits: &mut Option<bool>) {
        if let Some(all_hits) = all_hits.take() {
            self.reads += 1;
            self.reads_all_hits += u64::from(all_hits);
        }
    }
}

/// The cache that serves, with room for so many bytes.
fn cache_of(cache_bytes: u64, metrics: &Arc<Metrics>) -> Result<BlockCache, LabError> {
    // Blocks get 24 of 64 parts of a budget, and a block weighs a multiple of 24.
    let budget = MemoryBudget::new(cache_bytes / 24 * 64);
    BlockCache::new(&budget, Arc::clone(metrics)).ok_or(LabError::Setting {
        what: "a cache",
        found: cache_bytes,
        must: "24 bytes or more",
    })
}

/// Counters at one moment.
#[derive(Clone, Copy)]
struct Seen {
    hits: u64,
    misses: u64,
    joined: u64,
    decoded_bytes: u64,
    restores: u64,
    resumes: u64,
}

impl Seen {
    fn now(metrics: &Metrics) -> Self {
        let counters = &metrics.counters;
        Seen {
            hits: counters.cache_hit_blocks.get(),
            misses: counters.cache_miss_blocks.get(),
            joined: counters.cache_joined_blocks.get(),
            decoded_bytes: counters.decoded_bytes.get(),
            restores: counters.checkpoint_restores.get(),
            resumes: counters.decoder_resumes.get(),
        }
    }

    /// Who waits for another's decode did not find it either.
    fn missed(&self) -> u64 {
        self.misses + self.joined
    }

    fn add_since(&self, now: &Seen, counts: &mut Counts) {
        counts.hits += now.hits - self.hits;
        counts.misses += now.missed() - self.missed();
        counts.decoded_bytes += now.decoded_bytes - self.decoded_bytes;
        counts.restores += now.restores - self.restores;
        counts.resumes += now.resumes - self.resumes;
    }
}

/// Decodes.
struct Real<'a> {
    archives: &'a Archives,
    /// What the reader gets.
    reply: Vec<u8>,
}

impl Supply for Real<'_> {
    /// Its blocks of 16 KiB.
    type Kept = Vec<Block>;

    fn run(
        &mut self,
        run: &Run,
        sink: &mut impl FnMut(u32, Vec<Block>),
    ) -> Result<Touched, LabError> {
        let span = run.span;
        let source = self.archives.sources.get(span.image as usize);
        let source = source.ok_or(LabError::NotReal {
            what: "an image without its archive",
        })?;
        let metrics = &self.archives.metrics;
        let before = Seen::now(metrics);
        let wanted = source.block_at(span.start_of(run.first))?;
        let mut unit: Vec<Block> = Vec::new();
        let reply = &mut self.reply;
        source.produce(wanted.no, &mut |info, block| {
            let at = span.index_of(info.start);
            // A decoder that stands within a unit produces the rest of it, which is not
            // a unit.
            if info.start != span.start_of(at) && unit.is_empty() {
                return ControlFlow::Continue(());
            }
            if at >= run.first {
                let (from, to) = (run.asked_from.max(info.start), run.asked_to.min(info.end()));
                serve(&block, info.start, from, to, reply);
            }
            unit.push(block);
            if info.end() < span.end_of(at) {
                return ControlFlow::Continue(());
            }
            sink(at, std::mem::take(&mut unit));
            match at >= run.last {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        let mut counts = Counts::default();
        before.add_since(&Seen::now(metrics), &mut counts);
        Ok(Touched {
            decoded_bytes: counts.decoded_bytes,
            restores: counts.restores,
            resumes: counts.resumes,
        })
    }

    fn serve(&mut self, kept: &Vec<Block>, start: u64, from: u64, to: u64) {
        for (block, at) in kept.iter().zip((start..).step_by(BLOCK_BYTES as usize)) {
            let end = at + block.len() as u64;
            serve(block, at, from.max(at), to.min(end), &mut self.reply);
        }
    }
}

/// Copies stream bytes `from..to` of a block that begins at `start`.
fn serve(block: &[u8], start: u64, from: u64, to: u64, reply: &mut Vec<u8>) {
    let place = |at: u64| at.checked_sub(start).and_then(|n| usize::try_from(n).ok());
    if let (Some(from), Some(to)) = (place(from), place(to))
        && let Some(bytes) = block.get(from..to)
    {
        reply.clear();
        reply.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests;
