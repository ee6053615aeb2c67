//! Growable memory that the kernel may write out: a shared map of a file
//! without a name.
//!
//! Guarantees: a full disk is an error of [`Spill::grow`], never a SIGBUS,
//! because blocks are allocated before they are mapped; new bytes are zero; the
//! file is gone when the spill is dropped or the process dies.

#![expect(unsafe_code, reason = "memory maps are made of it")]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use memmap2::{MmapMut, RemapOptions, UncheckedAdvice};
use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate};
use rustix::io::Errno;

use super::fault::Watch;

/// The smallest and the largest step of growth. Between them the size doubles,
/// so that growing by small pieces stays linear and little is allocated in vain.
const STEP_BYTES_MIN: usize = 64 * 1024;
const STEP_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes in memory that may be written out to a disk and read back.
#[derive(Debug)]
pub struct Spill {
    // Dropped in this order: a watch must not outlive its mapping.
    watch: Option<Watch>,
    map: MmapMut,
    file: File,
    len: usize,
    damaged: bool,
}

impl Spill {
    /// An empty spill whose file is in `dir`.
    pub fn new_in(dir: &Path) -> io::Result<Spill> {
        let file = unnamed_file(dir)?;
        allocate(&file, 0, STEP_BYTES_MIN)?;
        // SAFETY: nobody else can open the file: it has no name.
        let map = unsafe { MmapMut::map_mut(&file)? };
        let mut spill = Spill {
            watch: None,
            map,
            file,
            len: 0,
            damaged: false,
        };
        spill.watch()?;
        Ok(spill)
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.map[..self.len]
    }

    /// All bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map[..self.len]
    }

    /// Makes it `len` bytes long; the new ones are zero. A smaller `len` than
    /// now changes nothing.
    pub fn grow(&mut self, len: usize) -> io::Result<()> {
        let capacity = self.map.len();
        if len > capacity {
            let step = capacity.clamp(STEP_BYTES_MIN, STEP_BYTES_MAX);
            let wanted = capacity.checked_add(step).unwrap_or(len).max(len);
            allocate(&self.file, capacity, wanted)?;
            self.damaged |= self.watch.take().is_some_and(|watch| watch.damaged());
            // SAFETY: the file is as long as the new mapping, and the exclusive
            // borrow proves that nobody holds a slice of the old one.
            unsafe { self.map.remap(wanted, RemapOptions::new().may_move(true))? };
            self.watch()?;
        }
        self.len = self.len.max(len);
        Ok(())
    }

    /// Says that none of the bytes are needed soon: they leave this process's
    /// memory and stay in the file.
    pub fn release(&self) -> io::Result<()> {
        self.map.flush_async()?;
        // SAFETY: in a shared map of a file this drops no byte, only mappings.
        unsafe { self.map.unchecked_advise(UncheckedAdvice::DontNeed) }
    }

    /// Whether every byte could be read back; if not, zeros were seen instead.
    pub fn intact(&self) -> bool {
        !self.damaged && !self.watch.as_ref().is_some_and(Watch::damaged)
    }

    fn watch(&mut self) -> io::Result<()> {
        // SAFETY: this is the mapping as it is now; it is dropped after the
        // watch, and `grow` takes the watch away before it moves the mapping.
        self.watch = Some(unsafe { Watch::new(self.map.as_ptr(), self.map.len(), true)? });
        Ok(())
    }
}

/// Gives the bytes `from..to` of a file blocks on the disk, and that length.
fn allocate(file: &File, from: usize, to: usize) -> io::Result<()> {
    let (at, len) = (from as u64, (to - from) as u64);
    match fallocate(file, FallocateFlags::empty(), at, len) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            let zeros = [0; 64 * 1024];
            let mut at = at;
            while at < to as u64 {
                let piece = usize::try_from(to as u64 - at)
                    .unwrap_or(usize::MAX)
                    .min(zeros.len());
                file.write_all_at(&zeros[..piece], at)?;
                at += piece as u64;
            }
            Ok(())
        }
        Err(cause) => Err(cause.into()),
    }
}

/// Opens a new file without a name in `dir`.
fn unnamed_file(dir: &Path) -> io::Result<File> {
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::open(dir, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
        Ok(fd) => return Ok(fd.into()),
        // Not every filesystem has such files, and old kernels open the directory.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {}
        Err(cause) => return Err(cause.into()),
    }
    named_and_removed(dir, mode)
}

fn named_and_removed(dir: &Path, mode: Mode) -> io::Result<File> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = dir.join(format!(".distrofs-spill-{}-{number}", std::process::id()));
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
    let fd = rustix::fs::open(&path, flags, mode)?;
    rustix::fs::unlink(&path)?;
    Ok(fd.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_with_zeros_and_keeps_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut spill = Spill::new_in(dir.path()).unwrap();
        let mut len = 0;
        for round in 0..20_u8 {
            len += 37_001;
            spill.grow(len).unwrap();
            assert!(spill.bytes()[len - 37_001..].iter().all(|b| *b == 0));
            spill.bytes_mut()[len - 1] = round;
            spill.release().unwrap();
        }
        spill.grow(5).unwrap();
        assert_eq!(spill.len(), len);
        for round in 0..20_u8 {
            assert_eq!(spill.bytes()[37_001 * (usize::from(round) + 1) - 1], round);
        }
        assert!(spill.intact());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_the_disk_cannot_hold_is_an_error_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let mut spill = Spill::new_in(dir.path()).unwrap();
        spill.grow(3).unwrap();
        spill.bytes_mut().copy_from_slice(b"abc");
        assert!(spill.grow(usize::MAX / 4).is_err());
        assert_eq!(spill.bytes(), b"abc");
        spill.grow(200_000).unwrap();
        assert_eq!(&spill.bytes()[..4], b"abc\0");
    }

    #[test]
    fn a_filesystem_without_unnamed_files_gets_a_removed_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = named_and_removed(dir.path(), Mode::RUSR | Mode::WUSR).unwrap();
        allocate(&file, 0, 10).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 10);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
