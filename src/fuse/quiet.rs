//! Log lines that a customer's program can cause, at most one a second each.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(1);

/// Lets one line through and counts the others until the next may come.
#[derive(Debug, Default)]
pub(super) struct Quiet(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

impl Quiet {
    /// Whether to log now; if so, how many lines were left out before.
    pub(super) fn admit(&self) -> Option<u64> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state
            .last
            .is_some_and(|last| now.saturating_duration_since(last) < EVERY)
        {
            state.left_out += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line_a_second_with_a_count() {
        let (quiet, start) = (Quiet::default(), Instant::now());
        assert_eq!(quiet.admit_at(start), Some(0));
        for ms in 1..1000 {
            assert_eq!(quiet.admit_at(start + Duration::from_millis(ms)), None);
        }
        assert_eq!(quiet.admit_at(start + EVERY), Some(999));
        assert_eq!(quiet.admit_at(start + EVERY * 3), Some(0));
    }
}
