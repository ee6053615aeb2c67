//! Which code a run reached, where the program was built to count that.
//!
//! `scripts/fuzz` builds with LLVM's inline 8-bit counters (SanitizerCoverage),
//! which stable Rust can do too: each edge of the control flow has a byte that
//! is counted up. Built otherwise, nobody calls in here, and there is no
//! feedback.
#![allow(unsafe_code, reason = "LLVM hands over its counters as raw pointers")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// More modules than are ever linked.
const MODULES_MAX: usize = 1024;

/// Start and length of each module's counters.
static STARTS: [AtomicUsize; MODULES_MAX] = [const { AtomicUsize::new(0) }; MODULES_MAX];
static LENGTHS: [AtomicUsize; MODULES_MAX] = [const { AtomicUsize::new(0) }; MODULES_MAX];
static MODULES: AtomicUsize = AtomicUsize::new(0);

/// For each counter the classes of counts that were seen.
static SEEN: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Called once for each module, before `main`.
///
/// # Safety
/// The range is of bytes that live for ever; LLVM promises that.
#[unsafe(no_mangle)]
unsafe extern "C" fn __sanitizer_cov_8bit_counters_init(start: *const u8, stop: *const u8) {
    let module = MODULES.fetch_add(1, Ordering::Relaxed);
    if module < MODULES_MAX {
        STARTS[module].store(start.expose_provenance(), Ordering::Relaxed);
        LENGTHS[module].store(stop.addr() - start.addr(), Ordering::Relaxed);
    }
}

fn modules() -> impl Iterator<Item = &'static [AtomicU8]> {
    let count = MODULES.load(Ordering::Relaxed).min(MODULES_MAX);
    (0..count).map(|module| {
        let start = std::ptr::with_exposed_provenance(STARTS[module].load(Ordering::Relaxed));
        let len = LENGTHS[module].load(Ordering::Relaxed);
        // SAFETY: the range was handed over by LLVM, lives for ever, and is
        // only ever looked at as atomics from here.
        unsafe { std::slice::from_raw_parts(start, len) }
    })
}

/// Whether there are counters.
pub(crate) fn is_built_in() -> bool {
    MODULES.load(Ordering::Relaxed) > 0
}

/// Whether something was reached since the last call that never was before, or
/// in another order of magnitude of times.
pub(crate) fn found_something() -> Option<bool> {
    if !is_built_in() {
        return None;
    }
    let mut seen = SEEN.lock().ok()?;
    let mut at = 0;
    let mut found = false;
    for counters in modules() {
        if seen.len() < at + counters.len() {
            seen.resize(at + counters.len(), 0);
        }
        for (counter, seen) in counters.iter().zip(&mut seen[at..]) {
            let count = counter.load(Ordering::Relaxed);
            if count > 0 {
                counter.store(0, Ordering::Relaxed);
                let class = 1 << count.ilog2();
                found |= *seen & class == 0;
                *seen |= class;
            }
        }
        at += counters.len();
    }
    Some(found)
}

/// Forgets what was reached: another target begins.
pub(crate) fn forget() {
    if let Ok(mut seen) = SEEN.lock() {
        seen.fill(0);
    }
}

/// How many places were ever reached.
pub(crate) fn reached() -> Option<usize> {
    let seen = SEEN.lock().ok()?;
    is_built_in().then(|| seen.iter().filter(|seen| **seen != 0).count())
}
