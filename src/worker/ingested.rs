//! What was taken in, counted.

use std::time::Duration;

use crate::metrics::Counter;
use crate::store::home::Outcome;
use crate::wire::served::Ingest;

/// Uploads, since this process was started.
#[derive(Debug, Default)]
pub(super) struct Ingested {
    taken: Counter,
    taken_bytes: Counter,
    taken_us: Counter,
    rejected: Counter,
    refused: Counter,
    failed: Counter,
}

impl Ingested {
    /// Counts what became of an upload of `bytes`, and how long that took.
    pub(super) fn count(&self, outcome: &Outcome, bytes: u64, took: Duration) {
        match outcome {
            Outcome::Ready { .. } => {
                self.taken.add(1);
                self.taken_bytes.add(bytes);
                let us = u64::try_from(took.as_micros());
                self.taken_us.add(us.unwrap_or(u64::MAX));
            }
            Outcome::Rejected(_) => self.rejected.add(1),
            Outcome::Refused(_) => self.refused.add(1),
            Outcome::Later(_) => self.failed.add(1),
            // It goes on, or was taken back.
            Outcome::Busy | Outcome::Gone | Outcome::Truncated(_) | Outcome::Stopped => {}
        }
    }

    pub(super) fn report(&self) -> Ingest {
        Ingest {
            taken: self.taken.get(),
            taken_bytes: self.taken_bytes.get(),
            taken_seconds: Duration::from_micros(self.taken_us.get()).as_secs_f64(),
            rejected: self.rejected.get(),
            refused: self.refused.get(),
            failed: self.failed.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_of_an_upload_is_counted_by_itself() {
        let ingested = Ingested::default();
        let took = Duration::from_millis(1500);
        for outcome in [
            Outcome::Rejected(String::new()),
            Outcome::Refused(String::new()),
            Outcome::Later(String::new()),
            Outcome::Busy,
        ] {
            ingested.count(&outcome, 7, took);
        }
        let report = ingested.report();
        let others = (report.rejected, report.refused, report.failed);
        assert_eq!((report.taken, others), (0, (1, 1, 1)));
        assert_eq!(report.taken_bytes, 0);
    }
}
