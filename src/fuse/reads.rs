//! Reading files: at once if the bytes are at hand, by the pool if not.

use std::sync::Arc;
use std::time::Instant;

use fuser::ReplyData;

use crate::config::FuseTuning;
use crate::fs::{FsError, ImageFs, Patience};
use crate::fuse::buffers::Buffers;
use crate::fuse::convert::errno;
use crate::fuse::deadline::{Deadlines, Ticket};
use crate::fuse::pool::Pool;
use crate::fuse::quiet::Quiet;
use crate::metrics::{Metrics, Op};
use crate::sys::breadcrumbs::Crumb;
use crate::trace::{Asked, Recorder, Watched};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) ino: u64,
    pub(super) offset: u64,
    pub(super) len: u32,
}

#[derive(Debug)]
struct Job {
    range: Range,
    arrived: Instant,
    ticket: Ticket<(Range, ReplyData)>,
}

/// Both ways to answer a read.
#[derive(Debug)]
pub(super) struct Reads {
    fs: Arc<ImageFs>,
    metrics: Arc<Metrics>,
    failures: Arc<Failures>,
    recorder: Arc<Recorder>,
    deadlines: Deadlines<(Range, ReplyData)>,
    buffers: Buffers,
    pool: Pool<Job>,
}

/// Counts and logs requests that failed.
#[derive(Debug)]
pub(super) struct Failures {
    metrics: Arc<Metrics>,
    quiet: Quiet,
}

impl Failures {
    pub(super) fn new(metrics: Arc<Metrics>) -> Failures {
        Failures {
            metrics,
            quiet: Quiet::default(),
        }
    }

    /// The errno to answer with.
    pub(super) fn errno(&self, op: Op, ino: u64, error: &FsError) -> fuser::Errno {
        if error.is_failure() {
            self.metrics.counters.io_errors.add(1);
            if let Some(left_out) = self.quiet.admit() {
                tracing::error!(op = op.name(), ino, left_out, "{error}");
            }
        }
        errno(error)
    }
}

impl Reads {
    pub(super) fn new(
        fs: Arc<ImageFs>,
        tuning: &FuseTuning,
        metrics: Arc<Metrics>,
        failures: Arc<Failures>,
        recorder: Arc<Recorder>,
        (buffers, crumb): (Buffers, Crumb),
    ) -> Reads {
        let (late, counted) = (Arc::clone(&failures), Arc::clone(&metrics));
        let deadlines = Deadlines::new(
            tuning.read_deadline,
            move |(range, reply): (Range, ReplyData)| {
                counted.counters.deadline_errors.add(1);
                reply.error(late.errno(Op::Read, range.ino, &FsError::Deadline));
            },
        );
        let (work, failed) = (Arc::clone(&fs), Arc::clone(&failures));
        let (done, taken) = (Arc::clone(&metrics), buffers.clone());
        let noting = Arc::clone(&recorder);
        let pool = Pool::new(tuning.workers, move |job: Job| {
            let _open = crumb.open();
            answer(&work, (&failed, &noting), &taken, &job);
            done.answered(Op::Read, job.arrived.elapsed());
        });
        Reads {
            fs,
            metrics,
            failures,
            recorder,
            deadlines,
            buffers,
            pool,
        }
    }

    /// Answers if that takes no waiting; gives the reply back if it does.
    pub(super) fn at_once(
        &self,
        range: Range,
        arrived: Instant,
        reply: ReplyData,
    ) -> Option<ReplyData> {
        let Some(mut buffer) = self.buffers.try_take(bytes(range.len)) else {
            return Some(reply);
        };
        let watched = self.recorder.watch();
        let read = self
            .fs
            .read(range.ino, range.offset, &mut buffer, Patience::NoWait);
        match read {
            Ok(Some(len)) => {
                reply.data(&buffer[..len]);
                note(watched, range, len, arrived);
            }
            Ok(None) => return Some(reply),
            Err(error) => reply.error(self.failures.errno(Op::Read, range.ino, &error)),
        }
        None
    }

    /// Has the pool answer within the deadline.
    pub(super) fn later(&self, range: Range, arrived: Instant, reply: ReplyData) {
        let ticket = self.deadlines.enter((range, reply));
        let job = Job {
            range,
            arrived,
            ticket,
        };
        if let Err(job) = self.pool.push(job) {
            // Every reader is stuck and thousands wait: who asks now is told at
            // once, so that requests for names and attributes go on.
            if let Some((_, reply)) = job.ticket.take() {
                reply.error(self.failures.errno(Op::Read, range.ino, &FsError::Deadline));
            }
            self.metrics.answered(Op::Read, arrived.elapsed());
        }
    }

    /// Tells since when the oldest read waits that was not answered at once.
    pub(super) fn oldest(&self) -> impl Fn() -> Option<Instant> + Send + Sync + use<> {
        self.deadlines.oldest()
    }

    /// Whether no read is waiting for the pool.
    pub(super) fn idle(&self) -> bool {
        self.pool.is_idle()
    }
}

fn answer(
    fs: &ImageFs,
    (failures, recorder): (&Failures, &Recorder),
    buffers: &Buffers,
    job: &Job,
) {
    if job.ticket.is_late() {
        return;
    }
    let Range { ino, offset, len } = job.range;
    let mut buffer = buffers.take(bytes(len));
    // Asked for patiently it is always done; a filesystem that has none is a bug and
    // no reason to answer with anything but an error.
    let watched = recorder.watch();
    let done = fs.read(ino, offset, &mut buffer, Patience::Wait);
    let done = done.and_then(|len| len.ok_or(FsError::Panicked));
    // Gone if the deadline came first.
    let Some((_, reply)) = job.ticket.take() else {
        return;
    };
    match done {
        Ok(len) => {
            reply.data(&buffer[..len]);
            note(watched, job.range, len, job.arrived);
        }
        Err(error) => reply.error(failures.errno(Op::Read, ino, &error)),
    }
}

/// Notes what was answered, if somebody wants to know.
fn note(watched: Option<Watched<'_>>, range: Range, len: usize, arrived: Instant) {
    if let Some(watched) = watched {
        watched.answered(&Asked {
            ino: range.ino,
            offset: range.offset,
            len,
            arrived,
        });
    }
}

fn bytes(len: u32) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
