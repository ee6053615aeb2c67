//! One entry of an archive, put together from its header blocks.

use super::error::BuildError;
use super::pax::OwnedXattr;
use crate::index::escape::EntryName;
use crate::index::format::ExtentRecord;
use crate::types::{StreamOffset, Timestamp};

/// An entry, ready to be placed in the tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    /// As the archive spells it.
    pub(super) path: &'a [u8],
    /// Offset of its header in the stream.
    pub(super) offset: u64,
    pub(super) kind: EntryKind<'a>,
    pub(super) attrs: Attrs,
    /// Of a global header, then its own; the last of a name counts.
    pub(super) xattrs: [&'a [OwnedXattr]; 2],
}

/// What kind of entry, with what only that kind has.
#[derive(Clone, Copy, Debug)]
pub(super) enum EntryKind<'a> {
    Directory,
    /// Another name of what the path names.
    HardLink {
        target: &'a [u8],
        /// What it gives the file that it links to, if anything.
        content: Option<Whole>,
    },
    Leaf(Leaf<'a>),
}

/// What gets an inode of its own and holds no names.
#[derive(Clone, Copy, Debug)]
pub(super) enum Leaf<'a> {
    File(Whole),
    SparseFile(Sparse<'a>),
    Symlink(&'a [u8]),
    Fifo,
    CharDevice(u32),
    BlockDevice(u32),
}

/// Content without holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) size: u64,
    pub(super) start: StreamOffset,
}

/// Content in pieces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sparse<'a> {
    pub(super) size: u64,
    /// Ascending, without overlap, none empty, within `size`; stream offsets
    /// count from `start`.
    pub(super) pieces: &'a [ExtentRecord],
    pub(super) start: StreamOffset,
}

/// What every inode has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attrs {
    pub(super) perm: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timestamp,
}

impl<'a> Entry<'a> {
    /// The same entry of a stream that starts at `base` of another one.
    pub(super) fn moved(&self, base: u64) -> Entry<'a> {
        // The caller knows that both streams together can be addressed.
        let moved = |start: StreamOffset| StreamOffset(start.0.saturating_add(base));
        let whole = |whole: Whole| Whole {
            start: moved(whole.start),
            ..whole
        };
        let kind = match self.kind {
            EntryKind::Leaf(Leaf::File(content)) => EntryKind::Leaf(Leaf::File(whole(content))),
            EntryKind::Leaf(Leaf::SparseFile(sparse)) => {
                EntryKind::Leaf(Leaf::SparseFile(Sparse {
                    start: moved(sparse.start),
                    ..sparse
                }))
            }
            EntryKind::HardLink { target, content } => EntryKind::HardLink {
                target,
                content: content.map(whole),
            },
            other => other,
        };
        Entry { kind, ..*self }
    }

    /// The error of an entry that exceeds a limit.
    pub(super) fn limit(&self, limit: &'static str, value: u64, max: impl Into<u64>) -> BuildError {
        BuildError::Limit {
            limit,
            value,
            max: max.into(),
            entry: EntryName::new(self.path),
            offset: self.offset,
        }
    }
}
