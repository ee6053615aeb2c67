//! Decoding ahead on another core.
//!
//! Guarantees: at most one decode ahead at a time per process, and a short
//! queue: asking never blocks, and a request that finds the queue full is
//! dropped (the reader then decodes for itself). The thread ends when the last
//! prefetcher is dropped. A failed decode ahead is not reported: the reader
//! that really needs those bytes meets the same error.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::{io, thread};

use super::CachedReader;
use super::sequence::Pattern;
use crate::types::SpanNo;

/// How many spans may wait to be decoded ahead.
const QUEUE_SPANS: usize = 32;

/// How many are asked for at a time, the one that is being read among them. For a
/// run as many as keep this thread ahead of a reader at full speed; around a
/// neighbourhood it is a guess.
const RUN_SPANS: u32 = 5;
const NEIGHBOURHOOD_SPANS: u32 = 2;

/// Decoding copies nothing large to the stack.
const STACK_BYTES: usize = 256 * 1024;

type Job = (Weak<CachedReader>, SpanNo);

/// A handle to the thread that decodes ahead. Each reader has its own handle.
#[derive(Debug)]
pub struct Prefetcher {
    queue: SyncSender<Job>,
    reader: Weak<CachedReader>,
    /// The spans from which on was asked lately, so that each is asked for once per
    /// run: a small direct-mapped table of span numbers plus one.
    asked: [AtomicU64; 64],
}

impl Prefetcher {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE_SPANS);
        thread::Builder::new()
            .name("prefetch".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || run(&jobs))?;
        Ok(Self::with_queue(queue, Weak::new()))
    }

    /// A further handle to the same thread, for another reader.
    pub fn handle(&self) -> Self {
        Self::with_queue(self.queue.clone(), Weak::new())
    }

    fn with_queue(queue: SyncSender<Job>, reader: Weak<CachedReader>) -> Self {
        Self {
            queue,
            reader,
            asked: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    pub(super) fn for_reader(self, reader: Weak<CachedReader>) -> Self {
        Self { reader, ..self }
    }

    /// Asks for the rest of `span`, which is being read in this way, and some of the
    /// next ones.
    pub(super) fn ask(&self, pattern: Pattern, span: SpanNo, span_count: u32) {
        let spans = match pattern {
            Pattern::Run => RUN_SPANS,
            Pattern::Neighbourhood => NEIGHBOURHOOD_SPANS,
        };
        let slot = &self.asked[span.0 as usize % self.asked.len()];
        // What was asked for in passing is not yet asked for on a run.
        let mark = (u64::from(span.0) + 1) << 8 | u64::from(spans);
        if slot.swap(mark, Ordering::Relaxed) == mark {
            return;
        }
        for span in span.0..span_count.min(span.0.saturating_add(spans)) {
            let _dropped = self
                .queue
                .try_send((Weak::clone(&self.reader), SpanNo(span)));
        }
    }
}

fn run(jobs: &Receiver<Job>) {
    while let Ok((reader, span)) = jobs.recv() {
        if let Some(reader) = Weak::upgrade(&reader)
            && let Err(error) = decode(&reader, span)
        {
            tracing::debug!(span = span.0, %error, "could not decode ahead");
        }
    }
}

fn decode(reader: &Arc<CachedReader>, span: SpanNo) -> Result<(), Box<dyn std::error::Error>> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| reader.decode_ahead(span)))
        .map_err(|_| "a panic in the decoder")?
        .map_err(Into::into)
}
