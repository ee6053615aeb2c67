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
    pub(super) fn note(&mut self, place: u32, distance: usize, len: usize) {
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
    pub(crate) fn reached<const N: usize>(
        &self,
        from: usize,
        place: u64,
        step: usize,
    ) -> [u32; N] {
        let mut reached = [0_u32; N];
        for reference in self.noted.get(from..).unwrap_or_default() {
            let before = reference.distance().saturating_sub(reference.behind(low(place)));
            let class = before.div_ceil(step).min(N - 1);
            reached[class] += reference.len() as u32;
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
        for (at, byte) in (missing..WINDOW_BYTES).zip(window.iter_mut()) {
            if is_used[at / 64] >> (at % 64) & 1 == 0 {
                *byte = 0;
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
