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
use crate::types::SpanNo;

/// How many spans may wait to be decoded ahead: every sequential reader asks
/// for two at a time.
const QUEUE_SPANS: usize = 16;

/// Decoding copies nothing large to the stack.
const STACK_BYTES: usize = 256 * 1024;

type Job = (Weak<CachedReader>, SpanNo);

/// A handle to the thread that decodes ahead. Each reader has its own handle.
#[derive(Debug)]
pub struct Prefetcher {
    queue: SyncSender<Job>,
    reader: Weak<CachedReader>,
    /// The pairs of spans asked for lately, so that each is asked for once per
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

    /// Asks for the rest of `span` and all of the next one.
    pub(super) fn ask(&self, span: SpanNo, span_count: u32) {
        let slot = &self.asked[span.0 as usize % self.asked.len()];
        let mark = u64::from(span.0) + 1;
        if slot.swap(mark, Ordering::Relaxed) == mark {
            return;
        }
        let next = span.0.checked_add(1).filter(|next| *next < span_count);
        for span in std::iter::once(span.0).chain(next) {
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
