//! Polling for the next request for a moment before sleeping.
//!
//! In a virtual machine waking a sleeping thread on another processor costs 20
//! microseconds and more, most of a request's time. `fuser` reads its descriptor
//! again on EAGAIN, so with `O_NONBLOCK` its loop polls: set when requests come
//! in a row (`burst`), cleared by a governor thread when none came for a while.
//!
//! Where others want the processor, polling takes it from them, and from the
//! very clients that wait: a session that has to share its processor stops, and
//! tries again after a pause that doubles each time.
//!
//! Guarantees: at most one session of a process polls at a time; nothing runs
//! while no requests come; nobody polls where there is one processor only.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::fuse::burst::{Row, Usage, Verdict};
use crate::sys::nonblock::set_nonblocking;
use crate::sys::sched::{preemptions, processor_time};

/// Whether some session of this process polls.
static POLLING: AtomicBool = AtomicBool::new(false);

/// How many requests there are between two looks at the scheduler's counts.
const LOOK_EVERY: u64 = 16;

/// The first and the longest pause after others wanted the processor.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// How long the governor waits for the next burst.
const IDLE_WAIT: Duration = Duration::from_secs(10);

/// The governor sleeps longer in a long burst, so as not to disturb it.
const QUIET_TIMES_MAX: u32 = 5;

thread_local! {
    /// The requests that this thread answered lately.
    static ROW: Cell<Row> = Cell::default();
    /// The burst and what this thread had used of its processor at its last look.
    static SEEN: Cell<(u64, Usage)> = Cell::default();
}

/// The polling of one session.
#[derive(Debug)]
pub(super) struct Spin(Option<Arc<Governor>>);

#[derive(Debug)]
struct Governor {
    /// A duplicate of the session's descriptor.
    fd: OwnedFd,
    quiet: Duration,
    started: Instant,
    requests: AtomicU64,
    /// Mirrors of the state, to be read without the lock.
    polling: AtomicBool,
    bursts: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    polling: bool,
    /// Whether there is a thread that ends it.
    governed: bool,
    ended: bool,
    pause: Duration,
    resume_at: Option<Instant>,
}

impl Spin {
    /// Polls up to `quiet` after the last request of a burst, five times that if
    /// it was long; zero is never.
    pub(super) fn start(fd: impl AsFd, quiet: Duration) -> io::Result<Spin> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        if quiet.is_zero() || processors < 2 {
            return Ok(Spin(None));
        }
        Ok(Spin(Some(Arc::new(Governor {
            fd: fd.as_fd().try_clone_to_owned()?,
            quiet,
            started: Instant::now(),
            requests: AtomicU64::new(0),
            polling: AtomicBool::new(false),
            bursts: AtomicU64::new(0),
            state: Mutex::default(),
            changed: Condvar::new(),
        }))))
    }

    /// A request was answered at once: the next may follow soon.
    pub(super) fn request(&self) {
        let Some(governor) = &self.0 else { return };
        let number = governor.requests.fetch_add(1, Ordering::Relaxed);
        if !governor.polling.load(Ordering::Relaxed) {
            let mut row = ROW.get();
            if row.note(governor.started.elapsed()) {
                Governor::begin(governor, Instant::now());
            }
            ROW.set(row);
        } else if number % LOOK_EVERY == 0 {
            governor.look();
        }
    }

    /// A request has to wait for others, who need the processor more.
    pub(super) fn rest(&self) {
        if let Some(governor) = &self.0
            && governor.polling.load(Ordering::Relaxed)
        {
            governor.end(&mut governor.lock());
        }
    }
}

impl Drop for Spin {
    fn drop(&mut self) {
        if let Some(governor) = &self.0 {
            let mut state = governor.lock();
            governor.end(&mut state);
            state.ended = true;
            governor.changed.notify_one();
        }
    }
}

impl Governor {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>, now: Instant) {
        let mut state = self.lock();
        let pausing = state.resume_at.is_some_and(|resume_at| now < resume_at);
        if state.ended || pausing || !self.is_governed(&mut state) {
            return;
        }
        if POLLING.swap(true, Ordering::Relaxed) {
            return;
        }
        if set_nonblocking(&self.fd, true).is_err() {
            POLLING.store(false, Ordering::Relaxed);
            return;
        }
        state.polling = true;
        let burst = self.bursts.fetch_add(1, Ordering::Relaxed) + 1;
        SEEN.set((burst, self.usage()));
        self.polling.store(true, Ordering::Relaxed);
        drop(state);
        self.changed.notify_one();
    }

    /// Sees to it that somebody ends what is begun.
    fn is_governed(self: &Arc<Self>, state: &mut State) -> bool {
        if !state.governed {
            let run = Arc::clone(self);
            let started = std::thread::Builder::new()
                .name("spin".to_owned())
                .stack_size(128 * 1024)
                .spawn(move || run.govern());
            state.governed = started.is_ok();
        }
        state.governed
    }

    fn usage(&self) -> Usage {
        Usage {
            now: self.started.elapsed(),
            had: processor_time(),
            preempted: preemptions(),
        }
    }

    /// Stops if this thread does not have its processor for itself.
    fn look(&self) {
        let (burst, before) = SEEN.get();
        let now = (self.bursts.load(Ordering::Relaxed), self.usage());
        if burst != now.0 {
            SEEN.set(now);
            return;
        }
        match before.judge(&now.1) {
            Verdict::Open => {}
            Verdict::Undisturbed => {
                SEEN.set(now);
                self.lock().pause = Duration::ZERO;
            }
            Verdict::Contended => self.back_off(Instant::now()),
        }
    }

    fn back_off(&self, now: Instant) {
        let mut state = self.lock();
        self.end(&mut state);
        state.pause = (state.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        state.resume_at = Some(now + state.pause);
    }

    fn end(&self, state: &mut State) {
        if !std::mem::take(&mut state.polling) {
            return;
        }
        if let Err(cause) = set_nonblocking(&self.fd, false) {
            tracing::error!(%cause, "cannot stop polling for requests");
        }
        self.polling.store(false, Ordering::Relaxed);
        POLLING.store(false, Ordering::Relaxed);
    }

    fn govern(&self) {
        let mut state = self.lock();
        let mut times = 1;
        while !state.ended {
            if !state.polling {
                times = 1;
                let idle = |state: &mut State| !state.polling && !state.ended;
                let waited = self.changed.wait_timeout_while(state, IDLE_WAIT, idle);
                let (now, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                state = now;
                if timeout.timed_out() {
                    break;
                }
                continue;
            }
            let seen = self.requests.load(Ordering::Relaxed);
            drop(state);
            std::thread::sleep(self.quiet * times);
            times = QUIET_TIMES_MAX.min(times + 1);
            state = self.lock();
            if self.requests.load(Ordering::Relaxed) == seen {
                self.end(&mut state);
            }
        }
        state.governed = false;
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{OFlags, fcntl_getfl};

    use super::*;

    fn polls(fd: impl AsFd) -> bool {
        fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
    }

    /// Sends requests until they are a burst: this thread may be held up
    /// between any two.
    fn requests(spin: &Spin) {
        while spin.0.as_ref().is_some_and(|g| !g.lock().polling) {
            spin.request();
        }
    }

    fn begin(spin: &Spin) {
        if let Some(governor) = &spin.0 {
            governor.begin(Instant::now());
        }
    }

    /// One test, because the sessions of a process share one right to poll.
    #[test]
    fn one_session_polls_during_a_burst_and_none_when_idle() {
        let (one, _one_writer) = rustix::pipe::pipe().unwrap();
        let (two, _two_writer) = rustix::pipe::pipe().unwrap();
        let forever = Duration::from_secs(3600);
        let first = Spin::start(&one, forever).unwrap();
        let second = Spin::start(&two, forever).unwrap();
        first.request();
        assert!(!polls(&one), "one request is no burst");
        requests(&first);
        begin(&second);
        assert_eq!((polls(&one), polls(&two)), (first.0.is_some(), false));
        first.rest();
        assert!(!polls(&one));
        requests(&second);
        assert_eq!(polls(&two), second.0.is_some());
        drop(second);
        assert!(!polls(&two));

        if let Some(governor) = &first.0 {
            let now = Instant::now();
            governor.back_off(now);
            governor.begin(now);
            governor.begin(now + PAUSE_MIN / 2);
            assert!(!polls(&one));
            governor.begin(now + PAUSE_MIN);
            assert!(polls(&one));
            governor.back_off(now);
            governor.begin(now + PAUSE_MIN);
            assert!(!polls(&one));
            governor.begin(now + PAUSE_MIN * 2);
            assert!(polls(&one));
            for _ in 0..100 {
                governor.back_off(now);
            }
            governor.begin(now + PAUSE_MAX);
            assert!(polls(&one), "no pause is longer");
            governor.end(&mut governor.lock());
        }

        let short = Spin::start(&two, Duration::from_millis(1)).unwrap();
        begin(&short);
        // Ends by itself, and then another may: waiting without limit is the test.
        while polls(&two) || polls(&one) != first.0.is_some() {
            begin(&first);
        }
        assert!(Spin::start(&one, Duration::ZERO).unwrap().0.is_none());
    }
}
