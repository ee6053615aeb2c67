//! Directories: their ranges, names, hashes, and that the root is above them.

use super::Check;
use crate::index::error::{IndexError, corrupt};
use crate::index::format::{DirRecord, EQUAL_HASHES_MAX, InodeRecord, is_name, name_hash};

impl Check<'_> {
    /// Invariants 2 to 5, and counting for 6.
    pub(super) fn directories(&mut self) -> Result<(), IndexError> {
        let mut next = 0_u32;
        for (number, dir) in (0_u32..).zip(self.tables.dirs().all()) {
            let damaged = || corrupt("directory", number);
            if dir.first.get() != next {
                return Err(damaged());
            }
            next = next.checked_add(dir.count.get()).ok_or_else(damaged)?;
            let record = self.inode(dir.ino.get()).ok_or_else(damaged)?;
            let is_root = number == 0;
            if !record.is_dir()
                || record.data.get() != u64::from(number)
                || is_root != (dir.ino.get() == 1)
                || is_root && dir.parent.get() != 1
                || !is_root && record.nlink.get() == 0 && dir.count.get() > 0
                || !self
                    .inode(dir.parent.get())
                    .is_some_and(InodeRecord::is_dir)
            {
                return Err(damaged());
            }
            if is_root || record.nlink.get() > 0 {
                self.add_names(dir.ino.get(), 2, number)?;
            }
            self.entries(dir, number)?;
            self.hashes(dir)?;
        }
        if usize::try_from(next).ok() != Some(self.tables.dirents().all().len()) {
            return Err(corrupt("directory", u32::MAX));
        }
        Ok(())
    }

    /// Checks the entries of the directory that has the number `own`.
    fn entries(&mut self, dir: &DirRecord, own: u32) -> Result<(), IndexError> {
        let tables = self.tables;
        let all = tables.dirents().run(dir.first.get(), dir.count.get())?;
        for (number, dirent) in (dir.first.get()..).zip(all) {
            let damaged = || corrupt("dirent", number);
            if !is_name(tables.name(dirent.name.get())?) {
                return Err(damaged());
            }
            let ino = dirent.ino.get();
            let record = self.inode(ino).ok_or_else(damaged)?;
            if !record.is_dir() {
                self.add_names(ino, 1, number)?;
                continue;
            }
            let child = tables.dirs().get(record.data.get())?;
            let is_below = record.data.get() > own.into();
            if child.parent != dir.ino || child.ino.get() != ino || !is_below {
                return Err(damaged());
            }
            self.add_names(dir.ino.get(), 1, number)?;
        }
        Ok(())
    }

    fn hashes(&self, dir: &DirRecord) -> Result<(), IndexError> {
        let (first, count) = (dir.first.get(), dir.count.get());
        let hashes = self.tables.hashes().run(first, count)?;
        let mut equal_from = 0;
        let mut before = None;
        for (at, record) in hashes.iter().enumerate() {
            let number = record.dirent.get();
            let damaged = || corrupt("hash of dirent", number);
            let key = (record.hash.get(), number);
            if before >= Some(key) || number.wrapping_sub(first) >= count {
                return Err(damaged());
            }
            if before.is_none_or(|(hash, _)| hash != key.0) {
                equal_from = at;
            }
            before = Some(key);
            let name = self.name_of(number)?;
            if name_hash(&self.tables.hash_key, name) != key.0 || at - equal_from > EQUAL_HASHES_MAX
            {
                return Err(damaged());
            }
            for earlier in &hashes[equal_from..at] {
                if self.name_of(earlier.dirent.get())? == name {
                    return Err(damaged());
                }
            }
        }
        Ok(())
    }

    /// Every named directory is named once. It is in its parent, which has a
    /// lower number and, having entries, a name: so the root is above it.
    pub(super) fn reachability(&self) -> Result<(), IndexError> {
        let dirs = self.tables.dirs();
        let mut named = vec![0_u8; dirs.all().len()];
        for dirent in self.tables.dirents().all() {
            let record = self.inode(dirent.ino.get());
            if let Some(count) = record
                .filter(|record| record.is_dir())
                .and_then(|record| usize::try_from(record.data.get()).ok())
                .and_then(|number| named.get_mut(number))
            {
                *count = count.saturating_add(1);
            }
        }
        for (number, dir) in (0_u32..).zip(dirs.all()).skip(1) {
            let damaged = || corrupt("directory", number);
            let live = self.inode(dir.ino.get()).is_some_and(|i| i.nlink.get() > 0);
            let at = usize::try_from(number).map_err(|_| damaged())?;
            if named[at] != u8::from(live) {
                return Err(damaged());
            }
        }
        Ok(())
    }

    fn name_of(&self, dirent: u32) -> Result<&[u8], IndexError> {
        let dirent = self.tables.dirents().get(dirent.into())?;
        self.tables.name(dirent.name.get())
    }

    fn add_names(&mut self, ino: u32, names: u32, by: u32) -> Result<(), IndexError> {
        let count = usize::try_from(ino)
            .ok()
            .and_then(|ino| self.names.get_mut(ino.checked_sub(1)?))
            .ok_or(corrupt("inode named by record", by))?;
        *count = count.saturating_add(names);
        Ok(())
    }
}
