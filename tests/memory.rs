//! Resident memory of the daemon, while it indexes and while it serves a full
//! read, stays within what was promised: as the kernel reports its peak, and
//! in a control group that would kill it for more.

mod common;

use common::limited::{BUDGET_BYTES, Foreground, Group, MIB, megabytes};

/// What its peak may be: the rest is for what the kernel charges besides. Pages
/// of a large index are resident too, until others need the memory.
fn peak_bytes_max() -> u64 {
    match common::archive::is_full() {
        true => BUDGET_BYTES,
        false => 48 * MIB,
    }
}

#[test]
fn the_peak_stays_below_the_budget() {
    let daemon = Foreground::new(&common::archive::debian_tgz(), "");
    let indexed = daemon.peak_bytes();
    daemon.read_everything();
    let peak = daemon.peak_bytes();
    println!(
        "peak: {:.1} MiB after indexing, {:.1} after reading",
        megabytes(indexed),
        megabytes(peak)
    );
    assert!(peak <= peak_bytes_max(), "peak {:.1} MiB", megabytes(peak));
    daemon.end();
}

#[test]
fn a_control_group_of_the_budget_is_enough() {
    let archive = common::archive::debian_tgz();
    let group = Group::new(BUDGET_BYTES);
    let daemon = Foreground::new(&archive, &group.joining());
    daemon.read_everything();
    let peak = daemon.peak_bytes();
    println!(
        "in the group: peak {:.1} MiB, {}",
        megabytes(peak),
        group.report()
    );
    assert!(peak <= peak_bytes_max(), "peak {:.1} MiB", megabytes(peak));
    assert_eq!(group.kills(), 0, "killed for memory: {}", group.report());
    daemon.end();
}
