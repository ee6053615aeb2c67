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
pub(super) struct Progress {
    began: Instant,
    /// For each thread when its request arrived, in nanoseconds since `began`; zero
    /// between requests.
    arrived: Box<[Padded]>,
    threads: AtomicUsize,
    /// Since when the oldest request waits that was put off.
    later: Box<dyn Fn() -> Option<Instant> + Send + Sync>,
}

/// Alone on its cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Padded(AtomicU64);

/// A request in progress, until it is dropped.
pub(super) struct InProgress<'a> {
    pub(super) arrived: Instant,
    slot: &'a AtomicU64,
}

impl Progress {
    /// Of a session of so many threads, some of whose requests are put off.
    pub(super) fn new(
        threads: u8,
        later: impl Fn() -> Option<Instant> + Send + Sync + 'static,
    ) -> Progress {
        Progress {
            later: Box::new(later),
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
        InProgress { arrived, slot }
    }

    /// Since when the oldest request is in progress that a thread is at.
    fn oldest(&self) -> Option<Instant> {
        let all = self.arrived.iter();
        let all = all.map(|slot| slot.0.load(Ordering::Relaxed));
        let oldest = all.filter(|since| *since > 0).min()?;
        self.began.checked_add(Duration::from_nanos(oldest))
    }
}

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.slot.store(0, Ordering::Relaxed);
    }
}

/// Tells how old the oldest request of a session is.
#[derive(Clone)]
pub struct Oldest(pub(super) Arc<Progress>);

impl Oldest {
    /// How long it is in progress, also if it was put off; nothing if there is none.
    pub fn age(&self) -> Option<Duration> {
        let both = [self.0.oldest(), (self.0.later)()];
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
        let progress = Arc::new(Progress::new(2, || None));
        let oldest = Oldest(Arc::clone(&progress));
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
        let long_ago = Instant::now();
        let progress = Arc::new(Progress::new(1, move || Some(long_ago)));
        let oldest = Oldest(Arc::clone(&progress));
        let _busy = progress.begin(Instant::now());
        assert!(oldest.age().unwrap() >= progress.oldest().unwrap() - long_ago);
    }
}
