//! What copies refer to: how much of the output before a place is needed to go on
//! from there.

use super::WINDOW_BYTES;

/// A copy: where in the output it is, how far back it reaches, and how long it is.
#[derive(Clone, Copy)]
struct Reference(u64);

impl Reference {
    #[inline(always)]
    fn new(place: u32, distance: usize, len: usize) -> Self {
        Self(u64::from(place) | (distance as u64) << 32 | (len as u64) << 48)
    }

    /// How many bytes behind `place` the copy is, which is not before it.
    fn behind(self, place: u32) -> usize {
        let [a, b, c, d, ..] = self.0.to_le_bytes();
        u32::from_le_bytes([a, b, c, d]).wrapping_sub(place) as usize
    }

    fn distance(self) -> usize {
        let [_, _, _, _, a, b, ..] = self.0.to_le_bytes();
        usize::from(u16::from_le_bytes([a, b]))
    }

    fn len(self) -> usize {
        let [.., a, b] = self.0.to_le_bytes();
        usize::from(u16::from_le_bytes([a, b]))
    }
}

/// Copies, in the order of the output. Places are offsets in it modulo 2^32.
#[derive(Clone, Default)]
pub(crate) struct References {
    noted: Vec<Reference>,
}

impl References {
    /// Notes that `len` bytes at `place` are those from `distance` bytes before.
    #[inline(always)]
    pub(in crate::source) fn note(&mut self, place: u32, distance: usize, len: usize) {
        self.noted.push(Reference::new(place, distance, len));
    }

    /// How many are noted.
    pub(crate) fn count(&self) -> usize {
        self.noted.len()
    }

    /// Forgets the first `count`.
    pub(crate) fn forget(&mut self, count: usize) {
        self.noted.drain(..count.min(self.noted.len()));
    }

    /// Of those from number `from` on, which are all behind `place`: how many bytes
    /// each copies from before it, in classes of `step` bytes by how far before.
    /// `reached[n]` is the sum of those that reach back `n` steps and a part.
    pub(crate) fn reached<const N: usize>(&self, from: usize, place: u64, step: usize) -> [u64; N] {
        let mut reached = [0_u64; N];
        for reference in self.noted.get(from..).unwrap_or_default() {
            let before = reference
                .distance()
                .saturating_sub(reference.behind(low(place)));
            let class = before.div_ceil(step).min(N - 1);
            reached[class] += reference.len() as u64;
        }
        reached
    }

    /// Clears of `window`, the bytes before `place`, what none of those from number
    /// `from` on refers to, which are all behind it; whether anything is left.
    pub(crate) fn clear_unused(&self, from: usize, place: u64, window: &mut [u8]) -> bool {
        let mut is_used = [0_u64; WINDOW_BYTES / 64];
        let mut is_any = false;
        for reference in self.noted.get(from..).unwrap_or_default() {
            let behind = reference.behind(low(place));
            if behind >= WINDOW_BYTES {
                break;
            }
            let before = reference.distance().saturating_sub(behind);
            let start = WINDOW_BYTES.saturating_sub(before);
            for at in start..WINDOW_BYTES.min(start + reference.len()) {
                is_used[at / 64] |= 1 << (at % 64);
                is_any = true;
            }
        }
        let missing = WINDOW_BYTES - window.len().min(WINDOW_BYTES);
        // Most of it is not used, by whole words.
        for (first, used) in (0..).step_by(64).zip(is_used) {
            let word = first.max(missing)..(first + 64).max(missing);
            match used {
                0 => window[word.start - missing..word.end - missing].fill(0),
                _ => word
                    .filter(|at| used >> (at % 64) & 1 == 0)
                    .for_each(|at| window[at - missing] = 0),
            }
        }
        is_any
    }
}

/// A place modulo 2^32.
#[allow(clippy::cast_possible_truncation, reason = "that is what is asked for")]
fn low(place: u64) -> u32 {
    place as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the 100 bytes before place `BASE`, and some behind it.
    fn references() -> References {
        let mut references = References::default();
        references.note(low(BASE), 100, 3);
        references.note(low(BASE + 3), 5, 50);
        references.note(low(BASE + 60), 50, 9);
        references.note(low(BASE + 70), 120, 2);
        references
    }

    /// Places are told modulo 2^32.
    const BASE: u64 = (5 << 32) - 50;

    #[test]
    fn what_was_copied_stays() {
        let references = references();
        let mut window = [1; 100];
        assert!(references.clear_unused(0, BASE, &mut window));
        let kept: Vec<_> = (0..100).filter(|at| window[*at] == 1).collect();
        assert_eq!(kept, [0, 1, 2, 50, 51, 98, 99]);
        assert!(references.clear_unused(2, BASE, &mut window));
        let kept: Vec<_> = (0..100).filter(|at| window[*at] == 1).collect();
        assert_eq!(kept, [50, 51]);
        assert!(!References::default().clear_unused(0, BASE, &mut window));
        assert_eq!(window, [0; 100]);
    }

    #[test]
    fn what_is_copied_from_before_is_counted_by_how_far_before() {
        let mut references = references();
        assert_eq!(references.reached(0, BASE, 40), [9, 50, 2, 3]);
        assert_eq!(references.reached(1, BASE, 40), [9, 50, 2, 0]);
        references.forget(3);
        assert_eq!(references.reached(0, BASE, 100), [0, 2]);
        references.forget(9);
        assert_eq!(references.count(), 0);
    }
}
