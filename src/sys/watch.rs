//! Hearing that something in a directory changed, without looking again and again.
//!
//! Guarantees: only that something may have changed is told; what it is, is for the
//! caller to look at. Whoever changes things without an end keeps nobody busier than
//! one look each [`QUIET`].

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// How long what comes together is waited for.
pub const QUIET: Duration = Duration::from_millis(100);

/// Reads of events at most, each of some dozens: the rest is told the next time.
const READS_MAX: usize = 64;

/// What may complete an upload, or take one away.
const EVENTS: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::ONLYDIR);

/// Listens to one directory.
#[derive(Debug)]
pub struct Watch {
    inotify: OwnedFd,
    watched: Option<i32>,
}

impl Watch {
    /// Listens to none yet.
    pub fn new() -> io::Result<Watch> {
        Ok(Watch {
            inotify: inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?,
            watched: None,
        })
    }

    /// Listens to this directory, and no longer to another one.
    pub fn follow(&mut self, directory: BorrowedFd<'_>) -> io::Result<()> {
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let watched = inotify::add_watch(&self.inotify, path, EVENTS)?;
        if let Some(before) = self.watched.replace(watched)
            && before != watched
        {
            // It is gone by itself if its directory is.
            let _gone = inotify::remove_watch(&self.inotify, before).is_err();
        }
        Ok(())
    }

    /// Waits until something changed, or for as long as `patience`.
    pub fn wait(&self, patience: Duration) -> io::Result<()> {
        let timeout = Timespec::try_from(patience).map_err(io::Error::other)?;
        let mut heard = [PollFd::new(&self.inotify, PollFlags::IN)];
        match poll(&mut heard, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(()),
            done => done?,
        };
        std::thread::sleep(QUIET);
        self.drain()
    }

    fn drain(&self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        for _ in 0..READS_MAX {
            match rustix::io::read(self.inotify.as_fd(), &mut buffer) {
                Ok((read, _)) if !read.is_empty() => {}
                Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(()),
                Err(cause) => return Err(cause.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn a_change_is_heard_and_then_it_is_quiet() {
        let dir = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let open = |dir: &tempfile::TempDir| File::open(dir.path()).unwrap();
        let mut watch = Watch::new().unwrap();
        watch.follow(open(&dir).as_fd()).unwrap();
        fs::write(dir.path().join("a"), "1").unwrap();
        // It would not return.
        watch.wait(LONG).unwrap();
        fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        watch.wait(LONG).unwrap();
        let begun = Instant::now();
        watch.wait(Duration::from_millis(50)).unwrap();
        assert!(
            begun.elapsed() >= Duration::from_millis(50),
            "it was not quiet"
        );
        // From another directory on, the one before is not heard.
        watch.follow(open(&other).as_fd()).unwrap();
        fs::remove_file(dir.path().join("b")).unwrap();
        let begun = Instant::now();
        watch.wait(Duration::from_millis(50)).unwrap();
        assert!(
            begun.elapsed() >= Duration::from_millis(50),
            "the one before was heard"
        );
        fs::write(other.path().join("c"), "1").unwrap();
        watch.wait(LONG).unwrap();
    }
}
