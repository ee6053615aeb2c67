//! How long reads took.
//!
//! Units: nanoseconds in, microseconds out. A time is known to one part in 16: it is
//! counted in one of 16 buckets for each doubling.

use std::time::Duration;

const PARTS: usize = 16;

/// Counts times.
#[derive(Clone, Debug)]
pub(super) struct Clocked {
    buckets: Vec<u64>,
    total: Duration,
    max: Duration,
    count: u64,
}

/// How long reads took.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Times {
    /// All of them together.
    pub wall_us: u64,
    /// Mean, in microseconds.
    pub mean_us: f64,
    /// Median, in microseconds, and so on.
    pub p50_us: f64,
    /// Nine of ten took at most this.
    pub p90_us: f64,
    /// 99 of 100 took at most this.
    pub p99_us: f64,
    /// 999 of 1000 took at most this.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
    /// How many took at most so many microseconds, and longer than those before.
    pub buckets: Vec<(f64, u64)>,
}

impl Clocked {
    pub(super) fn new() -> Self {
        Clocked {
            buckets: vec![0; 64 * PARTS],
            total: Duration::ZERO,
            max: Duration::ZERO,
            count: 0,
        }
    }

    pub(super) fn add(&mut self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get_mut(bucket_of(ns)) {
            *bucket += 1;
        }
        self.total += took;
        self.max = self.max.max(took);
        self.count += 1;
    }

    pub(super) fn times(&self) -> Times {
        let max_us = self.max.as_secs_f64() * 1e6;
        let at_most = |per_mille: u64| {
            let rank = (self.count * per_mille).div_ceil(1000).max(1);
            let mut seen = 0;
            let at = self.buckets.iter().position(|n| {
                seen += n;
                seen >= rank
            });
            at.map_or(0.0, end_us).min(max_us)
        };
        let used = self.buckets.iter().enumerate().filter(|(_, n)| **n > 0);
        #[expect(clippy::cast_precision_loss, reason = "a mean for people")]
        let count = self.count.max(1) as f64;
        Times {
            wall_us: u64::try_from(self.total.as_micros()).unwrap_or(u64::MAX),
            mean_us: self.total.as_secs_f64() * 1e6 / count,
            p50_us: at_most(500),
            p90_us: at_most(900),
            p99_us: at_most(990),
            p999_us: at_most(999),
            max_us,
            buckets: used.map(|(i, n)| (end_us(i), *n)).collect(),
        }
    }
}

/// The doubling, and which 16th of it.
fn bucket_of(ns: u64) -> usize {
    let ns = ns.max(PARTS as u64);
    let doubling = ns.ilog2() as usize;
    let part = usize::try_from(ns >> (doubling - 4)).unwrap_or(0) % PARTS;
    doubling * PARTS + part
}

/// Where a bucket ends, in microseconds.
#[expect(clippy::cast_precision_loss, reason = "a time for people")]
fn end_us(bucket: usize) -> f64 {
    let part = (bucket % PARTS + PARTS + 1) as f64 / PARTS as f64;
    let doubling = i32::try_from(bucket / PARTS).unwrap_or(i32::MAX);
    2_f64.powi(doubling) * part / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_within_a_sixteenth() {
        let mut clocked = Clocked::new();
        (1..=1000).for_each(|us| clocked.add(Duration::from_micros(us)));
        let times = clocked.times();
        for (found, right) in [
            (times.p50_us, 500.0),
            (times.p90_us, 900.0),
            (times.p99_us, 990.0),
            (times.p999_us, 999.0),
        ] {
            assert!(
                (right..=right * 17.0 / 16.0).contains(&found),
                "{found} {right}"
            );
        }
        assert!((times.max_us - 1000.0).abs() < 1e-6 && (times.mean_us - 500.5).abs() < 1e-6);
        assert_eq!(times.wall_us, 500_500);
        assert_eq!(times.buckets.iter().map(|(_, n)| n).sum::<u64>(), 1000);
        assert!(times.buckets.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn any_time_has_a_bucket() {
        for ns in [0, 1, 15, 16, 17, 1 << 40, u64::MAX] {
            let bucket = bucket_of(ns);
            assert!(bucket < 64 * PARTS);
        }
        assert_eq!(Clocked::new().times().buckets, []);
    }
}
