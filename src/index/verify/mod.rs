//! [`Index::verify`]: every invariant of the specification, checked.
//!
//! Guarantees: no recursion; time linear in the size of the tables (times the
//! logarithm of the number of attribute sets); memory of four bytes for each
//! inode, one for each directory and four for each attribute set. An index that
//! passes answers every question without [`IndexError::Corrupt`], and following
//! its directories ends.

mod data;
mod tree;

use super::error::{IndexError, corrupt};
use super::format::InodeRecord;
use super::reader::Index;
use super::summary::Summary;
use super::tables::Tables;
use crate::types::Ino;

impl Index {
    /// Checks every invariant of the format. `stream_len` is the length in
    /// bytes of the uncompressed stream that the extents must lie in.
    pub fn verify(&self, stream_len: u64) -> Result<(), IndexError> {
        let sets = data::attribute_sets(self.tables.xattr_bytes())?;
        let mut check = Check {
            tables: &self.tables,
            names: vec![0; self.tables.inodes().all().len()],
            sets,
            stream_len,
        };
        check.directories()?;
        check.reachability()?;
        check.inodes()?;
        check.summary()
    }
}

struct Check<'a> {
    tables: &'a Tables,
    /// The link count that the entries give each inode.
    names: Vec<u32>,
    /// Where attribute sets start, ascending.
    sets: Vec<u32>,
    stream_len: u64,
}

impl Check<'_> {
    /// Invariants 10 and 11.
    fn summary(&self) -> Result<(), IndexError> {
        let stored = self.tables.summary;
        let mut counted = Summary {
            entries: stored.entries,
            root: stored.root,
            ..Summary::default()
        };
        for record in self.tables.inodes().all() {
            let allocated = match record.is_sparse() {
                true => self.tables.sparse().get(record.data.get())?.allocated.get(),
                false => record.size.get(),
            };
            counted.count(record, allocated);
        }
        if counted != stored {
            return Err(corrupt("summary", 0_u32));
        }
        let root = stored.root.map_or(0, Ino::number);
        let served = self.tables.inodes().get(root.wrapping_sub(1))?;
        if !served.is_dir() || served.nlink.get() == 0 {
            return Err(corrupt("root inode", root));
        }
        Ok(())
    }

    fn inode(&self, ino: u32) -> Option<&InodeRecord> {
        let record = u64::from(ino.checked_sub(1)?);
        self.tables.inodes().get(record).ok()
    }
}
