//! [`ImageFs`]: every question that a filesystem is asked, answered from an
//! index and a stream.
//!
//! Numbers: the kernel's inode 1 is the chosen root. If that is not the top of
//! the archive, the two exchange their numbers; all others are the index's own.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use crate::fs::attr::BLOCK_SIZE;
use crate::fs::content::{self, Patience, Whence};
use crate::fs::xattr::{self, XattrAnswer};
use crate::fs::{Attr, FsError, FsOptions, Owner};
use crate::index::{FileKind, Index, IndexError, Inode};
use crate::metrics::Metrics;
use crate::source::ReadAt;
use crate::types::Ino;

/// The longest name of a file, in bytes (`NAME_MAX`); the kernel lets longer
/// ones through to FUSE.
const NAME_BYTES_MAX: u16 = 255;

/// Offsets in a directory before the first entry of the index: `.` and `..`.
const DOTS: u64 = 2;

/// An image as a read-only filesystem.
pub struct ImageFs {
    index: Index,
    content: Arc<dyn ReadAt>,
    options: FsOptions,
    metrics: Arc<Metrics>,
    has_xattrs: OnceLock<bool>,
}

/// An entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Where to go on behind it.
    pub next_offset: u64,
    /// What it names.
    pub attr: Attr,
}

/// What statfs(2) says about an image. Nothing is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatFs {
    /// Content, in blocks.
    pub blocks: u64,
    /// Inodes.
    pub files: u64,
    /// Bytes in a block.
    pub block_size: u32,
    /// The longest name, in bytes.
    pub name_bytes_max: u32,
}

impl ImageFs {
    /// The image of `index`, whose files' bytes are in `content`. Fails if the
    /// chosen root is no directory.
    pub fn new(
        index: Index,
        content: Arc<dyn ReadAt>,
        options: FsOptions,
        metrics: Arc<Metrics>,
    ) -> Result<ImageFs, FsError> {
        let fs = ImageFs {
            index,
            content,
            options,
            metrics,
            has_xattrs: OnceLock::new(),
        };
        let root = fs.index.inode(options.root)?;
        if root.kind != FileKind::Directory {
            let (ino, wanted) = (options.root, "directory");
            return Err(IndexError::WrongKind { ino, wanted }.into());
        }
        if fs.index.intact() {
            Ok(fs)
        } else {
            Err(FsError::IndexChanged)
        }
    }

    /// What `name` names in `parent`, or nothing. `.` and `..` are understood,
    /// `.` of any inode: that is how the kernel turns a file handle back into
    /// an inode.
    pub fn lookup(&self, parent: u64, name: &[u8]) -> Result<Option<Attr>, FsError> {
        self.answer(|| {
            let parent = self.to_index(parent)?;
            let found = match name {
                b"." => Some(parent),
                b".." => Some(self.parent(parent)?),
                name if name.len() > NAME_BYTES_MAX.into() => return Err(FsError::NameTooLong),
                name => self.index.lookup(parent, name)?,
            };
            let found = found.map(|ino| self.index.inode(ino)).transpose()?;
            let shown = found.filter(|inode| self.shows(inode));
            shown.map(|inode| self.attr(&inode)).transpose()
        })
    }

    /// The attributes of an inode.
    pub fn getattr(&self, ino: u64) -> Result<Attr, FsError> {
        self.answer(|| self.attr(&self.inode(ino)?))
    }

    /// The target of a symbolic link.
    pub fn readlink(&self, ino: u64) -> Result<Vec<u8>, FsError> {
        self.answer(|| Ok(self.index.link_target(self.to_index(ino)?)?.to_vec()))
    }

    /// Reads into the front of `buf` from `offset` on and says how many bytes:
    /// all of `buf`, less only at the end of the file. `None` if that would
    /// take waiting and `patience` has none.
    pub fn read(
        &self,
        ino: u64,
        offset: u64,
        buf: &mut [u8],
        patience: Patience,
    ) -> Result<Option<usize>, FsError> {
        let len = self.answer(|| {
            let inode = self.inode(ino)?;
            let left = inode.size.saturating_sub(offset);
            let len = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
            let extents = self.index.extents_from(inode.ino, offset)?;
            let done = content::read(extents, &*self.content, offset, &mut buf[..len], patience)?;
            Ok(done.then_some(len))
        })?;
        self.metrics
            .counters
            .served_bytes
            .add(len.unwrap_or(0) as u64);
        Ok(len)
    }

    /// Hands the entries of a directory from `offset` on to `sink`, with `.`
    /// and `..`, until it breaks. An offset stays valid for as long as the
    /// index does.
    pub fn readdir(
        &self,
        ino: u64,
        offset: u64,
        sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), FsError> {
        self.answer(|| {
            let dir = self.to_index(ino)?;
            let dots = [(&b"."[..], dir, 1), (b"..", self.parent(dir)?, DOTS)];
            let skip = usize::try_from(offset).unwrap_or(usize::MAX);
            for (name, ino, next_offset) in dots.into_iter().skip(skip) {
                let attr = self.attr(&self.index.inode(ino)?)?;
                if sink(DirEntry {
                    name,
                    next_offset,
                    attr,
                })
                .is_break()
                {
                    return Ok(());
                }
            }
            self.entries(dir, offset.saturating_sub(DOTS), sink)
        })
    }

    fn entries(
        &self,
        dir: Ino,
        position: u64,
        sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), FsError> {
        // An offset can be made up by seekdir(3); no directory is that long.
        let position = u32::try_from(position)
            .ok()
            .filter(|position| *position < u32::MAX);
        let Some(position) = position else {
            return Ok(());
        };
        for entry in self.index.dirents(dir, position)? {
            let entry = entry?;
            let inode = self.index.inode(entry.ino)?;
            if !self.shows(&inode) {
                continue;
            }
            let next_offset = u64::from(entry.position) + 1 + DOTS;
            let attr = self.attr(&inode)?;
            if sink(DirEntry {
                name: entry.name,
                next_offset,
                attr,
            })
            .is_break()
            {
                break;
            }
        }
        Ok(())
    }

    /// The size of the image.
    pub fn statfs(&self) -> Result<StatFs, FsError> {
        self.answer(|| {
            let summary = self.index.summary();
            Ok(StatFs {
                blocks: summary.content_bytes.div_ceil(BLOCK_SIZE.into()),
                files: summary.inodes,
                block_size: BLOCK_SIZE,
                name_bytes_max: NAME_BYTES_MAX.into(),
            })
        })
    }

    /// An extended attribute, for a buffer of `size` bytes; 0 asks for its length.
    pub fn getxattr(&self, ino: u64, name: &[u8], size: u32) -> Result<XattrAnswer, FsError> {
        self.answer(|| {
            let inode = self.inode(ino)?;
            if xattr::visible(name, self.options.owner) {
                for attribute in self.index.xattrs(inode.ino)? {
                    let attribute = attribute?;
                    if attribute.name == name {
                        return xattr::answer(attribute.value.to_vec(), size);
                    }
                }
            }
            Err(FsError::NoAttribute)
        })
    }

    /// The names of an inode's extended attributes, for a buffer of `size`
    /// bytes; 0 asks for their length.
    pub fn listxattr(&self, ino: u64, size: u32) -> Result<XattrAnswer, FsError> {
        self.answer(|| {
            let inode = self.inode(ino)?;
            let names = xattr::names(self.index.xattrs(inode.ino)?, self.options.owner)?;
            xattr::answer(names, size)
        })
    }

    /// Whether any inode shows an extended attribute: found out when first
    /// asked, by looking at all inodes if only hidden ones are possible.
    pub fn has_xattrs(&self) -> bool {
        let carriers = self.index.summary().with_xattrs;
        match self.options.owner {
            _ if carriers == 0 => false,
            Owner::Keep => true,
            Owner::Squash { .. } => *self.has_xattrs.get_or_init(|| self.finds_xattrs()),
        }
    }

    /// Where the next data or hole of a file begins.
    pub fn lseek(&self, ino: u64, offset: i64, whence: Whence) -> Result<u64, FsError> {
        self.answer(|| {
            let inode = self.inode(ino)?;
            let offset = u64::try_from(offset).map_err(|_| FsError::NoSuchOffset)?;
            let extents = self.index.extents_from(inode.ino, offset)?;
            content::seek(extents, inode.size, offset, whence)
        })
    }

    /// What is counted about this image.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    fn finds_xattrs(&self) -> bool {
        let visible = |ino: Ino| -> Result<bool, IndexError> {
            for attribute in self.index.xattrs(ino)? {
                if xattr::visible(attribute?.name, self.options.owner) {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        for ino in (1..=u64::from(u32::MAX)).filter_map(Ino::new) {
            match visible(ino) {
                Ok(false) => {}
                Err(IndexError::NoInode(_)) => return false,
                // Damage is to be reported for the inode that has it.
                Ok(true) | Err(_) => return true,
            }
        }
        false
    }

    /// Lets an answer or an error out if nothing that it was made from can be
    /// wrong. Answers own their bytes, so that they are still right later.
    fn answer<T>(&self, work: impl FnOnce() -> Result<T, FsError>) -> Result<T, FsError> {
        let answer = work();
        if self.index.intact() {
            answer
        } else {
            Err(FsError::IndexChanged)
        }
    }

    /// The index's number for the kernel's.
    fn to_index(&self, number: u64) -> Result<Ino, FsError> {
        let ino = Ino::new(number).ok_or(IndexError::NoInode(number))?;
        Ok(swap(ino, self.options.root))
    }

    /// An inode that shows, by the kernel's number.
    fn inode(&self, number: u64) -> Result<Inode, FsError> {
        let inode = self.index.inode(self.to_index(number)?)?;
        if self.shows(&inode) {
            Ok(inode)
        } else {
            Err(IndexError::NoInode(number).into())
        }
    }

    fn shows(&self, inode: &Inode) -> bool {
        self.options.devices || !matches!(inode.kind, FileKind::CharDevice | FileKind::BlockDevice)
    }

    fn parent(&self, dir: Ino) -> Result<Ino, FsError> {
        if dir == self.options.root {
            Ok(dir)
        } else {
            Ok(self.index.parent(dir)?)
        }
    }

    fn attr(&self, inode: &Inode) -> Result<Attr, FsError> {
        let entries = match inode.kind {
            FileKind::Directory => self.index.dirents(inode.ino, 0)?.size_hint().0,
            _ => 0,
        };
        let entries = u32::try_from(entries).unwrap_or(u32::MAX);
        let number = swap(inode.ino, self.options.root).number();
        Ok(Attr::of(inode, number, self.options.owner, entries))
    }
}

impl fmt::Debug for ImageFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageFs")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Exchanges the numbers of the chosen root and of the top, both ways.
fn swap(ino: Ino, root: Ino) -> Ino {
    match ino {
        Ino::ROOT => root,
        ino if ino == root => Ino::ROOT,
        ino => ino,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_and_the_top_exchange_numbers() {
        let ino = |n| Ino::new(n).unwrap();
        for root in [1, 5] {
            for n in 1..9 {
                assert_eq!(swap(swap(ino(n), ino(root)), ino(root)), ino(n));
            }
            assert_eq!(swap(Ino::ROOT, ino(root)), ino(root));
        }
        assert_eq!(swap(ino(4), ino(5)), ino(4));
    }
}
