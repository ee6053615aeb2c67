//! A page of a file in memory, shared with all who map it.

use std::fs::{self, File};
use std::io;

use rustix::mm::{MapFlags, MsyncFlags, ProtFlags};

/// One page of a file, mapped shared.
pub(crate) struct Mapping(*mut std::ffi::c_void);

const PAGE_BYTES: usize = 4096;

#[expect(
    unsafe_code,
    reason = "a store through a mapping is what is tested; there is no safe way to do it"
)]
impl Mapping {
    pub(crate) fn new(file: &File, prot: ProtFlags) -> io::Result<Self> {
        // SAFETY: the kernel chooses the place, so no other memory is touched.
        let place = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                PAGE_BYTES,
                prot,
                MapFlags::SHARED,
                file,
                0,
            )
        };
        Ok(Self(place?))
    }

    pub(crate) fn first(&self) -> u8 {
        // SAFETY: mapped readable for the life of `self`; nothing refers to it.
        unsafe { self.0.cast::<u8>().read_volatile() }
    }

    /// Only for one that was mapped for writing.
    pub(crate) fn store_first(&self, byte: u8) {
        // SAFETY: mapped writable, as the caller promised; nothing refers to it.
        unsafe { self.0.cast::<u8>().write_volatile(byte) }
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        // SAFETY: the range is the one mapped.
        Ok(unsafe { rustix::mm::msync(self.0, PAGE_BYTES, MsyncFlags::SYNC) }?)
    }
}

#[expect(unsafe_code, reason = "see above")]
impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is the one mapped, and nothing refers to it.
        super::attempt(unsafe { rustix::mm::munmap(self.0, PAGE_BYTES) });
    }
}

/// Has the kernel forget what it knows of files, as far as it can.
pub(crate) fn drop_caches() {
    fs::write("/proc/sys/vm/drop_caches", "3").expect("drop the caches");
}
