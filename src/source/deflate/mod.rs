//! Raw deflate (RFC 1951) that can stop and start between any two symbols, and
//! tells what it refers to: what random access into gzip is built on.
//!
//! Libraries stop, if anywhere, at the boundaries of blocks, which may be
//! megabytes apart, and do not say which of the 32 KiB before a place are
//! needed to go on from there. Both are by-products of the decoding itself.
//!
//! Guarantees: never a panic and never more than the memory of [`Inflate`],
//! about 120 KB and what it is to hold, on any input; what zlib refuses is refused. Every call takes
//! all the input that it used and gives the rest back, to the bit: between two
//! calls fewer than 8 bits are held, so where decoding stands is known exactly.

mod bits;
mod codes;
mod references;

use bits::Bits;
use codes::{Codes, Entry, Unread, View};
pub(crate) use references::References;

/// Largest distance that deflate can refer back.
pub(crate) const WINDOW_BYTES: usize = 32 * 1024;
/// Output that is pending at most, unless [`Inflate::holding`] says otherwise.
pub(crate) const WANTED_MAX: usize = 32 * 1024;
/// What may come out beyond what was asked for, and be scribbled over behind it:
/// three literals, the longest copy, and the end of its last word.
const SLACK_BYTES: usize = 3 + COPY_MAX + 2 * WORD_BYTES;
const COPY_MAX: usize = 258;
/// No header is longer: 17 bits, 19 lengths of 3 bits, and 316 of at most 7 with 7
/// more.
pub(crate) const HEADER_BYTES_MAX: usize = (17 + 19 * 3 + 316 * 14) / 8 + 1;
/// Bits that a distance takes at most, and that are looked at behind it.
const DISTANCE_BITS_MAX: u32 = 15 + 13;
const NEXT_BITS: u32 = codes::LITLEN_BITS;
/// Copies go by words of this many bytes.
const WORD_BYTES: usize = 16;
/// The window and what is pending are moved to the front when as much came out as
/// may be pending, or this many times as much where that is more than the window.
const MOVE_FACTOR: usize = 2;

/// Why a call returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// As much output as was wanted is there, and decoding stands between two
    /// symbols.
    Enough,
    /// The rest of the input is no whole symbol or header: the next call has to
    /// begin with it, and more behind it.
    NeedInput,
    /// A block starts here.
    Block,
    /// The last block ended.
    End,
}

/// Where decoding stands within a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In front of a block's header.
    Header,
    /// In a block that is stored, with so many bytes to come.
    Stored(usize),
    /// In front of a symbol.
    Symbols,
    /// Behind the last block.
    Ended,
}

/// A decoder, with its output: what was not taken yet, and the window before it.
pub(crate) struct Inflate {
    codes: Codes,
    state: State,
    /// Whether no block follows this one.
    is_last: bool,
    /// The block's header, from the start of a byte on.
    header: Vec<u8>,
    /// Bits of the last byte of input that are not used yet.
    held: u8,
    held_count: u32,
    out: Box<[u8]>,
    /// `out[..end]` was decoded, of which `out[..taken]` was taken.
    end: usize,
    taken: usize,
    /// How far back may be referred to: the start of the stream or of the window.
    floor: usize,
    /// How many bytes may be pending.
    pending_max: usize,
    /// Offset in all the output of `out[0]`, modulo 2^32.
    origin: u32,
    is_watched: bool,
    references: References,
}

impl std::fmt::Debug for Inflate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (state, pending) = (self.state, self.end - self.taken);
        f.debug_struct("Inflate")
            .field("state", &state)
            .field("pending", &pending)
            .finish_non_exhaustive()
    }
}

impl Inflate {
    /// A decoder at the start of a stream.
    pub(crate) fn new() -> Self {
        Self::holding(WANTED_MAX)
    }

    /// A decoder at the start of a stream, which holds up to `pending_max` bytes
    /// that were not taken yet.
    pub(crate) fn holding(pending_max: usize) -> Self {
        let moved_after = match pending_max {
            0..=WINDOW_BYTES => pending_max,
            _ => MOVE_FACTOR * pending_max,
        };
        let out_bytes = WINDOW_BYTES + moved_after + pending_max + SLACK_BYTES;
        Self {
            codes: Codes::new(),
            state: State::Header,
            is_last: false,
            header: Vec::with_capacity(HEADER_BYTES_MAX),
            held: 0,
            held_count: 0,
            out: vec![0; out_bytes].into_boxed_slice(),
            end: 0,
            taken: 0,
            floor: 0,
            pending_max,
            origin: 0,
            is_watched: false,
            references: References::default(),
        }
    }

    /// Goes to the start of a block, at the start of a byte. `window` is what
    /// came before it, as far as it may be referred to.
    pub(crate) fn start(&mut self, window: &[u8]) {
        let window = &window[window.len().saturating_sub(WINDOW_BYTES)..];
        self.out[..window.len()].copy_from_slice(window);
        (self.end, self.taken) = (window.len(), window.len());
        self.start_another();
        self.floor = 0;
    }

    /// Goes to the start of another stream, whose output comes behind what there is.
    pub(crate) fn start_another(&mut self) {
        (self.state, self.is_last) = (State::Header, false);
        self.floor = self.end;
        self.jump(0, 0);
    }

    /// Goes to another place within a block, of which the first `count` bits, at
    /// most 7, are the lowest ones of `bits`, and whole bytes follow.
    pub(crate) fn jump(&mut self, bits: u8, count: u32) {
        let count = count.min(7);
        (self.held, self.held_count) = (bits & ((1 << count) - 1), count);
    }

    /// Enters a block whose header is known, to [`jump`](Self::jump) to one of its
    /// symbols.
    pub(crate) fn enter(&mut self, header: &[u8]) -> Result<(), &'static str> {
        let mut bits = Bits::new(0, 0, header);
        match self.read_header(&mut bits) {
            Ok(()) if self.is_at_symbol() => Ok(()),
            Ok(()) => Err("header of a stored block"),
            Err(Unread::NeedInput) => Err("header of a block is cut off"),
            Err(Unread::Bad(what)) => Err(what),
        }
    }

    /// The header of the block that was entered last, for [`enter`](Self::enter):
    /// some tens of bytes, at most [`HEADER_BYTES_MAX`].
    pub(crate) fn block_header(&self) -> &[u8] {
        &self.header
    }

    /// Whether what follows is a symbol of a compressed block.
    pub(crate) fn is_at_symbol(&self) -> bool {
        self.state == State::Symbols
    }

    /// How many bits of the input used so far belong to what follows.
    pub(crate) fn held_bits(&self) -> u32 {
        self.held_count
    }

    /// What came out and was not taken yet.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.out[self.taken..self.end]
    }

    /// Says that `n` of the pending bytes are taken.
    pub(crate) fn take(&mut self, n: usize) {
        self.taken = self.end.min(self.taken + n);
    }

    /// The last `len` bytes that were taken, at most [`WINDOW_BYTES`].
    pub(crate) fn window(&self, len: usize) -> &[u8] {
        &self.out[self.taken.saturating_sub(len.min(WINDOW_BYTES))..self.taken]
    }

    #[cfg(test)]
    /// Where in the output decoding stands, as [`References`] count: modulo 2^32.
    pub(crate) fn place(&self) -> u64 {
        u64::from(self.origin.wrapping_add(low(self.end)))
    }

    /// Says whether to note what is referred to from here on.
    pub(crate) fn watch(&mut self, is_watched: bool) {
        self.is_watched = is_watched;
    }

    /// What was noted.
    pub(crate) fn references(&mut self) -> &mut References {
        &mut self.references
    }

    /// Decodes until `wanted` bytes are pending, or as many as may be, or something
    /// else happens. How many bytes of input that took.
    pub(crate) fn inflate(
        &mut self,
        input: &[u8],
        wanted: usize,
    ) -> Result<(usize, Status), &'static str> {
        self.make_room();
        let until = self.taken + wanted.min(self.pending_max);
        let mut bits = Bits::new(self.held, self.held_count, input);
        let status = self.run(&mut bits, until)?;
        Ok((self.hold(bits), status))
    }

    /// Keeps the bits that are left, and answers how many bytes were used.
    fn hold(&mut self, bits: Bits<'_>) -> usize {
        let (used, held, count) = bits.end();
        (self.held, self.held_count) = (held, count);
        used
    }

    /// Moves the window and what is pending to the front if there is no room for
    /// the most that may be pending.
    fn make_room(&mut self) {
        if self.taken + self.pending_max + SLACK_BYTES <= self.out.len() {
            return;
        }
        let from = self.taken.saturating_sub(WINDOW_BYTES);
        self.out.copy_within(from..self.end, 0);
        self.taken -= from;
        self.end -= from;
        self.floor = self.floor.saturating_sub(from);
        self.origin = self.origin.wrapping_add(low(from));
    }

    fn run(&mut self, bits: &mut Bits<'_>, until: usize) -> Result<Status, &'static str> {
        loop {
            let is_done = match self.state {
                State::Ended => return Ok(Status::End),
                _ if self.end >= until => return Ok(Status::Enough),
                State::Header => match self.read_header_or_rewind(bits)? {
                    true => continue,
                    false => return Ok(Status::NeedInput),
                },
                State::Stored(left) => self.stored(bits, left, until),
                State::Symbols => match self.is_watched {
                    false => self.symbols::<false>(bits, until)?,
                    true => self.symbols::<true>(bits, until)?,
                },
            };
            if is_done {
                self.state = match self.is_last {
                    true => State::Ended,
                    false => State::Header,
                };
                if !self.is_last {
                    return Ok(Status::Block);
                }
            } else if self.end < until {
                return Ok(Status::NeedInput);
            }
        }
    }

    /// Reads a header; false, and nothing of it used, if it is not all there.
    fn read_header_or_rewind(&mut self, bits: &mut Bits<'_>) -> Result<bool, &'static str> {
        let before = *bits;
        match self.read_header(bits) {
            Ok(()) => {
                self.header.clear();
                before.copy_until(bits, &mut self.header);
                Ok(true)
            }
            Err(Unread::Bad(what)) => Err(what),
            Err(Unread::NeedInput) => {
                *bits = before;
                Ok(false)
            }
        }
    }

    fn read_header(&mut self, bits: &mut Bits<'_>) -> Result<(), Unread> {
        let mut number = |n| bits.take(n).ok_or(Unread::NeedInput);
        let is_last = number(1)? == 1;
        self.state = match number(2)? {
            0 => {
                bits.align();
                let mut number = |n| bits.take(n).ok_or(Unread::NeedInput);
                let (len, inverse) = (number(16)?, number(16)?);
                if len != inverse ^ 0xffff {
                    return Err(Unread::Bad("invalid stored block lengths"));
                }
                State::Stored(len)
            }
            1 => {
                self.codes.fix().map_err(Unread::Bad)?;
                State::Symbols
            }
            2 => {
                self.codes.read(bits)?;
                State::Symbols
            }
            _ => return Err(Unread::Bad("invalid block type")),
        };
        self.is_last = is_last;
        Ok(())
    }

    /// Copies from a stored block; whether that was the rest of it.
    fn stored(&mut self, bits: &mut Bits<'_>, left: usize, until: usize) -> bool {
        let bytes = bits.bytes(left.min(until - self.end));
        self.out[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
        self.state = State::Stored(left - bytes.len());
        left == bytes.len()
    }

    /// Decodes symbols until `until`, or the end of the input; whether the block
    /// ended.
    fn symbols<const WATCHED: bool>(
        &mut self,
        bits: &mut Bits<'_>,
        until: usize,
    ) -> Result<bool, &'static str> {
        while self.end < until {
            if self.many_symbols::<WATCHED>(bits, until)? {
                return Ok(true);
            }
            if self.end < until {
                match self.one_symbol::<WATCHED>(bits)? {
                    Step::Done => {}
                    Step::NeedInput => break,
                    Step::EndOfBlock => return Ok(true),
                }
            }
        }
        Ok(false)
    }

    /// Decodes while there is plenty of input; whether the block ended. Whatever
    /// is not plain is left to [`one_symbol`](Self::one_symbol).
    #[inline(always)]
    fn many_symbols<const WATCHED: bool>(
        &mut self,
        kept: &mut Bits<'_>,
        until: usize,
    ) -> Result<bool, &'static str> {
        let Self {
            codes,
            out,
            references,
            floor,
            origin,
            ..
        } = self;
        let (litlen, distances) = (codes.litlen.view(), codes.distance.view());
        let (floor, origin) = (*floor, *origin);
        let (out, mut end) = (&mut out[..], self.end);
        // In registers, which what is behind a reference may not be.
        let mut bits = *kept;
        bits.refill_fast();
        // Always looked up before it is known whether there is room for it, so
        // that nothing waits for memory.
        let mut entry = litlen.first(bits.peek());
        let result = loop {
            if !bits.has_plenty() || end >= until {
                break Ok(false);
            }
            bits.refill_fast();
            // 56 bits: three literals of 11 bits leave 23, two leave 34.
            if entry.is_literal() {
                entry = literal(entry, &mut bits, litlen, out, &mut end);
                if entry.is_literal() {
                    entry = literal(entry, &mut bits, litlen, out, &mut end);
                    if entry.is_literal() {
                        entry = literal(entry, &mut bits, litlen, out, &mut end);
                        continue;
                    }
                }
            }
            if entry.is_special() {
                if entry.is_second() {
                    entry = litlen.second(entry, bits.peek());
                    if entry.is_literal() {
                        entry = literal(entry, &mut bits, litlen, out, &mut end);
                        continue;
                    }
                }
                if entry.is_end() {
                    bits.drop(entry.bits());
                    break Ok(true);
                }
                if entry.is_special() {
                    break Err("invalid literal/length code");
                }
            }
            // At most 20 bits of at least 34.
            let len = entry.base_plus_extra(bits.peek());
            bits.drop(entry.bits());
            if bits.count() < DISTANCE_BITS_MAX + NEXT_BITS {
                bits.refill_fast();
            }
            let mut far = distances.first(bits.peek());
            if far.is_special() {
                if far.is_second() {
                    far = distances.second(far, bits.peek());
                }
                if far.is_special() {
                    break Err("invalid distance code");
                }
            }
            let distance = far.base_plus_extra(bits.peek());
            bits.drop(far.bits());
            entry = litlen.first(bits.peek());
            if distance > end - floor {
                break Err("invalid distance too far back");
            }
            if WATCHED {
                references.note(origin.wrapping_add(low(end)), distance, len);
            }
            copy(out, end - distance, end, len);
            end += len;
        };
        (*kept, self.end) = (bits, end);
        result
    }

    /// Decodes one symbol, if it is all there.
    fn one_symbol<const WATCHED: bool>(
        &mut self,
        bits: &mut Bits<'_>,
    ) -> Result<Step, &'static str> {
        bits.refill();
        // A symbol has at most 48 bits.
        let (held, count) = (bits.peek(), bits.count());
        let entry = self.codes.litlen.get(held);
        if entry.bits() > count || count == 0 {
            return Ok(Step::NeedInput);
        }
        if entry.is_literal() {
            bits.drop(entry.bits());
            self.out[self.end] = entry.literal();
            self.end += 1;
            return Ok(Step::Done);
        }
        if entry.is_end() {
            bits.drop(entry.bits());
            return Ok(Step::EndOfBlock);
        }
        if entry.is_special() {
            return Err("invalid literal/length code");
        }
        let len = entry.base_plus_extra(held);
        let (used, held) = (entry.bits(), held >> entry.bits());
        let entry = self.codes.distance.get(held);
        if used + entry.bits() > count || used == count {
            return Ok(Step::NeedInput);
        }
        if entry.is_special() {
            return Err("invalid distance code");
        }
        let distance = entry.base_plus_extra(held);
        bits.drop(used + entry.bits());
        if distance > self.end - self.floor {
            return Err("invalid distance too far back");
        }
        if WATCHED {
            let place = self.origin.wrapping_add(low(self.end));
            self.references.note(place, distance, len);
        }
        copy(&mut self.out, self.end - distance, self.end, len);
        self.end += len;
        Ok(Step::Done)
    }
}

/// An offset modulo 2^32.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "that is what is asked for")]
fn low(offset: usize) -> u32 {
    offset as u32
}

/// Writes a literal and steps over it; the answer for what follows.
#[inline(always)]
fn literal<const N: usize>(
    entry: Entry,
    bits: &mut Bits<'_>,
    litlen: View<'_, N>,
    out: &mut [u8],
    end: &mut usize,
) -> Entry {
    bits.drop(entry.bits());
    out[*end] = entry.literal();
    *end += 1;
    litlen.first(bits.peek())
}

/// What became of one symbol.
enum Step {
    Done,
    NeedInput,
    EndOfBlock,
}

/// Copies `len` bytes within `out`, where what is copied may be what was copied;
/// behind them up to [`WORD_BYTES`] are scribbled over.
#[inline(always)]
fn copy(out: &mut [u8], from: usize, to: usize, len: usize) {
    let distance = to - from;
    if distance >= WORD_BYTES {
        // Most are no longer than two: not to ask costs less than to guess wrong.
        word(out, from, to);
        word(out, from + WORD_BYTES, to + WORD_BYTES);
        let mut done = 2 * WORD_BYTES;
        while done < len {
            word(out, from + done, to + done);
            done += WORD_BYTES;
        }
    } else if distance == 1 {
        let byte = out[from];
        out[to..to + len].fill(byte);
    } else {
        // What repeats also repeats at multiples of the distance: once there is
        // enough for the smallest of those that is a word, by words.
        let far = distance * REPEATS[distance];
        let mut done = (far - distance).min(len);
        for at in 0..done {
            out[to + at] = out[from + at];
        }
        while done < len {
            word(out, to + done - far, to + done);
            done += WORD_BYTES;
        }
    }
}

/// How many times each distance makes a word.
const REPEATS: [usize; WORD_BYTES] = [0, 16, 8, 6, 4, 4, 3, 3, 2, 2, 2, 2, 2, 2, 2, 2];

#[inline(always)]
fn word(out: &mut [u8], from: usize, to: usize) {
    let mut word = [0; WORD_BYTES];
    word.copy_from_slice(&out[from..from + WORD_BYTES]);
    out[to..to + WORD_BYTES].copy_from_slice(&word);
}

#[cfg(test)]
mod tests;
