//! Windows of checkpoints: storing them small, restoring them.
//!
//! A tenth or less of the 32 KiB before a checkpoint is ever referred to by what
//! follows; with the rest zeroed a window takes little in zstd. A
//! byte is referred to if decoding the 32 KiB of output behind the checkpoint
//! copies it: later output cannot reach back behind the checkpoint, and copies
//! of copies are in the output itself. (Sparse windows are known from
//! `rapidgzip`.)

use std::io;

use zstd::bulk::{Compressor, Decompressor};

use super::super::deflate::{Inflate, WINDOW_BYTES};
use super::super::tables::damaged;
use super::super::{ReadAt, SourceError};
use super::input::Input;

/// Compression of windows: level 1 is as good as any on what is mostly zeros.
const ZSTD_LEVEL: i32 = 1;

/// Makes windows small.
pub(crate) struct WindowPacker {
    frame: Vec<u8>,
    zstd: Compressor<'static>,
}

impl WindowPacker {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            frame: vec![0; zstd::zstd_safe::compress_bound(WINDOW_BYTES)],
            zstd: Compressor::new(ZSTD_LEVEL)?,
        })
    }

    /// The frame that stands for `window`, of which what nothing refers to is
    /// zero.
    pub(crate) fn pack(&mut self, window: &[u8]) -> io::Result<&[u8]> {
        let len = self.zstd.compress_to_buffer(window, &mut self.frame[..])?;
        Ok(&self.frame[..len])
    }
}

/// What is needed to decode from a checkpoint on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checkpoint<'a> {
    /// The first bit to decode: byte of the archive times 8, plus bit.
    pub(crate) archive_bit: u64,
    /// The header of the block in which it is; empty where a block starts.
    pub(crate) header: &'a [u8],
    /// The bytes before it that may be referred to.
    pub(crate) window: &'a [u8],
}

/// Brings a decoder to a checkpoint, and `input` behind the byte in which it is.
/// `reads` are the sizes of its first read and of later ones.
pub(crate) fn start_at(
    inflate: &mut Inflate,
    input: &mut Input,
    archive: &dyn ReadAt,
    checkpoint: Checkpoint<'_>,
    reads: (usize, usize),
) -> Result<(), SourceError> {
    inflate.start(checkpoint.window);
    if !checkpoint.header.is_empty() {
        inflate.enter(checkpoint.header).map_err(damaged)?;
    }
    let bit = checkpoint.archive_bit;
    input.seek(bit / 8, reads.0, reads.1);
    let [skipped, ..] = (bit % 8).to_le_bytes();
    if skipped == 0 {
        inflate.jump(0, 0);
        return Ok(());
    }
    let byte = input.take(archive)?;
    let byte = byte.ok_or(damaged("a checkpoint at the end of the archive"))?;
    inflate.jump(byte >> skipped, 8 - u32::from(skipped));
    Ok(())
}

/// Restores windows, one after the other.
pub(crate) struct WindowRestorer {
    /// Made when it is needed first: 100 KB.
    context: Option<Decompressor<'static>>,
    window: Box<[u8; WINDOW_BYTES]>,
}

impl std::fmt::Debug for WindowRestorer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WindowRestorer").finish_non_exhaustive()
    }
}

impl WindowRestorer {
    /// One that restored none yet.
    pub(crate) fn new() -> Self {
        Self {
            context: None,
            window: Box::new([0; WINDOW_BYTES]),
        }
    }

    /// Decompresses the window in `frame`.
    pub(crate) fn restore(&mut self, frame: &[u8]) -> Result<&[u8], SourceError> {
        if self.context.is_none() {
            let made = Decompressor::new().map_err(|cause| SourceError::Io {
                at: 0,
                len: frame.len(),
                cause,
            });
            self.context = Some(made?);
        }
        let unpacked = self.context.as_mut().and_then(|context| {
            context
                .decompress_to_buffer(frame, &mut self.window[..])
                .ok()
        });
        let len = unpacked.ok_or(damaged("a window cannot be decompressed"))?;
        Ok(&self.window[..len])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_is_no_frame_or_too_long_is_refused() {
        let mut restorer = WindowRestorer::new();
        assert!(restorer.restore(b"no frame").is_err());
        let long = zstd::bulk::compress(&[1; WINDOW_BYTES + 1], 1).unwrap();
        assert!(restorer.restore(&long).is_err());
        let good = zstd::bulk::compress(&[1; WINDOW_BYTES], 1).unwrap();
        assert_eq!(restorer.restore(&good).unwrap(), [1; WINDOW_BYTES]);
    }
}
