//! An image between its archive and the kernel: what one process shares among all
//! images that it serves, and what each has of its own.
//!
//! Guarantees: however many images a process serves, their blocks share one cache,
//! and everything one memory budget.

pub mod recording;
pub mod report;
mod settle;
mod warming;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use crate::budget::{Kind, MemoryBudget, Reservation};
use crate::cache::{BlockCache, CachedReader, ImageId, Prefetcher};
use crate::config::FuseTuning;
use crate::fs::{FsError, FsOptions, ImageFs};
use crate::fuse::{self, Answers, Buffers, Connection, Means, SessionError, SessionHandle};
use crate::index::Index;
use crate::metrics::Metrics;
use crate::source::{BlockSource, Decoders};
use crate::sys::alloc;
use crate::sys::breadcrumbs::Crumb;
use crate::sys::ioctl::Question;
use crate::types::Ino;
use crate::view::Plan;
use recording::Recording;
use report::Reporter;
pub use settle::settle;
pub use warming::Warmer;

/// Why an image cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// There is no memory left for a cache and a decoder.
    #[error("there is not enough memory to serve images: give more with `memory`")]
    Memory,
    /// A thread could not be started.
    #[error("no thread could be started ({0}): raise the limit on processes")]
    Thread(io::Error),
    /// The index is of no use.
    #[error(transparent)]
    Fs(#[from] FsError),
}

/// What all images of a process share.
#[derive(Debug)]
pub struct Shared {
    decoders: Decoders,
    cache: Arc<BlockCache>,
    prefetcher: Prefetcher,
    buffers: Buffers,
    images: AtomicU32,
    _reserved: Reservation,
}

impl Shared {
    /// A cache, and a thread that decodes ahead, for a process that stays within
    /// `memory_bytes`. Starts threads.
    pub fn new(memory_bytes: u64, metrics: &Arc<Metrics>) -> Result<Shared, ServingError> {
        let budget = MemoryBudget::new(memory_bytes);
        let cache = BlockCache::new(&budget, Arc::clone(metrics)).ok_or(ServingError::Memory)?;
        // The other half is for stacks.
        let buffers = budget.limit_bytes(Kind::Buffers) / 2;
        let reserved = budget.reserve(Kind::Buffers, buffers);
        Ok(Shared {
            _reserved: reserved.ok_or(ServingError::Memory)?,
            buffers: Buffers::new(usize::try_from(buffers).unwrap_or(usize::MAX)),
            decoders: Decoders::new(budget).map_err(|_| ServingError::Memory)?,
            cache: Arc::new(cache),
            prefetcher: Prefetcher::start().map_err(ServingError::Thread)?,
            images: AtomicU32::new(0),
        })
    }

    /// Keeps nothing for later: nobody has read anything for a while.
    pub fn trim(&self) {
        self.prefetcher.forget_plans();
        self.cache.clear();
        self.decoders.trim();
        self.buffers.trim();
        self.budget().release_blocks();
        alloc::trim();
    }

    /// The memory of this process.
    pub fn budget(&self) -> &MemoryBudget {
        self.decoders.budget()
    }

    /// What sources decode with.
    pub fn decoders(&self) -> &Decoders {
        &self.decoders
    }
}

/// An image, as far as it is known how to read it.
#[derive(Clone)]
pub struct Parts<'a> {
    /// What is in it.
    pub index: Index,
    /// Its bytes.
    pub source: Arc<dyn BlockSource>,
    /// A digest of what it is made of.
    pub version: [u8; 32],
    /// What it is called in reports.
    pub name: &'a Path,
    /// How long its archive is.
    pub archive_bytes: u64,
    /// How much of its index is mapped.
    pub index_bytes: u64,
}

impl std::fmt::Debug for Parts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// An image that can be served.
pub struct Prepared {
    fs: Arc<ImageFs>,
    answers: Answers,
    recording: Arc<Recording>,
    warmer: Arc<Warmer>,
    tuning: FuseTuning,
    buffers: Buffers,
    metrics: Arc<Metrics>,
}

impl Prepared {
    /// Puts an image's filesystem together, to be served in this way.
    pub fn new(
        parts: Parts<'_>,
        options: FsOptions,
        tuning: &FuseTuning,
        (shared, metrics): (&Shared, &Arc<Metrics>),
    ) -> Result<Prepared, ServingError> {
        let source = Arc::clone(&parts.source);
        let recording = Recording::new(source, parts.name, parts.version, shared.budget());
        let recording = Arc::new(recording);
        let answers = answers(&parts, options.root, (shared, metrics), &recording);
        let reader = CachedReader::new(
            ImageId(shared.images.fetch_add(1, Ordering::Relaxed)),
            parts.source,
            Arc::clone(&shared.cache),
            tuning.ahead.then(|| shared.prefetcher.handle()),
            Arc::clone(metrics),
        );
        let warmer = Arc::new(Warmer::new(&reader, shared.prefetcher.handle()));
        let fs = ImageFs::new(parts.index, reader, options, Arc::clone(metrics))?;
        Ok(Prepared {
            fs: Arc::new(fs),
            answers,
            recording,
            warmer,
            tuning: tuning.clone(),
            buffers: shared.buffers.clone(),
            metrics: Arc::clone(metrics),
        })
    }

    /// What records the reads of this image.
    pub fn recording(&self) -> &Arc<Recording> {
        &self.recording
    }

    /// What prefetches for starts of this image.
    pub fn warmer(&self) -> &Arc<Warmer> {
        &self.warmer
    }

    /// Serves it, marking with `crumb` what is worked on. When this returns, the mount
    /// answers.
    pub fn serve(
        self,
        connection: Connection,
        crumb: Crumb,
    ) -> Result<SessionHandle, SessionError> {
        let means = Means {
            metrics: self.metrics,
            answers: self.answers,
            recorder: Arc::clone(self.recording.recorder()),
            buffers: self.buffers,
            crumb,
        };
        fuse::serve(connection, self.fs, &self.tuning, means)
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").finish_non_exhaustive()
    }
}

/// What the mount answers when it is asked by ioctl.
fn answers(
    parts: &Parts<'_>,
    root: Ino,
    (shared, metrics): (&Shared, &Arc<Metrics>),
    recording: &Arc<Recording>,
) -> Answers {
    let reporter = Reporter::new(
        Arc::clone(metrics),
        shared.budget().clone(),
        (parts.name, parts.archive_bytes),
        &parts.index,
        parts.index_bytes,
    );
    let (index, version) = (parts.index.clone(), parts.version);
    // An image never changes.
    let plan = OnceLock::new();
    let recording = Arc::clone(recording);
    Box::new(move |question| match question {
        Question::Report => Ok(serde_json::to_vec(&reporter.report()).unwrap_or_default()),
        Question::Plan(from) => {
            let plan = plan.get_or_init(|| Plan::of(&index, root, version));
            Ok(plan.as_ref().map_err(Clone::clone)?.answer(from))
        }
        Question::Trace(asked) => recording.answer(asked),
    })
}
