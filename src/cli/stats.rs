//! `distrofs stats`: the counters of a mount, asked from its daemon through the
//! mount itself.

use super::{Failure, args};
use crate::metrics::Snapshot;
use crate::sys;

pub(super) fn run(job: &args::Stats) -> Result<(), Failure> {
    let report = sys::ioctl::mount_report(&job.mountpoint)
        .map_err(|e| format!("{}: {e}", job.mountpoint.display()))?;
    if job.json {
        println!("{}", String::from_utf8_lossy(&report));
        return Ok(());
    }
    let snapshot: Snapshot = serde_json::from_slice(&report)?;
    for (name, value) in &snapshot.counters {
        println!("{name:<24} {value:>16}");
    }
    println!(
        "\n{:<14} {:>12} {:>9} {:>9} {:>9}",
        "request", "count", "mean us", "p50 us", "p99 us"
    );
    for (name, r) in &snapshot.requests {
        println!(
            "{name:<14} {:>12} {:>9} {:>9} {:>9}",
            r.count, r.mean_us, r.p50_us, r.p99_us
        );
    }
    Ok(())
}
