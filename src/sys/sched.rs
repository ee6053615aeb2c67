//! What the scheduler did to the calling thread.

#![expect(unsafe_code, reason = "getrusage(2) has no safe wrapper here")]

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How long the calling thread had a processor so far.
pub fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// How often the calling thread lost its processor to another while it could
/// have gone on.
pub fn preemptions() -> u64 {
    // SAFETY: an all-zero rusage is a valid value of this C struct, and the
    // pointer is to a live one. The call cannot fail with these arguments.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &mut usage);
        usage
    };
    u64::try_from(usage.ru_nivcsw).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    use super::*;

    #[test]
    fn a_thread_has_processor_time_while_it_works_only() {
        let before = processor_time();
        std::thread::sleep(Duration::from_millis(1));
        while processor_time() == before {}
        assert!(processor_time() > before);
    }

    /// Two busy threads on one processor take turns.
    #[test]
    fn a_thread_that_shares_its_processor_is_preempted() {
        let allowed = sched_getaffinity(None).unwrap();
        let first = (0..CpuSet::MAX_CPU)
            .find(|cpu| allowed.is_set(*cpu))
            .unwrap();
        let mut one = CpuSet::new();
        one.set(first);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                sched_setaffinity(None, &one).unwrap();
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            scope.spawn(|| {
                sched_setaffinity(None, &one).unwrap();
                let before = preemptions();
                while preemptions() == before {}
                done.store(true, Ordering::Relaxed);
            });
        });
    }
}
