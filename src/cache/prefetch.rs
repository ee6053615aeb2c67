//! Decoding ahead on another core.
//!
//! Guarantees: at most one decode ahead at a time per process, and a short
//! queue: asking never blocks, and a request that finds the queue full is
//! dropped (the reader then decodes for itself), as is one that waited so long
//! that its reader has passed by. The thread ends when the last
//! prefetcher is dropped. A failed decode ahead is not reported: the reader
//! that really needs those bytes meets the same error. Plans (`plan`) are for the time
//! in which nothing was asked for.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use std::{io, thread};

use super::CachedReader;
use super::plan::{Plans, next_job};
use super::sequence::Pattern;
use crate::profile::Profile;
use crate::types::SpanNo;

/// How many spans may wait to be decoded ahead.
const QUEUE_SPANS: usize = 32;

/// How many are asked for at a time, the one that is being read among them. For a
/// run as many as keep this thread ahead of a reader at full speed; around a
/// neighbourhood it is a guess.
pub(crate) const RUN_SPANS: u32 = 5;
const NEIGHBOURHOOD_SPANS: u32 = 2;

/// What was asked for longer ago is not decoded any more: whoever reads on has
/// decoded it for itself by then, or reads elsewhere.
const STALE_AFTER: Duration = Duration::from_millis(250);

/// Decoding copies nothing large to the stack.
const STACK_BYTES: usize = 256 * 1024;

#[derive(Debug)]
struct Job {
    reader: Weak<CachedReader>,
    span: SpanNo,
    asked: Instant,
}

impl Job {
    fn new(reader: Weak<CachedReader>, span: SpanNo) -> Self {
        Self {
            reader,
            span,
            asked: Instant::now(),
        }
    }
}

/// A handle to the thread that decodes ahead. Each reader has its own handle.
#[derive(Debug)]
pub struct Prefetcher {
    queue: SyncSender<Job>,
    plans: Arc<Plans>,
    reader: Weak<CachedReader>,
    asked: Asked,
}

/// The spans from which on was asked lately, so that each is asked for once per
/// run: a small direct-mapped table of span numbers plus one.
#[derive(Debug)]
pub(crate) struct Asked([AtomicU64; 64]);

impl Default for Asked {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Asked {
    /// The spans to decode ahead where `span` is being read in this way: the rest of
    /// it and some of the next ones, or none if they were asked for already.
    pub(crate) fn spans(&self, pattern: Pattern, span: SpanNo, span_count: u32) -> Range<u32> {
        let spans = match pattern {
            Pattern::Run => RUN_SPANS,
            Pattern::Neighbourhood => NEIGHBOURHOOD_SPANS,
        };
        let slot = &self.0[span.0 as usize % self.0.len()];
        // What was asked for in passing is not yet asked for on a run.
        let mark = (u64::from(span.0) + 1) << 8 | u64::from(spans);
        if slot.swap(mark, Ordering::Relaxed) == mark {
            return span.0..span.0;
        }
        span.0..span_count.min(span.0.saturating_add(spans))
    }
}

impl Prefetcher {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE_SPANS);
        let plans = Arc::<Plans>::default();
        let of_thread = Arc::clone(&plans);
        thread::Builder::new()
            .name("prefetch".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || run(&jobs, &of_thread))?;
        Ok(Self::with_queue(queue, plans))
    }

    /// A further handle to the same thread, for another reader.
    pub fn handle(&self) -> Self {
        Self::with_queue(self.queue.clone(), Arc::clone(&self.plans))
    }

    /// Has decoded what a start will read through `reader`, whenever there is nothing
    /// else to do.
    pub fn plan(&self, reader: &Arc<CachedReader>, profile: &Profile) {
        self.plans.add(reader, profile.plan());
        // So that the thread looks; if the queue is full, it will anyway.
        let _is_awake = self.queue.try_send(Job::new(Weak::new(), SpanNo(0)));
    }

    /// Forgets what is planned.
    pub fn forget_plans(&self) {
        self.plans.clear();
    }

    fn with_queue(queue: SyncSender<Job>, plans: Arc<Plans>) -> Self {
        Self {
            queue,
            plans,
            reader: Weak::new(),
            asked: Asked::default(),
        }
    }

    pub(super) fn for_reader(self, reader: Weak<CachedReader>) -> Self {
        Self { reader, ..self }
    }

    /// Asks for the rest of `span`, which is being read in this way, and some of the
    /// next ones.
    pub(super) fn ask(&self, pattern: Pattern, span: SpanNo, span_count: u32) {
        for span in self.asked.spans(pattern, span, span_count) {
            let job = Job::new(Weak::clone(&self.reader), SpanNo(span));
            let _dropped = self.queue.try_send(job);
        }
    }
}

fn run(jobs: &Receiver<Job>, plans: &Plans) {
    while let Some(Job {
        reader,
        span,
        asked,
    }) = next_job(jobs, plans)
    {
        if is_stale(asked, Instant::now()) {
            continue;
        }
        if let Some(reader) = Weak::upgrade(&reader)
            && let Err(error) = decode(&reader, span)
        {
            tracing::debug!(span = span.0, %error, "could not decode ahead");
        }
    }
}

/// Whether a reader has passed by what was asked for then.
fn is_stale(asked: Instant, now: Instant) -> bool {
    now.saturating_duration_since(asked) > STALE_AFTER
}

fn decode(reader: &Arc<CachedReader>, span: SpanNo) -> Result<(), Box<dyn std::error::Error>> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| reader.decode_ahead(span)))
        .map_err(|_| "a panic in the decoder")?
        .map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waited_too_long_is_dropped() {
        let asked = Instant::now();
        let after = |ms| asked + Duration::from_millis(ms);
        assert!(!is_stale(asked, asked));
        assert!(!is_stale(asked, after(250)));
        assert!(is_stale(asked, after(251)));
        assert!(!is_stale(after(300), asked), "asked meanwhile");
    }

    #[test]
    fn each_span_is_asked_for_once_in_a_way() {
        let asked = Asked::default();
        let ask = |pattern, span| asked.spans(pattern, SpanNo(span), 10);
        assert_eq!(ask(Pattern::Neighbourhood, 3), 3..5);
        assert_eq!(ask(Pattern::Run, 3), 3..8);
        assert!(ask(Pattern::Run, 3).is_empty());
        assert_eq!(ask(Pattern::Run, 8), 8..10);
    }
}
