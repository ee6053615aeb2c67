//! From the finished tables of an image back to growing ones.
//!
//! Guarantees: all numbers and offsets stay what they are. Everything is checked
//! that the builder goes by, and that content lies in the image's own stream:
//! behind it are the patches'. Only the hashes of names are made anew, under a
//! key that nobody knew when the patches were made.

use zerocopy::little_endian::U32;

use super::super::arena::ArenaProvider;
use super::super::error::BuildError;
use super::super::place::Tree;
use super::super::tables::{GrowingDir, GrowingDirent, Tables};
use super::layers::Layers;
use crate::index::error::{IndexError, corrupt};
use crate::index::format::{
    DirRecord, DirentRecord, ExtentRecord, InodeRecord, SparseRecord, is_name, name_hash,
};
use crate::index::node::FileKind;
use crate::index::reader::Index;
use crate::types::Ino;

/// The tables of an image, vouched for.
struct Base<'a> {
    inodes: &'a [InodeRecord],
    dirs: &'a [DirRecord],
    dirents: &'a [DirentRecord],
    sparse: &'a [SparseRecord],
    extents: &'a [ExtentRecord],
    names: &'a [u8],
    xattrs: &'a [u8],
    stream_bytes: u64,
}

impl Tree {
    /// Fills a tree that is empty with an image.
    pub(super) fn adopt(
        &mut self,
        index: &Index,
        stream_bytes: u64,
        arenas: &mut dyn ArenaProvider,
    ) -> Result<(), BuildError> {
        let tables = &index.tables;
        let (names, xattrs) = tables.all_text()?;
        let base = Base {
            inodes: tables.inodes().all_vouched()?,
            dirs: tables.dirs().all_vouched()?,
            dirents: tables.dirents().all_vouched()?,
            sparse: tables.sparse().all_vouched()?,
            extents: tables.extents().all_vouched()?,
            names,
            xattrs,
            stream_bytes,
        };
        base.check()?;
        self.tables.adopt(&base)?;
        self.xattrs.adopt(xattrs)?;
        let root = index.summary().root.unwrap_or(Ino::ROOT);
        let is_dir = base
            .inode(root.record() + 1)
            .is_some_and(InodeRecord::is_dir);
        if !is_dir {
            return Err(corrupt("root inode", root.number()).into());
        }
        self.layers = Some(Layers::new(root, &self.tables.limits, arenas)?);
        match index.intact() {
            true => Ok(()),
            false => Err(corrupt("file", 0_u32).into()),
        }
    }
}

impl Tables {
    fn adopt(&mut self, base: &Base<'_>) -> Result<(), BuildError> {
        let max = u64::from(self.limits.entries_max);
        let count = base.inodes.len().max(base.dirents.len());
        let value = u64::try_from(count).unwrap_or(u64::MAX);
        if value.saturating_sub(1) > max {
            let what = "entries";
            return Err(BuildError::TooMany { what, value, max });
        }
        self.inodes.clear();
        self.inodes.extend(base.inodes)?;
        for inode in self.inodes.all_mut() {
            // Counted when finishing.
            inode.nlink.set(0);
        }
        self.sparse.extend(base.sparse)?;
        self.extents.extend(base.extents)?;
        self.names.append(&[base.names])?;
        self.adopt_dirs(base)?;
        self.adopt_names(base)?;
        self.remake_map(base.dirents.len())
    }

    fn adopt_dirs(&mut self, base: &Base<'_>) -> Result<(), BuildError> {
        self.dirs.clear();
        for (number, dir) in (0_u32..).zip(base.dirs) {
            let damaged = || corrupt("directory", number);
            let parent = base.dir_number(dir.parent.get()).ok_or_else(damaged)?;
            let depth = match number {
                0 if parent == 0 && dir.ino.get() == 1 => 0,
                // So there are no circles, and nothing recurses.
                _ if parent < number => self.dirs.get(parent)?.depth.get().saturating_add(1),
                _ => return Err(damaged().into()),
            };
            if base.dir_number(dir.ino.get()) != Some(number) || depth > self.limits.depth_max {
                return Err(damaged().into());
            }
            self.dirs.push(GrowingDir {
                ino: dir.ino,
                parent: dir.parent,
                count: dir.count,
                depth: depth.into(),
                next: 0.into(),
            })?;
        }
        Ok(())
    }

    fn adopt_names(&mut self, base: &Base<'_>) -> Result<(), BuildError> {
        let mut dirents = (0_u32..).zip(base.dirents);
        for (number, dir) in (0_u32..).zip(base.dirs) {
            if dir.first.get() != self.dirents.len() {
                return Err(corrupt("directory", number).into());
            }
            for _ in 0..dir.count.get() {
                let (number, dirent) = dirents.next().ok_or(corrupt("directory", number))?;
                let damaged = || corrupt("dirent", number);
                let name = base.name(dirent.name).ok_or_else(damaged)?;
                let child = base.inode(dirent.ino.get()).ok_or_else(damaged)?;
                if child.is_dir() && !base.is_in(child, dir.ino) {
                    return Err(damaged().into());
                }
                self.dirents.push(GrowingDirent {
                    ino: dirent.ino,
                    name: dirent.name,
                    dir: dir.ino,
                    hash: name_hash(&self.hash_key, name).into(),
                })?;
            }
        }
        match dirents.next() {
            Some((number, _)) => Err(corrupt("dirent", number).into()),
            None => Ok(()),
        }
    }
}

impl<'a> Base<'a> {
    fn inode(&self, ino: u32) -> Option<&'a InodeRecord> {
        self.inodes.get(usize::try_from(ino.checked_sub(1)?).ok()?)
    }

    /// The number of the directory that inode `ino` is.
    fn dir_number(&self, ino: u32) -> Option<u32> {
        let record = self.inode(ino).filter(|record| record.is_dir())?;
        u32::try_from(record.data.get()).ok()
    }

    /// Whether the directory that `child` is the inode of is in `dir`.
    fn is_in(&self, child: &InodeRecord, dir: U32) -> bool {
        let number = usize::try_from(child.data.get()).ok();
        let child = number.and_then(|number| self.dirs.get(number));
        child.is_some_and(|child| child.parent == dir && child.ino != U32::new(1))
    }

    fn name(&self, offset: U32) -> Option<&'a [u8]> {
        let text = self.names.get(usize::try_from(offset.get()).ok()?..)?;
        let (len, rest) = text.split_first()?;
        rest.get(..usize::from(*len)).filter(|name| is_name(name))
    }

    /// Whether the target of a symbolic link is as long as its inode says.
    fn has_target(&self, link: &InodeRecord) -> bool {
        let text = usize::try_from(link.data.get()).ok();
        let text = text.and_then(|at| self.names.get(at..));
        let text = text.and_then(<[u8]>::split_first_chunk::<2>);
        text.is_some_and(|(len, rest)| {
            let len = u16::from_le_bytes(*len);
            u64::from(len) == link.size.get() && rest.len() >= usize::from(len)
        })
    }

    fn is_in_stream(&self, start: u64, len: u64) -> bool {
        let end = start.checked_add(len);
        len == 0 || end.is_some_and(|end| end <= self.stream_bytes)
    }

    fn check(&self) -> Result<(), IndexError> {
        for (number, inode) in (0_u32..).zip(self.inodes) {
            let (data, size) = (inode.data.get(), inode.size.get());
            let is_right = match inode.kind() {
                // Its number is checked with the directories.
                Some(FileKind::Directory) => true,
                Some(FileKind::Regular) if inode.is_sparse() => {
                    usize::try_from(data).is_ok_and(|number| number < self.sparse.len())
                }
                Some(FileKind::Regular) => self.is_in_stream(data, size),
                Some(FileKind::Symlink) => self.has_target(inode),
                Some(_) => true,
                None => false,
            };
            let set = usize::try_from(inode.xattrs.get()).unwrap_or(usize::MAX);
            let has_set = !inode.has_xattrs() || set < self.xattrs.len();
            if !is_right || !has_set || (inode.is_sparse() && !is_regular(inode)) {
                return Err(corrupt("inode", number));
            }
        }
        for (number, file) in (0_u32..).zip(self.sparse) {
            let end = u64::from(file.first.get()) + u64::from(file.count.get());
            if usize::try_from(end).is_ok_and(|end| end > self.extents.len()) {
                return Err(corrupt("sparse file", number));
            }
        }
        for (number, piece) in (0_u32..).zip(self.extents) {
            if !self.is_in_stream(piece.stream.get(), piece.len.get()) {
                return Err(corrupt("extent", number));
            }
        }
        Ok(())
    }
}

fn is_regular(inode: &InodeRecord) -> bool {
    inode.kind() == Some(FileKind::Regular)
}
