//! A bounded pool for work that may block.
//!
//! Guarantees: at most [`QUEUE_MAX`] jobs wait, then [`Pool::push`] does, but not
//! for threads that are stuck; a job that panics ends itself only. Dropping the pool lets its threads end when
//! they are done, without waiting for one that is stuck.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Jobs are small; this many can only be there if thousands of threads read at
/// once, and those that are not taken from the kernel yet wait there.
const QUEUE_MAX: usize = 4096;

/// If no place becomes free in this time, all workers are stuck.
const FULL_WAIT: Duration = Duration::from_secs(1);

/// Workers run decoders, whose state is on the heap.
const STACK_BYTES: usize = 256 * 1024;

/// Threads and what they have to do.
#[derive(Debug)]
pub(super) struct Pool<J>(Arc<Shared<J>>);

#[derive(Debug)]
struct Shared<J> {
    state: Mutex<State<J>>,
    work: Condvar,
    room: Condvar,
    /// Jobs that wait or run.
    unfinished: AtomicUsize,
}

#[derive(Debug)]
struct State<J> {
    queue: VecDeque<J>,
    ended: bool,
}

impl<J: Send + 'static> Pool<J> {
    /// Starts `workers` threads that run `job` for whatever is pushed.
    pub(super) fn start(
        workers: u8,
        job: impl Fn(J) + Send + Sync + 'static,
    ) -> io::Result<Pool<J>> {
        let state = State {
            queue: VecDeque::new(),
            ended: false,
        };
        let pool = Pool(Arc::new(Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            room: Condvar::new(),
            unfinished: AtomicUsize::new(0),
        }));
        let job = Arc::new(job);
        for number in 0..workers {
            let (shared, job) = (Arc::clone(&pool.0), Arc::clone(&job));
            // On an error the pool is dropped, which ends those started before.
            std::thread::Builder::new()
                .name(format!("reader-{number}"))
                .stack_size(STACK_BYTES)
                .spawn(move || shared.run(&*job))?;
        }
        Ok(pool)
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
        self.0.unfinished.fetch_add(1, Ordering::Relaxed);
        state.queue.push_back(job);
        drop(state);
        self.0.work.notify_one();
        Ok(())
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

    fn run(&self, job: &dyn Fn(J)) {
        while let Some(next) = self.next() {
            self.room.notify_one();
            if catch_unwind(AssertUnwindSafe(|| job(next))).is_err() {
                tracing::error!("a read panicked and was answered EIO");
            }
            self.unfinished.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The next job; nothing when the pool has ended and all is done.
    fn next(&self) -> Option<J> {
        let idle = |state: &mut State<J>| state.queue.is_empty() && !state.ended;
        let state = self.work.wait_while(self.lock(), idle);
        state
            .unwrap_or_else(PoisonError::into_inner)
            .queue
            .pop_front()
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
        let pool = Pool::start(2, move |n: usize| {
            match n {
                0 => assert!(blocked.lock().unwrap().recv().is_err()),
                n if n % 10 == 1 => panic!("a job that panics, on purpose"),
                _ => {}
            }
            done.send(n).unwrap();
        })
        .unwrap();
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
        let pool =
            Pool::start(1, move |_| assert!(blocked.lock().unwrap().recv().is_err())).unwrap();
        let mut pushed = 0;
        while pool.push(()).is_ok() {
            pushed += 1;
        }
        // One of them may have been taken up before.
        assert!((QUEUE_MAX..=QUEUE_MAX + 1).contains(&pushed));
        drop(unblock);
    }
}
