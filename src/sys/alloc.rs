//! The C allocator, set up so that a large buffer costs only what is touched.
//!
//! `fuser` allocates 16 MiB for each handshake and each session thread. Freeing
//! the first one raises glibc's mmap threshold, after which the others come
//! from an arena and are cleared, hence resident: 100 sessions took 882 MB, and
//! 15 MB with the threshold fixed.

/// Allocations from this size on get pages of their own, which are zero and
/// not resident until they are touched, and which go back when freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MMAP_THRESHOLD_BYTES: i32 = 1024 * 1024;

/// Free memory at the top of the heap beyond this goes back to the system.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const TRIM_THRESHOLD_BYTES: i32 = 256 * 1024;

/// Every arena keeps what its threads have freed; two are enough for a handful
/// of threads that allocate little.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS_MAX: i32 = 2;

/// Tunes the allocator; to be called first thing in `main`.
#[cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "mallopt(3) has no safe wrapper")
)]
pub fn tune() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt takes two integers; glibc serializes it with malloc.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES);
        libc::mallopt(libc::M_ARENA_MAX, ARENAS_MAX);
    }
    // Where huge pages are always on, the first touched byte of such a buffer
    // would make 2 MiB resident. Refused only by kernels without huge pages.
    if let Err(cause) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%cause, "cannot disable transparent huge pages");
    }
}

/// Gives back to the system what was freed: for a process that will have nothing to
/// do for a while.
#[cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "malloc_trim(3) has no safe wrapper")
)]
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes an integer; glibc serializes it with malloc.
    unsafe {
        libc::malloc_trim(0);
    }
}
