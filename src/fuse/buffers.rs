//! Memory for the replies of all sessions of a process.
//!
//! Guarantees: all buffers together never take more than was given; whoever waits
//! for one gets one, once somebody who has one has answered. One buffer there is in
//! any case.
//!
//! A thread that kept one of its own would keep it for requests that may never
//! come, and a process that serves many images has many threads.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Sizes are multiples of this, so that most buffers fit most requests.
const UNIT_BYTES: usize = 128 * 1024;

/// Buffers of one process.
#[derive(Clone, Debug)]
pub struct Buffers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max_bytes: usize,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct State {
    free: Vec<Box<[u8]>>,
    /// Of all that there are.
    bytes: usize,
    used: usize,
}

/// A buffer, until it is dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    len: usize,
    of: Arc<Inner>,
}

impl Buffers {
    /// Buffers of `max_bytes` in all.
    pub fn new(max_bytes: usize) -> Buffers {
        Buffers(Arc::new(Inner {
            max_bytes,
            state: Mutex::default(),
            returned: Condvar::new(),
        }))
    }

    /// A buffer of this length, if that takes no waiting.
    pub(super) fn try_take(&self, len: usize) -> Option<Buffer> {
        let bytes = self.0.lock().find(len, self.0.max_bytes)?;
        Some(self.0.buffer(bytes, len))
    }

    /// A buffer of this length.
    pub(super) fn take(&self, len: usize) -> Buffer {
        let mut state = self.0.lock();
        loop {
            if let Some(bytes) = state.find(len, self.0.max_bytes) {
                drop(state);
                return self.0.buffer(bytes, len);
            }
            let waited = self.0.returned.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gives back what nobody uses.
    pub fn trim(&self) {
        let mut state = self.0.lock();
        let free = std::mem::take(&mut state.free);
        state.bytes -= free.iter().map(|buffer| buffer.len()).sum::<usize>();
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn buffer(self: &Arc<Self>, bytes: Box<[u8]>, len: usize) -> Buffer {
        Buffer {
            bytes,
            len,
            of: Arc::clone(self),
        }
    }
}

impl State {
    fn find(&mut self, len: usize, max: usize) -> Option<Box<[u8]>> {
        // The one that was used last is in the processor's cache still.
        let fits = self.free.iter().rposition(|free| free.len() >= len);
        if let Some(at) = fits {
            self.used += 1;
            return Some(self.free.swap_remove(at));
        }
        let wanted = len.max(1).next_multiple_of(UNIT_BYTES);
        while self.bytes.saturating_add(wanted) > max
            && let Some(free) = self.free.pop()
        {
            self.bytes -= free.len();
        }
        if self.bytes.saturating_add(wanted) > max && self.used > 0 {
            return None;
        }
        self.bytes += wanted;
        self.used += 1;
        Some(vec![0; wanted].into_boxed_slice())
    }
}

impl std::ops::Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut state = self.of.lock();
        state.used -= 1;
        state.free.push(bytes);
        drop(state);
        self.of.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn buffers_never_take_more_than_was_given_and_everybody_gets_one() {
        let buffers = Buffers::new(4 * UNIT_BYTES);
        let (used, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (buffers, used, most) = (&buffers, &used, &most);
                scope.spawn(move || {
                    for round in 0..500 {
                        let len = (number * 7 + round) % 3 * UNIT_BYTES + 1;
                        let buffer = buffers.take(len);
                        assert_eq!(buffer.len(), len);
                        let took = buffer.bytes.len();
                        let now = used.fetch_add(took, Ordering::SeqCst) + took;
                        most.fetch_max(now, Ordering::SeqCst);
                        used.fetch_sub(took, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 4 * UNIT_BYTES);
        buffers.trim();
        assert_eq!(buffers.0.lock().bytes, 0);
    }

    #[test]
    fn one_that_is_too_large_is_the_only_one() {
        let buffers = Buffers::new(UNIT_BYTES);
        let large = buffers.take(3 * UNIT_BYTES);
        assert!(buffers.try_take(1).is_none());
        drop(large);
        assert!(buffers.try_take(1).is_some());
    }
}
