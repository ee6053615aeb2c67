//! Bytes by offset straight from a source, with no cache in between: for
//! whoever reads everything once, in order.
//!
//! Guarantees: a reader who goes on where it stopped decodes nothing twice, at
//! whatever offsets; therefore the last block is kept. Its lock is held only to
//! take it or to put it back.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use super::tables::damaged;
use super::{BlockInfo, BlockSource, ReadAt, SourceError};
use crate::budget::Block;

/// [`ReadAt`] over blocks.
pub struct DirectReader {
    source: Arc<dyn BlockSource>,
    last: Mutex<Option<(BlockInfo, Block)>>,
}

impl std::fmt::Debug for DirectReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DirectReader")
            .field("len", &self.source.len())
            .finish()
    }
}

impl DirectReader {
    /// Reads from `source`.
    pub fn new(source: Arc<dyn BlockSource>) -> Self {
        Self {
            source,
            last: Mutex::new(None),
        }
    }

    /// Copies what the last block has from stream offset `at` on to the start
    /// of `out`; the number of bytes.
    fn copy_from_last(&self, at: u64, out: &mut [u8]) -> u64 {
        let last = self.last.lock().unwrap_or_else(|e| e.into_inner()).clone();
        last.map_or(0, |(block, bytes)| copy_from(&block, &bytes, at, out))
    }
}

impl ReadAt for DirectReader {
    fn len(&self) -> u64 {
        self.source.len()
    }

    fn read_exact_at(&self, at: u64, buf: &mut [u8]) -> Result<(), SourceError> {
        let (len, stream_len) = (buf.len() as u64, self.source.len());
        let end = at.checked_add(len).filter(|end| *end <= stream_len);
        let end = end.ok_or(SourceError::OutOfRange {
            at,
            len,
            stream_len,
        })?;
        let mut done = at + self.copy_from_last(at, buf);
        while done < end {
            let before = done;
            let wanted = self.source.block_at(done)?;
            self.source.produce(wanted.no, &mut |block, bytes| {
                // Blocks before the wanted one come along when decoding starts
                // there; one that is not next is not used.
                let out = &mut buf[usize::try_from(done - at).unwrap_or(usize::MAX)..];
                done += copy_from(&block, &bytes, done, out);
                if done < end {
                    return ControlFlow::Continue(());
                }
                *self.last.lock().unwrap_or_else(|e| e.into_inner()) = Some((block, bytes));
                ControlFlow::Break(())
            })?;
            if done == before {
                return Err(damaged("a block was not produced"));
            }
        }
        Ok(())
    }
}

/// Copies what `block` has from stream offset `at` on to the start of `out`;
/// the number of bytes.
fn copy_from(block: &BlockInfo, bytes: &[u8], at: u64, out: &mut [u8]) -> u64 {
    let skip = at
        .checked_sub(block.start)
        .and_then(|skip| usize::try_from(skip).ok());
    let bytes = skip.and_then(|skip| bytes.get(skip..)).unwrap_or(&[]);
    let n = bytes.len().min(out.len());
    out[..n].copy_from_slice(&bytes[..n]);
    n as u64
}
