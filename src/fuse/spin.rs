//! Polling for the next request for a moment before sleeping.
//!
//! In a virtual machine waking a sleeping thread on another processor costs 20
//! microseconds and more, most of a request's time. `fuser` reads its descriptor
//! again on EAGAIN, so with `O_NONBLOCK` its loop polls: set by the first
//! request of a burst, cleared by a governor thread when none came for a while.
//!
//! Guarantees: at most one session of a process polls at a time; nothing runs
//! while no requests come; nobody polls where there is one processor only.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::sys::nonblock::set_nonblocking;

/// Whether some session of this process polls.
static POLLING: AtomicBool = AtomicBool::new(false);

/// The polling of one session.
#[derive(Debug)]
pub(super) struct Spin(Option<Arc<Governor>>);

#[derive(Debug)]
struct Governor {
    /// A duplicate of the session's descriptor.
    fd: OwnedFd,
    quiet: Duration,
    requests: AtomicU64,
    /// Mirror of `State::polling`, to be read without the lock.
    polling: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    polling: bool,
    ended: bool,
}

impl Spin {
    /// Polls up to `quiet` after a request; zero is never.
    pub(super) fn start(fd: impl AsFd, quiet: Duration) -> io::Result<Spin> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        if quiet.is_zero() || processors < 2 {
            return Ok(Spin(None));
        }
        let governor = Arc::new(Governor {
            fd: fd.as_fd().try_clone_to_owned()?,
            quiet,
            requests: AtomicU64::new(0),
            polling: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let run = Arc::clone(&governor);
        std::thread::Builder::new()
            .name("spin".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || run.govern())?;
        Ok(Spin(Some(governor)))
    }

    /// A request came and will be answered at once: the next may follow soon.
    pub(super) fn request(&self) {
        if let Some(governor) = &self.0 {
            governor.requests.fetch_add(1, Ordering::Relaxed);
            if !governor.polling.load(Ordering::Relaxed) {
                governor.begin();
            }
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

    fn begin(&self) {
        if POLLING.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut state = self.lock();
        if state.ended || set_nonblocking(&self.fd, true).is_err() {
            POLLING.store(false, Ordering::Relaxed);
            return;
        }
        state.polling = true;
        self.polling.store(true, Ordering::Relaxed);
        drop(state);
        self.changed.notify_one();
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
        while !state.ended {
            if !state.polling {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let seen = self.requests.load(Ordering::Relaxed);
            drop(state);
            std::thread::sleep(self.quiet);
            state = self.lock();
            if self.requests.load(Ordering::Relaxed) == seen {
                self.end(&mut state);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{OFlags, fcntl_getfl};

    use super::*;

    fn polls(fd: impl AsFd) -> bool {
        fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
    }

    /// One test, because the sessions of a process share one right to poll.
    #[test]
    fn one_session_polls_during_a_burst_and_none_when_idle() {
        let (one, _one_writer) = rustix::pipe::pipe().unwrap();
        let (two, _two_writer) = rustix::pipe::pipe().unwrap();
        let forever = Duration::from_secs(3600);
        let first = Spin::start(&one, forever).unwrap();
        let second = Spin::start(&two, forever).unwrap();
        assert!(!polls(&one));
        first.request();
        second.request();
        assert_eq!((polls(&one), polls(&two)), (first.0.is_some(), false));
        first.rest();
        assert!(!polls(&one));
        second.request();
        assert_eq!(polls(&two), second.0.is_some());
        drop(second);
        assert!(!polls(&two));

        let short = Spin::start(&two, Duration::from_millis(1)).unwrap();
        short.request();
        // Ends by itself, and then another may: waiting without limit is the test.
        while polls(&two) || polls(&one) != first.0.is_some() {
            first.request();
        }
        assert!(Spin::start(&one, Duration::ZERO).unwrap().0.is_none());
    }
}
