//! What a serving process tells about itself, as the mount's ioctl carries it
//! (JSON) and `stats` reads it. Its names are an interface, documented in
//! `docs/json.md`.
//!
//! Guarantees: a report fits into the answer of the ioctl
//! ([`ANSWER_BYTES`](crate::sys::ioctl::ANSWER_BYTES)), whatever the archive is
//! called.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::budget::{Kind, MemoryBudget};
use crate::index::Index;
use crate::metrics::{Metrics, Snapshot};
use crate::sys::process;

/// Of the archive's path, the last this many characters are told: written in
/// JSON, each may take six bytes.
const PATH_CHARS_MAX: usize = 1000;

/// One report.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Counters and requests.
    #[serde(flatten)]
    pub snapshot: Snapshot,
    /// Memory by kind against the budget.
    #[serde(default)]
    pub memory: Memory,
    /// What is served.
    #[serde(default)]
    pub image: Image,
    /// Since the mount answers.
    #[serde(default)]
    pub uptime_seconds: f64,
}

/// Memory in bytes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    /// What was promised.
    pub budget_bytes: u64,
    /// Decoded blocks.
    pub blocks: Share,
    /// Decoders and windows.
    pub decoders: Share,
    /// Replies and stacks.
    pub buffers: Share,
    /// Of the process, in memory now.
    pub resident_bytes: u64,
    /// Of that, pages of files, which the kernel can take back.
    pub resident_file_bytes: u64,
    /// The most that ever was.
    pub peak_bytes: u64,
    /// How long the index is.
    pub index_mapped_bytes: u64,
}

/// A kind of memory: what is reserved, and the most that may be, in bytes.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Share {
    /// Reserved.
    pub used: u64,
    /// The most that may be.
    pub limit: u64,
}

/// What is served.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Image {
    /// Its path.
    pub archive: String,
    /// How long it is.
    pub archive_bytes: u64,
    /// What it has.
    pub entries: u64,
    /// Of all regular files.
    pub content_bytes: u64,
}

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

    /// The report of this moment.
    pub fn report(&self) -> Report {
        let share = |kind| Share {
            used: self.budget.used_bytes(kind),
            limit: self.budget.limit_bytes(kind),
        };
        let process = process::memory().unwrap_or_default();
        Report {
            snapshot: self.metrics.snapshot(),
            memory: Memory {
                budget_bytes: self.budget.total_bytes(),
                blocks: share(Kind::Blocks),
                decoders: share(Kind::Decoders),
                buffers: share(Kind::Buffers),
                resident_bytes: process.resident_bytes,
                resident_file_bytes: process.file_bytes,
                peak_bytes: process.peak_bytes,
                index_mapped_bytes: self.index_mapped_bytes,
            },
            image: self.image.clone(),
            uptime_seconds: self.start.elapsed().as_secs_f64(),
        }
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

    /// A daemon of an older version tells less.
    #[test]
    fn what_is_not_told_is_zero() {
        let report: Report = serde_json::from_str(
            r#"{"counters":{"served_bytes":5},"requests":{"read":{"count":1,"mean_us":2,"p50_us":3,"p99_us":4}}}"#,
        )
        .unwrap();
        assert_eq!(report.snapshot.counters["served_bytes"], 5);
        assert_eq!(report.snapshot.requests["read"].p90_us, 0);
        assert_eq!(report.memory.budget_bytes, 0);
    }
}
