//! The map of a sparse file: which of its bytes are in the archive.
//!
//! Guarantees: a finished map ascends without overlap, holds no empty piece and
//! no two that touch, lies within the file, and asks for no more data than the
//! archive holds for it; all else is [`MapError`]. (Pieces in another order could
//! be read too, but no program writes them.) It is kept in an arena, so a map of a
//! million pieces takes no memory. The data of the pieces follow each other
//! without padding; GNU tar, unlike others, starts each at a whole block, but
//! writes only pieces for which that is the same.

use crate::index::build::arena::{ArenaProvider, Table};
use crate::index::build::error::BuildError;
use crate::index::format::ExtentRecord;

/// Why a map cannot be used.
pub(super) enum MapError {
    /// It contradicts itself or the file.
    Invalid,
    /// It has more pieces than the limit allows: so many.
    TooMany(u64),
    /// It could not be kept.
    Failed(BuildError),
}

impl From<BuildError> for MapError {
    fn from(error: BuildError) -> Self {
        MapError::Failed(error)
    }
}

/// The map of the file that is being read.
pub(super) struct SparseMap {
    pieces: Table<ExtentRecord>,
    pieces_max: u32,
    /// Bytes of data of the pieces so far.
    stored: u64,
}

impl SparseMap {
    pub(super) fn new(arenas: &mut dyn ArenaProvider, pieces_max: u32) -> Result<Self, BuildError> {
        Ok(Self {
            pieces: Table::new(arenas, "the map of a sparse file", pieces_max)?,
            pieces_max,
            stored: 0,
        })
    }

    /// Starts the map of another file.
    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.stored = 0;
    }

    /// Adds a piece, whose data follow those of the one before.
    pub(super) fn add(&mut self, file_offset: u64, len: u64) -> Result<(), MapError> {
        if len == 0 {
            // The end of the file, which may be one of a hole.
            return Ok(());
        }
        let stream = self.stored;
        self.stored = stream.checked_add(len).ok_or(MapError::Invalid)?;
        // So that no sum of what is kept overflows.
        file_offset.checked_add(len).ok_or(MapError::Invalid)?;
        if let Some(number) = self.pieces.len().checked_sub(1) {
            let last = self.pieces.get_mut(number)?;
            let end = last.file_offset.get() + last.len.get();
            if end == file_offset {
                last.len.set(last.len.get() + len);
                return Ok(());
            }
            if end > file_offset {
                return Err(MapError::Invalid);
            }
        }
        if self.pieces.len() >= self.pieces_max {
            return Err(MapError::TooMany(u64::from(self.pieces_max) + 1));
        }
        self.pieces.push(ExtentRecord {
            file_offset: file_offset.into(),
            stream: stream.into(),
            len: len.into(),
        })?;
        Ok(())
    }

    /// Checks the map against the size of the file, and the bytes of data that
    /// the archive holds for it.
    pub(super) fn finish(&self, file_size: u64, stored: u64) -> Result<(), MapError> {
        let mut end = 0;
        if let Some(number) = self.pieces.len().checked_sub(1) {
            let last = self.pieces.get(number)?;
            end = last.file_offset.get().saturating_add(last.len.get());
        }
        match end <= file_size && self.stored <= stored {
            true => Ok(()),
            false => Err(MapError::Invalid),
        }
    }

    /// The pieces; their stream offsets count from the start of the data.
    pub(super) fn pieces(&self) -> &[ExtentRecord] {
        self.pieces.all()
    }
}

/// Reads the map that the content of a file begins with (PAX sparse 1.0): in
/// decimal, each with a newline, the number of pieces and for each its offset
/// and length; then up to a whole block anything.
#[derive(Default)]
pub(super) struct MapText {
    digits: Option<u64>,
    numbers_left: Option<u64>,
    offset: Option<u64>,
}

impl MapText {
    /// Takes a block; whether it was the last one of the map.
    pub(super) fn block(&mut self, block: &[u8], map: &mut SparseMap) -> Result<bool, MapError> {
        for byte in block {
            match byte {
                b'0'..=b'9' => {
                    let tens = self.digits.unwrap_or(0).checked_mul(10);
                    let digits = tens.and_then(|n| n.checked_add(u64::from(byte - b'0')));
                    self.digits = Some(digits.ok_or(MapError::Invalid)?);
                }
                b'\n' => {
                    let number = self.digits.take().ok_or(MapError::Invalid)?;
                    if self.number(number, map)? {
                        return Ok(true);
                    }
                }
                _ => return Err(MapError::Invalid),
            }
        }
        Ok(false)
    }

    /// Takes a number; whether it was the last.
    fn number(&mut self, number: u64, map: &mut SparseMap) -> Result<bool, MapError> {
        let left = match self.numbers_left {
            None => number.checked_mul(2).ok_or(MapError::Invalid)?,
            Some(left) => {
                match self.offset.take() {
                    None => self.offset = Some(number),
                    Some(offset) => map.add(offset, number)?,
                }
                left.saturating_sub(1)
            }
        };
        self.numbers_left = Some(left);
        Ok(left == 0)
    }
}
