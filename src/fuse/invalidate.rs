//! Making the kernel forget what somebody wrote into its cache.
//!
//! A mount that was remounted writable lets a program store into cached pages;
//! the kernel learns only when it writes them back that an image cannot be
//! changed, and would go on showing them to everybody. So after the refusal the
//! pages of that inode are dropped, and read from the archive again.
//!
//! The notification waits for requests that it causes itself (pages that are
//! being written), so it is never sent by the thread that answers requests.
//! Guarantees: no refused inode is left out; each waits at most once, so the
//! memory is bounded by the image's inodes. There is a thread for it only while
//! there is something to drop.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

type DropCache = Box<dyn Fn(u64) -> io::Result<()> + Send + Sync>;

/// The inodes whose cache is to be dropped.
#[derive(Default)]
pub(super) struct Invalidations(Arc<Shared>);

#[derive(Default)]
struct Shared {
    drop_cache: OnceLock<DropCache>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    inodes: BTreeSet<u64>,
    /// Whether a thread drops them.
    running: bool,
}

impl Invalidations {
    /// How the cache of an inode is dropped: to be said once, before the first.
    pub(super) fn by(&self, drop_cache: impl Fn(u64) -> io::Result<()> + Send + Sync + 'static) {
        let _first = self.0.drop_cache.set(Box::new(drop_cache)).is_ok();
    }

    /// Has the cache of `ino` dropped soon.
    pub(super) fn push(&self, ino: u64) {
        let mut state = self.0.lock();
        state.inodes.insert(ino);
        if state.running {
            return;
        }
        let shared = Arc::clone(&self.0);
        let started = std::thread::Builder::new()
            .name("invalidate".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || shared.work());
        match started {
            Ok(_) => state.running = true,
            // The next one will do.
            Err(cause) => tracing::error!(ino, %cause, "cannot drop the cache of a written file"),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(ino) = self.next() {
            let done = self
                .drop_cache
                .get()
                .map_or(Ok(()), |drop_cache| drop_cache(ino));
            if let Err(cause) = done {
                tracing::error!(ino, %cause, "cannot drop the cache of a written file");
            }
        }
    }

    /// Nothing when all are done, and the thread that asks is not needed any more.
    fn next(&self) -> Option<u64> {
        let mut state = self.lock();
        let next = state.inodes.pop_first();
        state.running = next.is_some();
        next
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn every_inode_is_dropped_and_failures_do_not_stop_it() {
        let invalidations = Invalidations::default();
        let (tell, told) = mpsc::channel();
        let drop_cache = move |ino| {
            tell.send(ino).unwrap();
            if ino == 1 {
                Err(io::Error::other("on purpose"))
            } else {
                Ok(())
            }
        };
        invalidations.by(drop_cache);
        [3, 1].into_iter().for_each(|ino| invalidations.push(ino));
        let mut dropped = [told.recv().unwrap(), told.recv().unwrap()];
        dropped.sort_unstable();
        assert_eq!(dropped, [1, 3]);
        invalidations.push(3);
        assert_eq!(told.recv().unwrap(), 3);
        drop(invalidations);
        assert!(told.recv().is_err());
    }
}
