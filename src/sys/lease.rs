//! Leases: to know that nobody writes a file, and to hear when somebody wants to.
//!
//! Guarantees: while a [`Lease`] is whole, no descriptor and no map through which
//! the file could be written is open anywhere; opening one, or truncating by name,
//! waits until the lease is dropped (or for `fs.lease-break-time`, 45 s unless it
//! was changed). Links, renames and changes of mode are not held up. Asking costs
//! one system call.
//!
//! Sources: fcntl(2), "Leases"; `fs/locks.c` of Linux.

#![expect(unsafe_code, reason = "fcntl(2) has no safe wrapper for leases")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// What the kernel tells the holder of a lease with when it is being broken: the
/// default, SIGIO, would end the process; this one is ignored unless somebody asks
/// for it. The lease itself is asked instead.
const UNHEARD: libc::c_int = libc::SIGURG;

/// `F_SETSIG` of Linux (`asm-generic/fcntl.h`), which the crate does not name.
const F_SETSIG: libc::c_int = 10;

/// A read lease on a file.
#[derive(Debug)]
pub struct Lease(Arc<File>);

impl Lease {
    /// Takes a lease on a file that is open for reading only, of this process's own
    /// user; nothing if it is open for writing somewhere.
    pub fn take(file: &Arc<File>) -> io::Result<Option<Lease>> {
        fcntl(file, F_SETSIG, UNHEARD)?;
        match fcntl(file, libc::F_SETLEASE, libc::F_RDLCK) {
            Ok(_) => Ok(Some(Lease(Arc::clone(file)))),
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN) => Ok(None),
                Some(libc::EINVAL) => Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "its filesystem has no leases, so that it cannot be known whether somebody writes it",
                )),
                _ => Err(error),
            },
        }
    }

    /// Whether nobody asked for writing since it was taken.
    pub fn is_whole(&self) -> bool {
        // One that is being broken answers what it will become.
        matches!(fcntl(&self.0, libc::F_GETLEASE, 0), Ok(held) if held == libc::F_RDLCK)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // It ends with the file's last descriptor in any case.
        let _ended = fcntl(&self.0, libc::F_SETLEASE, libc::F_UNLCK);
    }
}

fn fcntl(file: &File, command: libc::c_int, argument: libc::c_int) -> io::Result<libc::c_int> {
    // SAFETY: the commands used here take an integer and touch no memory; the
    // descriptor is open as long as the file is borrowed.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

/// Waits until nobody has the file open for writing. Other tests start processes,
/// which have all descriptors of this one for a moment.
#[cfg(test)]
pub(crate) fn unwritten(path: &std::path::Path) {
    let file = Arc::new(File::open(path).unwrap());
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while Lease::take(&file).unwrap().is_none() {
        assert!(std::time::Instant::now() < until, "{}", path.display());
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::Path;

    use super::*;

    fn open(path: &Path) -> Arc<File> {
        Arc::new(File::open(path).unwrap())
    }

    fn writer(path: &Path) -> io::Result<File> {
        let mut options = File::options();
        options.write(true).custom_flags(libc::O_NONBLOCK);
        options.open(path)
    }

    #[test]
    fn a_file_that_is_being_written_gives_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("upload");
        let writing = File::create(&path).unwrap();
        let file = open(&path);
        assert!(Lease::take(&file).unwrap().is_none());
        drop(writing);
        unwritten(&path);
        let lease = Lease::take(&file).unwrap().unwrap();
        assert!(lease.is_whole());
        // Reading is everybody's right.
        assert!(Lease::take(&open(&path)).unwrap().is_some());
        assert!(lease.is_whole());
    }

    /// A signal comes with it, which must not end the process.
    #[test]
    fn somebody_who_wants_to_write_is_noticed_and_waits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("upload");
        File::create(&path).unwrap();
        unwritten(&path);
        let file = open(&path);
        let lease = Lease::take(&file).unwrap().unwrap();
        let refused = writer(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert!(!lease.is_whole());
        drop(lease);
        drop(writer(&path).unwrap());
        unwritten(&path);
        assert!(Lease::take(&file).unwrap().unwrap().is_whole());
    }

    #[test]
    fn a_map_for_writing_counts_as_a_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("upload");
        let mut options = File::options();
        let writing = options.read(true).write(true).create_new(true);
        let writing = writing.open(&path).unwrap();
        writing.set_len(4096).unwrap();
        // SAFETY: nobody else changes the file.
        let map = unsafe { memmap2::MmapMut::map_mut(&writing).unwrap() };
        drop(writing);
        let file = open(&path);
        assert!(Lease::take(&file).unwrap().is_none());
        drop(map);
        unwritten(&path);
    }
}
