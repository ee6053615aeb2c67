//! Cuts the stream into header blocks, bodies of extended headers, and content
//! that is passed over.
//!
//! Guarantees: slices may be cut anywhere, down to single bytes; content is
//! skipped by arithmetic and never copied; what is held is one block and one
//! extended header.

use super::arena::bytes_u64;
use super::error::BuildError;
use super::header::BLOCK_BYTES;

/// What [`Framer::feed`] completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// [`Framer::block`] holds a block.
    Block,
    /// [`Framer::text`] holds the body of an extended header.
    Text,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Gathering a block; so many bytes are there.
    Block(usize),
    /// Gathering a body; so many bytes are missing.
    Text(usize),
    /// Passing over content; so many bytes are missing, padding not counted.
    Content(u64),
    /// Passing over padding.
    Padding,
}

pub(super) struct Framer {
    /// Stream offset of the next byte.
    offset: Option<u64>,
    state: State,
    /// Bytes of padding behind the text or content.
    padding: u64,
    block: [u8; BLOCK_BYTES],
    text: Vec<u8>,
}

/// How the stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Between two blocks, or in padding, or in a block with nothing in it.
    Clean,
    /// Inside of a header, of an extended header, or of content.
    Inside,
}

impl Framer {
    pub(super) fn new() -> Self {
        Self {
            offset: None,
            state: State::Block(0),
            padding: 0,
            block: [0; BLOCK_BYTES],
            text: Vec::new(),
        }
    }

    /// Says that the next bytes are those at `offset`, and `len` of them.
    pub(super) fn expect(&self, offset: u64, len: usize) -> Result<(), BuildError> {
        let expected = self.offset.unwrap_or(offset);
        if expected != offset || offset.checked_add(bytes_u64(len)).is_none() {
            return Err(BuildError::Gap {
                expected,
                got: offset,
            });
        }
        Ok(())
    }

    /// Where the next byte is that has to be looked at.
    pub(super) fn wanted(&self) -> u64 {
        let passed_over = match self.state {
            State::Content(missing) => missing.saturating_add(self.padding),
            State::Padding => self.padding,
            State::Block(_) | State::Text(_) => 0,
        };
        self.offset().saturating_add(passed_over)
    }

    /// Passes over content up to stream offset `to` without being given it.
    pub(super) fn jump(&mut self, to: u64) {
        let mut left = to.min(self.wanted()).saturating_sub(self.offset());
        self.offset = Some(self.offset().saturating_add(left));
        if let State::Content(missing) = self.state {
            let passed = left.min(missing);
            left -= passed;
            self.state = match missing - passed {
                0 => State::Padding,
                missing => State::Content(missing),
            };
        }
        if let State::Padding = self.state {
            self.padding = self.padding.saturating_sub(left);
            if self.padding == 0 {
                self.state = State::Block(0);
            }
        }
    }

    /// Takes bytes until a piece is complete; `None` when `rest` is used up.
    pub(super) fn feed(&mut self, at: u64, rest: &mut &[u8]) -> Option<Piece> {
        let end = at + bytes_u64(rest.len());
        self.offset = Some(end);
        while !rest.is_empty() {
            match self.state {
                State::Block(have) => {
                    let taken = take(rest, BLOCK_BYTES - have);
                    let have_now = have + taken.len();
                    self.block[have..have_now].copy_from_slice(taken);
                    self.state = State::Block(have_now);
                    if have_now == BLOCK_BYTES {
                        self.state = State::Block(0);
                        self.offset = Some(end - bytes_u64(rest.len()));
                        return Some(Piece::Block);
                    }
                }
                State::Text(missing) => {
                    let taken = take(rest, missing);
                    self.text.extend_from_slice(taken);
                    self.state = State::Text(missing - taken.len());
                    if missing == taken.len() {
                        self.state = State::Padding;
                        self.offset = Some(end - bytes_u64(rest.len()));
                        return Some(Piece::Text);
                    }
                }
                State::Content(missing) => match skip(rest, missing) {
                    0 => self.state = State::Padding,
                    missing => self.state = State::Content(missing),
                },
                State::Padding => {
                    self.padding = skip(rest, self.padding);
                    if self.padding == 0 {
                        self.state = State::Block(0);
                    }
                }
            }
        }
        None
    }

    /// The block that was completed last.
    pub(super) fn block(&self) -> &[u8; BLOCK_BYTES] {
        &self.block
    }

    /// The body that was completed last.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Stream offset of the next byte.
    pub(super) fn offset(&self) -> u64 {
        self.offset.unwrap_or_default()
    }

    /// The next `len` bytes are a body to gather.
    pub(super) fn gather(&mut self, len: usize) {
        self.text.clear();
        self.text.reserve(len);
        self.padding = padding(bytes_u64(len));
        self.state = State::Text(len);
    }

    /// The next `len` bytes are content to pass over.
    pub(super) fn pass_over(&mut self, len: u64) {
        self.padding = padding(len);
        self.state = match len {
            0 => State::Block(0),
            _ => State::Content(len),
        };
    }

    /// How the stream ends if this was all of it.
    pub(super) fn ending(&self) -> Ending {
        match self.state {
            State::Block(have) if self.block[..have].iter().any(|b| *b != 0) => Ending::Inside,
            State::Block(_) | State::Padding => Ending::Clean,
            State::Text(_) | State::Content(_) => Ending::Inside,
        }
    }
}

/// Takes up to `len` bytes from the front.
fn take<'a>(rest: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, left) = rest.split_at(len.min(rest.len()));
    *rest = left;
    taken
}

/// Drops up to `len` bytes from the front; returns how many are still to drop.
fn skip(rest: &mut &[u8], len: u64) -> u64 {
    let dropped = take(rest, usize::try_from(len).unwrap_or(usize::MAX));
    len - bytes_u64(dropped.len())
}

/// Bytes from `len` to the next whole block.
fn padding(len: u64) -> u64 {
    len.wrapping_neg() % bytes_u64(BLOCK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block, a body of 5 bytes, a block, content of 1000 bytes, a block:
    /// the same pieces at the same offsets however the stream is cut.
    #[test]
    fn pieces_do_not_depend_on_how_the_stream_is_cut() {
        let mut stream = Vec::new();
        for (fill, len) in [
            (b'a', 512),
            (b'b', 512),
            (b'c', 512),
            (b'd', 1024),
            (b'e', 512),
        ] {
            stream.resize(stream.len() + len, fill);
        }
        for cut in [1, 7, 511, 512, 513, 4096] {
            let mut framer = Framer::new();
            let mut seen = Vec::new();
            let mut at = 100;
            for slice in stream.chunks(cut) {
                framer.expect(at, slice.len()).unwrap();
                let mut rest = slice;
                let mut from = at;
                while let Some(piece) = framer.feed(from, &mut rest) {
                    from = framer.offset();
                    let first = match piece {
                        Piece::Block => framer.block()[0],
                        Piece::Text => framer.text()[0],
                    };
                    seen.push((piece, first, framer.offset()));
                    match seen.len() {
                        1 => framer.gather(5),
                        3 => framer.pass_over(1000),
                        _ => {}
                    }
                }
                at += bytes_u64(slice.len());
            }
            let wanted = [
                (Piece::Block, b'a', 612),
                (Piece::Text, b'b', 617),
                (Piece::Block, b'c', 1636),
                (Piece::Block, b'e', 3172),
            ];
            assert_eq!(seen, wanted, "cut into {cut}");
        }
    }

    #[test]
    fn a_gap_is_an_error() {
        let mut framer = Framer::new();
        framer.feed(0, &mut &[0_u8; 100][..]);
        assert!(framer.expect(100, 1).is_ok());
        assert!(matches!(
            framer.expect(101, 1),
            Err(BuildError::Gap {
                expected: 100,
                got: 101
            })
        ));
        assert!(Framer::new().expect(u64::MAX, 1).is_err());
    }

    #[test]
    fn padding_fills_blocks() {
        assert_eq!([0, 1, 511, 512, 513].map(padding), [0, 511, 1, 0, 511]);
    }
}
