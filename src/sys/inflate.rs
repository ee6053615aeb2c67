//! Raw deflate (RFC 1951) decoding that can stop at block boundaries, and between
//! two symbols of a block, and start at any of them: what random access into
//! gzip is built on.
//!
//! Guarantees: memory-safe on any input; one state is about 48 KB, allocated
//! once and reused by [`Inflate::reset`]; a call consumes and produces at most
//! what it was given and always makes progress or says why not. The technique
//! is that of `zran.c` in zlib's examples; the decoder is zlib-rs through its
//! C interface, because only that one offers `Z_BLOCK` and `inflatePrime`.
#![allow(unsafe_code, reason = "the C interface of zlib-rs takes raw pointers")]

use std::ffi::{CStr, c_int};

use libz_rs_sys as z;

/// Largest distance that deflate can refer back, and so the largest dictionary.
pub const WINDOW_BYTES: usize = 32 * 1024;

/// `windowBits` of a stream without header and trailer and a full window.
const RAW_WINDOW_BITS: c_int = -15;

/// Bits of `data_type`: how many read bits are not used yet, whether the block
/// is the last one, and whether the decoder stopped between two blocks, or
/// between the header of a block and its first symbol (or in a stored block).
const UNUSED_BITS: c_int = 0x3f;
const LAST_BLOCK: c_int = 0x40;
const AT_BOUNDARY: c_int = 0x80;
const AT_SYMBOLS: c_int = 0x100;

/// Where a call of [`Inflate::inflate`] stops by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// At the end of each deflate block.
    AtBlock,
    /// Behind the header of the block that starts here, in front of its first
    /// symbol.
    AtSymbols,
    /// Only when input, output or the stream end.
    Run,
}

/// Why a call returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The output is full.
    OutputFull,
    /// All input is consumed, and there is room for more output.
    NeedInput,
    /// A block ended (only with [`Stop::AtBlock`]; the end of the last one is
    /// reported too, before [`Status::StreamEnd`]).
    BlockEnd {
        /// How many bits of the last consumed byte belong to what follows.
        unused_bits: u8,
        /// Whether no block follows.
        last: bool,
    },
    /// The header of a block was read (only with [`Stop::AtSymbols`]).
    Symbols,
    /// The stream is complete; what it did not consume follows it.
    StreamEnd,
}

/// What a call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of input used up.
    pub consumed: usize,
    /// Bytes of output written.
    pub produced: usize,
    /// Why it returned.
    pub status: Status,
}

/// A raw deflate decoder. What it says in errors is why the data is damaged.
pub struct Inflate {
    /// On the heap, so that its address never changes while the state lives.
    stream: Box<z::z_stream>,
}

// SAFETY: the stream owns its state exclusively, allocated with Rust's global
// allocator; input and output pointers are used only during a call.
unsafe impl Send for Inflate {}

impl std::fmt::Debug for Inflate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflate").finish_non_exhaustive()
    }
}

impl Inflate {
    /// A decoder at the start of a stream, without a dictionary.
    pub fn new() -> Result<Self, &'static str> {
        let mut stream = Box::new(z::z_stream::default());
        let size = c_int::try_from(size_of::<z::z_stream>()).map_err(|_| "impossible")?;
        // SAFETY: `stream` is valid and exclusive, its allocator fields were
        // set by `default`, and the version is a constant C string.
        let code =
            unsafe { z::inflateInit2_(&raw mut *stream, RAW_WINDOW_BITS, z::zlibVersion(), size) };
        match code {
            z::Z_OK => Ok(Self { stream }),
            _ => Err("no memory for a decoder"),
        }
    }

    /// Goes back to the start of a stream, without a dictionary.
    pub fn reset(&mut self) -> Result<(), &'static str> {
        // SAFETY: `stream` was initialised by `new` and is exclusive.
        match unsafe { z::inflateReset(&raw mut *self.stream) } {
            z::Z_OK => Ok(()),
            _ => Err("decoder state is inconsistent"),
        }
    }

    /// Forgets the bits that were read and not used: what is fed next follows
    /// at once. For going on elsewhere with the codes of this block.
    pub fn forget_bits(&mut self) -> Result<(), &'static str> {
        // SAFETY: `stream` was initialised by `new` and is exclusive.
        match unsafe { z::inflatePrime(&raw mut *self.stream, -1, 0) } {
            z::Z_OK => Ok(()),
            _ => Err("decoder state is inconsistent"),
        }
    }

    /// How many of the bits consumed so far belong to what follows, if the
    /// decoder stands between two symbols of a compressed block. Meaningful
    /// after a call that ended with [`Status::NeedInput`], in a block of which
    /// at least one byte came out: elsewhere in a block the marks that this is
    /// told by are stale.
    pub fn between_symbols(&self) -> Option<u64> {
        let state = self.stream.data_type;
        // SAFETY: `stream` was initialised by `new`, and is only read.
        let mark = unsafe { z::inflateMark(&raw const *self.stream) };
        // No bit of a symbol was used, and no byte of one is still to come.
        let between = mark == 0 && state & (AT_BOUNDARY | AT_SYMBOLS) == 0;
        between.then(|| u64::from((state & UNUSED_BITS).unsigned_abs()))
    }

    /// Feeds the low `bits` (at most 7) of `value` before any input: for what
    /// starts inside of a byte. Only at the start of a stream, or when the bits
    /// read before were forgotten.
    pub fn prime(&mut self, bits: u8, value: u8) -> Result<(), &'static str> {
        if bits > 7 {
            return Err("more than 7 bits to start with");
        }
        // SAFETY: `stream` was initialised by `new` and is exclusive.
        let code = unsafe {
            z::inflatePrime(&raw mut *self.stream, c_int::from(bits), c_int::from(value))
        };
        match code {
            z::Z_OK => Ok(()),
            _ => Err("decoder state is inconsistent"),
        }
    }

    /// Sets the bytes before the start of the stream that it may refer to; of
    /// more than [`WINDOW_BYTES`] only the last ones count.
    pub fn set_dictionary(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        let bytes = &bytes[bytes.len().saturating_sub(WINDOW_BYTES)..];
        let len = u32::try_from(bytes.len()).map_err(|_| "impossible")?;
        // SAFETY: `stream` was initialised by `new` and is exclusive; pointer
        // and length are those of a live slice, which is only copied from.
        match unsafe { z::inflateSetDictionary(&raw mut *self.stream, bytes.as_ptr(), len) } {
            z::Z_OK => Ok(()),
            _ => Err("decoder state is inconsistent"),
        }
    }

    /// Decodes from `input` to `output` until `stop` or one of them ends.
    /// After an error only [`reset`](Self::reset) makes sense.
    pub fn inflate(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        stop: Stop,
    ) -> Result<Progress, &'static str> {
        // Longer slices than the interface can say are used in part.
        let room = u32::try_from(output.len()).unwrap_or(u32::MAX);
        let given = u32::try_from(input.len()).unwrap_or(u32::MAX);
        self.stream.next_in = input.as_ptr();
        self.stream.avail_in = given;
        self.stream.next_out = output.as_mut_ptr();
        self.stream.avail_out = room;
        let flush = match stop {
            Stop::AtBlock => z::Z_BLOCK,
            Stop::AtSymbols => z::Z_TREES,
            Stop::Run => z::Z_NO_FLUSH,
        };
        // SAFETY: `stream` was initialised by `new` and is exclusive; pointers
        // and lengths are those of two live slices that cannot overlap.
        let code = unsafe { z::inflate(&raw mut *self.stream, flush) };
        let consumed = (given - self.stream.avail_in) as usize;
        let produced = (room - self.stream.avail_out) as usize;
        let status = match code {
            z::Z_STREAM_END => Status::StreamEnd,
            // A boundary can be reached without input and output: its code was
            // read already, and the call says Z_BUF_ERROR.
            z::Z_OK | z::Z_BUF_ERROR => self.status(stop)?,
            z::Z_MEM_ERROR => return Err("no memory for a decoder"),
            _ => return Err(self.message()),
        };
        Ok(Progress {
            consumed,
            produced,
            status,
        })
    }

    /// The status after a call that neither failed nor ended the stream.
    fn status(&self, stop: Stop) -> Result<Status, &'static str> {
        let state = self.stream.data_type;
        if stop == Stop::AtBlock && state & AT_BOUNDARY != 0 {
            let unused = state & UNUSED_BITS;
            let unused_bits = u8::try_from(unused)
                .ok()
                .filter(|n| *n < 8)
                .ok_or("decoder read too far ahead")?;
            Ok(Status::BlockEnd {
                unused_bits,
                last: state & LAST_BLOCK != 0,
            })
        } else if stop == Stop::AtSymbols && state & AT_SYMBOLS != 0 {
            Ok(Status::Symbols)
        } else if self.stream.avail_out == 0 {
            Ok(Status::OutputFull)
        } else if self.stream.avail_in == 0 {
            Ok(Status::NeedInput)
        } else {
            Err("decoder made no progress")
        }
    }

    /// What the decoder says about damaged data.
    fn message(&self) -> &'static str {
        if self.stream.msg.is_null() {
            return "invalid deflate data";
        }
        // SAFETY: zlib-rs only ever sets `msg` to NUL-terminated literals,
        // which live for ever.
        let text: &'static CStr = unsafe { CStr::from_ptr(self.stream.msg) };
        text.to_str().unwrap_or("invalid deflate data")
    }
}

impl Drop for Inflate {
    fn drop(&mut self) {
        // SAFETY: `stream` was initialised by `new`, is exclusive, and is not
        // used any more. The result only repeats that.
        let _code = unsafe { z::inflateEnd(&raw mut *self.stream) };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn deflate(data: &[u8], level: u32) -> Vec<u8> {
        let level = flate2::Compression::new(level);
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    /// Letters in no order, with copies in between.
    fn text(len: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut out = Vec::with_capacity(len + 40);
        while out.len() < len {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            out.push(b'a' + state.to_le_bytes()[3] % 23);
            if (state >> 8).is_multiple_of(4) && out.len() > 20_000 {
                let at = out.len() - 1 - (state >> 12) as usize % 20_000;
                out.extend_from_within(at..(at + 30).min(out.len()));
            }
        }
        out.truncate(len);
        out
    }

    #[test]
    fn decodes_with_one_byte_of_input_and_output_at_a_time() {
        let data = text(5000);
        for level in [0, 1, 6, 9] {
            let packed = deflate(&data, level);
            let mut inflate = Inflate::new().unwrap();
            let (mut at, mut out) = (0, Vec::new());
            loop {
                let mut byte = [0];
                let input = &packed[at..packed.len().min(at + 1)];
                let progress = inflate.inflate(input, &mut byte, Stop::Run).unwrap();
                at += progress.consumed;
                out.extend_from_slice(&byte[..progress.produced]);
                if progress.status == Status::StreamEnd {
                    break;
                }
            }
            assert_eq!((at, &out), (packed.len(), &data));
        }
    }

    /// Every boundary is a place to start from, given the window before it.
    #[test]
    fn every_block_boundary_is_an_entry_point() {
        let data = text(400_000);
        for level in [0, 3, 6] {
            let packed = deflate(&data, level);
            let mut inflate = Inflate::new().unwrap();
            let mut out = vec![0; data.len() + 1];
            let (mut at, mut filled, mut boundaries) = (0, 0, Vec::new());
            loop {
                let p = inflate
                    .inflate(&packed[at..], &mut out[filled..], Stop::AtBlock)
                    .unwrap();
                at += p.consumed;
                filled += p.produced;
                match p.status {
                    Status::BlockEnd {
                        unused_bits,
                        last: false,
                    } => {
                        boundaries.push((at, unused_bits, filled));
                    }
                    Status::BlockEnd { last: true, .. } => {}
                    Status::StreamEnd => break,
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(&out[..filled], &data[..]);
            assert!(boundaries.len() > 3, "{} boundaries", boundaries.len());
            for (at, bits, filled) in boundaries {
                inflate.reset().unwrap();
                if bits > 0 {
                    inflate.prime(bits, packed[at - 1] >> (8 - bits)).unwrap();
                }
                inflate.set_dictionary(&data[..filled]).unwrap();
                let mut rest = vec![0; data.len() - filled + 1];
                let p = inflate
                    .inflate(&packed[at..], &mut rest, Stop::Run)
                    .unwrap();
                assert_eq!(p.status, Status::StreamEnd);
                assert_eq!(&rest[..p.produced], &data[filled..]);
            }
        }
    }

    #[test]
    fn damage_is_an_error_that_says_what() {
        let mut inflate = Inflate::new().unwrap();
        let mut out = [0; 100];
        let error = inflate
            .inflate(&[0xff; 10], &mut out, Stop::Run)
            .unwrap_err();
        assert_eq!(error, "invalid block type");
        // A distance that reaches behind the start of the stream.
        inflate.reset().unwrap();
        let tail = &deflate(&text(100).repeat(2), 6);
        let p = inflate.inflate(tail, &mut [0; 400], Stop::Run).unwrap();
        assert_eq!((p.status, p.produced), (Status::StreamEnd, 200));
        assert!(inflate.prime(8, 0).is_err());
    }

    #[test]
    fn no_input_is_no_error_and_no_progress() {
        let mut inflate = Inflate::new().unwrap();
        let p = inflate.inflate(&[], &mut [0; 4], Stop::AtBlock).unwrap();
        assert_eq!(
            p,
            Progress {
                consumed: 0,
                produced: 0,
                status: Status::NeedInput
            }
        );
        let p = inflate.inflate(&[], &mut [], Stop::Run).unwrap();
        assert_eq!(p.status, Status::OutputFull);
    }
}
