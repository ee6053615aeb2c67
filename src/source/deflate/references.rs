//! What is referred to of the bytes before a place.

use super::WINDOW_BYTES;

/// Which of the bytes before a place of the output copies behind it came from.
#[derive(Clone, Debug)]
pub(crate) struct References {
    /// Where in the output the place is.
    place: usize,
    /// One bit for each byte of the window, the last one the byte right before
    /// the place.
    used: Box<[u64; WINDOW_BYTES / 64]>,
    is_any: bool,
}

impl References {
    pub(super) fn new(place: usize) -> Self {
        Self {
            place,
            used: Box::new([0; WINDOW_BYTES / 64]),
            is_any: false,
        }
    }

    /// Whether this is what a new one for `place` would be.
    pub(super) fn is_new(&self, place: usize) -> bool {
        self.place == place && !self.is_any
    }

    /// Follows the output that was moved `by` bytes to the front.
    pub(super) fn shift(&mut self, by: usize) {
        // Once the window has left the output nothing can refer to it.
        self.place = self.place.saturating_sub(by);
    }

    /// Notes that `len` bytes from `from` on were copied.
    #[inline(always)]
    pub(super) fn note(&mut self, from: usize, len: usize) {
        if from < self.place {
            self.set(self.place - from, len);
        }
    }

    /// Notes `len` bytes from the one `before` bytes before the place on.
    fn set(&mut self, before: usize, len: usize) {
        self.is_any = true;
        let start = WINDOW_BYTES.saturating_sub(before);
        let end = (start + len).min(WINDOW_BYTES);
        for at in start..end {
            self.used[at / 64] |= 1 << (at % 64);
        }
    }

    /// Clears what is not referred to of `window`, the last bytes before the
    /// place; whether anything is left.
    pub(crate) fn clear_unused(&self, window: &mut [u8]) -> bool {
        let missing = WINDOW_BYTES - window.len().min(WINDOW_BYTES);
        for (at, byte) in (missing..).zip(window.iter_mut()) {
            if self.used[at / 64] >> (at % 64) & 1 == 0 {
                *byte = 0;
            }
        }
        self.is_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_copied_stays() {
        let mut references = References::new(100);
        references.note(0, 3);
        references.note(98, 50);
        references.note(100, 9);
        references.shift(10);
        references.note(40, 2);
        let mut window = [1; 100];
        assert!(references.clear_unused(&mut window));
        let kept: Vec<_> = (0..100).filter(|at| window[*at] == 1).collect();
        assert_eq!(kept, [0, 1, 2, 50, 51, 98, 99]);
        assert!(!References::new(5).clear_unused(&mut window));
    }
}
