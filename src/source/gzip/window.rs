//! Windows of checkpoints: finding the few bytes that matter, storing them
//! small, restoring them.
//!
//! Only about a tenth of the 32 KiB before a checkpoint is ever referred to by
//! what follows; with the rest zeroed a window shrinks sevenfold in zstd. A
//! byte is referred to if decoding the 32 KiB of output behind the checkpoint
//! copies it: later output cannot reach back behind the checkpoint, and copies
//! of copies are in the output itself. The bytes are found by decoding twice
//! with windows of markers in place of the real one, from which each copied
//! byte tells where it came from.
//!
//! Guarantees: whatever goes wrong while finding, the whole window is kept,
//! never one that lacks a byte. (Sparse windows are known from `rapidgzip`, markers in
//! place of an unknown window from `pugz`, Kerbiriou and Chikhi 2019.)

use std::io;
use std::sync::Mutex;

use zstd::bulk::{Compressor, Decompressor};

use super::super::tables::damaged;
use super::super::{ReadAt, SourceError};
use super::Checkpoint;
use super::input::Input;
use crate::sys::inflate::{Inflate, Status, Stop, WINDOW_BYTES};

/// Compression of windows: level 1 is as good as any on what is mostly zeros.
const ZSTD_LEVEL: i32 = 1;
/// Compressed bytes that are read at a time to find what is referred to.
const READ_BYTES: usize = 16 * 1024;
/// Most compressed bytes that are read for 32 KiB of output. Only a crafted
/// archive (of empty blocks) needs more: it gets whole windows.
const READ_BYTES_MAX: u64 = 256 * 1024;
/// How many decompression contexts are kept for reuse.
const CONTEXTS_KEPT: usize = 4;

/// Two windows of markers such that the same byte of both tells its place: the
/// first holds the low eight bits of it, the second adds one and the high
/// seven bits. So the two differ everywhere, as a literal never does.
fn markers() -> [Vec<u8>; 2] {
    let first: Vec<u8> = (0..WINDOW_BYTES).map(|i| i.to_le_bytes()[0]).collect();
    let second = (0..WINDOW_BYTES).map(|i| {
        let [low, high, ..] = i.to_le_bytes();
        low.wrapping_add(high).wrapping_add(1)
    });
    let second = second.collect();
    [first, second]
}

/// The place of the marker that shows as `first` and `second`.
fn marked(first: u8, second: u8) -> Option<usize> {
    (first != second).then(|| {
        let high = second.wrapping_sub(first).wrapping_sub(1);
        usize::from(u16::from_le_bytes([first, high]))
    })
}

/// Makes windows small.
pub(crate) struct WindowPacker {
    markers: [Vec<u8>; 2],
    inflates: [Inflate; 2],
    outputs: [Vec<u8>; 2],
    input: Input,
    sparse: Vec<u8>,
    frame: Vec<u8>,
    zstd: Compressor<'static>,
}

impl WindowPacker {
    /// With all memory that it will ever need: about 0.4 MB.
    pub(crate) fn new() -> io::Result<Self> {
        let inflate = || Inflate::new().map_err(io::Error::other);
        Ok(Self {
            markers: markers(),
            inflates: [inflate()?, inflate()?],
            outputs: [vec![0; WINDOW_BYTES], vec![0; WINDOW_BYTES]],
            input: Input::new(READ_BYTES),
            sparse: Vec::with_capacity(WINDOW_BYTES),
            frame: vec![0; zstd::zstd_safe::compress_bound(WINDOW_BYTES)],
            zstd: Compressor::new(ZSTD_LEVEL)?,
        })
    }

    /// The frame that stands for `window`, the bytes before the checkpoint at
    /// `checkpoint` (at most 32 KiB of the same member). Empty if decoding
    /// from there needs none of them.
    pub(crate) fn pack(
        &mut self,
        archive: &dyn ReadAt,
        checkpoint: Checkpoint,
        window: &[u8],
    ) -> io::Result<&[u8]> {
        let window = &window[window.len().saturating_sub(WINDOW_BYTES)..];
        self.sparse.clear();
        match self.decode_markers(archive, checkpoint, window.len()) {
            Some(produced) => {
                self.sparse.resize(window.len(), 0);
                if !self.copy_referred(window, produced) {
                    return Ok(&[]);
                }
            }
            None => self.sparse.extend_from_slice(window),
        }
        let len = self
            .zstd
            .compress_to_buffer(&self.sparse, &mut self.frame[..])?;
        Ok(&self.frame[..len])
    }

    /// Copies to `sparse` what the marked output refers to; false if nothing.
    fn copy_referred(&mut self, window: &[u8], produced: usize) -> bool {
        // A shorter window has the markers of the end.
        let missing = WINDOW_BYTES - window.len();
        let [first, second] = &self.outputs;
        let mut any = false;
        for (first, second) in first[..produced].iter().zip(&second[..produced]) {
            let place = marked(*first, *second).and_then(|place| place.checked_sub(missing));
            let both = place.and_then(|p| Some((self.sparse.get_mut(p)?, window.get(p)?)));
            if let Some((to, from)) = both {
                *to = *from;
                any = true;
            }
        }
        any
    }

    /// Decodes up to 32 KiB behind the checkpoint with both marker windows;
    /// the number of bytes, or `None` if that fails for any reason.
    fn decode_markers(
        &mut self,
        archive: &dyn ReadAt,
        checkpoint: Checkpoint,
        window: usize,
    ) -> Option<usize> {
        let limit = (checkpoint.archive_bit / 8).checked_add(READ_BYTES_MAX)?;
        self.input.set_limit(archive.len().min(limit));
        for (inflate, markers) in self.inflates.iter_mut().zip(&self.markers) {
            let window = &markers[WINDOW_BYTES - window..];
            let reads = (READ_BYTES, READ_BYTES);
            start_at(inflate, &mut self.input, archive, checkpoint, window, reads).ok()?;
        }
        let mut produced = 0;
        while produced < WINDOW_BYTES {
            if !self.input.fill(archive).ok()? {
                // Where the archive ends in the middle, nothing is certain.
                return None;
            }
            let input = self.input.available();
            let [a, b] = &mut self.inflates;
            let [out_a, out_b] = &mut self.outputs;
            let a = a.inflate(input, &mut out_a[produced..], Stop::Run).ok()?;
            let b = b.inflate(input, &mut out_b[produced..], Stop::Run).ok()?;
            if a != b {
                return None;
            }
            produced += a.produced;
            self.input.consume(a.consumed);
            if a.status == Status::StreamEnd {
                break;
            }
        }
        Some(produced)
    }
}

/// Compressed bytes that are read for the header of a block far before its
/// checkpoint: the header is hardly longer.
const HEADER_READ_BYTES: usize = 512;
/// A header this near is read together with what is behind the checkpoint.
const HEADER_NEAR_BYTES: u64 = 32 * 1024;

/// Brings a decoder to `checkpoint`, with a window, and `input` behind the byte
/// in which it starts. `reads` are the sizes of its first read and of later
/// ones.
pub(crate) fn start_at(
    inflate: &mut Inflate,
    input: &mut Input,
    archive: &dyn ReadAt,
    checkpoint: Checkpoint,
    window: &[u8],
    reads: (usize, usize),
) -> Result<(), SourceError> {
    let Checkpoint {
        archive_bit,
        header_bits,
    } = checkpoint;
    let failed = |what| SourceError::Inflate {
        at: archive_bit / 8,
        what,
    };
    inflate.reset().map_err(failed)?;
    if !window.is_empty() {
        inflate.set_dictionary(window).map_err(failed)?;
    }
    if header_bits > 0 {
        let header = archive_bit.checked_sub(header_bits.into());
        let header = header.ok_or(damaged("a checkpoint before the archive"))?;
        let distance = archive_bit / 8 - header / 8;
        let near = usize::try_from(distance)
            .ok()
            .filter(|_| distance <= HEADER_NEAR_BYTES);
        let first = near.map_or(HEADER_READ_BYTES, |distance| distance + reads.0);
        input.seek(header / 8, first, HEADER_READ_BYTES);
        prime(inflate, input, archive, header)?;
        read_codes(inflate, input, archive)?;
        inflate.forget_bits().map_err(failed)?;
    }
    input.seek(archive_bit / 8, reads.0, reads.1);
    prime(inflate, input, archive, archive_bit)
}

/// Feeds the bits before the first whole byte of the code at `bit`. Leaves
/// `input`, which stands at that byte, behind them.
fn prime(
    inflate: &mut Inflate,
    input: &mut Input,
    archive: &dyn ReadAt,
    bit: u64,
) -> Result<(), SourceError> {
    let [skipped, ..] = (bit % 8).to_le_bytes();
    if skipped == 0 {
        return Ok(());
    }
    let byte = input.take(archive)?;
    let byte = byte.ok_or(damaged("a checkpoint at the end of the archive"))?;
    inflate
        .prime(8 - skipped, byte >> skipped)
        .map_err(|what| SourceError::Inflate { at: bit / 8, what })
}

/// Reads the header of the block that starts here.
fn read_codes(
    inflate: &mut Inflate,
    input: &mut Input,
    archive: &dyn ReadAt,
) -> Result<(), SourceError> {
    let mut nothing = [0];
    while input.fill(archive)? {
        let progress = inflate.inflate(input.available(), &mut nothing, Stop::AtSymbols);
        let progress = progress.map_err(|what| SourceError::Inflate {
            at: input.position(),
            what,
        })?;
        input.consume(progress.consumed);
        match progress.status {
            Status::Symbols => return Ok(()),
            Status::NeedInput => {}
            _ => break,
        }
    }
    Err(damaged("a checkpoint without a block's header"))
}

/// Restores windows. Shared between threads; its lock is held only to take a
/// context out and to put it back.
#[derive(Default)]
pub(crate) struct WindowRestorer {
    contexts: Mutex<Vec<Decompressor<'static>>>,
}

impl WindowRestorer {
    /// Decompresses the window in `frame` to `buf` and answers its length.
    pub(crate) fn restore(
        &self,
        frame: &[u8],
        buf: &mut [u8; WINDOW_BYTES],
    ) -> Result<usize, SourceError> {
        let kept = self
            .contexts
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .pop();
        let mut context = match kept {
            Some(context) => context,
            None => Decompressor::new().map_err(|cause| SourceError::Io {
                at: 0,
                len: frame.len(),
                cause,
            })?,
        };
        let len = context
            .decompress_to_buffer(frame, &mut buf[..])
            .map_err(|_| damaged("a window cannot be decompressed"));
        let mut contexts = self.contexts.lock().unwrap_or_else(|e| e.into_inner());
        if contexts.len() < CONTEXTS_KEPT {
            contexts.push(context);
        }
        len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_tell_every_place_and_no_literal() {
        let [first, second] = markers();
        for place in 0..WINDOW_BYTES {
            assert_eq!(marked(first[place], second[place]), Some(place));
        }
        assert!((0..=255).all(|literal| marked(literal, literal).is_none()));
    }

    #[test]
    fn a_window_that_is_no_frame_or_too_long_is_refused() {
        let restorer = WindowRestorer::default();
        let mut buf = Box::new([0; WINDOW_BYTES]);
        assert!(restorer.restore(b"no frame", &mut buf).is_err());
        let long = zstd::bulk::compress(&[1; WINDOW_BYTES + 1], 1).unwrap();
        assert!(restorer.restore(&long, &mut buf).is_err());
        let good = zstd::bulk::compress(&[1; WINDOW_BYTES], 1).unwrap();
        assert_eq!(restorer.restore(&good, &mut buf).unwrap(), WINDOW_BYTES);
        assert!(buf.iter().all(|byte| *byte == 1));
    }
}
