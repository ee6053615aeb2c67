//! Decoding what a start will read, by a plan, before anybody asks.
//!
//! Guarantees: plans have the lowest priority. A step is taken only while a processor is
//! left by the reads that wait for a decode, and nothing else is to be decoded ahead,
//! which is looked at between spans. What plans brought and nobody has read yet is a share
//! of the cache at most ([`unread_max`]); a plan goes on as it is read, and ends when
//! that takes too long, its image goes, something fails, or memory is trimmed. The newest
//! plan comes first, and what others brought leaves it room: they may be of images that
//! nobody starts.
//! No thread of its own: that which decodes ahead takes steps while it has nothing to do.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{BLOCK_WEIGHT_BYTES, CachedReader};
use crate::profile::Step;

/// The part of the cache that plans may fill with what nobody has read yet. The rest is
/// for what profiles do not know of; a plan that evicted its own blocks would be decoded
/// twice.
const SHARE: u64 = 2;

/// How many images may have plans at a time.
const PLANS_MAX: usize = 64;

/// How long a plan waits when it finds reads that wait for a decode: about one span.
const PAUSE: Duration = Duration::from_micros(500);

/// The same while there is no room: about what a start takes to read a few blocks.
const PAUSE_WITHOUT_ROOM: Duration = Duration::from_millis(2);

/// A start that reads nothing of what was prefetched for so long is none.
const OVER_AFTER: Duration = Duration::from_secs(10);

/// How many blocks plans may bring to a cache of so many bytes before they are read.
pub(super) fn unread_max(cache_bytes: u64) -> u64 {
    cache_bytes / SHARE / BLOCK_WEIGHT_BYTES
}

/// Reads that wait for a decode.
#[derive(Debug, Default)]
pub(super) struct Waiting(AtomicU32);

impl Waiting {
    /// One more, until what is answered is dropped.
    pub(super) fn begin(&self) -> WaitingRead<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        WaitingRead(self)
    }

    /// Whether they leave a processor to others. One reader that waits for each of its
    /// decodes is what a start is: without this nothing would be there before it.
    pub(super) fn leaves_room(&self, processors: u32) -> bool {
        self.0.load(Ordering::Relaxed) < processors
    }
}

/// A read that waits for a decode.
pub(super) struct WaitingRead<'a>(&'a Waiting);

impl Drop for WaitingRead<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Plan {
    reader: Weak<CachedReader>,
    steps: std::iter::Peekable<std::vec::IntoIter<Step>>,
    /// When it had its turn first, or its last step was taken.
    last: Option<Instant>,
}

/// The plans of a process, the newest first.
pub(super) struct Plans {
    plans: Mutex<VecDeque<Plan>>,
    /// How many reads may be decoded at the same time.
    processors: u32,
}

impl Default for Plans {
    fn default() -> Self {
        let processors = std::thread::available_parallelism();
        Self {
            plans: Mutex::default(),
            processors: processors.map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)),
        }
    }
}

impl std::fmt::Debug for Plans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plans")
            .field("plans", &self.plans.lock().len())
            .finish_non_exhaustive()
    }
}

/// What there is to do for plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// A step was taken.
    Step,
    /// Not now: reads wait.
    Later,
    /// Not now: what was brought is to be read first.
    Full,
    /// There is no plan.
    Nothing,
}

impl Plans {
    /// Adds a plan for a reader, in place of what is left of an older one.
    pub(super) fn add(&self, reader: &Arc<CachedReader>, steps: Vec<Step>) {
        reader.cache.forget_planned();
        let reader = Arc::downgrade(reader);
        let mut plans = self.plans.lock();
        plans.retain(|plan| !plan.reader.ptr_eq(&reader));
        plans.truncate(PLANS_MAX - 1);
        plans.push_front(Plan {
            reader,
            steps: steps.into_iter().peekable(),
            last: None,
        });
    }

    /// Forgets all plans.
    pub(super) fn clear(&self) {
        self.plans.lock().clear();
    }

    fn forget(&self, reader: &Arc<CachedReader>) {
        let reader = Arc::downgrade(reader);
        self.plans
            .lock()
            .retain(|plan| !plan.reader.ptr_eq(&reader));
    }

    /// The next step, unless some read waits or there is no room.
    fn next(&self, now: Instant) -> Result<(Arc<CachedReader>, Step), Progress> {
        let mut plans = self.plans.lock();
        while let Some(plan) = plans.front_mut() {
            let Some(reader) = plan.reader.upgrade() else {
                plans.pop_front();
                continue;
            };
            if !reader.cache.waiting.leaves_room(self.processors) {
                return Err(Progress::Later);
            }
            let last = *plan.last.get_or_insert(now);
            let has_room = |step: &Step| reader.cache.has_room_for_plan(step.blocks());
            match plan.steps.next_if(has_room) {
                Some(step) => {
                    plan.last = Some(now);
                    return Ok((reader, step));
                }
                None if plan.steps.peek().is_none() => {
                    plans.pop_front();
                }
                None if now.saturating_duration_since(last) > OVER_AFTER => {
                    reader.cache.forget_planned();
                    plans.pop_front();
                }
                None => return Err(Progress::Full),
            }
        }
        Err(Progress::Nothing)
    }

    fn advance(&self, now: Instant) -> Progress {
        let (reader, step) = match self.next(now) {
            Ok(next) => next,
            Err(progress) => return progress,
        };
        let span = step.span.0;
        match catch_unwind(AssertUnwindSafe(|| reader.take_step(&step))) {
            Ok(Ok(())) => return Progress::Step,
            // Whoever needs those bytes meets the same error.
            Ok(Err(error)) => tracing::debug!(span, %error, "could not prefetch"),
            Err(_) => tracing::debug!(span, "a panic in the decoder"),
        }
        self.forget(&reader);
        Progress::Step
    }
}

/// The next job, nothing if none can come any more. While there is none, steps of
/// plans are taken.
pub(super) fn next_job<J>(jobs: &Receiver<J>, plans: &Plans) -> Option<J> {
    loop {
        match jobs.try_recv() {
            Ok(job) => return Some(job),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => {}
        }
        let pause = match plans.advance(Instant::now()) {
            Progress::Step => continue,
            Progress::Nothing => return jobs.recv().ok(),
            Progress::Later => PAUSE,
            Progress::Full => PAUSE_WITHOUT_ROOM,
        };
        match jobs.recv_timeout(pause) {
            Ok(job) => return Some(job),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

#[cfg(test)]
mod tests;
