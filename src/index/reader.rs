//! [`Index`]: answers from the tables, in place.
//!
//! Guarantees: opening is O(1); a lookup is O(log n) in the size of the
//! directory; nothing is cached or kept per inode. `.` and `..` are not in the
//! tables: who needs them asks [`Index::parent`].

use std::fmt;
use std::sync::Arc;

use zerocopy::FromBytes;

use super::FindSection;
use super::error::{IndexError, corrupt};
use super::format::{DirRecord, InodeRecord, META_IGNORED_ZEROS, PERM_MASK, XattrHead, name_hash};
use super::node::{Dirent, Extent, FileKind, Inode, Xattr};
use super::summary::Summary;
use super::tables::Tables;
use crate::types::{Ino, Region, StreamOffset, Timestamp};

/// An opened index. Cheap to clone.
#[derive(Clone)]
pub struct Index {
    pub(super) tables: Tables,
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("summary", &self.tables.summary)
            .finish_non_exhaustive()
    }
}

impl Index {
    /// Opens the index whose sections `find` locates inside of `region`.
    /// Checks the tables' sizes against each other, O(1).
    pub fn open(region: Arc<dyn Region>, find: FindSection<'_>) -> Result<Self, IndexError> {
        let tables = Tables::open(region, find)?;
        Ok(Self { tables })
    }

    /// Whether everything read so far was what the file held when opened.
    pub fn intact(&self) -> bool {
        self.tables.intact()
    }

    /// The inode with this number.
    pub fn inode(&self, ino: Ino) -> Result<Inode, IndexError> {
        let record = self.record(ino)?;
        let kind = record.kind().ok_or(corrupt("inode", ino.number()))?;
        let size = record.size.get();
        let device = matches!(kind, FileKind::CharDevice | FileKind::BlockDevice);
        Ok(Inode {
            ino,
            kind,
            perm: record.mode.get() & PERM_MASK,
            uid: record.uid.get(),
            gid: record.gid.get(),
            nlink: record.nlink.get(),
            size,
            allocated: match kind {
                FileKind::Regular if record.is_sparse() => {
                    self.tables.sparse().get(record.data.get())?.allocated.get()
                }
                FileKind::Regular => size,
                _ => 0,
            },
            mtime: Timestamp {
                secs: record.mtime_secs.get(),
                nanos: record.mtime_nanos.get().min(999_999_999),
            },
            rdev: match u32::try_from(record.data.get()) {
                Ok(rdev) if device => rdev,
                Err(_) if device => return Err(corrupt("device number of inode", ino.number())),
                _ => 0,
            },
        })
    }

    /// The inode that `name` names in `dir`.
    pub fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<Ino>, IndexError> {
        let dir = self.directory(dir)?;
        let hashes = self.tables.hashes();
        let hashes = hashes.part(dir.first.get(), dir.count.get())?;
        let hash = name_hash(&self.tables.hash_key, name);
        let from = hashes.partition_point(|h| h.hash.get() < hash)?;
        for at in from..u64::from(dir.count.get()) {
            let found = hashes.get(at)?;
            if found.hash.get() != hash {
                break;
            }
            let number = found.dirent.get();
            if number.wrapping_sub(dir.first.get()) >= dir.count.get() {
                return Err(corrupt("hash of dirent", number));
            }
            let dirent = self.tables.dirents().get(number.into())?;
            if self.tables.name(dirent.name.get())? == name {
                return self.linked(dirent.ino.get(), number).map(Some);
            }
        }
        Ok(None)
    }

    /// The directory that `dir` is in; the root is in itself.
    pub fn parent(&self, dir: Ino) -> Result<Ino, IndexError> {
        let parent = self.directory(dir)?.parent.get();
        self.linked(parent, dir.record())
    }

    /// The entries of `dir` from `position` on, in archive order, without `.` and `..`.
    pub fn dirents(
        &self,
        dir: Ino,
        position: u32,
    ) -> Result<impl Iterator<Item = Result<Dirent<'_>, IndexError>>, IndexError> {
        let dir = self.directory(dir)?;
        let first = dir.first.get();
        let all = self.tables.dirents().part(first, dir.count.get())?;
        Ok((position..dir.count.get()).map(move |position| {
            let dirent = all.get(position.into())?;
            Ok(Dirent {
                position,
                name: self.tables.name(dirent.name.get())?,
                ino: self.linked(dirent.ino.get(), first.saturating_add(position))?,
            })
        }))
    }

    /// The target of a symbolic link.
    pub fn link_target(&self, ino: Ino) -> Result<&[u8], IndexError> {
        let record = self.record_of(ino, FileKind::Symlink, "symbolic link")?;
        self.tables.target(record.data.get())
    }

    /// The extents of a regular file in file order; what lies between them is holes.
    pub fn extents(
        &self,
        ino: Ino,
    ) -> Result<impl Iterator<Item = Result<Extent, IndexError>>, IndexError> {
        self.extents_from(ino, 0)
    }

    /// The same without those that end at or before `file_offset`, which are
    /// skipped in O(log n).
    pub fn extents_from(
        &self,
        ino: Ino,
        file_offset: u64,
    ) -> Result<impl Iterator<Item = Result<Extent, IndexError>>, IndexError> {
        let record = self.record_of(ino, FileKind::Regular, "regular file")?;
        let size = record.size.get();
        let mut whole = None;
        let mut pieces = Default::default();
        if record.is_sparse() {
            let sparse = self.tables.sparse().get(record.data.get())?;
            let (first, count) = (sparse.first.get(), sparse.count.get());
            pieces = self.tables.extents().run(first, count)?;
            let skip = pieces.partition_point(|piece| {
                let end = piece.file_offset.get().saturating_add(piece.len.get());
                end <= file_offset
            });
            pieces = &pieces[skip..];
        } else if size > file_offset {
            whole = Some(Ok(Extent {
                file_offset: 0,
                stream: StreamOffset(record.data.get()),
                len: size,
            }));
        }
        let mut end_before = 0;
        let pieces = pieces.iter().map(move |piece| {
            let extent = Extent {
                file_offset: piece.file_offset.get(),
                stream: StreamOffset(piece.stream.get()),
                len: piece.len.get(),
            };
            let end = extent.file_offset.checked_add(extent.len);
            match end.filter(|end| *end <= size && extent.file_offset >= end_before) {
                Some(end) => end_before = end,
                None => return Err(corrupt("extent of inode", ino.number())),
            }
            Ok(extent)
        });
        Ok(whole.into_iter().chain(pieces))
    }

    /// The extended attributes of an inode.
    pub fn xattrs(
        &self,
        ino: Ino,
    ) -> Result<impl Iterator<Item = Result<Xattr<'_>, IndexError>>, IndexError> {
        let record = self.record(ino)?;
        let offset = record.has_xattrs().then_some(record.xattrs.get());
        let set = offset.map(|offset| self.xattr_set(offset));
        Ok(set.transpose()?.into_iter().flatten())
    }

    /// Whether blocks of zeros did not end the archive, as
    /// [`BuildOptions`](super::build::BuildOptions) asked: without, the same
    /// archive may give another image.
    pub fn ignored_zeros(&self) -> bool {
        self.tables.flags & META_IGNORED_ZEROS != 0
    }

    /// The set at an offset of XATTRS, of which nothing is given out that the
    /// region does not vouch for.
    fn xattr_set(
        &self,
        offset: u32,
    ) -> Result<impl Iterator<Item = Result<Xattr<'_>, IndexError>>, IndexError> {
        let area = self.tables.xattr_bytes();
        let damaged = corrupt("attribute set", offset);
        let start = usize::try_from(offset).map_err(|_| damaged.clone())?;
        let mut set = XattrSet::at(area, offset)?;
        let place = |set: &XattrSet<'_>| area.len() - set.rest().len();
        // How many attributes there are.
        if !self.tables.vouch_xattrs(start..place(&set)) {
            return Err(damaged);
        }
        Ok(std::iter::from_fn(move || {
            let from = place(&set);
            let next = set.next()?;
            if self.tables.vouch_xattrs(from..place(&set)) {
                return Some(next);
            }
            set.left = 0;
            Some(Err(damaged.clone()))
        }))
    }

    /// What the whole image holds.
    pub fn summary(&self) -> Summary {
        self.tables.summary
    }

    fn record(&self, ino: Ino) -> Result<&InodeRecord, IndexError> {
        let inodes = self.tables.inodes();
        if inodes.has(ino.record()) {
            inodes.get(ino.record().into())
        } else {
            Err(IndexError::NoInode(ino.number()))
        }
    }

    fn record_of(
        &self,
        ino: Ino,
        kind: FileKind,
        wanted: &'static str,
    ) -> Result<&InodeRecord, IndexError> {
        let record = self.record(ino)?;
        if record.kind() == Some(kind) {
            return Ok(record);
        }
        Err(IndexError::WrongKind { ino, wanted })
    }

    fn directory(&self, ino: Ino) -> Result<&DirRecord, IndexError> {
        let record = self.record_of(ino, FileKind::Directory, "directory")?;
        self.tables.dirs().get(record.data.get())
    }

    /// An inode number found in record `by`, if there is such an inode.
    fn linked(&self, number: u32, by: u32) -> Result<Ino, IndexError> {
        Ino::new(number.into())
            .filter(|ino| self.tables.inodes().has(ino.record()))
            .ok_or(corrupt("inode named by record", by))
    }
}

/// The rest of a set of attributes in XATTRS.
#[derive(Clone, Debug)]
pub(super) struct XattrSet<'a> {
    offset: u32,
    left: u32,
    rest: &'a [u8],
}

impl<'a> XattrSet<'a> {
    /// The set at `offset` of `area`.
    pub(super) fn at(area: &'a [u8], offset: u32) -> Result<Self, IndexError> {
        let (count, rest) = usize::try_from(offset)
            .ok()
            .and_then(|at| area.get(at..))
            .and_then(<[u8]>::split_first_chunk::<4>)
            .ok_or(corrupt("attribute set", offset))?;
        Ok(Self {
            offset,
            left: u32::from_le_bytes(*count),
            rest,
        })
    }

    /// What follows the attributes taken so far.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn take(&mut self) -> Option<Xattr<'a>> {
        let (head, rest) = XattrHead::ref_from_prefix(self.rest).ok()?;
        let (name, rest) = rest.split_at_checked(head.name_len.into())?;
        let value_len = usize::try_from(head.value_len.get()).ok()?;
        let (value, rest) = rest.split_at_checked(value_len)?;
        self.rest = rest;
        Some(Xattr { name, value })
    }
}

impl<'a> Iterator for XattrSet<'a> {
    type Item = Result<Xattr<'a>, IndexError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let taken = self.take();
        if taken.is_none() {
            self.left = 0;
        }
        Some(taken.ok_or(corrupt("attribute set", self.offset)))
    }
}
