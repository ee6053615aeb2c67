//! Inodes: their fields, link targets, extents and attribute sets.

use super::Check;
use crate::index::error::{IndexError, corrupt};
use crate::index::format::{FLAG_SPARSE, InodeRecord, is_xattr_name};
use crate::index::node::FileKind;
use crate::index::reader::XattrSet;

impl Check<'_> {
    /// Invariants 6 to 8.
    pub(super) fn inodes(&self) -> Result<(), IndexError> {
        let (mut sparse, mut extents) = (0_u32, 0_u32);
        let all = self.tables.inodes().all();
        for ((number, record), names) in (0_u32..).zip(all).zip(&self.names) {
            let damaged = || corrupt("inode", number);
            let kind = record.kind().ok_or_else(damaged)?;
            if record.nlink.get() != *names
                || record.flags.get() & !FLAG_SPARSE != 0
                || record.mtime_nanos.get() >= 1_000_000_000
                || record.has_xattrs() && self.sets.binary_search(&record.xattrs.get()).is_err()
            {
                return Err(damaged());
            }
            if !record.is_sparse() {
                self.data(number, record, kind).ok_or_else(damaged)?;
                continue;
            }
            if kind != FileKind::Regular || record.data.get() != u64::from(sparse) {
                return Err(damaged());
            }
            extents = self.sparse(sparse, extents, record.size.get())?;
            sparse += 1;
        }
        let covered = |count: u32, len: usize| usize::try_from(count) == Ok(len);
        if !covered(sparse, self.tables.sparse().all().len())
            || !covered(extents, self.tables.extents().all().len())
        {
            return Err(corrupt("sparse file", sparse));
        }
        Ok(())
    }

    /// Invariant 7: whether `data` and `size` fit the type.
    fn data(&self, number: u32, record: &InodeRecord, kind: FileKind) -> Option<()> {
        let (data, size) = (record.data.get(), record.size.get());
        let fits = match kind {
            FileKind::Regular => size == 0 || data.checked_add(size)? <= self.stream_len,
            FileKind::Symlink => {
                let target = self.tables.target(data).ok()?;
                u64::try_from(target.len()) == Ok(size) && size > 0 && !target.contains(&0)
            }
            FileKind::Directory => {
                let dir = self.tables.dirs().get(data).ok()?;
                size == 0 && dir.ino.get().checked_sub(1) == Some(number)
            }
            FileKind::CharDevice | FileKind::BlockDevice => {
                size == 0 && u32::try_from(data).is_ok()
            }
            FileKind::Fifo | FileKind::Socket => size == 0 && data == 0,
        };
        fits.then_some(())
    }

    /// Invariant 8 for sparse file `number`, whose extents start at record
    /// `first`; returns the first record behind them.
    fn sparse(&self, number: u32, first: u32, size: u64) -> Result<u32, IndexError> {
        let damaged = || corrupt("sparse file", number);
        let sparse = self.tables.sparse().get(number.into())?;
        if sparse.first.get() != first {
            return Err(damaged());
        }
        let (mut end_before, mut allocated) = (0_u64, 0_u64);
        for piece in self.tables.extents().run(first, sparse.count.get())? {
            let (start, len) = (piece.file_offset.get(), piece.len.get());
            let end = start.checked_add(len).ok_or_else(damaged)?;
            let stream_end = piece.stream.get().checked_add(len).ok_or_else(damaged)?;
            if len == 0 || start < end_before || end > size || stream_end > self.stream_len {
                return Err(damaged());
            }
            end_before = end;
            allocated += len;
        }
        if sparse.allocated.get() != allocated {
            return Err(damaged());
        }
        first.checked_add(sparse.count.get()).ok_or_else(damaged)
    }
}

/// Checks invariant 9 and returns where the sets start.
pub(super) fn attribute_sets(area: &[u8]) -> Result<Vec<u32>, IndexError> {
    let mut starts = Vec::new();
    let mut rest = area;
    while !rest.is_empty() {
        let offset = area.len() - rest.len();
        let offset = u32::try_from(offset).map_err(|_| corrupt("attribute set", u32::MAX))?;
        let mut set = XattrSet::at(area, offset)?;
        let mut before: &[u8] = b"";
        for attribute in &mut set {
            let name = attribute?.name;
            if !is_xattr_name(name) || name <= before {
                return Err(corrupt("attribute set", offset));
            }
            before = name;
        }
        if before.is_empty() {
            return Err(corrupt("attribute set", offset));
        }
        rest = set.rest();
        starts.push(offset);
    }
    Ok(starts)
}
