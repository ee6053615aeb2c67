//! Everything that is counted, in one table, with units.
//!
//! Guarantees: a counter only grows; counting is one relaxed atomic addition
//! and never blocks. Readers get a [`Snapshot`], which is what `stats` prints
//! and what the tests bound.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// All plain counters of one process; each name ends in its unit.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[doc = $doc])+ pub $name: Counter,)+ }

        impl Counters {
            /// The name of each, and what it counts.
            pub const ALL: &[(&str, &str)] =
                &[$((stringify!($name), concat!($($doc),+)),)+];

            fn snapshot(&self) -> BTreeMap<String, u64> {
                [$((stringify!($name).to_owned(), self.$name.get()),)+].into()
            }
        }
    };
}

counters! {
    /// Bytes of the uncompressed stream that were produced by a decoder or read
    /// from an uncompressed archive.
    decoded_bytes,
    /// Bytes read from the archive file.
    archive_read_bytes,
    /// Bytes of file content handed to the kernel.
    served_bytes,
    /// Blocks found in the cache.
    cache_hit_blocks,
    /// Blocks that had to be decoded for the reader that asked.
    cache_miss_blocks,
    /// Blocks that a reader got from a decode that was already under way.
    cache_joined_blocks,
    /// Blocks dropped to stay within the budget.
    cache_evicted_blocks,
    /// Spans decoded ahead of a sequential reader.
    prefetched_spans,
    /// Spans decoded because a start profile names them.
    profile_spans,
    /// Blocks decoded because of a start profile that were read then.
    profile_hit_blocks,
    /// Decodes that began at a checkpoint.
    checkpoint_restores,
    /// Decodes that went on with a kept decoder.
    decoder_resumes,
    /// Blocks whose checksum did not match; none of their bytes were served.
    corrupt_blocks,
    /// Requests answered with an error because of the archive or its index.
    io_errors,
    /// Requests that outlived their deadline and were answered EIO.
    deadline_errors,
    /// Requests to change something, refused with EROFS.
    refused_writes,
}

/// One counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! operations {
    ($($variant:ident $name:literal,)+) => {
        /// A kind of request from the kernel.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "named after the FUSE opcodes")]
        pub enum Op { $($variant,)+ }

        impl Op {
            /// All kinds.
            pub const ALL: &[Op] = &[$(Op::$variant,)+];

            /// The name in reports: the FUSE opcode in lower case.
            pub fn name(self) -> &'static str {
                match self { $(Op::$variant => $name,)+ }
            }
        }
    };
}

operations! {
    Lookup "lookup", Forget "forget", Getattr "getattr", Setattr "setattr", Readlink "readlink",
    Open "open", Read "read", Write "write", Statfs "statfs", Release "release", Flush "flush",
    Getxattr "getxattr", Listxattr "listxattr", Opendir "opendir", Readdir "readdir",
    Readdirplus "readdirplus", Releasedir "releasedir", Access "access", Ioctl "ioctl",
    Lseek "lseek", Modify "modify", Other "other",
}

/// Log2 latency buckets: bucket `i` counts requests that took less than `2^i`
/// microseconds (and at least half of it); the last one all longer ones.
pub const LATENCY_BUCKETS: usize = 28;

#[derive(Debug)]
struct OpCounter {
    count: Counter,
    total_ns: Counter,
    buckets: [Counter; LATENCY_BUCKETS],
}

impl Default for OpCounter {
    fn default() -> Self {
        Self {
            count: Counter::default(),
            total_ns: Counter::default(),
            buckets: std::array::from_fn(|_| Counter::default()),
        }
    }
}

/// The metrics of one process (or of one mount where several share a process).
#[derive(Debug)]
pub struct Metrics {
    /// The plain counters.
    pub counters: Counters,
    ops: Vec<OpCounter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            counters: Counters::default(),
            ops: Op::ALL.iter().map(|_| OpCounter::default()).collect(),
        }
    }
}

impl Metrics {
    /// Counts a request as it arrives, so that one that never ends is seen.
    pub fn arrived(&self, op: Op) {
        self.ops[op as usize].count.add(1);
    }

    /// Records how long an arrived request took to answer.
    pub fn answered(&self, op: Op, took: Duration) {
        let op = &self.ops[op as usize];
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        op.total_ns.add(ns);
        let bucket = (64 - (ns / 1000).leading_zeros()) as usize;
        op.buckets[bucket.min(LATENCY_BUCKETS - 1)].add(1);
    }

    /// How many requests of this kind arrived.
    pub fn count(&self, op: Op) -> u64 {
        self.ops[op as usize].count.get()
    }

    /// How many requests of all kinds arrived.
    pub fn arrivals(&self) -> u64 {
        Op::ALL.iter().map(|op| self.count(*op)).sum()
    }

    /// All values now; kinds of request that never came are left out, and latencies
    /// are summed up.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.detailed();
        for stats in snapshot.requests.values_mut() {
            stats.buckets = Vec::new();
        }
        snapshot
    }

    /// The same with all buckets of latencies.
    pub fn detailed(&self) -> Snapshot {
        let seen = Op::ALL.iter().filter(|op| self.count(**op) > 0);
        Snapshot {
            counters: self.counters.snapshot(),
            requests: seen
                .map(|op| (op.name().to_owned(), self.request_stats(*op)))
                .collect(),
        }
    }

    fn request_stats(&self, op: Op) -> RequestStats {
        let op = &self.ops[op as usize];
        let buckets: Vec<u64> = op.buckets.iter().map(Counter::get).collect();
        let answered: u64 = buckets.iter().sum();
        let percentile = |p: u64| {
            let rank = (answered * p).div_ceil(100).max(1);
            let mut seen = 0;
            let at = buckets.iter().position(|n| {
                seen += n;
                seen >= rank
            });
            at.map_or(0, |i| 1_u64 << i)
        };
        let total_us = op.total_ns.get() / 1000;
        RequestStats {
            // Read after those that were answered: never fewer.
            count: op.count.get(),
            total_us,
            mean_us: total_us / answered.max(1),
            p50_us: percentile(50),
            p90_us: percentile(90),
            p99_us: percentile(99),
            max_us: buckets.iter().rposition(|n| *n > 0).map_or(0, |i| 1 << i),
            buckets,
        }
    }
}

/// The metrics at one moment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// Plain counters by name; the name ends in the unit.
    pub counters: BTreeMap<String, u64>,
    /// Requests by kind.
    pub requests: BTreeMap<String, RequestStats>,
}

/// The requests of one kind.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RequestStats {
    /// How many arrived.
    pub count: u64,
    /// All times to the answer together, in microseconds.
    #[serde(default)]
    pub total_us: u64,
    /// Mean time to the answer, in microseconds.
    pub mean_us: u64,
    /// Upper bound of the median's bucket (a power of two), in microseconds.
    pub p50_us: u64,
    /// Upper bound of the 90th percentile's bucket, in microseconds.
    #[serde(default)]
    pub p90_us: u64,
    /// Upper bound of the 99th percentile's bucket, in microseconds.
    pub p99_us: u64,
    /// Upper bound of the slowest request's bucket, in microseconds.
    #[serde(default)]
    pub max_us: u64,
    /// How many were answered in less than 1, 2, 4, … microseconds and not in less
    /// than half of it; the last number is that of all others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_bound_the_latencies_that_were_recorded() {
        let metrics = Metrics::default();
        for us in [3_u64; 99].into_iter().chain([900]) {
            metrics.arrived(Op::Read);
            metrics.answered(Op::Read, Duration::from_micros(us));
        }
        let stats = &metrics.snapshot().requests["read"];
        assert_eq!((stats.count, stats.p50_us, stats.p99_us), (100, 4, 4));
        assert_eq!((stats.p90_us, stats.max_us), (4, 1024));
        metrics.arrived(Op::Read);
        metrics.answered(Op::Read, Duration::from_micros(900));
        assert_eq!(metrics.snapshot().requests["read"].p99_us, 1024);
        let stats = &metrics.detailed().requests["read"];
        assert_eq!(stats.total_us, 99 * 3 + 2 * 900);
        assert_eq!((stats.buckets[2], stats.buckets[10]), (99, 2));
        assert_eq!(stats.buckets.len(), LATENCY_BUCKETS);
    }

    #[test]
    fn a_request_without_an_answer_is_counted() {
        let metrics = Metrics::default();
        metrics.arrived(Op::Lookup);
        assert_eq!(metrics.snapshot().requests["lookup"].count, 1);
        assert!(!metrics.snapshot().requests.contains_key("read"));
    }
}
