//! Simulating the cache that serves, with the reads of a trace.
//!
//! Guarantees: with LRU, 16 KiB and the recorded spans this does what
//! [`CachedReader`](crate::cache::CachedReader) does for one reader at a time: the same
//! lookups in the same order, the same runs of decoding from where a kept decoder
//! stands, the same insertions. Nothing of it is concurrent, so a reader never joins
//! the decode of another. The same input gives the same figures, on any number of
//! cores.
//!
//! What is modelled otherwise than it is: spans of another length than recorded are
//! merged or divided ones (divided ones are marked as approximate: no decoder can begin
//! exactly there); decoding ahead happens at once after the read that tells it, where
//! it really happens beside the next ones; an image whose archive is not smaller than
//! its stream counts as uncompressed; larger blocks are a multiple of 16 KiB, each
//! weighs as much as a whole one, as those of 16 KiB do.

mod ahead;
mod decoders;
mod engine;
mod figures;
mod opt;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use super::LabError;
use super::layout::{Cut, Layout};
use super::policy::{Arc, Fifo, Lru, Policy, Rule, S3Fifo, Sieve};
use crate::trace::Trace;
use crate::types::BLOCK_BYTES;
use decoders::Simulated;
pub(super) use engine::{Engine, Run, Supply, Touched};
pub(super) use figures::Counts;
pub use figures::{Decoding, Figures};

/// All combinations of these are simulated.
#[derive(Clone, Debug)]
pub struct Options {
    /// What a cache may hold.
    pub cache_bytes: Vec<u64>,
    /// Length of a block: multiples of 16 KiB.
    pub block_bytes: Vec<u64>,
    /// Wanted length of a span; `None` as recorded.
    pub span_bytes: Vec<Option<u64>>,
    /// Which units are kept.
    pub policies: Vec<Rule>,
    /// Whether is decoded ahead.
    pub decode_ahead: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            cache_bytes: vec![24 << 20],
            block_bytes: vec![BLOCK_BYTES.into()],
            span_bytes: vec![None],
            policies: vec![Rule::Lru],
            decode_ahead: false,
        }
    }
}

/// One combination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Setting {
    /// What the cache may hold.
    pub cache_bytes: u64,
    /// Length of a block.
    pub block_bytes: u64,
    /// Wanted length of a span; `None` as recorded.
    pub span_bytes: Option<u64>,
    /// Which units are kept.
    pub policy: Rule,
    /// Whether is decoded ahead.
    pub decode_ahead: bool,
}

impl Setting {
    pub(super) fn cut(&self) -> Cut {
        Cut {
            block_bytes: self.block_bytes,
            span_bytes: self.span_bytes,
            is_ahead: self.decode_ahead,
        }
    }
}

/// How far all of it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Records that were simulated, over all settings.
    pub done: u64,
    /// How many there are to simulate.
    pub total: u64,
}

/// Hears of it, now and then, from any thread.
pub type OnProgress<'a> = dyn Fn(Progress) + Sync + 'a;

impl Options {
    /// All combinations: by span, block, policy and cache, each in the order given.
    pub fn settings(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        for span_bytes in &self.span_bytes {
            for block_bytes in &self.block_bytes {
                for policy in &self.policies {
                    settings.extend(self.cache_bytes.iter().map(|cache_bytes| Setting {
                        cache_bytes: *cache_bytes,
                        block_bytes: *block_bytes,
                        span_bytes: *span_bytes,
                        policy: *policy,
                        decode_ahead: self.decode_ahead,
                    }));
                }
            }
        }
        settings
    }
}

/// Simulates all combinations, on all cores; the figures are in the order of
/// [`Options::settings`].
pub fn replay(
    trace: &Trace,
    options: &Options,
    progress: &OnProgress<'_>,
) -> Result<Vec<Figures>, LabError> {
    replay_settings(trace, &options.settings(), progress)
}

/// The same for these settings.
pub(super) fn replay_settings(
    trace: &Trace,
    settings: &[Setting],
    progress: &OnProgress<'_>,
) -> Result<Vec<Figures>, LabError> {
    let work = Work {
        trace,
        settings,
        layouts: layouts_of(settings),
        next: AtomicUsize::new(0),
        done: AtomicU64::new(0),
        results: Mutex::new(Vec::with_capacity(settings.len())),
        progress,
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(settings.len()) {
            let thread = std::thread::Builder::new().name("lab".to_owned());
            thread
                .spawn_scoped(scope, || work.run())
                .map_err(LabError::Thread)?;
        }
        Ok::<(), LabError>(())
    })?;
    let mut results = work.results.into_inner().unwrap_or_else(|e| e.into_inner());
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, figures)| figures).collect()
}

type Cutting = (Cut, OnceLock<Result<Layout, LabError>>);

/// A place for the layout of each way to cut.
fn layouts_of(settings: &[Setting]) -> Vec<Cutting> {
    let mut layouts: Vec<Cutting> = Vec::new();
    for cut in settings.iter().map(Setting::cut) {
        if layouts.iter().all(|(known, _)| *known != cut) {
            layouts.push((cut, OnceLock::new()));
        }
    }
    layouts
}

/// What the threads share.
struct Work<'a> {
    trace: &'a Trace,
    settings: &'a [Setting],
    layouts: Vec<Cutting>,
    next: AtomicUsize,
    done: AtomicU64,
    results: Mutex<Vec<(usize, Result<Figures, LabError>)>>,
    progress: &'a OnProgress<'a>,
}

impl Work<'_> {
    fn run(&self) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(setting) = self.settings.get(number) else {
                return;
            };
            let result = self.one(*setting);
            let mut results = self.results.lock().unwrap_or_else(|e| e.into_inner());
            results.push((number, result));
        }
    }

    fn one(&self, setting: Setting) -> Result<Figures, LabError> {
        let cut = setting.cut();
        let made = self.layouts.iter().find(|(known, _)| *known == cut);
        let made = made.map(|(_, place)| place.get_or_init(|| Layout::new(self.trace, cut)));
        let own;
        let layout = match made {
            Some(Ok(layout)) => layout,
            // An error belongs to each of the settings that meet it.
            Some(Err(_)) | None => {
                own = Layout::new(self.trace, cut)?;
                &own
            }
        };
        let step = &|records| {
            let done = self.done.fetch_add(records, Ordering::Relaxed) + records;
            let total = self.trace.totals().records * self.settings.len() as u64;
            (self.progress)(Progress { done, total });
        };
        simulate(self.trace, layout, setting, step)
    }
}

/// Hears how many records were done since it heard last.
pub(super) type Step<'a> = dyn Fn(u64) + 'a;

/// One setting.
fn simulate(
    trace: &Trace,
    layout: &Layout,
    setting: Setting,
    step: &Step<'_>,
) -> Result<Figures, LabError> {
    let counts = match setting.policy {
        Rule::Lru => run::<Lru>(trace, layout, setting, step),
        Rule::Fifo => run::<Fifo>(trace, layout, setting, step),
        Rule::Sieve => run::<Sieve>(trace, layout, setting, step),
        Rule::S3Fifo => run::<S3Fifo>(trace, layout, setting, step),
        Rule::Arc => run::<Arc>(trace, layout, setting, step),
        Rule::Opt => Ok(opt::run(trace, layout, setting, step)),
    }?;
    Ok(Figures::new(setting, layout, &counts))
}

fn run<P: Policy>(
    trace: &Trace,
    layout: &Layout,
    setting: Setting,
    step: &Step<'_>,
) -> Result<Counts, LabError> {
    let mut engine = Engine::<P, _>::new(layout, setting, Simulated::default());
    let mut since = 0;
    for read in trace.records() {
        engine.read(&read)?;
        since += 1;
        if since == STEP_RECORDS {
            step(std::mem::take(&mut since));
        }
    }
    step(since);
    Ok(engine.finish())
}

/// How often progress is told.
pub(super) const STEP_RECORDS: u64 = 1 << 16;

#[cfg(test)]
mod tests;
