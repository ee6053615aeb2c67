//! When polling pays: decided from times alone, so that it can be tested
//! without a clock.
//!
//! It does while one client sends request after request and this thread has a
//! processor for itself. It does not if requests come here and there, among
//! other work of their client, nor if others want the processor.

use std::time::Duration;

/// Answers that follow each other within this time are of one client that
/// waits for each: waking both sides, and what a client does between.
const CLOSE: Duration = Duration::from_micros(150);

/// So many close answers in a row are no accident.
const ROW: u32 = 8;

/// How much time is judged at once: long against one interruption by the
/// kernel, short against the turn of another process.
const ROUND: Duration = Duration::from_millis(1);

/// Whether requests come in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Row {
    last: Duration,
    len: u32,
}

impl Row {
    /// Notes an answer at `now`; says whether it is one of a row.
    pub(super) fn note(&mut self, now: Duration) -> bool {
        let close = now.saturating_sub(self.last) <= CLOSE;
        self.len = if close { self.len.saturating_add(1) } else { 0 };
        self.last = now;
        self.len >= ROW
    }
}

/// What the clocks and the scheduler say about a thread.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// Time on any clock that goes on.
    pub(super) now: Duration,
    /// How long the thread had a processor.
    pub(super) had: Duration,
    /// How often it had to leave it to another.
    pub(super) preempted: u64,
}

/// How polling goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Too early to tell.
    Open,
    /// Nobody else wanted the processor, or hardly.
    Undisturbed,
    /// Others had it for more than a quarter of the time.
    Contended,
}

impl Usage {
    /// Judges the time from `self` to `later`. Being off the processor counts
    /// only if it was taken away: a thread may wait for a disk.
    pub(super) fn judge(&self, later: &Usage) -> Verdict {
        let passed = later.now.saturating_sub(self.now);
        let lost = passed.saturating_sub(later.had.saturating_sub(self.had));
        match () {
            () if passed < ROUND => Verdict::Open,
            () if later.preempted > self.preempted && lost > passed / 4 => Verdict::Contended,
            () => Verdict::Undisturbed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    #[test]
    fn a_row_is_of_close_answers_only() {
        let mut row = Row::default();
        let mut at = us(1_000_000);
        let mut answers = |gap: Duration, count: u32| {
            let mut last = false;
            for _ in 0..count {
                at += gap;
                last = row.note(at);
            }
            last
        };
        assert!(!answers(CLOSE + us(1), 100), "now and then");
        assert!(!answers(us(30), ROW - 1), "a few");
        assert!(answers(us(30), 1), "a row");
        assert!(!answers(us(500), 1), "a pause ends it");
        assert!(!answers(us(30), ROW - 1));
        assert!(answers(CLOSE, 1));
    }

    #[test]
    fn only_a_processor_that_was_taken_away_counts() {
        let usage = |now, had, preempted| Usage {
            now: us(now),
            had: us(had),
            preempted,
        };
        let from = usage(5000, 100, 7);
        for (now, had, preempted, verdict) in [
            (5999, 100, 9, Verdict::Open),
            (6000, 1100, 7, Verdict::Undisturbed),
            (6000, 860, 9, Verdict::Undisturbed),
            (6000, 840, 9, Verdict::Contended),
            (6000, 840, 7, Verdict::Undisturbed),
            (9000, 1100, 8, Verdict::Contended),
        ] {
            let later = usage(now, had, preempted);
            assert_eq!(from.judge(&later), verdict, "{later:?}");
        }
    }
}
