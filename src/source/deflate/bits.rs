//! Bits of deflate code, least significant first.

/// A slice of code, and the bits taken out of it that are not used yet.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    input: &'a [u8],
    /// The next byte of `input` to take out.
    at: usize,
    /// Of these the lowest `count` bits are held. Those above are zero, or what
    /// follows.
    held: u64,
    count: u32,
}

/// Bits that are held after a refill that found enough input: more than a
/// symbol needs.
const FULL_BITS: u32 = 56;

impl<'a> Bits<'a> {
    /// `count` bits, fewer than 8, and what follows them.
    pub(super) fn new(held: u8, count: u32, input: &'a [u8]) -> Self {
        Self {
            input,
            at: 0,
            held: held.into(),
            count,
        }
    }

    /// Whether [`refill_fast`](Self::refill_fast) works twice.
    #[inline(always)]
    pub(super) fn has_plenty(&self) -> bool {
        self.input.len() - self.at >= 16
    }

    /// Takes in 56 bits at least, if there are 8 bytes of input.
    #[inline(always)]
    pub(super) fn refill_fast(&mut self) {
        if let Some(bytes) = self.input.get(self.at..self.at + 8) {
            let mut word = [0; 8];
            word.copy_from_slice(bytes);
            self.held |= u64::from_le_bytes(word) << self.count;
            // As many whole bytes as there is room for. That the byte after
            // them is there in part does no harm: it is what follows.
            self.at += ((63 - self.count) >> 3) as usize;
            self.count |= FULL_BITS;
        }
    }

    /// Takes in 56 bits, or all that there are.
    pub(super) fn refill(&mut self) {
        while self.count < FULL_BITS {
            let Some(byte) = self.input.get(self.at) else {
                self.held &= (1 << self.count) - 1;
                return;
            };
            self.held |= u64::from(*byte) << self.count;
            self.at += 1;
            self.count += 8;
        }
    }

    /// The bits at hand, and whatever above them.
    #[inline(always)]
    pub(super) fn peek(&self) -> u64 {
        self.held
    }

    /// How many bits are at hand.
    #[inline(always)]
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Steps over `n` of the bits at hand.
    #[inline(always)]
    pub(super) fn drop(&mut self, n: u32) {
        self.held >>= n & 63;
        self.count -= n;
    }

    /// The next `n` bits, at most 16; `None` if there are fewer.
    pub(super) fn take(&mut self, n: u32) -> Option<usize> {
        if self.count < n {
            self.refill();
        }
        let value = self.held & ((1 << n) - 1);
        self.count.checked_sub(n)?;
        self.drop(n);
        usize::try_from(value).ok()
    }

    /// How many bits there are.
    fn left(&self) -> usize {
        (self.input.len() - self.at) * 8 + self.count as usize
    }

    /// The bits from here to `end`, which is behind here in the same input, from
    /// the start of a byte on.
    pub(super) fn copy_until(mut self, end: &Self, out: &mut Vec<u8>) {
        let mut left = self.left().saturating_sub(end.left());
        while left > 0 {
            let now = left.min(8);
            let byte = self.take(u32::try_from(now).unwrap_or(8));
            out.push(byte.and_then(|byte| u8::try_from(byte).ok()).unwrap_or(0));
            left -= now;
        }
    }

    /// Steps to the next byte of the code.
    pub(super) fn align(&mut self) {
        self.drop(self.count % 8);
    }

    /// Up to `max` whole bytes, at the start of a byte of the code.
    pub(super) fn bytes(&mut self, max: usize) -> &'a [u8] {
        self.give_back();
        let rest = &self.input[self.at..];
        let bytes = &rest[..rest.len().min(max)];
        self.at += bytes.len();
        bytes
    }

    /// Puts whole bytes that are not needed back; all but 7 bits can be.
    pub(super) fn give_back(&mut self) {
        self.at -= (self.count / 8) as usize;
        self.count %= 8;
        self.held &= (1 << self.count) - 1;
    }

    /// Bytes of input used, and the bits that are held of the last one.
    pub(super) fn end(mut self) -> (usize, u8, u32) {
        self.give_back();
        let [held, ..] = self.held.to_le_bytes();
        (self.at, held, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_out_in_order_however_they_are_taken_in() {
        let input: Vec<u8> = (0..100).map(|i: u8| i.wrapping_mul(37)).collect();
        let all: Vec<u64> = (0..800)
            .map(|i| u64::from(input[i / 8] >> (i % 8) & 1))
            .collect();
        for fast in [false, true] {
            let mut bits = Bits::new(0, 0, &input);
            let mut at = 0;
            for step in [1, 5, 15, 13, 3, 16, 7].iter().cycle().copied() {
                if at + step as usize > all.len() {
                    break;
                }
                match fast && bits.has_plenty() {
                    true => bits.refill_fast(),
                    false => bits.refill(),
                }
                let expected = (0..step as usize).map(|i| all[at + i] << i).sum::<u64>();
                assert_eq!(bits.peek() & ((1 << step) - 1), expected);
                bits.drop(step);
                at += step as usize;
            }
            assert_eq!(bits.take(16).map(|_| ()), None);
            let (used, _, held) = bits.end();
            assert_eq!(used * 8 - held as usize, at);
        }
    }

    #[test]
    fn bits_are_copied_to_the_start_of_a_byte() {
        let input = [0b1010_1100, 0b0111_0001, 0b1, 0, 0, 0, 0, 0, 0, 0];
        let mut bits = Bits::new(0, 0, &input);
        assert_eq!(bits.take(3), Some(0b100));
        let start = bits;
        assert_eq!(bits.take(11), Some(0b110_0011_0101));
        let mut out = Vec::new();
        start.copy_until(&bits, &mut out);
        assert_eq!(out, [0b0011_0101, 0b110]);
    }

    #[test]
    fn what_is_not_used_is_given_back() {
        let input = [0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9];
        let mut bits = Bits::new(0b10, 2, &input);
        assert_eq!(bits.take(3), Some(0b110));
        bits.align();
        assert_eq!(bits.bytes(3), [1, 2, 3]);
        assert_eq!(bits.take(4), Some(4));
        assert_eq!(bits.end(), (5, 0, 4));
    }
}
