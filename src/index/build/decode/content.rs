//! What lies behind the header of an entry: nothing, content, the map of a
//! sparse file and then content.
//!
//! Guarantees: where dialects contradict each other about whether there is
//! content at all, the rule is the one of most readers, and written here.

use super::map::{MapError, MapText};
use super::{Decoder, Next, Shape, TextKind};
use crate::index::build::error::BuildError;
use crate::index::build::header::{BLOCK_BYTES, Block, MapPart};
use crate::index::build::pax::Field;
use crate::index::escape::EntryName;

const BLOCK: u64 = BLOCK_BYTES as u64;

impl Decoder {
    /// Finds what is behind the header of the current entry.
    pub(super) fn content(&mut self, block: Block<'_>) -> Result<Next, BuildError> {
        self.start = self.offset.saturating_add(BLOCK);
        self.stored = 0;
        match self.shape {
            Shape::File { .. } => self.file_content(block),
            Shape::HardLink { .. } => Ok(self.link_content(block)),
            // What GNU tar's incremental archives have for a directory: the
            // names in it.
            Shape::Directory if block.typeflag() == b'D' => {
                self.store(block)?;
                Ok(Next::Entry(self.stored))
            }
            // No others have content, whatever their size field says (POSIX;
            // some writers put a size there).
            _ => Ok(Next::Entry(0)),
        }
    }

    /// Content of an entry that is left out.
    pub(super) fn passed_over(&mut self, block: Block<'_>) -> Result<Next, BuildError> {
        self.start = self.offset.saturating_add(BLOCK);
        self.store(block)?;
        Ok(Next::Content(self.stored))
    }

    fn file_content(&mut self, block: Block<'_>) -> Result<Next, BuildError> {
        self.store(block)?;
        self.shape = Shape::File { size: self.stored };
        if let Some((part, real_size)) = block.sparse() {
            let size = self.local.real_size.over(&self.global.real_size).copied();
            let size = size.or(real_size);
            self.start_map(size.ok_or_else(|| self.invalid("real size"))?)?;
            return self.old_map(part);
        }
        let sparse = &self.local.sparse;
        match (sparse.version(), sparse.real_size) {
            (None, None) => Ok(Next::Entry(self.stored)),
            (None, Some(size)) => {
                self.start_map(size)?;
                if self.local.sparse.has_map() {
                    for (offset, len) in self.local.sparse.pieces() {
                        let added = self.map.add(offset, len);
                        added.map_err(|error| self.map_error(error))?;
                    }
                } else {
                    let added = self.map.add(0, self.stored);
                    added.map_err(|error| self.map_error(error))?;
                }
                self.finish_map()
            }
            (Some((1, 0)), Some(size)) => {
                self.start_map(size)?;
                self.map_text = MapText::default();
                self.next_map_text()
            }
            _ => Err(self.unsupported("this version of sparse files")),
        }
    }

    /// Hard links have content in archives of POSIX's pax, and often a size
    /// but no content in all others. If a header of our own says so, or is to
    /// be found where the content would start, that decides.
    fn link_content(&mut self, block: Block<'_>) -> Next {
        if !block.is_ustar() || self.store(block).is_err() || self.stored == 0 {
            self.stored = 0;
            return Next::Entry(0);
        }
        if matches!(self.local.size, Field::Set(_)) {
            self.shape = Shape::HardLink { has_content: true };
            return Next::Entry(self.stored);
        }
        self.is_undecided = true;
        Next::Block
    }

    /// Whether the block that comes next is needed to tell what the current
    /// entry is.
    pub(in crate::index::build) fn is_undecided(&self) -> bool {
        self.is_undecided
    }

    /// Decides by that block, if there is one, and returns how much of the
    /// content lies behind it; `None` if the block is no content.
    pub(in crate::index::build) fn decide(
        &mut self,
        block: Option<&[u8; BLOCK_BYTES]>,
    ) -> Option<u64> {
        self.is_undecided = false;
        let is_content = |block: &&[u8; BLOCK_BYTES]| {
            Block::parse(block).is_none() && block.iter().any(|b| *b != 0)
        };
        let has_content = block.filter(is_content).is_some();
        self.shape = Shape::HardLink { has_content };
        has_content.then(|| self.stored.saturating_sub(BLOCK))
    }

    /// Takes an extension block of a map in the header.
    pub(super) fn map_extension(&mut self, block: &[u8]) -> Result<Next, BuildError> {
        let block = block.try_into().map_err(|_| self.invalid("sparse map"))?;
        self.start = self.start.saturating_add(BLOCK);
        self.old_map(MapPart::of_extension(block))
    }

    /// Takes a block of a map at the start of the content.
    pub(super) fn map_text(&mut self, block: &[u8]) -> Result<Next, BuildError> {
        self.start = self.start.saturating_add(BLOCK);
        self.stored = self.stored.saturating_sub(BLOCK);
        let is_last = self.map_text.block(block, &mut self.map);
        match is_last.map_err(|error| self.map_error(error))? {
            true => self.finish_map(),
            false => self.next_map_text(),
        }
    }

    fn next_map_text(&mut self) -> Result<Next, BuildError> {
        if self.stored == 0 {
            return Err(self.invalid("sparse map"));
        }
        self.text_kind = TextKind::MapText;
        Ok(Next::Text(BLOCK_BYTES))
    }

    fn old_map(&mut self, part: MapPart<'_>) -> Result<Next, BuildError> {
        for piece in part.pieces() {
            let (offset, len) = piece.ok_or_else(|| self.invalid("sparse map"))?;
            let added = self.map.add(offset, len);
            added.map_err(|error| self.map_error(error))?;
        }
        if !part.more {
            return self.finish_map();
        }
        self.text_kind = TextKind::MapExtension;
        Ok(Next::Text(BLOCK_BYTES))
    }

    fn start_map(&mut self, size: u64) -> Result<(), BuildError> {
        self.map.clear();
        self.shape = Shape::SparseFile { size };
        match i64::try_from(size) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.invalid("real size")),
        }
    }

    fn finish_map(&mut self) -> Result<Next, BuildError> {
        if let Shape::SparseFile { size } = self.shape {
            let checked = self.map.finish(size, self.stored);
            checked.map_err(|error| self.map_error(error))?;
        }
        Ok(Next::Entry(self.stored))
    }

    /// Takes the size of the content, if the stream has room for it.
    fn store(&mut self, block: Block<'_>) -> Result<(), BuildError> {
        self.stored = self.size(block)?;
        let padded = self.stored.checked_next_multiple_of(BLOCK);
        match padded.and_then(|len| self.start.checked_add(len)) {
            Some(_) => Ok(()),
            None => Err(self.invalid("size")),
        }
    }

    fn map_error(&self, error: MapError) -> BuildError {
        match error {
            MapError::Invalid => self.invalid("sparse map"),
            MapError::TooMany(count) => {
                let max = self.limits.sparse_extents_max;
                self.entry().limit("sparse_extents_max", count, max)
            }
            MapError::Failed(error) => error,
        }
    }

    fn unsupported(&self, what: &'static str) -> BuildError {
        BuildError::Unsupported {
            what,
            entry: EntryName::new(&self.path),
            offset: self.offset,
        }
    }
}
