//! What a serving process tells about itself: as a mount's ioctl carries it and
//! `stats` reads it, and as a worker answers it. JSON, whose names are an interface,
//! documented in `docs/json.md`.

use serde::{Deserialize, Serialize};

use super::ImagePath;
use crate::metrics::Snapshot;

/// The question that a worker answers with a [`WorkerReport`]: whoever may ask for
/// nothing else has the supervisor ask it.
pub const REPORT: &str = "\"Report\"";

/// How what a worker serves is doing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Each mount.
    pub images: Vec<ImageReport>,
    /// Memory of the process.
    #[serde(default)]
    pub memory: Memory,
    /// What it took in.
    #[serde(default)]
    pub ingest: Ingest,
    /// Since it was started.
    #[serde(default)]
    pub uptime_seconds: f64,
}

/// How a mount is doing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageReport {
    /// Its number.
    pub mount: u32,
    /// Where in `distros/`.
    pub path: ImagePath,
    /// How long the oldest request is in progress; zero if there is none.
    #[serde(default)]
    pub oldest_request_seconds: f64,
    /// Counters, requests and memory.
    #[serde(flatten)]
    pub report: Report,
}

/// Uploads, since the process was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ingest {
    /// Those that became a version of an image.
    pub taken: u64,
    /// Their size, in bytes.
    pub taken_bytes: u64,
    /// How long that took.
    pub taken_seconds: f64,
    /// Those that can never be images, and were put aside.
    pub rejected: u64,
    /// Those that were not taken in as they are: by limits, for example.
    pub refused: u64,
    /// How often one was given up because the system failed, to be tried again.
    pub failed: u64,
}

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

impl Report {
    /// Of the blocks that were asked for, those that were there, or on their way.
    pub fn hit_ratio(&self) -> Option<f64> {
        let counter = |name: &str| self.snapshot.counters.get(name).copied().unwrap_or(0);
        let hits = counter("cache_hit_blocks").saturating_add(counter("cache_joined_blocks"));
        let asked = hits.saturating_add(counter("cache_miss_blocks"));
        (asked > 0).then(|| hits as f64 / asked as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A daemon of an older version tells less.
    #[test]
    fn what_is_not_told_is_zero() {
        let report: Report = serde_json::from_str(
            r#"{"counters":{"served_bytes":5},"requests":{"read":{"count":1,"mean_us":2,"p50_us":3,"p99_us":4}}}"#,
        )
        .unwrap();
        assert_eq!(report.snapshot.counters["served_bytes"], 5);
        assert_eq!(report.snapshot.requests["read"].p90_us, 0);
        assert_eq!((report.memory.budget_bytes, report.hit_ratio()), (0, None));
        let report: WorkerReport = serde_json::from_str(r#"{"images":[]}"#).unwrap();
        assert_eq!(report.ingest, Ingest::default());
    }

    #[test]
    fn blocks_that_were_on_their_way_are_hits() {
        let mut report = Report::default();
        for (name, value) in [("hit", 2), ("joined", 1), ("miss", 1)] {
            let name = format!("cache_{name}_blocks");
            report.snapshot.counters.insert(name, value);
        }
        assert_eq!(report.hit_ratio(), Some(0.75));
    }
}
