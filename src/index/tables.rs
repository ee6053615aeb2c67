//! The sections of an index as bounds-checked arrays over a region.
//!
//! Guarantees: after [`Tables::open`] every section lies in the region and has
//! the length that META says; every access by number or offset is checked, and
//! a bad one is [`IndexError::Corrupt`] with the number, and so is one whose
//! bytes the region does not vouch for: the owner of a damaged index gets
//! errors, never another file's name or place. A region whose bytes change under
//! the reader can make answers wrong, never unsound: its owner is asked by
//! `Region::intact`.

use std::ops::Range;
use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::FindSection;
use super::error::{IndexError, corrupt};
use super::format::{
    DirRecord, DirentRecord, ExtentRecord, HashRecord, InodeRecord, META_IGNORED_ZEROS, MetaRecord,
    SparseRecord, VERSION, section,
};
use super::summary::Summary;
use crate::types::{Ino, Region};

/// Where an array of records or an area of bytes is in the region.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    what: &'static str,
    start: usize,
    end: usize,
}

/// The sections, found and measured.
#[derive(Clone)]
pub(super) struct Tables {
    region: Arc<dyn Region>,
    pub(super) hash_key: [u8; 16],
    pub(super) summary: Summary,
    pub(super) flags: u32,
    inodes: Span,
    dirents: Span,
    dirs: Span,
    hashes: Span,
    sparse: Span,
    extents: Span,
    names: Span,
    xattrs: Span,
}

impl Tables {
    pub(super) fn open(region: Arc<dyn Region>, find: FindSection<'_>) -> Result<Self, IndexError> {
        let bytes = region.bytes();
        let meta_range = find(section::META)
            .filter(|range| region.vouch(range.clone()))
            .and_then(|range| bytes.get(range))
            .ok_or(corrupt("section", section::META))?;
        let meta = *MetaRecord::ref_from_bytes(meta_range)
            .map_err(|_| corrupt("section", section::META))?;
        if meta.version.get() != VERSION {
            return Err(corrupt("table version", meta.version.get()));
        }
        let span = |what, id: u32, count: u64, each: usize| {
            let range = find(id).ok_or(corrupt("section", id))?;
            let wanted = usize::try_from(count)
                .ok()
                .and_then(|n| n.checked_mul(each));
            match bytes.get(range.clone()) {
                Some(found) if Some(found.len()) == wanted => Ok(Span {
                    what,
                    start: range.start,
                    end: range.end,
                }),
                _ => Err(corrupt("section", id)),
            }
        };
        let dirents = u64::from(meta.dirent_count.get());
        Ok(Self {
            hash_key: meta.hash_key,
            summary: summary_of(&meta)?,
            flags: flags_of(&meta)?,
            inodes: span(
                "inode",
                section::INODES,
                meta.inode_count.get().into(),
                size_of::<InodeRecord>(),
            )?,
            dirents: span(
                "dirent",
                section::DIRENTS,
                dirents,
                size_of::<DirentRecord>(),
            )?,
            dirs: span(
                "directory",
                section::DIRS,
                meta.dir_count.get().into(),
                size_of::<DirRecord>(),
            )?,
            hashes: span("hash", section::HASHES, dirents, size_of::<HashRecord>())?,
            sparse: span(
                "sparse file",
                section::SPARSE,
                meta.sparse_count.get().into(),
                size_of::<SparseRecord>(),
            )?,
            extents: span(
                "extent",
                section::EXTENTS,
                meta.extent_count.get().into(),
                size_of::<ExtentRecord>(),
            )?,
            names: span("name", section::NAMES, meta.names_bytes.get(), 1)?,
            xattrs: span("attribute set", section::XATTRS, meta.xattrs_bytes.get(), 1)?,
            region,
        })
    }

    pub(super) fn intact(&self) -> bool {
        self.region.intact()
    }

    pub(super) fn inodes(&self) -> Records<'_, InodeRecord> {
        self.records(self.inodes)
    }

    pub(super) fn dirents(&self) -> Records<'_, DirentRecord> {
        self.records(self.dirents)
    }

    pub(super) fn dirs(&self) -> Records<'_, DirRecord> {
        self.records(self.dirs)
    }

    pub(super) fn hashes(&self) -> Records<'_, HashRecord> {
        self.records(self.hashes)
    }

    pub(super) fn sparse(&self) -> Records<'_, SparseRecord> {
        self.records(self.sparse)
    }

    pub(super) fn extents(&self) -> Records<'_, ExtentRecord> {
        self.records(self.extents)
    }

    /// The name at an offset in NAMES, of any content.
    pub(super) fn name(&self, offset: u32) -> Result<&[u8], IndexError> {
        let bytes = || {
            let at = usize::try_from(offset).ok()?;
            let [len] = self.vouched(self.names, at, 1)? else {
                return None;
            };
            self.vouched(self.names, at.checked_add(1)?, usize::from(*len))
        };
        bytes().ok_or(corrupt("name", offset))
    }

    /// The link target at an offset in NAMES.
    pub(super) fn target(&self, offset: u64) -> Result<&[u8], IndexError> {
        let bytes = || {
            let at = usize::try_from(offset).ok()?;
            let [low, high] = self.vouched(self.names, at, 2)? else {
                return None;
            };
            let len = u16::from_le_bytes([*low, *high]);
            self.vouched(self.names, at.checked_add(2)?, usize::from(len))
        };
        bytes().ok_or(corrupt("link target", offset))
    }

    /// The bytes of XATTRS; of use only where [`Self::vouch_xattrs`] agrees.
    pub(super) fn xattr_bytes(&self) -> &[u8] {
        self.area(self.xattrs)
    }

    /// All of NAMES and all of XATTRS, vouched for.
    pub(super) fn all_text(&self) -> Result<(&[u8], &[u8]), IndexError> {
        let all = |span: Span| {
            let bytes = self.vouched(span, 0, self.area(span).len());
            bytes.ok_or(corrupt(span.what, 0_u32))
        };
        Ok((all(self.names)?, all(self.xattrs)?))
    }

    /// Whether these of the bytes of XATTRS are what was written.
    pub(super) fn vouch_xattrs(&self, range: Range<usize>) -> bool {
        self.vouched(self.xattrs, range.start, range.len())
            .is_some()
    }

    /// The `len` bytes from `at` of an area, if they are what was written.
    fn vouched(&self, span: Span, at: usize, len: usize) -> Option<&[u8]> {
        let bytes = self.area(span).get(at..at.checked_add(len)?)?;
        let start = span.start.checked_add(at)?;
        self.region
            .vouch(start..start.checked_add(len)?)
            .then_some(bytes)
    }

    fn area(&self, span: Span) -> &[u8] {
        self.region
            .bytes()
            .get(span.start..span.end)
            .unwrap_or_default()
    }

    fn records<T>(&self, span: Span) -> Records<'_, T>
    where
        T: FromBytes + Immutable + KnownLayout + Unaligned,
    {
        Records {
            what: span.what,
            region: &*self.region,
            start: span.start,
            all: <[T]>::ref_from_bytes(self.area(span)).unwrap_or_default(),
        }
    }
}

fn flags_of(meta: &MetaRecord) -> Result<u32, IndexError> {
    let flags = meta.flags.get();
    match flags & !META_IGNORED_ZEROS | meta.reserved.get() {
        0 => Ok(flags),
        _ => Err(corrupt("flags", flags)),
    }
}

fn summary_of(meta: &MetaRecord) -> Result<Summary, IndexError> {
    let root = meta.root.get();
    if root == 0 || root > meta.inode_count.get() || meta.dir_count.get() == 0 {
        return Err(corrupt("root inode", root));
    }
    Ok(Summary {
        entries: meta.dirent_count.get().into(),
        inodes: meta.live_inodes.get(),
        files: meta.files.get(),
        directories: meta.directories.get(),
        symlinks: meta.symlinks.get(),
        devices: meta.devices.get(),
        hard_links: meta.hard_links.get(),
        content_bytes: meta.content_bytes.get(),
        max_owner: meta.max_owner.get(),
        with_xattrs: meta.with_xattrs.get(),
        root: Ino::new(root.into()),
    })
}

/// An array of records; numbers outside of it are damage.
pub(super) struct Records<'a, T> {
    what: &'static str,
    region: &'a dyn Region,
    /// Where in the region the first one is.
    start: usize,
    all: &'a [T],
}

impl<'a, T> Records<'a, T> {
    /// All records, vouched for or not: for who checks everything.
    pub(super) fn all(&self) -> &'a [T] {
        self.all
    }

    /// All records, if they are what was written.
    pub(super) fn all_vouched(&self) -> Result<&'a [T], IndexError> {
        let all = self.vouched(0..self.all.len());
        all.ok_or(corrupt(self.what, 0_u32))
    }

    /// Whether there is a record of this number.
    pub(super) fn has(&self, number: u32) -> bool {
        usize::try_from(number).is_ok_and(|n| n < self.all.len())
    }

    pub(super) fn get(&self, number: u64) -> Result<&'a T, IndexError> {
        usize::try_from(number)
            .ok()
            .and_then(|n| self.vouched(n..n.checked_add(1)?)?.first())
            .ok_or(corrupt(self.what, number))
    }

    /// The `count` records from `first` on.
    pub(super) fn run(&self, first: u32, count: u32) -> Result<&'a [T], IndexError> {
        range(first, count)
            .and_then(|range| self.vouched(range))
            .ok_or(corrupt(self.what, first))
    }

    /// The same, each to be vouched for when it is asked for.
    pub(super) fn part(&self, first: u32, count: u32) -> Result<Self, IndexError> {
        let part = || {
            let range = range(first, count)?;
            Some(Self {
                start: self.place(range.start)?,
                all: self.all.get(range)?,
                ..*self
            })
        };
        part().ok_or(corrupt(self.what, first))
    }

    /// The number of the first record without `property`, which all before it
    /// have and none behind it.
    pub(super) fn partition_point(&self, property: impl Fn(&T) -> bool) -> Result<u64, IndexError> {
        let (mut low, mut high) = (0, self.all.len() as u64);
        while low < high {
            let middle = low + (high - low) / 2;
            match property(self.get(middle)?) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        Ok(low)
    }

    fn vouched(&self, range: Range<usize>) -> Option<&'a [T]> {
        let records = self.all.get(range.clone())?;
        let bytes = self.place(range.start)?..self.place(range.end)?;
        self.region.vouch(bytes).then_some(records)
    }

    /// Where in the region a record is.
    fn place(&self, number: usize) -> Option<usize> {
        number.checked_mul(size_of::<T>())?.checked_add(self.start)
    }
}

fn range(first: u32, count: u32) -> Option<Range<usize>> {
    let start = usize::try_from(first).ok()?;
    Some(start..start.checked_add(usize::try_from(count).ok()?)?)
}
