//! What an image holds, in numbers.
//!
//! Counted from the finished tables, by the builder to store it and by
//! `verify` to check what was stored, so the two cannot drift apart.

use super::format::{InodeRecord, KIND_MASK, kind_of_mode};
use super::node::FileKind;
use crate::types::Ino;

/// What an image holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Names: entries of all directories, the root not counted.
    pub entries: u64,
    /// Inodes that have a name, and the root.
    pub inodes: u64,
    /// Regular files (inodes).
    pub files: u64,
    /// Directories, with the root.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Device nodes (inodes).
    pub devices: u64,
    /// Names beyond the first of an inode.
    pub hard_links: u64,
    /// Bytes of file content, holes not counted, each inode once.
    pub content_bytes: u64,
    /// The largest owner or group in the archive.
    pub max_owner: u32,
    /// Inodes that carry extended attributes.
    pub with_xattrs: u64,
    /// The directory to serve as the root: the top, or the single enclosing
    /// directory if the top is no root filesystem and that is.
    pub root: Option<Ino>,
}

impl Summary {
    /// Adds an inode, unless it has no name. `allocated` is its bytes of
    /// content, holes not counted.
    pub(super) fn count(&mut self, inode: &InodeRecord, allocated: u64) {
        let nlink = inode.nlink.get();
        if nlink == 0 {
            return;
        }
        let kind = kind_of_mode(inode.mode.get() & KIND_MASK);
        self.inodes += 1;
        if kind != Some(FileKind::Directory) {
            self.hard_links += u64::from(nlink - 1);
        }
        match kind {
            Some(FileKind::Regular) => {
                self.files += 1;
                self.content_bytes = self.content_bytes.saturating_add(allocated);
            }
            Some(FileKind::Directory) => self.directories += 1,
            Some(FileKind::Symlink) => self.symlinks += 1,
            Some(FileKind::CharDevice | FileKind::BlockDevice) => self.devices += 1,
            Some(FileKind::Fifo | FileKind::Socket) | None => {}
        }
        self.with_xattrs += u64::from(inode.has_xattrs());
        self.max_owner = self.max_owner.max(inode.uid.get()).max(inode.gid.get());
    }
}
