//! How long the oldest request is in progress.
//!
//! Guarantees: a request costs two stores to memory that its thread alone writes, and
//! nothing else. What is told is exact but for the moment between two of them.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

thread_local! {
    /// Which of a session's threads this is; each is of one session all its life.
    static THREAD: Cell<Option<usize>> = const { Cell::new(None) };
}

/// What the threads of a session are at.
#[derive(Debug)]
pub(super) struct Progress {
    began: Instant,
    /// For each thread when its request arrived, in nanoseconds since `began`; zero
    /// between requests.
    arrived: Box<[Padded]>,
    threads: AtomicUsize,
}

/// Alone on its cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Padded(AtomicU64);

/// A request in progress, until it is dropped.
pub(super) struct InProgress<'a>(&'a AtomicU64);

impl Progress {
    pub(super) fn new(threads: u8) -> Progress {
        Progress {
            began: Instant::now(),
            arrived: (0..threads.max(1)).map(|_| Padded::default()).collect(),
            threads: AtomicUsize::new(0),
        }
    }

    /// This thread has a request that arrived at `arrived`.
    pub(super) fn begin(&self, arrived: Instant) -> InProgress<'_> {
        let thread = THREAD.get().unwrap_or_else(|| {
            let next = self.threads.fetch_add(1, Ordering::Relaxed);
            THREAD.set(Some(next));
            next
        });
        let since = arrived.saturating_duration_since(self.began).as_nanos();
        let slot = &self.arrived[thread % self.arrived.len()].0;
        let since = u64::try_from(since).unwrap_or(u64::MAX).max(1);
        slot.store(since, Ordering::Relaxed);
        InProgress(slot)
    }

    /// Since when the oldest request is in progress.
    fn oldest(&self) -> Option<Instant> {
        let all = self.arrived.iter();
        let all = all.map(|slot| slot.0.load(Ordering::Relaxed));
        let oldest = all.filter(|since| *since > 0).min()?;
        self.began.checked_add(Duration::from_nanos(oldest))
    }
}

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Tells how old the oldest request of a session is.
#[derive(Clone)]
pub struct Oldest {
    progress: Arc<Progress>,
    later: Arc<dyn Fn() -> Option<Instant> + Send + Sync>,
}

impl Oldest {
    /// Among those that threads of the session are at, and those that were put off.
    pub(super) fn new(
        progress: &Arc<Progress>,
        later: impl Fn() -> Option<Instant> + Send + Sync + 'static,
    ) -> Oldest {
        Oldest {
            progress: Arc::clone(progress),
            later: Arc::new(later),
        }
    }

    /// How long it is in progress; nothing if there is none.
    pub fn age(&self) -> Option<Duration> {
        let both = [self.progress.oldest(), (self.later)()];
        both.into_iter()
            .flatten()
            .min()
            .map(|since| since.elapsed())
    }
}

impl fmt::Debug for Oldest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oldest").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session's thread that begins a request of such an age, says so, and waits.
    fn of_age(progress: &Progress, age: Duration, then: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            let arrived = progress.began + age;
            scope.spawn(move || {
                let _busy = progress.begin(arrived);
                then();
            });
        });
    }

    #[test]
    fn the_oldest_of_all_threads_is_told_and_what_is_over_is_not() {
        let progress = Arc::new(Progress::new(2));
        let oldest = Oldest::new(&progress, || None);
        assert_eq!(oldest.age(), None);
        let began = progress.began;
        let (old, young) = (Duration::from_nanos(2), Duration::from_nanos(5));
        of_age(&progress, young, || {
            assert_eq!(progress.oldest(), Some(began + young));
            of_age(&progress, old, || {
                assert_eq!(progress.oldest(), Some(began + old));
            });
            assert_eq!(progress.oldest(), Some(began + young));
        });
        assert_eq!((progress.oldest(), oldest.age()), (None, None));
    }

    #[test]
    fn what_was_put_off_counts() {
        let progress = Arc::new(Progress::new(1));
        let long_ago = Instant::now();
        let oldest = Oldest::new(&progress, move || Some(long_ago));
        let _busy = progress.begin(Instant::now());
        assert!(oldest.age().unwrap() >= progress.oldest().unwrap() - long_ago);
    }
}
