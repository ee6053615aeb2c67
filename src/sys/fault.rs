//! SIGBUS in a mapped file becomes a flag instead of the end of the process.
//!
//! Touching a page of a map whose file was truncated, or that the disk cannot
//! deliver, raises SIGBUS. Guarantees: if the address is in a watched map, the
//! whole map is replaced by zero pages, marked damaged, and the access goes on;
//! any other SIGBUS goes to the handler that was there before. The handler
//! takes no lock and allocates nothing.
//!
//! The whole map is replaced, not the page: nothing read from a damaged map is
//! used, and one mapping cannot run into the limit on mappings.

#![expect(
    unsafe_code,
    reason = "a signal handler and fixed mappings are made of it"
)]

use std::ffi::{c_int, c_void};
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::handler;

/// How many maps can be watched at a time: several for each of hundreds of
/// images in one process.
const SLOTS: usize = 1024;

struct Slot {
    taken: AtomicBool,
    /// Address of the map; 0 while the slot is not in use.
    start: AtomicUsize,
    len: AtomicUsize,
    writable: AtomicBool,
    damaged: AtomicBool,
}

impl Slot {
    const fn new() -> Self {
        Self {
            taken: AtomicBool::new(false),
            start: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            writable: AtomicBool::new(false),
            damaged: AtomicBool::new(false),
        }
    }

    fn holds(&self, address: usize) -> bool {
        let start = self.start.load(Ordering::Acquire);
        start != 0 && address.wrapping_sub(start) < self.len.load(Ordering::Relaxed)
    }

    /// Puts zero pages in place of the map.
    fn replace(&self) -> bool {
        let mut protection = libc::PROT_READ;
        if self.writable.load(Ordering::Relaxed) {
            protection |= libc::PROT_WRITE;
        }
        // SAFETY: the range is a live mapping that `Watch::new` was promised,
        // alive because the thread that faulted is using it; nothing but this
        // mapping is replaced, and its owner unmaps exactly this range later.
        let mapped = unsafe {
            libc::mmap(
                self.start.load(Ordering::Relaxed) as *mut c_void,
                self.len.load(Ordering::Relaxed),
                protection,
                libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        self.damaged.store(true, Ordering::Release);
        mapped != libc::MAP_FAILED
    }
}

static TABLE: [Slot; SLOTS] = [const { Slot::new() }; SLOTS];
static PREVIOUS: OnceLock<Result<libc::sigaction, i32>> = OnceLock::new();

/// A map that is watched for as long as this lives.
#[derive(Debug)]
pub(super) struct Watch(usize);

impl Watch {
    /// Watches the mapping of `len` bytes at `start`.
    ///
    /// # Safety
    /// The range, rounded up to whole pages, is one mapping, starts at a page,
    /// and stays mapped until the watch is dropped.
    pub(super) unsafe fn new(start: *const u8, len: usize, writable: bool) -> io::Result<Watch> {
        install()?;
        for (number, slot) in TABLE.iter().enumerate() {
            if slot.taken.swap(true, Ordering::Acquire) {
                continue;
            }
            slot.len.store(len, Ordering::Relaxed);
            slot.writable.store(writable, Ordering::Relaxed);
            slot.damaged.store(false, Ordering::Relaxed);
            slot.start
                .store(start.expose_provenance(), Ordering::Release);
            return Ok(Watch(number));
        }
        Err(io::Error::other(format!(
            "more than {SLOTS} files are mapped"
        )))
    }

    /// Whether bytes of this map could not be read.
    pub(super) fn damaged(&self) -> bool {
        TABLE[self.0].damaged.load(Ordering::Acquire)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let slot = &TABLE[self.0];
        slot.start.store(0, Ordering::Release);
        slot.taken.store(false, Ordering::Release);
    }
}

/// Installs the handler, once in a process.
fn install() -> io::Result<()> {
    let installed = PREVIOUS.get_or_init(|| handler::install(libc::SIGBUS, on_sigbus));
    match installed {
        Ok(_) => Ok(()),
        Err(code) => Err(io::Error::from_raw_os_error(*code)),
    }
}

extern "C" fn on_sigbus(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo_t; si_addr is meaningful for
    // the positive codes, which only the kernel sends.
    let (raised_by_kernel, address) = unsafe { ((*info).si_code > 0, (*info).si_addr()) };
    if raised_by_kernel {
        let slot = TABLE.iter().find(|slot| slot.holds(address.addr()));
        if slot.is_some_and(Slot::replace) {
            return;
        }
    }
    // If it came while the handler was being installed: once more.
    if let Some(Ok(previous)) = PREVIOUS.get() {
        handler::pass_on(previous, signal, info, context);
    }
}
