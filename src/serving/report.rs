//! Makes what a serving process tells about itself.
//!
//! Guarantees: a short report fits into the answer of the ioctl
//! ([`ANSWER_BYTES`](crate::sys::ioctl::ANSWER_BYTES)), whatever the archive is
//! called.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::budget::{Kind, MemoryBudget};
use crate::index::Index;
use crate::metrics::{Metrics, Snapshot};
use crate::sys::process;
use crate::wire::served::{Image, Memory, Report, Share};

/// Of the archive's path, the last this many characters are told: written in
/// JSON, each may take six bytes.
const PATH_CHARS_MAX: usize = 1000;

/// Makes reports.
#[derive(Debug)]
pub struct Reporter {
    metrics: Arc<Metrics>,
    budget: MemoryBudget,
    image: Image,
    index_mapped_bytes: u64,
    start: Instant,
}

impl Reporter {
    /// For the image of `index`, which is mapped from a file of
    /// `index_mapped_bytes`.
    pub fn new(
        metrics: Arc<Metrics>,
        budget: MemoryBudget,
        (archive, archive_bytes): (&Path, u64),
        index: &Index,
        index_mapped_bytes: u64,
    ) -> Self {
        let summary = index.summary();
        Self {
            metrics,
            budget,
            image: Image {
                archive: shortened(&archive.to_string_lossy()),
                archive_bytes,
                entries: summary.entries,
                content_bytes: summary.content_bytes,
            },
            index_mapped_bytes,
            start: Instant::now(),
        }
    }

    /// The report of this moment, short.
    pub fn report(&self) -> Report {
        self.with(self.metrics.snapshot())
    }

    /// The report of this moment, with all that is known of latencies.
    pub fn detailed(&self) -> Report {
        self.with(self.metrics.detailed())
    }

    fn with(&self, snapshot: Snapshot) -> Report {
        Report {
            snapshot,
            memory: memory(&self.budget, self.index_mapped_bytes),
            image: self.image.clone(),
            uptime_seconds: self.start.elapsed().as_secs_f64(),
        }
    }
}

/// The memory of this process, which has mapped so much of indexes.
pub fn memory(budget: &MemoryBudget, index_mapped_bytes: u64) -> Memory {
    let share = |kind| Share {
        used: budget.used_bytes(kind),
        limit: budget.limit_bytes(kind),
    };
    let process = process::memory().unwrap_or_default();
    Memory {
        budget_bytes: budget.total_bytes(),
        blocks: share(Kind::Blocks),
        decoders: share(Kind::Decoders),
        buffers: share(Kind::Buffers),
        resident_bytes: process.resident_bytes,
        resident_file_bytes: process.file_bytes,
        peak_bytes: process.peak_bytes,
        index_mapped_bytes,
    }
}

/// The end of a path tells more than its beginning.
fn shortened(path: &str) -> String {
    let chars = path.chars().count();
    match chars.checked_sub(PATH_CHARS_MAX) {
        None | Some(0) => path.to_owned(),
        Some(cut) => "…".chars().chain(path.chars().skip(cut)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::Op;
    use crate::sys::ioctl::{ANSWER_BYTES, pack};

    /// Every number as long as it can get, every kind of request, and a path of
    /// nothing but what is longest in JSON.
    #[test]
    fn the_longest_report_fits() {
        let metrics = Metrics::default();
        for op in Op::ALL {
            metrics.arrived(*op);
            metrics.answered(*op, Duration::from_secs(u64::MAX / 2_000_000_000));
        }
        let mut report = Report {
            snapshot: metrics.snapshot(),
            image: Image {
                archive: shortened(&"\u{1}".repeat(4096)),
                entries: u64::MAX,
                ..Image::default()
            },
            uptime_seconds: f64::MAX,
            ..Report::default()
        };
        report
            .snapshot
            .counters
            .values_mut()
            .for_each(|n| *n = u64::MAX);
        for stats in report.snapshot.requests.values_mut() {
            stats.count = u64::MAX;
            stats.mean_us = u64::MAX;
            stats.total_us = u64::MAX;
        }
        let bytes = serde_json::to_vec(&report).unwrap();
        assert!(bytes.len() < usize::from(ANSWER_BYTES), "{}", bytes.len());
        assert!(pack(&bytes).is_some());
    }

    #[test]
    fn a_long_path_keeps_its_end() {
        assert_eq!(shortened("/a/b"), "/a/b");
        let long = shortened(&("x".repeat(2000) + "/image.tgz"));
        assert!(long.starts_with('…') && long.ends_with("x/image.tgz"));
        assert_eq!(long.chars().count(), PATH_CHARS_MAX + 1);
    }
}
