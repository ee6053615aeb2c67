//! Time and memory of one case.
//!
//! Guarantees: a case that takes longer than its limit ends the process with a
//! message that names the case; so does one that has more memory at a time,
//! where the program uses [`Counting`] as its allocator.
#![allow(unsafe_code, reason = "an allocator is unsafe by its interface")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::exit;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

/// How often the watchdog looks at what is running.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// No case is seen so many times, a minute: they take milliseconds, and a busy
/// machine is slow. Looks are counted and not the clock, which goes on while the
/// process is stopped.
const LOOKS_MAX: u32 = 120;
/// Bytes that a case may have at a time, beyond what there was before.
pub const MEMORY_MAX: usize = 256 << 20;

static USED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// What is running, and how many times it was seen.
static CURRENT: Mutex<Option<(u32, String)>> = Mutex::new(None);

/// The system's allocator, counted.
#[derive(Debug)]
pub struct Counting;

fn add(bytes: usize) {
    let used = USED.fetch_add(bytes, Ordering::Relaxed).wrapping_add(bytes);
    PEAK.fetch_max(used, Ordering::Relaxed);
}

// SAFETY: every call is handed on as it is; only counting is added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(size);
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(place, layout, size) }
    }
}

/// A case that is running.
#[derive(Debug)]
pub struct Running {
    before: usize,
}

/// Begins the case of this name.
pub fn begin(name: impl FnOnce() -> String) -> Running {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| drop(std::thread::spawn(watch)));
    *current() = Some((0, name()));
    let before = USED.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    Running { before }
}

impl Running {
    /// Ends it; the error is that it had too much memory.
    pub fn end(self) -> Result<(), String> {
        let peak = PEAK.load(Ordering::Relaxed).saturating_sub(self.before);
        match peak > MEMORY_MAX {
            true => Err(format!("it had {} MiB at a time", peak >> 20)),
            false => Ok(()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        *current() = None;
    }
}

fn current() -> MutexGuard<'static, Option<(u32, String)>> {
    CURRENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the process if a case hangs.
fn watch() {
    loop {
        std::thread::sleep(LOOK_EVERY);
        if let Some((looks, name)) = &mut *current() {
            *looks += 1;
            if *looks > LOOKS_MAX {
                let time = LOOK_EVERY * LOOKS_MAX;
                eprintln!("HANG: {name} takes longer than {time:?}");
                exit(70);
            }
        }
    }
}
