//! A bounded pool for work that may block.
//!
//! Guarantees: at most [`QUEUE_MAX`] jobs wait, then [`Pool::push`] does, but not
//! for threads that are stuck; a job that panics ends itself only. There are threads
//! only while there is work, and for a moment after it. Dropping the pool lets them
//! end when they are done, without waiting for one that is stuck.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Jobs are small; this many can only be there if thousands of threads read at
/// once, and those that are not taken from the kernel yet wait there.
const QUEUE_MAX: usize = 4096;

/// If no place becomes free in this time, all workers are stuck.
const FULL_WAIT: Duration = Duration::from_secs(1);

/// How long a thread waits for more.
const IDLE_WAIT: Duration = Duration::from_secs(10);

/// Workers run decoders, whose state is on the heap.
const STACK_BYTES: usize = 256 * 1024;

/// Threads and what they have to do.
#[derive(Debug)]
pub(super) struct Pool<J>(Arc<Shared<J>>);

struct Shared<J> {
    workers: u8,
    job: Box<dyn Fn(J) + Send + Sync>,
    state: Mutex<State<J>>,
    work: Condvar,
    room: Condvar,
    /// Jobs that wait or run.
    unfinished: AtomicUsize,
}

#[derive(Debug)]
struct State<J> {
    queue: VecDeque<J>,
    /// How many threads there are, and how many of them wait for work.
    threads: u8,
    waiting: u8,
    ended: bool,
}

impl<J: Send + 'static> Pool<J> {
    /// A pool of at most `workers` threads that run `job` for whatever is pushed.
    pub(super) fn new(workers: u8, job: impl Fn(J) + Send + Sync + 'static) -> Pool<J> {
        let state = State {
            queue: VecDeque::new(),
            threads: 0,
            waiting: 0,
            ended: false,
        };
        Pool(Arc::new(Shared {
            workers,
            job: Box::new(job),
            state: Mutex::new(state),
            work: Condvar::new(),
            room: Condvar::new(),
            unfinished: AtomicUsize::new(0),
        }))
    }

    /// Has `job` run soon; waits while too many wait already, and gives it back
    /// if none of them is taken up.
    pub(super) fn push(&self, job: J) -> Result<(), J> {
        let full = |state: &mut State<J>| state.queue.len() >= QUEUE_MAX && !state.ended;
        let waited = self
            .0
            .room
            .wait_timeout_while(self.0.lock(), FULL_WAIT, full);
        let (mut state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return Err(job);
        }
        let is_short = state.queue.len() >= usize::from(state.waiting);
        if is_short && state.threads < self.0.workers {
            match self.start() {
                Ok(()) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    tracing::error!(%error, "no thread could be started for a read");
                    return Err(job);
                }
                // The others do it.
                Err(_) => {}
            }
        }
        self.0.unfinished.fetch_add(1, Ordering::Relaxed);
        state.queue.push_back(job);
        drop(state);
        self.0.work.notify_one();
        Ok(())
    }

    fn start(&self) -> std::io::Result<()> {
        let shared = Arc::clone(&self.0);
        std::thread::Builder::new()
            .name("reader".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || shared.run())
            .map(drop)
    }

    /// Whether nothing waits or runs.
    pub(super) fn is_idle(&self) -> bool {
        self.0.unfinished.load(Ordering::Relaxed) == 0
    }
}

impl<J> Drop for Pool<J> {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.work.notify_all();
        self.0.room.notify_all();
    }
}

impl<J> Shared<J> {
    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        while let Some(next) = self.next() {
            self.room.notify_one();
            if catch_unwind(AssertUnwindSafe(|| (self.job)(next))).is_err() {
                tracing::error!("a read panicked and was answered EIO");
            }
            self.unfinished.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The next job; nothing when there is none for a while, or when the pool has
    /// ended and all is done. Then the thread that asks is none of the pool any more.
    fn next(&self) -> Option<J> {
        let idle = |state: &mut State<J>| state.queue.is_empty() && !state.ended;
        let mut state = self.lock();
        state.waiting += 1;
        let waited = self.work.wait_timeout_while(state, IDLE_WAIT, idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.waiting -= 1;
        let next = state.queue.pop_front();
        if next.is_none() {
            state.threads -= 1;
        }
        next
    }
}

impl<J> std::fmt::Debug for Shared<J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn every_job_runs_although_others_panic_and_one_is_stuck() {
        let (done, is_done) = mpsc::channel();
        let (unblock, blocked) = mpsc::channel::<()>();
        let blocked = Mutex::new(blocked);
        let pool = Pool::new(2, move |n: usize| {
            match n {
                0 => assert!(blocked.lock().unwrap().recv().is_err()),
                n if n % 10 == 1 => panic!("a job that panics, on purpose"),
                _ => {}
            }
            done.send(n).unwrap();
        });
        (0..QUEUE_MAX * 2).for_each(|n| pool.push(n).unwrap());
        let expected = (1..QUEUE_MAX * 2).filter(|n| n % 10 != 1).count();
        assert_eq!(is_done.iter().take(expected).filter(|n| *n == 0).count(), 0);
        assert!(!pool.is_idle());
        drop(unblock);
        assert_eq!(is_done.recv().unwrap(), 0);
        drop(pool);
        // The threads end, and with them the last sender.
        assert!(is_done.recv().is_err());
    }

    #[test]
    fn stuck_workers_do_not_hold_up_who_pushes() {
        let (unblock, blocked) = mpsc::channel::<()>();
        let blocked = Mutex::new(blocked);
        let pool = Pool::new(1, move |_| assert!(blocked.lock().unwrap().recv().is_err()));
        let mut pushed = 0;
        while pool.push(()).is_ok() {
            pushed += 1;
        }
        // One of them may have been taken up before.
        assert!((QUEUE_MAX..=QUEUE_MAX + 1).contains(&pushed));
        drop(unblock);
    }
}
