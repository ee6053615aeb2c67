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
//! memory is bounded by the image's inodes.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// The inodes whose cache is to be dropped.
#[derive(Debug, Default)]
pub(super) struct Invalidations(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    inodes: BTreeSet<u64>,
    ended: bool,
}

impl Invalidations {
    /// Has the cache of `ino` dropped soon.
    pub(super) fn push(&self, ino: u64) {
        self.0
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .inodes
            .insert(ino);
        self.0.changed.notify_one();
    }

    /// Starts the thread that calls `drop_cache` for each inode, until these
    /// invalidations are dropped.
    pub(super) fn start(
        &self,
        drop_cache: impl Fn(u64) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let shared = Arc::clone(&self.0);
        std::thread::Builder::new()
            .name("invalidate".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || {
                while let Some(ino) = shared.next() {
                    if let Err(cause) = drop_cache(ino) {
                        tracing::error!(ino, %cause, "cannot drop the cache of a written file");
                    }
                }
            })?;
        Ok(())
    }
}

impl Drop for Invalidations {
    fn drop(&mut self) {
        self.0
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .ended = true;
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn next(&self) -> Option<u64> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |state: &mut State| state.inodes.is_empty() && !state.ended;
        let mut state = self
            .changed
            .wait_while(state, idle)
            .unwrap_or_else(PoisonError::into_inner);
        state.inodes.pop_first()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn every_inode_is_dropped_and_failures_do_not_stop_it() {
        let invalidations = Invalidations::default();
        [3, 1, 3]
            .into_iter()
            .for_each(|ino| invalidations.push(ino));
        let (tell, told) = mpsc::channel();
        let drop_cache = move |ino| {
            tell.send(ino).unwrap();
            if ino == 1 {
                Err(io::Error::other("on purpose"))
            } else {
                Ok(())
            }
        };
        invalidations.start(drop_cache).unwrap();
        assert_eq!((told.recv().unwrap(), told.recv().unwrap()), (1, 3));
        invalidations.push(3);
        assert_eq!(told.recv().unwrap(), 3);
        drop(invalidations);
        assert!(told.recv().is_err());
    }
}
