//! The codes of a block, as tables that answer for several bits at once.
//!
//! Guarantees: a set of lengths that is no prefix code is refused, as zlib
//! refuses it, and a table made of one that is has an answer for any bits.

/// Bits that the first look-up answers for, at most.
pub(super) const LITLEN_BITS: u32 = 11;
const DISTANCE_BITS: u32 = 8;
const PRECODE_BITS: u32 = 7;
/// Room for the first look-up and all tables of second ones: at most 2342 and
/// 402 entries for any code (as zlib's `enough` computes), rounded up so that a
/// mask replaces the check.
const LITLEN_ENTRIES: usize = 4096;
const DISTANCE_ENTRIES: usize = 512;
const PRECODE_ENTRIES: usize = 128;

/// Symbols of literals and lengths, the first two of them that mean nothing, and
/// the symbols of distances.
const LITLEN_SYMBOLS: usize = 288;
const LITLEN_SYMBOLS_USED: usize = 286;
const DISTANCE_SYMBOLS: usize = 32;
const DISTANCE_SYMBOLS_USED: usize = 30;
const PRECODE_SYMBOLS: usize = 19;
/// The symbol that ends a block.
const END_OF_BLOCK: usize = 256;
/// No code is longer.
const CODE_BITS_MAX: usize = 15;
/// The order in which lengths of the precode are given.
const PRECODE_ORDER: [usize; PRECODE_SYMBOLS] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

/// Base values and extra bits of lengths (symbols 257 on) and distances.
const LENGTHS: [(u16, u32); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];
const DISTANCES: [(u16, u32); DISTANCE_SYMBOLS_USED] = [
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (5, 1),
    (7, 1),
    (9, 2),
    (13, 2),
    (17, 3),
    (25, 3),
    (33, 4),
    (49, 4),
    (65, 5),
    (97, 5),
    (129, 6),
    (193, 6),
    (257, 7),
    (385, 7),
    (513, 8),
    (769, 8),
    (1025, 9),
    (1537, 9),
    (2049, 10),
    (3073, 10),
    (4097, 11),
    (6145, 11),
    (8193, 12),
    (12289, 12),
    (16385, 13),
    (24577, 13),
];

/// An answer of a table, in one word:
///
/// ```text
/// bit 31      a literal
/// bits 16-30  the literal; base of a length or distance; start of a second table
/// bit 15      neither a literal nor a value
/// bit 14      ... but a second table
/// bit 13      ... but the end of the block
/// bits 8-12   bits of the code alone, or bits that a second table answers for
/// bits 0-7    bits of the code and of the extra bits behind it
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry(u32);

impl Entry {
    const LITERAL: u32 = 1 << 31;
    const SPECIAL: u32 = 1 << 15;
    const SECOND: u32 = 1 << 14;
    const END: u32 = 1 << 13;
    /// What no symbol is coded by.
    const INVALID: Self = Self(Self::SPECIAL);

    const fn value(base: u16, extra_bits: u32) -> Self {
        Self((base as u32) << 16 | extra_bits)
    }

    /// The entry with its code's length, of a symbol that may mean nothing.
    fn with_code(self, bits: u32) -> Self {
        Self(self.0 + (bits << 8) + bits)
    }

    #[inline(always)]
    pub(super) fn is_literal(self) -> bool {
        self.0 & Self::LITERAL != 0
    }

    #[inline(always)]
    pub(super) fn is_special(self) -> bool {
        self.0 & Self::SPECIAL != 0
    }

    #[inline(always)]
    pub(super) fn is_second(self) -> bool {
        self.0 & Self::SECOND != 0
    }

    pub(super) fn is_end(self) -> bool {
        self.0 & Self::END != 0
    }

    #[inline(always)]
    pub(super) fn literal(self) -> u8 {
        self.0.to_le_bytes()[2]
    }

    /// Bits of the code and of the extra bits behind it.
    #[inline(always)]
    pub(super) fn bits(self) -> u32 {
        self.0 & 0xff
    }

    /// Base plus extra bits, which are behind the code in `held`.
    #[inline(always)]
    pub(super) fn base_plus_extra(self, held: u64) -> usize {
        let both = held & ((1 << (self.0 & 63)) - 1);
        (self.0 >> 16) as usize + index(both >> (self.0 >> 8 & 31))
    }

    /// Where in the second table the answer is, for the bits that follow.
    #[inline(always)]
    fn second(self, following: u64) -> usize {
        let bits = self.0 >> 8 & 31;
        (self.0 >> 16) as usize + index(following & ((1 << bits) - 1))
    }
}

/// Bits that were masked to be few, as an index.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "they are fewer than 32")]
fn index(bits: u64) -> usize {
    bits as usize
}

/// A table of `N` entries, which is a power of two.
#[derive(Clone, Debug)]
pub(super) struct Table<const N: usize> {
    entries: Box<[Entry; N]>,
    /// Bits that the first look-up answers for.
    bits: u32,
}

impl<const N: usize> Table<N> {
    fn new() -> Self {
        Self {
            entries: Box::new([Entry::INVALID; N]),
            bits: 0,
        }
    }

    /// The table for many look-ups.
    #[inline(always)]
    pub(super) fn view(&self) -> View<'_, N> {
        View {
            entries: &self.entries,
            bits: self.bits,
            mask: (1 << self.bits) - 1,
        }
    }

    /// The answer for the lowest bits of `held`.
    pub(super) fn get(&self, held: u64) -> Entry {
        let (view, first) = (self.view(), self.view().first(held));
        match first.is_second() {
            true => view.second(first, held),
            false => first,
        }
    }

    /// Makes the table for the code of these lengths; what symbol `n` means is
    /// `entry(n)`. A code may be empty or have one symbol of one bit; any other
    /// has to be complete.
    fn make(
        &mut self,
        lengths: &[u8],
        first_bits: u32,
        entry: impl Fn(usize) -> Entry,
    ) -> Result<(), &'static str> {
        let mut counts = [0_u16; CODE_BITS_MAX + 1];
        for len in lengths {
            counts[usize::from(*len) & CODE_BITS_MAX] += 1;
        }
        counts[0] = 0;
        let longest = counts.iter().rposition(|count| *count > 0).unwrap_or(0);
        let mut room = 1_i32;
        for count in &counts[1..] {
            room = (room << 1) - i32::from(*count);
            if room < 0 {
                return Err("over-subscribed");
            }
        }
        if room > 0 && longest > 1 {
            return Err("incomplete");
        }
        self.bits = first_bits.min(u32::try_from(longest).unwrap_or(0)).max(1);
        if room > 0 {
            self.entries[..2].fill(Entry::INVALID.with_code(1));
        }
        // Symbols in the order of their codes: by length, then by number.
        let mut offsets = [0_usize; CODE_BITS_MAX + 2];
        for len in 1..=CODE_BITS_MAX {
            offsets[len + 1] = offsets[len] + usize::from(counts[len]);
        }
        let mut sorted = [0_u16; LITLEN_SYMBOLS];
        for (symbol, len) in (0_u16..).zip(lengths) {
            if *len > 0 {
                let at = &mut offsets[usize::from(*len) & CODE_BITS_MAX];
                sorted[*at % LITLEN_SYMBOLS] = symbol;
                *at += 1;
            }
        }
        self.fill(&sorted, counts, entry);
        Ok(())
    }

    fn fill(
        &mut self,
        sorted: &[u16],
        mut counts: [u16; CODE_BITS_MAX + 1],
        entry: impl Fn(usize) -> Entry,
    ) {
        let mut symbols = sorted.iter();
        let size = 1_usize << self.bits;
        let mut free = size;
        // The second table in the making: of which first bits, where, how large.
        let mut second = (usize::MAX, 0, 0);
        let mut code = 0_u16;
        for len in 1..=CODE_BITS_MAX {
            let bits = u32::try_from(len).unwrap_or(0);
            code <<= 1;
            while counts[len] > 0 {
                let Some(symbol) = symbols.next() else { return };
                let answer = entry(usize::from(*symbol)).with_code(bits);
                let reversed = usize::from(code.reverse_bits() >> (16 - bits));
                if bits <= self.bits {
                    for at in (reversed..size).step_by(1 << bits) {
                        self.entries[at & (N - 1)] = answer;
                    }
                } else {
                    let first = reversed & (size - 1);
                    if first != second.0 {
                        let wide = second_bits(&counts, len, self.bits);
                        second = (first, free, 1_usize << wide);
                        free += second.2;
                        let start = u32::try_from(second.1).unwrap_or(0);
                        let word = start << 16 | wide << 8 | Entry::SPECIAL | Entry::SECOND;
                        self.entries[first & (N - 1)] = Entry(word | self.bits);
                    }
                    let step = 1 << (bits - self.bits);
                    for at in (reversed >> self.bits..second.2).step_by(step) {
                        self.entries[(second.1 + at) & (N - 1)] = answer;
                    }
                }
                code = code.wrapping_add(1);
                counts[len] -= 1;
            }
        }
    }
}

/// A table, with all that a look-up needs at hand.
#[derive(Clone, Copy)]
pub(super) struct View<'a, const N: usize> {
    entries: &'a [Entry; N],
    bits: u32,
    mask: u64,
}

impl<const N: usize> View<'_, N> {
    /// The answer of the first look-up for the lowest bits of `held`.
    #[inline(always)]
    pub(super) fn first(&self, held: u64) -> Entry {
        self.entries[index(held & self.mask) & (N - 1)]
    }

    /// The answer of the second look-up.
    #[inline(always)]
    pub(super) fn second(&self, first: Entry, held: u64) -> Entry {
        self.entries[first.second(held >> self.bits) & (N - 1)]
    }
}

/// Bits that a second table has to answer for, whose first code has length
/// `len`: `counts` are of the codes that are not in a table yet.
fn second_bits(counts: &[u16; CODE_BITS_MAX + 1], len: usize, first_bits: u32) -> u32 {
    let mut bits = u32::try_from(len).unwrap_or(0) - first_bits;
    let mut room = 1_i32 << bits;
    for (len, count) in (len..).zip(&counts[len..]) {
        room -= i32::from(*count);
        if room <= 0 || len == CODE_BITS_MAX {
            break;
        }
        bits += 1;
        room <<= 1;
    }
    bits
}

/// What the symbols of literals and lengths mean.
fn litlen_entry(symbol: usize) -> Entry {
    if let Ok(literal) = u8::try_from(symbol) {
        return Entry(Entry::LITERAL | u32::from(literal) << 16);
    }
    match symbol - END_OF_BLOCK {
        0 => Entry(Entry::SPECIAL | Entry::END),
        number => LENGTHS
            .get(number - 1)
            .map_or(Entry::INVALID, |(base, bits)| Entry::value(*base, *bits)),
    }
}

fn distance_entry(symbol: usize) -> Entry {
    DISTANCES
        .get(symbol)
        .map_or(Entry::INVALID, |(base, bits)| Entry::value(*base, *bits))
}

fn precode_entry(symbol: usize) -> Entry {
    Entry::value(u16::try_from(symbol).unwrap_or(0), 0)
}

/// The two codes of a block.
#[derive(Clone, Debug)]
pub(super) struct Codes {
    pub(super) litlen: Table<LITLEN_ENTRIES>,
    pub(super) distance: Table<DISTANCE_ENTRIES>,
    precode: Table<PRECODE_ENTRIES>,
    /// Whether they are the fixed ones: blocks of a few bits may follow one
    /// another, and should not cost a table each.
    are_fixed: bool,
}

/// Why a header is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// The input ends within it.
    NeedInput,
    /// It is damaged.
    Bad(&'static str),
}

impl Codes {
    pub(super) fn new() -> Self {
        Self {
            litlen: Table::new(),
            distance: Table::new(),
            precode: Table::new(),
            are_fixed: false,
        }
    }

    /// The codes that RFC 1951 fixes (3.2.6).
    pub(super) fn fix(&mut self) -> Result<(), &'static str> {
        if self.are_fixed {
            return Ok(());
        }
        let mut lengths = [8; LITLEN_SYMBOLS];
        lengths[144..256].fill(9);
        lengths[256..280].fill(7);
        self.litlen.make(&lengths, LITLEN_BITS, litlen_entry)?;
        let lengths = [5; DISTANCE_SYMBOLS];
        self.distance
            .make(&lengths, DISTANCE_BITS, distance_entry)?;
        self.are_fixed = true;
        Ok(())
    }

    /// Reads the codes of a dynamic block (3.2.7).
    pub(super) fn read(&mut self, bits: &mut super::bits::Bits<'_>) -> Result<(), Unread> {
        let mut number = |n| bits.take(n).ok_or(Unread::NeedInput);
        let litlens = number(5)? + 257;
        let distances = number(5)? + 1;
        let precodes = number(4)? + 4;
        if litlens > LITLEN_SYMBOLS_USED || distances > DISTANCE_SYMBOLS_USED {
            return Err(Unread::Bad("too many length or distance symbols"));
        }
        let mut lengths = [0_u8; PRECODE_SYMBOLS];
        for symbol in &PRECODE_ORDER[..precodes] {
            lengths[*symbol] = u8::try_from(number(3)?).unwrap_or(0);
        }
        // Unlike the others this one has to be complete.
        let is_empty_or_short = |lengths: &[u8]| lengths.iter().all(|len| *len <= 1);
        let ones = lengths.iter().filter(|len| **len == 1).count();
        if is_empty_or_short(&lengths) && ones < 2 {
            return Err(Unread::Bad("invalid code lengths set"));
        }
        self.precode
            .make(&lengths, PRECODE_BITS, precode_entry)
            .map_err(|_| Unread::Bad("invalid code lengths set"))?;
        let mut lengths = [0_u8; LITLEN_SYMBOLS_USED + DISTANCE_SYMBOLS_USED];
        self.lengths(bits, &mut lengths[..litlens + distances])?;
        if lengths[END_OF_BLOCK] == 0 {
            return Err(Unread::Bad("invalid code -- missing end-of-block"));
        }
        self.are_fixed = false;
        let (litlens, distances) = lengths[..litlens + distances].split_at(litlens);
        self.litlen
            .make(litlens, LITLEN_BITS, litlen_entry)
            .map_err(|_| Unread::Bad("invalid literal/lengths set"))?;
        self.distance
            .make(distances, DISTANCE_BITS, distance_entry)
            .map_err(|_| Unread::Bad("invalid distances set"))
    }

    /// Reads lengths, which are themselves coded.
    fn lengths(&self, bits: &mut super::bits::Bits<'_>, lengths: &mut [u8]) -> Result<(), Unread> {
        let mut at = 0;
        while at < lengths.len() {
            bits.refill();
            let entry = self.precode.get(bits.peek());
            if entry.is_special() {
                return Err(Unread::Bad("invalid code lengths set"));
            }
            if entry.bits() > bits.count() {
                return Err(Unread::NeedInput);
            }
            let symbol = entry.base_plus_extra(bits.peek());
            bits.drop(entry.bits());
            let mut number = |n| bits.take(n).ok_or(Unread::NeedInput);
            let (value, times) = match symbol {
                0..=15 => (u8::try_from(symbol).unwrap_or(0), 1),
                16 => {
                    let last = at.checked_sub(1).and_then(|at| lengths.get(at).copied());
                    let times = number(2)? + 3;
                    (last.ok_or(Unread::Bad("invalid bit length repeat"))?, times)
                }
                17 => (0, number(3)? + 3),
                _ => (0, number(7)? + 11),
            };
            let run = lengths.get_mut(at..at + times);
            run.ok_or(Unread::Bad("invalid bit length repeat"))?
                .fill(value);
            at += times;
        }
        Ok(())
    }
}
